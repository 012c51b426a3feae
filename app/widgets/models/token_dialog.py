"""Asks for the access token that a gated model needs, and keeps it in the system's keyring."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QLabel, QLineEdit, QVBoxLayout, QWidget

from app.language import tr
from app.theme import SPACE_L, SPACE_M
from app.widgets.panel_parts import DimLabel

if TYPE_CHECKING:
    from app.hub_token import HubToken

WIDTH = 460


class TokenDialog(QDialog):
    """A field for the token; closes once it is kept.

    Args:
        token: Where it is kept.
        parent: The model page.
    """

    _kept = Signal(str)

    def __init__(self, token: HubToken, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._token = token
        self.setWindowTitle(tr("Access token"))
        self.setAccessibleName(tr("Access token"))
        words = QLabel(
            tr(
                "The publisher lets only some accounts download this model. Ask for access on the model's page on "
                "huggingface.co, then create an access token in your account's settings there and paste it here."
            )
        )
        words.setWordWrap(True)
        self.field = QLineEdit()
        self.field.setEchoMode(QLineEdit.EchoMode.Password)
        self.field.setPlaceholderText("hf_…")
        self.field.setAccessibleName(tr("Access token"))
        self.note = DimLabel(tr("It is kept in your system's keyring and sent to the hub alone."))
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel)
        for button in self.buttons.buttons():
            button.setIcon(QIcon())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE_L, SPACE_L, SPACE_L, SPACE_L)
        layout.setSpacing(SPACE_M)
        for widget in (words, self.field, self.note, self.buttons):
            layout.addWidget(widget)
        self.setMinimumWidth(WIDTH)
        self.buttons.accepted.connect(self._keep)
        self.buttons.rejected.connect(self.reject)
        self.field.textChanged.connect(self._enable)
        self._kept.connect(self._after_keeping, Qt.ConnectionType.QueuedConnection)
        self._enable()

    def _enable(self) -> None:
        ok = self.buttons.button(QDialogButtonBox.StandardButton.Ok)
        ok.setEnabled(bool(self.field.text().strip()))

    def _keep(self) -> None:
        """Keep it on a thread of its own: the keyring may ask the user first."""
        text = self.field.text()
        self.setEnabled(False)

        def work() -> None:
            try:
                outcome = "stays" if self._token.set(text) else "session"
            except ValueError:
                outcome = "bad"
            with suppress(RuntimeError):  # the dialog was closed meanwhile, and Qt has deleted it
                self._kept.emit(outcome)

        threading.Thread(target=work, name="keyring", daemon=True).start()

    def _after_keeping(self, outcome: str) -> None:
        self.setEnabled(True)
        if outcome == "bad":
            self.note.setText(tr("That is no access token; copy it again, without anything around it."))
            self.field.setFocus()
        elif outcome == "session":
            self.note.setText(tr("Your system has no keyring: the token lasts until Rooftop is closed."))
            self.field.setEnabled(False)
            self.buttons.accepted.disconnect(self._keep)
            self.buttons.accepted.connect(self.accept)
        else:
            self.accept()
