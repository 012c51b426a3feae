"""All downloads below each other, those of earlier sessions too; takes no room while there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal

from app.language import tr
from app.units import bytes_text
from app.widgets.models.download_row import DownloadRow
from app.widgets.models.row_list import RowList
from app.widgets.models.token_dialog import TokenDialog

if TYPE_CHECKING:
    from PySide6.QtWidgets import QWidget

    from app.downloads import Downloads
    from app.hub_token import HubToken

MOST_ROWS_SHOWN = 3


class DownloadList(RowList[DownloadRow]):
    """A row for each download.

    Signals:
        load_requested(str): Load the model at this path.
        smaller_requested(str): Make a smaller model of the one at this path.

    Args:
        downloads: What is shown.
        token: Where an access token is kept.
        parent: The dialog.
    """

    load_requested = Signal(str)
    smaller_requested = Signal(str)

    def __init__(self, downloads: Downloads, token: HubToken, parent: QWidget | None = None) -> None:
        super().__init__(tr("Downloads"), MOST_ROWS_SHOWN, parent)
        self._downloads, self._token = downloads, token
        for state in downloads.states():
            self._show(state.key)
        downloads.changed.connect(self._show)
        self._fit()

    def offer_smaller(self, path: str) -> None:
        """Offer to make a smaller model of what lies at a path, where it was downloaded in this session."""
        for row in self._rows.values():
            if str(row.state.path) == path:
                row.smaller.show()
        self._fit()

    def _show(self, key: str) -> None:
        state = next((state for state in self._downloads.states() if state.key == key), None)
        if state is None:
            self._drop(key)
        elif key in self._rows:
            self._rows[key].show_state(state)
        else:
            row = DownloadRow(state)
            row.paused.connect(self._downloads.pause)
            row.resumed.connect(self._downloads.resume)
            row.cancelled.connect(self._cancel)
            row.token_requested.connect(self.ask_for_token)
            row.load_requested.connect(self.load_requested)
            row.smaller_requested.connect(self.smaller_requested)
            self._add(key, row)
        self._fit()

    def ask_for_token(self, key: str) -> None:
        """Let the user enter an access token, then try the download again."""
        dialog = TokenDialog(self._token, self)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.accepted.connect(lambda: self._downloads.resume(key))
        dialog.open()

    def _cancel(self, key: str) -> None:
        """Ask before something large is thrown away."""
        state = self._rows[key].state
        if state.phase == "done" or not state.done_bytes:
            self._downloads.cancel(key)
            return
        words = tr("Give up this download? The {size} that have arrived are deleted.")
        self._ask_to_give_up(words.format(size=bytes_text(state.done_bytes)), lambda: self._give_up(key))

    def _give_up(self, key: str) -> None:
        if key in self._rows:
            self._downloads.cancel(key)
