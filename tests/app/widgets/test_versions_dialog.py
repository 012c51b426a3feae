"""Versions side by side, through the real window."""

from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QLabel, QPushButton
from pytestqt.qtbot import QtBot

from app.application import Application
from app.conversation import Message
from app.theme import ThemeManager
from app.widgets.text_block import TextBlock
from app.widgets.versions_dialog import MOST_COLUMNS, VersionsDialog
from tests.app.chat_window import ask, button, texts
from tests.app.fake_host import FakeHost


def push(dialog: VersionsDialog, name: str) -> QPushButton:
    return next(one for one in dialog.findChildren(QPushButton) if one.accessibleName() == name)


def dialog_of(rooftop: Application) -> VersionsDialog:
    return next(one for one in rooftop.window.findChildren(VersionsDialog) if one.isVisible())


def test_replies_are_compared_copied_and_one_is_used(rooftop: Application, qtbot: QtBot, host: FakeHost) -> None:
    ask(rooftop, qtbot, "Hi")
    assert not button(rooftop.chat.transcript.views[-1], "Show versions").isVisible()
    for reply in ("<think>Hm.</think>Second.", "Third with `code`."):
        host.reply = reply
        rooftop.session.regenerate()
        qtbot.waitUntil(lambda: not rooftop.session.busy)
    button(rooftop.chat.transcript.views[-1], "Show versions").click()
    dialog = dialog_of(rooftop)
    labels = [label.text() for label in dialog.findChildren(QLabel)]
    assert [text for text in labels if text.startswith("Version")] == [
        "Version 1",
        "Version 2",
        "Version 3, shown in the chat",
    ]
    shown = [block.toPlainText() for block in dialog.findChildren(TextBlock)]
    assert shown == ["Hello world.", "Second.", "Third with code."]
    push(dialog, "Copy version 2").click()
    assert QGuiApplication.clipboard().text() == "<think>Hm.</think>Second."
    assert not push(dialog, "Use version 3").isEnabled()
    push(dialog, "Use version 1").click()
    assert not dialog.isVisible()
    assert texts(rooftop) == ["Hi", "Hello **world**."]
    QGuiApplication.clipboard().setText("")  # made in Python, it must not outlive Python


def test_questions_are_compared_as_they_were_typed(rooftop: Application, qtbot: QtBot) -> None:
    ask(rooftop, qtbot, "One **bold**")
    rooftop.session.edit(rooftop.session.conversation.messages[0], "Two")
    qtbot.waitUntil(lambda: not rooftop.session.busy)
    rooftop.chat.transcript.views[0].acted.emit("compare", "")
    dialog = dialog_of(rooftop)
    assert [block.toPlainText() for block in dialog.findChildren(TextBlock)] == ["One **bold**", "Two"]
    push(dialog, "Use version 1").click()
    assert texts(rooftop) == ["One **bold**", "Hello **world**."]


def test_a_link_in_a_version_is_asked_about(rooftop: Application, qtbot: QtBot, themes: ThemeManager) -> None:
    versions = [Message("assistant", "[a](https://example.com)"), Message("assistant", "b")]
    dialog = VersionsDialog(versions, versions[1])
    qtbot.addWidget(dialog)
    with qtbot.waitSignal(dialog.link_clicked) as heard:
        dialog.findChildren(TextBlock)[0].link_clicked.emit("https://example.com")
    assert heard.args == ["https://example.com"]


def test_of_many_versions_the_latest_and_the_one_in_the_chat_are_shown(qtbot: QtBot, themes: ThemeManager) -> None:
    versions = [Message("assistant", f"text {number}") for number in range(1, 31)]
    dialog = VersionsDialog(versions, versions[2])
    qtbot.addWidget(dialog)
    shown = [block.toPlainText() for block in dialog.findChildren(TextBlock)]
    assert shown == ["text 3", *(f"text {number}" for number in range(31 - MOST_COLUMNS + 1, 31))]
    assert any(label.text() == f"{MOST_COLUMNS} of 30 versions" for label in dialog.findChildren(QLabel))
