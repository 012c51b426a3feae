from PySide6.QtCore import QMimeData, QPoint, Qt, QUrl
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QPlainTextEdit, QPushButton, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from app.theme import ThemeManager
from app.widgets.composer import Composer, ComposerMode


def make(qtbot: QtBot) -> tuple[Composer, QPlainTextEdit]:
    composer = Composer()
    qtbot.addWidget(composer)
    composer.resize(600, 120)
    composer.show()
    edit = composer.findChild(QPlainTextEdit)
    assert edit is not None
    return composer, edit


def test_enter_sends_and_keeps_the_draft(qtbot: QtBot, themes: ThemeManager) -> None:
    composer, edit = make(qtbot)
    QTest.keyClicks(edit, "  Hello ")
    with qtbot.waitSignal(composer.send_requested) as blocker:
        QTest.keyClick(edit, Qt.Key.Key_Return)
    assert blocker.args == ["Hello"]
    assert composer.draft == "  Hello "


def test_shift_enter_breaks_the_line_and_the_field_grows(qtbot: QtBot, themes: ThemeManager) -> None:
    composer, edit = make(qtbot)
    before = edit.height()
    QTest.keyClicks(edit, "a")
    QTest.keyClick(edit, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    QTest.keyClicks(edit, "b")
    assert composer.draft == "a\nb"
    assert edit.height() > before
    edit.setPlainText("x\n" * 100)
    limited = edit.height()
    edit.setPlainText("x\n" * 200)
    assert edit.height() == limited
    composer.clear_draft()
    assert edit.height() == before


def test_a_blank_draft_is_not_sent(qtbot: QtBot, themes: ThemeManager) -> None:
    composer, edit = make(qtbot)
    QTest.keyClicks(edit, "   ")
    button = composer.findChild(QPushButton, "send")
    assert button is not None
    assert not button.isEnabled()
    with qtbot.assertNotEmitted(composer.send_requested):
        QTest.keyClick(edit, Qt.Key.Key_Return)


def test_the_button_stops_while_a_reply_is_written(qtbot: QtBot, themes: ThemeManager) -> None:
    composer, edit = make(qtbot)
    composer.set_mode(ComposerMode.STOP, "Esc stops")
    button = composer.findChild(QPushButton, "send")
    assert button is not None
    assert button.accessibleName() == "Stop the reply (Esc)"
    with qtbot.waitSignal(composer.stop_requested):
        button.click()
    with qtbot.waitSignal(composer.stop_requested):
        QTest.keyClick(edit, Qt.Key.Key_Escape)
    assert not edit.isReadOnly(), "the next message can be written already"


def test_a_waiting_draft_is_frozen_until_it_is_taken_back(qtbot: QtBot, themes: ThemeManager) -> None:
    composer, edit = make(qtbot)
    composer.set_draft("Early")
    composer.set_mode(ComposerMode.QUEUED, "waits")
    QTest.keyClicks(edit, "x")
    assert composer.draft == "Early"
    with qtbot.waitSignal(composer.withdraw_requested):
        QTest.keyClick(edit, Qt.Key.Key_Escape)


def test_paste_is_plain_text_and_files_are_not_dropped_in(qtbot: QtBot, themes: ThemeManager) -> None:
    composer, edit = make(qtbot)
    rich = QMimeData()
    rich.setHtml("<b>bold</b>")
    rich.setText("bold")
    edit.insertFromMimeData(rich)
    assert composer.draft == "bold"
    files = QMimeData()
    files.setUrls([QUrl.fromLocalFile("/etc/passwd")])
    assert not edit.canInsertFromMimeData(files)


def test_page_keys_scroll_the_chat(qtbot: QtBot, themes: ThemeManager) -> None:
    composer, edit = make(qtbot)
    with qtbot.waitSignal(composer.paged) as blocker:
        QTest.keyClick(edit, Qt.Key.Key_PageUp)
    assert blocker.args == [-1]


def test_a_click_on_the_frame_goes_to_the_text(qtbot: QtBot, themes: ThemeManager) -> None:
    window = QWidget()
    qtbot.addWidget(window)
    composer, other = Composer(), QPushButton("other")
    layout = QVBoxLayout(window)
    layout.addWidget(other)
    layout.addWidget(composer)
    window.resize(600, 200)
    window.show()
    window.activateWindow()
    edit = composer.findChild(QPlainTextEdit)
    assert edit is not None
    other.setFocus()
    frame = edit.parentWidget()
    assert frame is not None
    QTest.mouseClick(frame, Qt.MouseButton.LeftButton, pos=QPoint(frame.width() // 2, frame.height() - 3))
    qtbot.waitUntil(edit.hasFocus)
