"""The window by keyboard alone: a session of some minutes, and that nothing is out of reach or without a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractScrollArea,
    QApplication,
    QComboBox,
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
from app.widgets.settings.dialog import SettingsDialog
from app.widgets.shortcuts_dialog import ShortcutsDialog
from tests.app.fake_host import FakeHost
from tests.app.keyboard import focused, name_of, press, tab_ring, tab_to, tab_to_name, write

Kind = TypeVar("Kind", bound=QDialog)


@pytest.fixture
def active(rooftop: Application, qtbot: QtBot) -> Application:
    """The window with the keyboard."""
    rooftop.window.activateWindow()
    qtbot.waitUntil(rooftop.window.isActiveWindow)
    assert in_message_field(rooftop)
    return rooftop


def in_message_field(rooftop: Application) -> bool:
    return QApplication.focusWidget() is rooftop.chat.composer.findChild(QPlainTextEdit)


def texts(rooftop: Application) -> list[str]:
    return [message.text for message in rooftop.session.conversation.messages]


def opened(rooftop: Application, kind: type[Kind], qtbot: QtBot) -> Kind:
    dialog = next(found for found in rooftop.window.findChildren(kind) if found.isVisible())
    qtbot.waitUntil(dialog.isActiveWindow)
    return dialog


def back_in_the_window(rooftop: Application, qtbot: QtBot) -> None:
    """Do what a window manager does when a dialog closes; then the message field has the focus again."""
    rooftop.window.activateWindow()
    qtbot.waitUntil(lambda: in_message_field(rooftop))


def test_a_session_by_keyboard_alone(active: Application, qtbot: QtBot, host: FakeHost) -> None:
    def answered() -> bool:
        return not active.session.busy

    # Ask, and read the answer.
    write("What is an expert?")
    press("Return")
    qtbot.waitUntil(answered)
    assert texts(active) == ["What is an expert?", host.reply]

    # A longer question in two lines, stopped half-way.
    host.hold_reply, host.reply = True, "one two three four five six seven eight nine ten"
    write("Count,")
    press("Shift+Return")
    write("slowly.")
    press("Return")
    qtbot.waitUntil(lambda: bool(texts(active)[-1]))
    press("Esc")
    assert active.session.conversation.messages[-1].state == "stopped"
    assert texts(active)[2] == "Count,\nslowly."
    qtbot.waitUntil(lambda: active.client.model_ready)

    # Have it written anew.
    host.hold_reply, host.reply = False, "One, two."
    tab_to_name("Write this reply anew")
    press("Space")
    qtbot.waitUntil(lambda: answered() and texts(active)[-1] == "One, two.")
    press("Ctrl+L")
    assert in_message_field(active)

    # Scroll, hide the panel and bring it back, larger text.
    press("PgUp")
    press("PgDown")
    panel = active.window.panel
    assert panel is not None
    toggle = active.window.menus.panel.shortcut().toString()
    press(toggle)
    assert not panel.isVisible()
    press(toggle)
    assert panel.isVisible()
    press("Ctrl++")
    assert active.themes.zoom == 1.1
    press("Ctrl+0")

    # The dark theme from the menu.
    press("Alt+V")
    press("T")
    press("D")
    assert active.themes.theme.name == "dark"

    # The list of shortcuts, and back.
    press("F1")
    opened(active, ShortcutsDialog, qtbot)
    press("Esc")
    back_in_the_window(active, qtbot)

    # The settings: another theme, applied by Return.
    press("Ctrl+,")
    settings = opened(active, SettingsDialog, qtbot)
    theme = tab_to(lambda widget: isinstance(widget, QComboBox) and widget.findText("Light") >= 0)
    assert isinstance(theme, QComboBox)
    press("L")
    assert theme.currentText() == "Light"
    press("Return")
    qtbot.waitUntil(lambda: not settings.isVisible())
    assert active.themes.theme.name == "light"
    back_in_the_window(active, qtbot)

    # About, and the licence of something in it.
    press("Alt+H")
    press("A")
    about = opened(active, AboutDialog, qtbot)
    tab_to_name("Licences")
    press("Space")
    licences = next(found for found in about.findChildren(LicencesDialog))
    qtbot.waitUntil(licences.isActiveWindow)
    tab_to(lambda widget: widget is licences.list)
    press("Down")
    assert "Inter" in licences.text.toPlainText()
    press("Esc")
    about.activateWindow()
    qtbot.waitUntil(about.isActiveWindow)
    press("Esc")
    back_in_the_window(active, qtbot)

    # A new chat, begun with one of the questions that are offered.
    press("Ctrl+N")
    assert texts(active) == []
    tab_to_name("Ask: What is an expert?")
    press("Space")
    qtbot.waitUntil(lambda: len(texts(active)) == 2 and answered())

    # And home.
    with qtbot.waitSignal(active.ended):
        press("Ctrl+Q")
    assert host.stopped == 1


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
        "settings": active.open_settings,
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
