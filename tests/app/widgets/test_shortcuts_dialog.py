import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QKeySequence, QShortcut
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLabel, QPlainTextEdit
from pytestqt.qtbot import QtBot

from app.application import Application
from app.widgets.shortcuts_dialog import ShortcutsDialog, message_keys, plain, shortcuts_of


def test_the_list_holds_every_shortcut_of_the_window(rooftop: Application) -> None:
    rows = shortcuts_of(rooftop.window)
    actions = [key for action in rooftop.window.findChildren(QAction) for key in action.shortcuts()]
    others = [key for shortcut in rooftop.window.findChildren(QShortcut) for key in shortcut.keys()]  # noqa: SIM118 - no dict
    native = QKeySequence.SequenceFormat.NativeText
    for key in actions + others:
        assert any(key.toString(native) in row.keys for row in rows), key.toString()
    assert len(actions) > 10


def test_every_line_says_what_it_does(rooftop: Application) -> None:
    for row in shortcuts_of(rooftop.window):
        assert row.section
        assert row.text, f"{row.keys} says nothing"
        assert "&" not in row.text
        assert not row.text.endswith("…")


def test_the_dialog_shows_the_list(rooftop: Application, qtbot: QtBot) -> None:
    rows = shortcuts_of(rooftop.window)
    dialog = ShortcutsDialog(rows, rooftop.window)
    texts = {label.text() for label in dialog.findChildren(QLabel)}
    for row in rows:
        assert {row.section, row.keys, row.text} <= texts
    assert "File" in texts
    assert "Ctrl+N" in texts


def test_the_keys_of_the_message_field_do_what_the_list_says(rooftop: Application, qtbot: QtBot) -> None:
    assert [row.keys for row in message_keys()] == ["Enter", "Shift+Enter", "PgUp", "PgDown"]
    assert [row.keys for row in message_keys("ctrl_enter")] == ["Ctrl+Enter", "Enter", "PgUp", "PgDown"]
    edit = rooftop.chat.composer.findChild(QPlainTextEdit)
    assert edit is not None
    QTest.keyClicks(edit, "one")
    QTest.keyClick(edit, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    assert edit.toPlainText() == "one\n"
    with qtbot.waitSignal(rooftop.chat.composer.paged) as up:
        QTest.keyClick(edit, Qt.Key.Key_PageUp)
    with qtbot.waitSignal(rooftop.chat.composer.paged) as down:
        QTest.keyClick(edit, Qt.Key.Key_PageDown)
    assert (up.args, down.args) == ([-1], [1])
    with qtbot.waitSignal(rooftop.chat.composer.send_requested):
        QTest.keyClick(edit, Qt.Key.Key_Return)


@pytest.mark.parametrize(("text", "words"), [("&New chat", "New chat"), ("A && B…", "A & B"), ("Plain", "Plain")])
def test_mnemonics_and_dots_are_left_out(text: str, words: str) -> None:
    assert plain(text) == words
