"""Privacy: nothing leaves this machine, and where what is kept on it lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QLabel, QPushButton

from app.language import tr
from app.stored import stored_places
from app.widgets.panel_parts import DimLabel
from app.widgets.settings.page import SettingsPage, in_a_row

if TYPE_CHECKING:
    from pathlib import Path


class PrivacyPage(SettingsPage):
    """What is stored, and where.

    Signals:
        delete_chats_requested(): The user wants all chats gone; nothing has been asked yet.
    """

    delete_chats_requested = Signal()

    def __init__(self) -> None:
        super().__init__(tr("Privacy"))
        promise = QLabel(
            tr(
                "Your chats never leave this machine. There is no account and no telemetry. Rooftop connects to "
                "huggingface.co only when you search for a model or download one, and sends what you search for; "
                "links are opened only after you have agreed."
            )
        )
        self._fetched = QLabel(
            tr(
                "GPU support is fetched from pypi.org, on Windows from pytorch.org, or from a mirror of yours, when "
                "you install it; nothing is sent."
            )
        )
        for sentence in (promise, self._fetched):
            sentence.setWordWrap(True)
            self._rows.addWidget(sentence)
        self.buttons: list[QPushButton] = []
        for place in stored_places():
            button = QPushButton(tr("Open folder"))
            button.setAccessibleName(tr("Open the folder of: {what}").format(what=place.what))
            button.setEnabled(place.folder.is_dir())
            button.clicked.connect(lambda _checked=False, folder=place.folder: _open(folder))
            path = DimLabel(str(place.folder))
            self._add_row(place.what, button, DimLabel(place.why), path, in_a_row(button))
            self.buttons.append(button)
        self.delete_chats = QPushButton(tr("&Delete all chats…"))
        self.delete_chats.clicked.connect(self.delete_chats_requested)
        self._add_row(tr("All chats"), self.delete_chats, in_a_row(self.delete_chats))
        self._finish()

    def mention_updates(self) -> None:
        """Name the other connection that there can be, where it is offered."""
        words = tr("Once a day Rooftop also asks whether there is a newer version, if you turn that on under General.")
        also = QLabel(words)
        also.setWordWrap(True)
        self._rows.insertWidget(self._rows.indexOf(self._fetched) + 1, also)


def _open(folder: Path) -> None:
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))
