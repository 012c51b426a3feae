"""The expert map: one row per layer, one cell per expert; colour tells the place, brightness the recent use.

It is a table view that paints itself: the model gives screen readers and the keyboard a real table with one sentence
or three per cell, while all cells are drawn as a single image (see `map_image`). Snapshots carry the full state, so the
map holds nothing but the latest one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QModelIndex, QPoint, QRect, QRectF, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QFocusEvent,
    QFont,
    QFontMetricsF,
    QHelpEvent,
    QImage,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QAbstractItemView, QFrame, QTableView, QToolTip, QWidget

from app.language import tr
from app.theme import FONT_SMALL, current_theme
from app.widgets.expert_table import ExpertState, ExpertTable, Index
from app.widgets.map_image import TEXTURE_FROM_PX, MapGeometry, MapPainter, fit_geometry

if TYPE_CHECKING:
    from app.theme import Theme
    from engine.messages import Ready, Snapshot

_PAGE_LAYERS = 8
_LABEL_STEPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class ExpertMap(QTableView):
    """The map of all experts.

    Signals:
        described(str): The sentences of the cell under the mouse or the cursor, "" for none.
        cursor_moved(QRect): Where the cursor cell is, so that a scroll area can follow.
        pointed(int, int): Layer and expert under the mouse or the cursor; both -1 for none.
        changed(): What the cells show is no longer the same.
    """

    described = Signal(str)
    cursor_moved = Signal(QRect)
    pointed = Signal(int, int)
    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = ExpertState()
        self._table = ExpertTable(self._state, self)
        self._painter = MapPainter()
        self._image: QImage | None = None
        self._geometry: MapGeometry | None = None
        self._hovered: tuple[int, int] | None = None
        self._described = ""
        self._set_up_view()
        self.setModel(self._table)
        self._lay_out()

    def _set_up_view(self) -> None:
        self.setAccessibleName(tr("Expert map"))
        self.setAccessibleDescription(tr("No model is loaded."))
        for header in (self.horizontalHeader(), self.verticalHeader()):
            header.hide()
            header.setMinimumSectionSize(1)
            header.setDefaultSectionSize(1)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setTabKeyNavigation(False)
        self.setShowGrid(False)
        self.setMouseTracking(True)
        self.viewport().setAutoFillBackground(False)

    # ---- state ----

    def show_ready(self, ready: Ready) -> None:
        """Take a newly loaded or re-planned model; the cursor stays where it can."""
        same = (self._state.layers, self._state.experts) == (ready.model.layers, ready.model.experts)
        self._state.set_ready(ready)
        if not same:
            self._hovered = None
            self._table.reset()
            self._lay_out()
        self._state_changed()
        self._summarise(ready.plan.resident_experts, ready.model.total_experts)

    def show_snapshot(self, snapshot: Snapshot) -> None:
        """Take the engine's full state."""
        self._state.set_snapshot(snapshot)
        self._state_changed()
        resident = sum(len(layer) for layer in snapshot.resident_by_layer)
        self._summarise(resident // self._state.parts, self._state.layers * self._state.experts // self._state.parts)

    def clear(self) -> None:
        """Forget the model."""
        self._state.clear()
        self._hovered = None
        self._table.reset()
        self._lay_out()
        self._state_changed()
        self.setAccessibleDescription(tr("No model is loaded."))

    @property
    def shown(self) -> ExpertState:
        """What is shown, worked out up to the latest snapshot."""
        self._state.refresh()
        return self._state

    @property
    def small_cells(self) -> bool:
        """Whether the cells are too small for the textures that tell places apart without colour."""
        geometry = self._geometry
        return geometry is not None and min(geometry.cell_width, geometry.cell_height) < TEXTURE_FROM_PX

    def point_at(self, layer: int, expert: int) -> None:
        """Have a cell described as if the mouse were there; an expert of -1 ends that."""
        self._hover((layer, expert) if expert >= 0 else None)

    def describe_cell(self, layer: int, expert: int) -> str:
        """The sentences of one cell."""
        return self._state.describe(layer, expert)

    def _state_changed(self) -> None:
        self._image = None
        self.viewport().update(self._cells_box())
        self.changed.emit()
        if self._described:
            self._describe()

    def _summarise(self, resident: int, total: int) -> None:
        text = tr(
            "{layers} layers with {experts} experts each; {resident} of {total} experts live on the GPU. "
            "Arrow keys move from expert to expert."
        ).format(
            layers=self._state.layers,
            experts=self._state.experts // self._state.parts,
            resident=resident,
            total=total,
        )
        if text != self.accessibleDescription():
            self.setAccessibleDescription(text)

    def _describe(self) -> None:
        """Tell the words of the cell under the mouse, else under the cursor while it shows."""
        cell = self._hovered or (self._cursor() if self.hasFocus() else None)
        self.pointed.emit(*(cell or (-1, -1)))
        text = self._state.describe(*cell) if cell else ""
        if text != self._described:
            self._described = text
            self.described.emit(text)

    def _cursor(self) -> tuple[int, int] | None:
        index = self.currentIndex()
        return (index.row(), index.column()) if index.isValid() else None

    # ---- geometry ----

    def _small_font(self) -> QFont:
        font = QFont(self.font())
        font.setPointSizeF(self.font().pointSizeF() * FONT_SMALL)
        return font

    def _lay_out(self) -> None:
        """Fit the cells to the width and take the height that they need."""
        self._image = None
        if not self._state.layers or not self._state.experts:
            self._geometry = None
            self.setFixedHeight(0)
            return
        metrics = QFontMetricsF(self._small_font())
        left = round(metrics.horizontalAdvance("00") + 8)
        top = round(metrics.height() + 3)
        geometry = fit_geometry(
            self._state.layers, self._state.experts, (self.width(), top), left, self.devicePixelRatioF()
        )
        self._geometry = geometry
        self.setFixedHeight(round((geometry.top + geometry.height) / geometry.scale) + 3)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Fit the cells again."""
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self._lay_out()

    def _cells_box(self) -> QRect:
        """All cells, without the labels."""
        geometry = self._geometry
        if geometry is None:
            return self.rect()
        scale = geometry.scale
        whole = QRectF(geometry.left / scale, geometry.top / scale, geometry.width / scale, geometry.height / scale)
        return whole.toAlignedRect()

    def visualRect(self, index: Index) -> QRect:
        """Where a cell is."""
        if self._geometry is None or not index.isValid():
            return QRect()
        return self._geometry.cell_rect(index.row(), index.column()).toAlignedRect()

    def indexAt(self, point: QPoint) -> QModelIndex:
        """Which cell is there."""
        cell = self._geometry.cell_at(point.x(), point.y()) if self._geometry else None
        return self._table.index(*cell) if cell else QModelIndex()

    def scrollTo(
        self, index: Index, hint: QAbstractItemView.ScrollHint = QAbstractItemView.ScrollHint.EnsureVisible
    ) -> None:
        """Nothing scrolls inside; the scroll area around follows `cursor_moved`."""

    # ---- cursor and mouse ----

    def moveCursor(self, cursor_action: QAbstractItemView.CursorAction, modifiers: Qt.KeyboardModifier) -> QModelIndex:
        """Arrow keys move by expert and layer, Home and End within the layer, Page keys by eight layers."""
        cursor = self._cursor()
        if cursor is None:
            return self._table.index(0, 0)
        layer, expert = cursor
        action = QAbstractItemView.CursorAction
        far = bool(modifiers & Qt.KeyboardModifier.ControlModifier)
        last_layer, last_expert = self._state.layers - 1, self._state.experts - 1
        targets = {
            action.MoveLeft: (layer, expert - 1),
            action.MoveRight: (layer, expert + 1),
            action.MoveUp: (layer - 1, expert),
            action.MoveDown: (layer + 1, expert),
            action.MovePageUp: (layer - _PAGE_LAYERS, expert),
            action.MovePageDown: (layer + _PAGE_LAYERS, expert),
            action.MoveHome: (0 if far else layer, 0),
            action.MoveEnd: (last_layer if far else layer, last_expert),
        }
        row, column = targets.get(cursor_action, cursor)
        return self._table.index(min(max(row, 0), last_layer), min(max(column, 0), last_expert))

    def currentChanged(self, current: Index, previous: Index) -> None:
        """Show and tell the new cursor cell."""
        super().currentChanged(current, previous)
        self.viewport().update()
        if current.isValid():
            self._hovered = None
            self._describe()
            self.cursor_moved.emit(self.visualRect(current))

    def focusInEvent(self, event: QFocusEvent) -> None:
        """The cursor shows while the map has the keyboard."""
        super().focusInEvent(event)
        self._describe()
        self.viewport().update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Hide the cursor."""
        super().focusOutEvent(event)
        self._describe()
        self.viewport().update()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Tell the cell under the mouse."""
        position = event.position()
        cell = self._geometry.cell_at(position.x(), position.y()) if self._geometry else None
        self._hover(cell)

    def _hover(self, cell: tuple[int, int] | None) -> None:
        if cell != self._hovered:
            self._hovered = cell
            self._describe()
            self.viewport().update()

    def viewportEvent(self, event: QEvent) -> bool:
        """Tool tips, and the mouse leaving."""
        if event.type() == QEvent.Type.Leave:
            self._hover(None)
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            index = self.indexAt(event.pos())
            text = self._state.describe(index.row(), index.column()) if index.isValid() else ""
            QToolTip.showText(event.globalPos(), text, self.viewport(), self.visualRect(index))
            return True
        return super().viewportEvent(event)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """The wheel belongs to the scroll area around."""
        event.ignore()

    # ---- painting ----

    def changeEvent(self, event: QEvent) -> None:
        """Take another theme or font."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self._lay_out()
            self.viewport().update()

    def event(self, event: QEvent) -> bool:
        """Stay sharp on another screen."""
        if event.type() == QEvent.Type.DevicePixelRatioChange:
            self._lay_out()
        return super().event(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw all cells as one image, then labels, hover and cursor."""
        if self._geometry is None:
            return
        theme = current_theme()
        if self._image is None:
            self._state.refresh()
            self._image = self._painter.draw(self._state.places, self._state.use, self._geometry, theme)
        painter = QPainter(self.viewport())
        origin = self._geometry.cell_rect(0, 0).topLeft()
        painter.drawImage(origin, self._image)
        if not self._cells_box().contains(event.rect()):
            self._paint_labels(painter, self._geometry, theme)
        if self._hovered is not None:
            _outline(painter, self._geometry.cell_rect(*self._hovered), theme.text, theme.window)
        cursor = self._cursor()
        if cursor is not None and self.hasFocus():
            _outline(painter, self._geometry.cell_rect(*cursor), theme.accent, theme.window)
        painter.end()

    def _paint_labels(self, painter: QPainter, geometry: MapGeometry, theme: Theme) -> None:
        """Numbers of layers at the left, of experts on top, as many as there is room for."""
        font = self._small_font()
        painter.setFont(font)
        painter.setPen(QColor(theme.text_dim))
        metrics = QFontMetricsF(font)
        row = geometry.layer_height / geometry.scale
        gutter = geometry.left / geometry.scale - 5
        for layer in range(0, geometry.layers, _label_step(metrics.height(), row)):
            middle = geometry.cell_rect(layer, 0).top() + min(row, geometry.cell_height / geometry.scale) / 2
            box = QRectF(0, middle - 10, gutter, 20)
            painter.drawText(box, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, str(layer))
        parts = self._state.parts
        column = parts * geometry.cell_width / geometry.scale
        step = parts * _label_step(metrics.horizontalAdvance("000") + 4, column)
        for first in range(0, geometry.per_line, step):
            middle = geometry.cell_rect(0, first).left() + min(parts, geometry.per_line - first) * column / parts / 2
            box = QRectF(middle - 20, 0, 40, geometry.top / geometry.scale - 2)
            painter.drawText(box, Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignBottom, str(first // parts))


def _label_step(needed_px: float, cell_px: float) -> int:
    """Every how manieth label there is room for."""
    return next((step for step in _LABEL_STEPS if step * cell_px >= needed_px), _LABEL_STEPS[-1])


def _outline(painter: QPainter, cell: QRectF, colour: str, halo: str) -> None:
    """A frame around a cell, at least large enough to be seen, legible on any colour."""
    grow = max(0.0, (7 - min(cell.width(), cell.height())) / 2)
    box = cell.adjusted(-grow - 0.5, -grow - 0.5, grow - 0.5, grow - 0.5)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.setPen(QPen(QColor(halo), 4))
    painter.drawRect(box)
    painter.setPen(QPen(QColor(colour), 2))
    painter.drawRect(box)
