"""All downloads below each other, those of earlier sessions too; takes no room while there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QMessageBox, QScrollArea, QVBoxLayout, QWidget

from app.language import tr
from app.theme import SPACE_S
from app.units import bytes_text
from app.widgets.models.download_row import DownloadRow
from app.widgets.models.token_dialog import TokenDialog

if TYPE_CHECKING:
    from PySide6.QtGui import QResizeEvent

    from app.downloads import Downloads
    from app.hub_token import HubToken

MOST_ROWS_SHOWN = 3


class DownloadList(QScrollArea):
    """A row for each download.

    Signals:
        load_requested(str): Load the model at this path.

    Args:
        downloads: What is shown.
        token: Where an access token is kept.
        parent: The dialog.
    """

    load_requested = Signal(str)

    def __init__(self, downloads: Downloads, token: HubToken, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._downloads, self._token = downloads, token
        self._rows: dict[str, DownloadRow] = {}
        self.setAccessibleName(tr("Downloads"))
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        content = QWidget()
        self._layout = QVBoxLayout(content)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(SPACE_S)
        self._layout.addStretch(1)
        self.setWidget(content)
        for state in downloads.states():
            self._show(state.key)
        downloads.changed.connect(self._show)
        self._fit()

    def row(self, key: str) -> DownloadRow:
        """The row of a download."""
        return self._rows[key]

    def keys(self) -> list[str]:
        """All that are listed."""
        return list(self._rows)

    def _show(self, key: str) -> None:
        state = next((state for state in self._downloads.states() if state.key == key), None)
        if state is None:
            row = self._rows.pop(key, None)
            if row is not None:
                self._layout.removeWidget(row)
                row.hide()
                row.deleteLater()
        elif key in self._rows:
            self._rows[key].show_state(state)
        else:
            self._add(DownloadRow(state))
        self._fit()

    def _add(self, row: DownloadRow) -> None:
        self._rows[row.state.key] = row
        self._layout.insertWidget(self._layout.count() - 1, row)
        row.paused.connect(self._downloads.pause)
        row.resumed.connect(self._downloads.resume)
        row.cancelled.connect(self._cancel)
        row.token_requested.connect(self.ask_for_token)
        row.load_requested.connect(self.load_requested)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Sentences may need another number of lines."""
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self._fit()

    def _fit(self) -> None:
        """As high as the first rows; the others are scrolled to."""
        rows = list(self._rows.values())
        self.setVisible(bool(rows))
        width = max(1, self.viewport().width())
        heights = [row.height_for(width) + SPACE_S for row in rows[:MOST_ROWS_SHOWN]]
        self.setFixedHeight(max(1, sum(heights)))

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
        box = QMessageBox(self)
        box.setWindowTitle(tr("Downloads"))
        box.setTextFormat(Qt.TextFormat.PlainText)
        words = tr("Give up this download? The {size} that have arrived are deleted.")
        box.setText(words.format(size=bytes_text(state.done_bytes)))
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        give_up = box.addButton(tr("Give up"), QMessageBox.ButtonRole.DestructiveRole)
        give_up.clicked.connect(lambda: self._give_up(key))
        box.setDefaultButton(box.addButton(tr("Keep"), QMessageBox.ButtonRole.RejectRole))
        box.open()

    def _give_up(self, key: str) -> None:
        if key in self._rows:
            self._downloads.cancel(key)
