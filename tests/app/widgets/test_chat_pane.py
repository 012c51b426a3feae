from collections.abc import Callable

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QDesktopServices
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QMessageBox
from pytestqt.qtbot import QtBot

from app.application import Application
from app.conversation import Message
from app.engine_client import EngineState
from app.theme import SPACE_L, SPACE_XL
from app.widgets.banner import Action
from app.widgets.message_editor import MessageEditor
from engine.messages import ErrorReport
from tests.app.chat_window import ask
from tests.app.fake_host import FakeHost

ADDRESS = "https://example.com/path?a=1"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that the browser got."""
    found: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: found.append(url.toString()))
    return found


def test_a_link_is_shown_in_full_and_asked_about(rooftop: Application, opened: list[str]) -> None:
    rooftop.chat.open_link(ADDRESS)
    box = rooftop.chat.findChild(QMessageBox)
    assert box is not None
    assert ADDRESS in box.informativeText()
    assert opened == []
    box.button(QMessageBox.StandardButton.Open).click()
    assert opened == [ADDRESS]


def test_a_link_can_be_refused(rooftop: Application, opened: list[str]) -> None:
    rooftop.chat.open_link(ADDRESS)
    box = rooftop.chat.findChild(QMessageBox)
    assert box is not None
    assert box.defaultButton() is box.button(QMessageBox.StandardButton.Cancel)
    box.reject()
    assert opened == []


@pytest.mark.parametrize("address", ["javascript:alert(1)", "file:///etc/passwd", ""])
def test_other_addresses_are_not_even_asked_about(rooftop: Application, opened: list[str], address: str) -> None:
    rooftop.chat.open_link(address)
    assert rooftop.chat.findChild(QMessageBox) is None
    assert opened == []


def test_the_hint_says_what_can_be_done(make_rooftop: Callable[..., Application], qtbot: QtBot, host: FakeHost) -> None:
    host.hold_load = True
    rooftop = make_rooftop()
    assert "loading" in rooftop.chat.composer.hint
    host.release()
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)
    assert rooftop.chat.composer.hint.startswith("Enter sends")
    host.die()
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.FAILED)
    assert "No model is loaded" in rooftop.chat.composer.hint


@pytest.mark.parametrize(
    ("code", "signal"),
    [
        ("out-of-memory", "budget_requested"),
        ("configuration", "settings_requested"),
        ("internal", "diagnostics_requested"),
    ],
)
def test_the_remedy_in_a_failed_reply_is_that_of_its_error(
    rooftop: Application, qtbot: QtBot, code: str, signal: str
) -> None:
    pane = rooftop.window.chat
    with qtbot.waitSignal(getattr(pane, signal)):
        pane.transcript.acted.emit(
            Message("assistant", "", "failed", error=ErrorReport(code, "No.", "Do.")), "remedy", ""
        )


def test_reading_the_prompt_is_shown(rooftop: Application, qtbot: QtBot, host: FakeHost) -> None:
    seen: list[tuple[int, int]] = []
    rooftop.session.reply_progress.connect(lambda done, total: seen.append((done, total)))
    rooftop.session.submit("Hi")
    qtbot.waitUntil(lambda: not rooftop.session.busy)
    assert seen == [(16, 64), (64, 64)]


def test_the_keyboard_goes_back_to_the_message_field_when_a_banner_goes(rooftop: Application, qtbot: QtBot) -> None:
    rooftop.chat.banners.show_banner("a", "Something.", "notice", (Action("Do it", lambda: None),))
    button = rooftop.chat.banners.banners["a"].buttons[0]
    qtbot.waitUntil(button.isVisible)
    button.setFocus()
    assert QApplication.focusWidget() is button
    button.click()
    focus = QApplication.focusWidget()
    assert focus is not None
    assert rooftop.chat.composer.isAncestorOf(focus)


@pytest.mark.parametrize("key", [Qt.Key.Key_Return, Qt.Key.Key_Escape])
def test_the_keyboard_goes_back_to_the_message_field_after_editing(
    rooftop: Application, qtbot: QtBot, key: Qt.Key
) -> None:
    ask(rooftop, qtbot, "First")
    view = rooftop.chat.transcript.views[0]
    view.edit()
    editor = view.findChild(MessageEditor)
    assert editor is not None
    qtbot.waitUntil(lambda: editor.y() == SPACE_XL and view.height() == view.sizeHint().height())
    assert view.height() - editor.y() - editor.height() == SPACE_L
    field = QApplication.focusWidget()
    assert field is not None
    QTest.keyClicks(field, "x")
    QTest.keyClick(field, key)
    qtbot.waitUntil(lambda: not rooftop.session.busy)
    focus = QApplication.focusWidget()
    assert focus is not None
    assert rooftop.chat.composer.isAncestorOf(focus)
    assert rooftop.chat.composer.draft == ""
    assert len(rooftop.session.conversation.all_messages) == (4 if key == Qt.Key.Key_Return else 2)
