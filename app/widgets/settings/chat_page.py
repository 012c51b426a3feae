"""Chat: what sends a message."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from PySide6.QtWidgets import QComboBox

from app.language import tr
from app.widgets.settings.page import SettingsPage, choose, fill_choices, in_a_row

if TYPE_CHECKING:
    from app.settings import SendKey, Settings


class ChatPage(SettingsPage):
    """How a chat is written."""

    def __init__(self) -> None:
        super().__init__(tr("Chat"))
        self.send_key = QComboBox()
        keys = (
            (tr("Enter; Shift+Enter starts a new line"), "enter"),
            (tr("Ctrl+Enter; Enter starts a new line"), "ctrl_enter"),
        )
        fill_choices(self.send_key, keys, tr("What sends a message"))
        self._add_row(tr("&Send with"), self.send_key, in_a_row(self.send_key))
        self._finish()
        self.send_key.currentIndexChanged.connect(self.edited)

    def show_settings(self, settings: Settings) -> None:
        """Fill the fields."""
        choose(self.send_key, settings.send_key)

    def merge(self, settings: Settings) -> Settings:
        """The settings with these fields."""
        return replace(settings, send_key=cast("SendKey", self.send_key.currentData()))
