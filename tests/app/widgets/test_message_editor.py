import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QPushButton
from pytestqt.qtbot import QtBot

from app.theme import ThemeManager
from app.widgets.message_editor import MessageEditor


@pytest.fixture
def editor(qtbot: QtBot, themes: ThemeManager) -> MessageEditor:
    editor = MessageEditor("Hello " * 40)
    qtbot.addWidget(editor)
    editor.resize(400, 300)
    editor.show()
    return editor


def test_it_is_as_tall_as_its_wrapped_text(editor: MessageEditor, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: editor.field.height() > 4 * editor.field.fontMetrics().lineSpacing())
    before = editor.field.height()
    editor.field.setPlainText("Short")
    qtbot.waitUntil(lambda: editor.field.height() < before)


def test_enter_sends_and_shift_enter_breaks_the_line(editor: MessageEditor, qtbot: QtBot) -> None:
    editor.field.setPlainText("One")
    editor.field.moveCursor(editor.field.textCursor().MoveOperation.End)
    QTest.keyClick(editor.field, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    QTest.keyClicks(editor.field, "two")
    with qtbot.waitSignal(editor.accepted) as blocker:
        QTest.keyClick(editor.field, Qt.Key.Key_Return)
    assert blocker.args == ["One\ntwo"]


def test_nothing_is_sent_without_words(editor: MessageEditor, qtbot: QtBot) -> None:
    editor.field.setPlainText(" \n ")
    send = next(button for button in editor.findChildren(QPushButton) if button.objectName() == "primary")
    assert not send.isEnabled()
    with qtbot.assertNotEmitted(editor.accepted):
        QTest.keyClick(editor.field, Qt.Key.Key_Return)
    with qtbot.waitSignal(editor.cancelled):
        QTest.keyClick(editor.field, Qt.Key.Key_Escape)
