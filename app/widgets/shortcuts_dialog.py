"""The list of shortcuts, made from the window's own actions, so that it says what is so."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QKeySequence, QShortcut
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QGridLayout, QLabel, QMenu, QScrollArea, QVBoxLayout, QWidget

from app.language import tr
from app.theme import SPACE_L, SPACE_S, SPACE_XL

if TYPE_CHECKING:
    from PySide6.QtWidgets import QMainWindow

    from app.settings import SendKey

MAX_HEIGHT_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Shortcut:
    """One line of the list.

    Attributes:
        section: The menu it is in, or where it works.
        keys: In the user's language, e.g. "Ctrl+N" or "Strg+N".
        text: What it does.
    """

    section: str
    keys: str
    text: str


class ShortcutsTable(QWidget):
    """Shortcuts by section, as a table."""

    def __init__(self, shortcuts: list[Shortcut], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(SPACE_XL)
        grid.setVerticalSpacing(SPACE_S)
        section = ""
        for shortcut in shortcuts:
            row = grid.rowCount()
            if shortcut.section != section:
                if section:
                    grid.setRowMinimumHeight(row, SPACE_S)
                    row += 1
                section = shortcut.section
                grid.addWidget(_label(section, "dim"), row, 0, 1, 2)
                row += 1
            grid.addWidget(_label(shortcut.keys, "figure"), row, 0)
            grid.addWidget(_label(shortcut.text), row, 1)
        grid.setColumnStretch(1, 1)


class ShortcutsDialog(QDialog):
    """All shortcuts, by section."""

    def __init__(self, shortcuts: list[Shortcut], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(tr("Keyboard shortcuts"))
        content = ShortcutsTable(shortcuts)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setAccessibleName(tr("Keyboard shortcuts"))
        scroll.setWidget(content)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE_L, SPACE_L, SPACE_L, SPACE_L)
        layout.setSpacing(SPACE_L)
        layout.addWidget(scroll, 1)
        layout.addWidget(buttons)
        wanted = content.sizeHint()
        most = int(self.screen().availableGeometry().height() * MAX_HEIGHT_SHARE)
        self.resize(wanted.width() + 4 * SPACE_XL, min(most, wanted.height() + 6 * SPACE_XL))


def shortcuts_of(window: QMainWindow, send_key: SendKey = "enter") -> list[Shortcut]:
    """Every shortcut of a window: of its menus, of its other actions, and the keys of the message field."""
    found: list[Shortcut] = []
    listed: set[int] = set()
    for top in window.menuBar().actions():
        for action in _actions_below(top):
            listed.add(id(action))
            found += _lines(plain(top.text()), action)
    others = [action for action in window.findChildren(QAction) if id(action) not in listed]
    for action in others:
        found += _lines(tr("Everywhere"), action)
    for shortcut in window.findChildren(QShortcut):
        found.append(Shortcut(tr("Everywhere"), _native(shortcut.keys()), shortcut.whatsThis()))
    return found + list_keys() + message_keys(send_key)


def list_keys() -> list[Shortcut]:
    """The keys of the list of chats, which are no actions."""
    section = tr("In the list of chats")
    table = (("Enter", tr("Open the chat")), ("F2", tr("Rename the chat")), ("Del", tr("Delete the chat")))
    return [Shortcut(section, _native([QKeySequence(keys)]), text) for keys, text in table]


def message_keys(send_key: SendKey = "enter") -> list[Shortcut]:
    """The keys of the message field, which are no actions."""
    section = tr("In the message field")
    table = (
        ("Ctrl+Enter" if send_key == "ctrl_enter" else "Enter", tr("Send the message")),
        ("Enter" if send_key == "ctrl_enter" else "Shift+Enter", tr("Start a new line")),
        ("PgUp", tr("Scroll the chat up by a page")),
        ("PgDown", tr("Scroll the chat down by a page")),
    )
    return [Shortcut(section, _native([QKeySequence(keys)]), text) for keys, text in table]


def plain(text: str) -> str:
    """An action's text without the mark of its mnemonic and without the dots that announce a dialog."""
    return re.sub("&(.)", r"\1", text).rstrip("…")


def _actions_below(action: QAction) -> list[QAction]:
    menu = action.menu()
    if not isinstance(menu, QMenu):
        return [action]
    return [below for child in menu.actions() for below in _actions_below(child)]


def _lines(section: str, action: QAction) -> list[Shortcut]:
    keys = action.shortcuts()
    return [Shortcut(section, _native(keys), plain(action.text()))] if keys else []


def _native(keys: list[QKeySequence]) -> str:
    return ", ".join(key.toString(QKeySequence.SequenceFormat.NativeText) for key in keys)


def _label(text: str, name: str = "") -> QLabel:
    label = QLabel(text)
    label.setObjectName(name)
    label.setTextFormat(Qt.TextFormat.PlainText)
    return label
