"""Shortcuts: all of them, to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.language import tr
from app.widgets.settings.page import SettingsPage
from app.widgets.shortcuts_dialog import ShortcutsTable

if TYPE_CHECKING:
    from app.widgets.shortcuts_dialog import Shortcut


class ShortcutsPage(SettingsPage):
    """The window's shortcuts.

    Args:
        shortcuts: From the window.
    """

    def __init__(self, shortcuts: list[Shortcut]) -> None:
        super().__init__(tr("Shortcuts"))
        self._rows.addWidget(ShortcutsTable(shortcuts))
        self._finish()
