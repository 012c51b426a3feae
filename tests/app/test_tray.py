from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtGui import QAction, QCloseEvent
from PySide6.QtWidgets import QApplication, QSystemTrayIcon
from pytestqt.qtbot import QtBot

from app.application import Application
from app.settings import Settings, load_settings, save_settings
from app.tray import Tray, tray_problem
from tests.app.fake_host import FakeHost

Make = Callable[..., Application]


@pytest.fixture
def desktop(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A desktop with a tray; what is said there."""
    said: list[str] = []
    monkeypatch.setattr(QSystemTrayIcon, "isSystemTrayAvailable", lambda: True)
    monkeypatch.setattr(QSystemTrayIcon, "showMessage", lambda _icon, _title, text: said.append(text))
    return said


@pytest.fixture
def kept(desktop: list[str], make_rooftop: Make, tmp_path: Path) -> Application:
    """An application that is kept in the tray."""
    path = tmp_path / "config" / "settings.json"
    save_settings(Settings(tray=True), path)
    return make_rooftop(settings_path=path)


def tray_action(rooftop: Application) -> QAction:
    return next(action for action in rooftop.window.findChildren(QAction) if "tray" in action.text())


def tray_of(rooftop: Application) -> Tray:
    tray = rooftop.window.findChild(Tray)
    assert tray is not None
    return tray


def test_without_a_tray_the_setting_is_disabled_and_says_why(
    make_rooftop: Make, monkeypatch: pytest.MonkeyPatch, host: FakeHost
) -> None:
    monkeypatch.setattr(QSystemTrayIcon, "isSystemTrayAvailable", lambda: False)
    rooftop = make_rooftop()
    assert not tray_action(rooftop).isEnabled()
    assert tray_action(rooftop).toolTip() == tray_problem() != ""
    rooftop.window.close()
    assert host.stopped == 1


def test_it_is_off_by_default(desktop: list[str], rooftop: Application, host: FakeHost) -> None:
    assert tray_action(rooftop).isEnabled()
    assert not tray_action(rooftop).isChecked()
    assert rooftop.window.findChild(Tray) is None
    rooftop.window.close()
    assert host.stopped == 1


def test_closing_keeps_the_engine_and_says_so_once(kept: Application, desktop: list[str], host: FakeHost) -> None:
    kept.window.close()
    assert not kept.window.isVisible()
    assert host.stopped == 0
    assert len(desktop) == 1
    tray_of(kept).toggle()
    assert kept.window.isVisible()
    kept.window.close()
    assert len(desktop) == 1
    assert load_settings(kept._kept.path)[0].tray_told


def test_quitting_really_ends(kept: Application, host: FakeHost, qtbot: QtBot) -> None:
    with qtbot.waitSignal(kept.ended):
        tray_of(kept).menu.actions()[-1].trigger()
    assert host.stopped == 1


def test_a_closed_window_can_still_be_quit(kept: Application, host: FakeHost, qtbot: QtBot) -> None:
    kept.window.close()
    with qtbot.waitSignal(kept.ended):
        kept.window.quit()
    assert host.stopped == 1


def test_the_menu_shows_hides_and_begins_anew(kept: Application, qtbot: QtBot) -> None:
    menu = tray_of(kept).menu
    toggle, new_chat = menu.actions()[:2]
    menu.aboutToShow.emit()
    assert toggle.text() == "&Hide"
    toggle.trigger()
    menu.aboutToShow.emit()
    assert toggle.text() == "&Show"
    with qtbot.waitSignal(kept.window.new_chat_requested):
        new_chat.trigger()
    assert kept.window.isVisible()


def test_it_is_switched_on_and_off_live(desktop: list[str], rooftop: Application, qapp: QApplication) -> None:
    tray_action(rooftop).trigger()
    assert rooftop.settings.tray
    assert tray_of(rooftop)
    tray_action(rooftop).trigger()
    assert not rooftop.window.keeps_running
    event = QCloseEvent()
    qapp.sendEvent(rooftop.window, event)
    assert event.isAccepted()
