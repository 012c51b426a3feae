"""Chat: what sends a message, what happens when the context is full, and which chat is shown at start."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from PySide6.QtWidgets import QComboBox

from app.language import tr
from app.widgets.form_parts import CheckBox
from app.widgets.settings.page import SettingsPage, choose, fill_choices, in_a_row

if TYPE_CHECKING:
    from app.settings import SendKey, Settings
    from engine.messages import Overflow


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
        self.overflow = QComboBox()
        policies = (
            (tr("Stop and say so"), "stop"),
            (tr("Leave out the oldest messages"), "drop_oldest"),
            (tr("Keep the first question, leave out the middle"), "drop_middle"),
        )
        fill_choices(self.overflow, policies, tr("When a chat outgrows the context"))
        self._add_row(tr("&Full context"), self.overflow, in_a_row(self.overflow))
        self.reopen = CheckBox(tr("&Open the last chat at start"))
        self._add_row(tr("Start"), self.reopen, self.reopen)
        self._finish()
        for field in (self.send_key, self.overflow):
            field.currentIndexChanged.connect(self.edited)
        self.reopen.toggled.connect(self.edited)

    def show_settings(self, settings: Settings) -> None:
        """Fill the fields."""
        choose(self.send_key, settings.send_key)
        choose(self.overflow, settings.overflow)
        self.reopen.setChecked(settings.reopen_last_chat)

    def merge(self, settings: Settings) -> Settings:
        """The settings with these fields."""
        return replace(
            settings,
            send_key=cast("SendKey", self.send_key.currentData()),
            overflow=cast("Overflow", self.overflow.currentData()),
            reopen_last_chat=self.reopen.isChecked(),
        )
