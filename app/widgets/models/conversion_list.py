"""All conversions below each other, those of earlier sessions too; takes no room while there is none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QUrl, Signal
from PySide6.QtGui import QDesktopServices

from app.language import tr
from app.widgets.models.conversion_row import ConversionRow
from app.widgets.models.row_list import RowList

if TYPE_CHECKING:
    from PySide6.QtWidgets import QWidget

    from app.conversions import Conversions

MOST_ROWS_SHOWN = 2


class ConversionList(RowList[ConversionRow]):
    """A row for each conversion.

    Signals:
        load_requested(str): Load the model at this path.

    Args:
        conversions: What is shown.
        parent: The dialog.
    """

    load_requested = Signal(str)

    def __init__(self, conversions: Conversions, parent: QWidget | None = None) -> None:
        super().__init__(tr("Smaller models"), MOST_ROWS_SHOWN, parent)
        self._conversions = conversions
        for state in conversions.states():
            self._show(state.key)
        conversions.changed.connect(self._show)
        self._fit()

    def _show(self, key: str) -> None:
        state = self._conversions.state(key)
        if state is None:
            self._drop(key)
        elif key in self._rows:
            self._rows[key].show_state(state)
        else:
            row = ConversionRow(state)
            row.paused.connect(self._conversions.pause)
            row.resumed.connect(self._conversions.resume)
            row.cancelled.connect(self._cancel)
            row.load_requested.connect(self.load_requested)
            row.folder_requested.connect(_show_folder)
            self._add(key, row)
        self._fit()

    def _cancel(self, key: str) -> None:
        """Ask before work is thrown away."""
        state = self._rows[key].state
        if state.phase == "done":
            self._conversions.cancel(key)
            return
        words = tr("Give up this conversion? What is done of it is deleted; {name} stays as it is.")
        self._ask_to_give_up(words.format(name=state.source_name), lambda: self._give_up(key))

    def _give_up(self, key: str) -> None:
        if key in self._rows:
            self._conversions.cancel(key)


def _show_folder(model: str) -> None:
    path = Path(model)
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(path if path.is_dir() else path.parent)))
