"""Rows of what runs, below each other; takes no room while there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QMessageBox, QScrollArea, QVBoxLayout, QWidget

from app.language import tr
from app.theme import SPACE_S
from app.widgets.models.progress_row import ProgressRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtGui import QResizeEvent

Row = TypeVar("Row", bound=ProgressRow)


class RowList(QScrollArea, Generic[Row]):
    """As high as its first rows; the others are scrolled to.

    Args:
        name: What it lists.
        most_shown: How many rows are shown at once.
        parent: The dialog.
    """

    def __init__(self, name: str, most_shown: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows: dict[str, Row] = {}
        self._name, self._most_shown = name, most_shown
        self.setAccessibleName(name)
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

    def row(self, key: str) -> Row:
        """The row with a key."""
        return self._rows[key]

    def keys(self) -> list[str]:
        """All that are listed."""
        return list(self._rows)

    def _add(self, key: str, row: Row) -> None:
        self._rows[key] = row
        self._layout.insertWidget(self._layout.count() - 1, row)

    def _drop(self, key: str) -> None:
        row = self._rows.pop(key, None)
        if row is not None:
            self._layout.removeWidget(row)
            row.hide()
            row.deleteLater()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Sentences may need another number of lines."""
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self._fit()

    def _fit(self) -> None:
        rows = list(self._rows.values())
        self.setVisible(bool(rows))
        width = max(1, self.viewport().width())
        heights = [row.height_for(width) + SPACE_S for row in rows[: self._most_shown]]
        self.setFixedHeight(max(1, sum(heights)))

    def _ask_to_give_up(self, question: str, give_up: Callable[[], None]) -> None:
        """Ask before something large is thrown away."""
        box = QMessageBox(self)
        box.setWindowTitle(self._name)
        box.setTextFormat(Qt.TextFormat.PlainText)
        box.setText(question)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.addButton(tr("Give up"), QMessageBox.ButtonRole.DestructiveRole).clicked.connect(give_up)
        box.setDefaultButton(box.addButton(tr("Keep"), QMessageBox.ButtonRole.RejectRole))
        box.open()
