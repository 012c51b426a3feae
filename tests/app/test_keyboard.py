"""The window by keyboard alone: a session of some minutes, and that nothing is out of reach or without a name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractScrollArea,
    QApplication,
    QDialog,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QWidget,
)
from pytestqt.qtbot import QtBot

from app.application import Application
from app.widgets.about_dialog import AboutDialog, LicencesDialog
from app.widgets.focus_order import takes_tab
from tests.app.fake_host import FakeHost
from tests.app.keyboard import focused, name_of, press, tab_ring, write
from tests.app.keyboard_scenes import Session, change_settings, keep_order, leave, look_around, read, talk


@pytest.fixture
def active(rooftop: Application, qtbot: QtBot) -> Application:
    """The window with the keyboard."""
    rooftop.window.activateWindow()
    qtbot.waitUntil(rooftop.window.isActiveWindow)
    assert QApplication.focusWidget() is rooftop.chat.composer.findChild(QPlainTextEdit)
    return rooftop


def test_a_session_by_keyboard_alone(active: Application, qtbot: QtBot, host: FakeHost, tmp_path: Path) -> None:
    user = Session(active, qtbot, host)
    talk(user)
    read(user, tmp_path)
    keep_order(user)
    look_around(user)
    change_settings(user)
    leave(user)


def with_chat(active: Application, qtbot: QtBot, host: FakeHost) -> None:
    host.reply = "Text with [a link](https://example.com).\n\n```python\nx = 1\n```\n"
    write("Hello")
    press("Return")
    qtbot.waitUntil(lambda: not active.session.busy)
    active.chat.banners.show_banner("memory", "Another program took 3 GiB.")


def test_tab_reaches_everything_and_comes_back(active: Application, qtbot: QtBot, host: FakeHost) -> None:
    with_chat(active, qtbot, host)
    ring = tab_ring()
    meant = [widget for widget in active.window.findChildren(QWidget) if takes_tab(widget)]
    missed = [f"{type(widget).__name__} {name_of(widget)!r}" for widget in meant if widget not in ring]
    assert missed == []
    assert len(ring) > 6


def test_shift_tab_goes_the_other_way(active: Application) -> None:
    before = focused()
    press("Tab")
    assert focused() is not before
    press("Shift+Tab")
    assert focused() is before


@pytest.mark.parametrize("place", ["window", "settings", "about", "licences", "shortcuts"])
def test_everything_that_takes_the_focus_has_a_name(
    active: Application, qtbot: QtBot, host: FakeHost, place: str
) -> None:
    openers: dict[str, Callable[[], None]] = {
        "window": lambda: with_chat(active, qtbot, host),
        "settings": active.dialogs.open_settings,
        "about": active.window.about_requested.emit,
        "shortcuts": lambda: press("F1"),
    }
    openers["about" if place == "licences" else place]()
    top: QWidget = active.window
    if place != "window":
        top = next(found for found in active.window.findChildren(QDialog) if found.isVisible())
    if isinstance(top, AboutDialog) and place == "licences":
        top.open_licences()
        top = next(iter(top.findChildren(LicencesDialog)))
    nameless = [
        f"{type(widget).__name__} in {type(widget.parent()).__name__}"
        for widget in top.findChildren(QWidget)
        if takes_tab(widget) and not name_of(widget) and not labelled(top, widget)
    ]
    assert nameless == []
    assert any(takes_tab(widget) for widget in top.findChildren(QWidget))


def labelled(top: QWidget, widget: QWidget) -> bool:
    """Whether a label in the form, or the control that it is the inside of, names it."""
    if any(label.buddy() is widget for label in top.findChildren(QLabel)):
        return True
    if not isinstance(widget, QAbstractButton | QAbstractScrollArea | QLineEdit):
        return False
    parent = widget.parent()
    return isinstance(parent, QWidget) and (bool(parent.accessibleName()) or parent.focusProxy() is widget)
