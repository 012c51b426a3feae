"""The layer strip in columns: all layers of a large model side by side, the CPU's time upwards and the GPU's downwards.

A tick marks the time that was predicted. It is a list view that paints itself, as the rows are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QModelIndex, QPoint, QRect, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QFocusEvent, QFont, QFontMetricsF, QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QAbstractItemView, QFrame, QListView, QWidget

from app.language import tr
from app.theme import FONT_SMALL, current_theme

if TYPE_CHECKING:
    from app.theme import Theme
    from app.widgets.layer_table import Index, LayerTable

_SIDE_HEIGHT = 38
_PAGE_LAYERS = 8
_LABEL_STEPS = (1, 2, 4, 8, 16, 32)


class LayerColumns(QListView):
    """The columns.

    Args:
        table: What the layers did; shared with the rows.
        parent: Owner.

    Signals:
        described(str): The lines of the layer under the mouse or the cursor, "" for none.
    """

    described = Signal(str)

    def __init__(self, table: LayerTable, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.table = table
        self._hovered = -1
        self._described = ""
        self.setModel(table)
        self.setAccessibleName(tr("Layer strip, in columns"))
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMouseTracking(True)
        self.viewport().setAutoFillBackground(False)
        table.modelReset.connect(self._fit_height)
        self._fit_height()

    def refresh(self) -> None:
        """Show what the table holds now."""
        self._describe()
        self.viewport().update()

    # ---- geometry ----

    def _small_font(self) -> QFont:
        font = QFont(self.font())
        font.setPointSizeF(font.pointSizeF() * FONT_SMALL)
        return font

    def _fit_height(self) -> None:
        labels = QFontMetricsF(self._small_font()).height() + 2
        self.setFixedHeight(round((2 if self.table.has_gpu else 1) * _SIDE_HEIGHT + labels) + 1)

    def _gutter(self) -> float:
        return QFontMetricsF(self._small_font()).horizontalAdvance("GPU") + 6

    def _column(self, row: int) -> QRectF:
        """One layer's column, both sides."""
        left, right = self._gutter(), float(self.viewport().width())
        width = (right - left) / max(1, self.table.count)
        x, end = round(left + row * width), round(left + (row + 1) * width)
        return QRectF(x, 0, max(1, end - x), _SIDE_HEIGHT * (2 if self.table.has_gpu else 1))

    def visualRect(self, index: Index) -> QRect:
        """Where a layer is."""
        return self._column(index.row()).toAlignedRect() if index.isValid() else QRect()

    def indexAt(self, point: QPoint) -> QModelIndex:
        """Which layer is there."""
        return self.table.index(self._row_at(point.x()))

    def _row_at(self, x: float) -> int:
        left = self._gutter()
        row = int((x - left) / max(1.0, self.viewport().width() - left) * self.table.count)
        return row if x >= left and row < self.table.count else -1

    def scrollTo(
        self, index: Index, hint: QAbstractItemView.ScrollHint = QAbstractItemView.ScrollHint.EnsureVisible
    ) -> None:
        """All layers are always in sight."""

    # ---- cursor and mouse ----

    def moveCursor(self, cursor_action: QAbstractItemView.CursorAction, modifiers: Qt.KeyboardModifier) -> QModelIndex:  # noqa: ARG002 - Qt's signature
        """Any arrow key moves by one layer, the Page keys by eight."""
        row, last = self.currentIndex().row(), self.table.count - 1
        if row < 0:
            return self.table.index(0)
        action = QAbstractItemView.CursorAction
        steps = {
            action.MoveLeft: -1, action.MoveUp: -1, action.MoveRight: 1, action.MoveDown: 1,
            action.MovePageUp: -_PAGE_LAYERS, action.MovePageDown: _PAGE_LAYERS,
            action.MoveHome: -last, action.MoveEnd: last,
        }  # fmt: skip
        return self.table.index(min(max(row + steps.get(cursor_action, 0), 0), last))

    def currentChanged(self, current: Index, previous: Index) -> None:
        """Tell the new cursor column."""
        super().currentChanged(current, previous)
        self._hover(-1)
        self.refresh()

    def focusInEvent(self, event: QFocusEvent) -> None:
        """The cursor shows while the columns have the keyboard."""
        super().focusInEvent(event)
        self.refresh()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Hide the cursor."""
        super().focusOutEvent(event)
        self.refresh()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Tell the layer under the mouse."""
        self._hover(self._row_at(event.position().x()))

    def viewportEvent(self, event: QEvent) -> bool:
        """Notice the mouse leaving."""
        if event.type() == QEvent.Type.Leave:
            self._hover(-1)
        return super().viewportEvent(event)

    def changeEvent(self, event: QEvent) -> None:
        """Take another font."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self._fit_height()

    def _hover(self, row: int) -> None:
        if row != self._hovered:
            self._hovered = row
            self.refresh()

    def _describe(self) -> None:
        row = self._hovered if self._hovered >= 0 else self.currentIndex().row() if self.hasFocus() else -1
        text = self.table.describe(row) if 0 <= row < self.table.count else ""
        if text != self._described:
            self._described = text
            self.described.emit(text)

    # ---- painting ----

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002 - Qt's signature
        """Draw all columns, then the numbers of some layers."""
        theme, painter = current_theme(), QPainter(self.viewport())
        painter.setFont(self._small_font())
        painter.setPen(QColor(theme.text_dim))
        gutter = self._gutter() - 5
        for side, name in enumerate(("CPU", "GPU") if self.table.has_gpu else ("CPU",)):
            box = QRectF(0, side * _SIDE_HEIGHT, gutter, _SIDE_HEIGHT)
            painter.drawText(box, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, name)
        cursor = self.currentIndex().row() if self.hasFocus() else -1
        for row in range(self.table.count):
            self._paint_column(painter, row, theme, marked=row in (self._hovered, cursor))
        self._paint_numbers(painter, theme)
        painter.end()

    def _paint_column(self, painter: QPainter, row: int, theme: Theme, *, marked: bool) -> None:
        box = self._column(row)
        gap = 1 if box.width() >= 3 else 0
        painter.fillRect(box.adjusted(0, 0, -gap, 0), QColor(theme.border if marked else theme.surface_alt))
        trace = self.table.traces.get(row)
        if trace is not None and self.table.scale_s > 0:
            bars = box.adjusted(0, 0, -gap, 0)
            self._paint_side(painter, bars, (trace.measured_cpu_s, trace.predicted_cpu_s), theme.cpu, up=True)
            if self.table.has_gpu:
                self._paint_side(painter, bars, (trace.measured_gpu_s, trace.predicted_gpu_s), theme.gpu, up=False)
        if self.table.has_gpu:
            painter.fillRect(QRectF(box.left(), _SIDE_HEIGHT - 0.5, box.width(), 1), QColor(theme.window))
        if marked:
            painter.fillRect(QRectF(box.left(), box.bottom() - 1, box.width() - gap, 3), QColor(theme.accent))

    def _paint_side(
        self, painter: QPainter, box: QRectF, seconds: tuple[float, float], colour: str, *, up: bool
    ) -> None:
        """One side's bar from the middle outwards, with the tick of its prediction."""
        measured, predicted = (min(1.0, value / self.table.scale_s) * (_SIDE_HEIGHT - 2) for value in seconds)
        if measured > 0:
            length = max(2.0, measured)
            top = _SIDE_HEIGHT - length if up else _SIDE_HEIGHT
            painter.fillRect(QRectF(box.left(), top, box.width(), length), QColor(colour))
        if predicted > 0:
            y = _SIDE_HEIGHT - predicted if up else _SIDE_HEIGHT + predicted - 1
            painter.fillRect(QRectF(box.left(), y, box.width(), 1), QColor(current_theme().text))

    def _paint_numbers(self, painter: QPainter, theme: Theme) -> None:
        metrics = QFontMetricsF(self._small_font())
        painter.setPen(QColor(theme.text_dim))
        width = self._column(0).width() if self.table.count else 1.0
        needed = metrics.horizontalAdvance("000")
        step = next((step for step in _LABEL_STEPS if step * width >= needed), _LABEL_STEPS[-1])
        for row in range(0, self.table.count, step):
            box = self._column(row)
            words = QRectF(box.center().x() - 20, box.bottom() + 2, 40, metrics.height())
            painter.drawText(words, Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop, str(row))
