"""Scenes of a session by keyboard alone: what a user does with the window, key by key, and what must come of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PySide6.QtCore import QEvent, QMimeData, QUrl
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication, QComboBox, QDialog, QListWidget, QPlainTextEdit
from pytestqt.qtbot import QtBot

from app.application import Application
from app.chat_list import ENTRY_ROLE
from app.widgets.about_dialog import AboutDialog, LicencesDialog
from app.widgets.attachment_chips import TextDialog
from app.widgets.chat_options_dialog import ChatOptionsDialog
from app.widgets.settings.dialog import SettingsDialog
from app.widgets.shortcuts_dialog import ShortcutsDialog
from app.widgets.thoughts_view import ThoughtsView
from app.widgets.versions_dialog import VersionsDialog
from engine.messages import Generate
from tests.app.chat_window import texts
from tests.app.fake_host import FakeHost
from tests.app.keyboard import context_menu, focused, name_of, press, tab_to, tab_to_name, write

Kind = TypeVar("Kind", bound=QDialog)


@dataclass
class Session:
    """A user at the keyboard.

    Attributes:
        rooftop: The application.
        qtbot: Waits for it.
        host: Its engine.
    """

    rooftop: Application
    qtbot: QtBot
    host: FakeHost

    @property
    def in_message_field(self) -> bool:
        return QApplication.focusWidget() is self.rooftop.chat.composer.findChild(QPlainTextEdit)

    @property
    def names(self) -> list[str]:
        """The chats in the list, top to bottom."""
        model = self.rooftop.window.sidebar.model
        rows = (model.index(row) for row in range(model.rowCount()))
        return [str(row.data()) for row in rows if row.data(ENTRY_ROLE) is not None]

    def send(self) -> None:
        """Send what is written, and wait for the reply."""
        count = len(self.rooftop.session.conversation.messages)
        press("Return")
        self.qtbot.waitUntil(
            lambda: len(self.rooftop.session.conversation.messages) == count + 2 and not self.rooftop.session.busy
        )

    def opened(self, kind: type[Kind]) -> Kind:
        """The dialog that has just been opened."""
        dialog = next(found for found in self.rooftop.window.findChildren(kind) if found.isVisible())
        self.qtbot.waitUntil(dialog.isActiveWindow)
        return dialog

    def back_in_the_window(self) -> None:
        """Do what a window manager does when a dialog closes; then the message field has the focus again."""
        self.activate()
        self.qtbot.waitUntil(lambda: self.in_message_field)

    def activate(self) -> None:
        """Give the window the keyboard back."""
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        QApplication.processEvents()  # now the dialog is gone for the window system too
        self.rooftop.window.activateWindow()
        self.qtbot.waitUntil(lambda: QApplication.focusWidget() is not None)

    @property
    def generated(self) -> Generate:
        """What the engine was asked last."""
        return [request for request in self.host.requests if isinstance(request, Generate)][-1]


def talk(user: Session) -> None:
    """Ask, stop a reply half-way, have it written anew, and compare the versions."""
    rooftop, host = user.rooftop, user.host
    write("What is an expert?")
    user.send()
    assert texts(rooftop) == ["What is an expert?", host.reply]
    host.hold_reply, host.reply = True, "one two three four five six seven eight nine ten"
    write("Count,")
    press("Shift+Return")
    write("slowly.")
    press("Return")
    user.qtbot.waitUntil(lambda: bool(texts(rooftop)[-1]))
    press("Esc")
    assert rooftop.session.conversation.messages[-1].state == "stopped"
    assert texts(rooftop)[2] == "Count,\nslowly."
    user.qtbot.waitUntil(lambda: rooftop.client.model_ready)
    stopped = texts(rooftop)[-1]
    host.hold_reply, host.reply = False, "One, two."
    tab_to_name("Write this reply anew")
    press("Space")
    user.qtbot.waitUntil(lambda: not rooftop.session.busy and texts(rooftop)[-1] == "One, two.")
    press("Ctrl+L")
    tab_to_name("Previous version")
    press("Space")
    assert texts(rooftop)[-1] == stopped
    user.qtbot.waitUntil(lambda: name_of(focused()) == "Next version")
    tab_to_name("Show versions side by side")
    press("Space")
    versions = user.opened(VersionsDialog)
    tab_to_name("Use version 2")
    press("Space")
    assert not versions.isVisible()
    user.back_in_the_window()
    assert texts(rooftop)[-1] == "One, two."


def read(user: Session, folder: Path) -> None:
    """Attach a file and look at it, fold thoughts out and in, find words."""
    rooftop, composer = user.rooftop, user.rooftop.chat.composer
    path = folder / "notes.txt"
    path.write_text("the milk is sour")
    files = QMimeData()
    files.setUrls([QUrl.fromLocalFile(str(path))])
    QGuiApplication.clipboard().setMimeData(files)  # as a file manager does it
    press("Ctrl+V")
    user.qtbot.waitUntil(lambda: len(composer.attachments) == 1)
    tab_to_name("notes.txt")
    press("Space")
    viewer = user.opened(TextDialog)
    press("Esc")
    assert not viewer.isVisible()
    user.activate()
    assert "notes.txt" in name_of(focused())
    press("Ctrl+L")
    user.host.reply = "<think>It is about milk.</think>Buy new milk, then drink the milk."
    write("And now?")
    user.send()
    assert "the milk is sour" in user.generated.messages[-1].content
    thoughts = rooftop.chat.transcript.views[-1].findChild(ThoughtsView)
    assert thoughts is not None
    tab_to_name("Thought for")
    press("Space")
    assert thoughts.unfolded
    press("Space")
    assert not thoughts.unfolded
    press("Ctrl+F")
    write("milk")
    user.qtbot.waitUntil(lambda: rooftop.chat.find_bar.count_text == "1 of 3")
    press("Return")
    assert rooftop.chat.find_bar.count_text == "2 of 3"
    press("Shift+F3")
    assert rooftop.chat.find_bar.count_text == "1 of 3"
    assert thoughts.unfolded, "what was found there is shown"
    press("Esc")
    assert user.in_message_field


def keep_order(user: Session) -> None:
    """Begin another chat, find the first again, name it, pin it, delete it and bring it back."""
    rooftop, sidebar = user.rooftop, user.rooftop.window.sidebar
    user.host.reply = "They eat honey."
    press("Ctrl+N")
    assert texts(rooftop) == []
    write("What do bears eat?")
    user.send()
    assert user.names == ["What do bears eat?", "What is an expert?"]
    press("Ctrl+K")
    write("expert")
    user.qtbot.waitUntil(lambda: user.names == ["What is an expert?"])
    press("Return")
    assert texts(rooftop)[0] == "What is an expert?"
    press("Ctrl+K")
    press("Esc")
    press("Ctrl+K")
    press("Down")
    press("Down")
    assert focused() is sidebar.list
    press("F2")
    write("All about experts")
    press("Return")
    user.qtbot.waitUntil(lambda: "All about experts" in user.names)
    press("Ctrl+K")
    press("Down")
    press("Down")
    context_menu()
    for _ in range(3):  # open, rename, pin
        press("Down")
    press("Return")
    user.qtbot.waitUntil(lambda: user.names[0] == "All about experts")
    press("Ctrl+K")
    press("Down")
    press("Del")
    assert user.names == ["What do bears eat?"]
    press("Ctrl+L")
    press("Alt+F")
    press("U")
    user.qtbot.waitUntil(lambda: user.names == ["All about experts", "What do bears eat?"])
    assert texts(rooftop)[0] == "What is an expert?"
    press("Ctrl+L")


def look_around(user: Session) -> None:
    """Scroll, hide the panel and bring it back, larger text, the dark theme, the shortcuts, the licences."""
    rooftop = user.rooftop
    press("PgUp")
    press("PgDown")
    panel = rooftop.window.panel
    assert panel is not None
    toggle = rooftop.window.menus.panel.shortcut().toString()
    press(toggle)
    assert not panel.isVisible()
    press(toggle)
    assert panel.isVisible()
    press("Ctrl++")
    assert rooftop.themes.zoom == 1.1
    press("Ctrl+0")
    press("Alt+V")
    press("T")
    press("D")
    assert rooftop.themes.theme.name == "dark"
    press("F1")
    user.opened(ShortcutsDialog)
    press("Esc")
    user.back_in_the_window()
    press("Alt+H")
    press("A")
    about = user.opened(AboutDialog)
    tab_to_name("Licences")
    press("Space")
    licences = next(found for found in about.findChildren(LicencesDialog))
    user.qtbot.waitUntil(licences.isActiveWindow)
    tab_to(lambda widget: widget is licences.list)
    press("Down")
    assert "Inter" in licences.text.toPlainText()
    press("Esc")
    about.activateWindow()
    user.qtbot.waitUntil(about.isActiveWindow)
    press("Esc")
    user.back_in_the_window()


def change_settings(user: Session) -> None:
    """Turn every page of the settings, change theme and preset, and bind this chat to a schema."""
    rooftop = user.rooftop
    press("Ctrl+,")
    settings = user.opened(SettingsDialog)
    theme = tab_to(lambda widget: isinstance(widget, QComboBox) and widget.findText("Light") >= 0)
    assert isinstance(theme, QComboBox)
    press("L")
    assert theme.currentText() == "Light"
    tab_to(lambda widget: isinstance(widget, QListWidget))
    seen = {settings.general.isVisible()}
    for page in (
        settings.model, settings.gpu, settings.folders, settings.presets, settings.chat, settings.privacy,
        settings.shortcuts, settings.advanced,
    ):  # fmt: skip
        press("Down")
        seen.add(page.isVisible())
    assert seen == {True}
    for _ in range(4):
        press("Up")
    assert settings.presets.isVisible()
    tab_to(lambda widget: widget is settings.presets.chooser)
    press("P")
    assert settings.presets.chosen.key == "precise"
    tab_to_name("Use for new chats")
    press("Space")
    press("Return")
    user.qtbot.waitUntil(lambda: not settings.isVisible())
    assert rooftop.themes.theme.name == "light"
    assert rooftop.presets.book.default == "precise"
    user.back_in_the_window()
    press("Ctrl+Shift+P")
    options = user.opened(ChatOptionsDialog)
    tab_to_name("JSON schema")
    write("{")
    assert "not valid JSON" in options.status.text()
    assert not options.ok_button.isEnabled()
    write('"type": "object"}')
    tab_to(lambda widget: widget is options.ok_button)
    press("Space")
    user.qtbot.waitUntil(lambda: not options.isVisible())
    user.back_in_the_window()
    user.host.reply = "{}"
    write("An empty one, please.")
    user.send()
    sampling = user.generated.sampling
    assert (sampling.json_schema, sampling.temperature) == ('{"type": "object"}', 0.2)


def leave(user: Session) -> None:
    """A chat begun with one of the questions that are offered, and home."""
    rooftop = user.rooftop
    press("Ctrl+N")
    assert texts(rooftop) == []
    tab_to_name("Ask: What is an expert?")
    press("Space")
    user.qtbot.waitUntil(lambda: len(texts(rooftop)) == 2 and not rooftop.session.busy)
    with user.qtbot.waitSignal(rooftop.ended):
        press("Ctrl+Q")
    assert user.host.stopped == 1
