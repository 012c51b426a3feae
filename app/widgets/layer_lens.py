"""The lens below a map of many experts: the layer that is pointed at, its cells large enough for textures.

It draws from the map's own state, and pointing at its cells is pointing at the map's. The keyboard has the map itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QMouseEvent, QPainter, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.language import tr
from app.theme import FONT_SMALL, current_theme
from app.widgets.map_image import MapGeometry, MapPainter

if TYPE_CHECKING:
    from app.widgets.expert_map import ExpertMap

_CELL_PX = 11
_CELL_HEIGHT_PX = 13


class LayerLens(QWidget):
    """One layer of a map.

    Args:
        expert_map: The map.
        parent: Owner.
    """

    def __init__(self, expert_map: ExpertMap, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._map = expert_map
        self._painter = MapPainter()
        self._layer, self._expert = 0, -1
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMouseTracking(True)
        self.setAccessibleName(tr("One layer of the expert map, enlarged"))
        expert_map.pointed.connect(self._follow)
        expert_map.changed.connect(self.update)

    @property
    def layer(self) -> int:
        """The layer that is shown: the latest that was pointed at."""
        return min(self._layer, max(0, self._map.shown.layers - 1))

    def _follow(self, layer: int, expert: int) -> None:
        self._expert = expert
        if layer >= 0:
            self._layer = layer
            self.setAccessibleDescription(tr("Layer {number}").format(number=layer))
        self.update()

    # ---- geometry ----

    def _small_font(self) -> QFont:
        font = QFont(self.font())
        font.setPointSizeF(font.pointSizeF() * FONT_SMALL)
        return font

    def _geometry(self) -> MapGeometry | None:
        state = self._map.shown
        if not state.layers or not state.experts:
            return None
        scale = self.devicePixelRatioF()
        top = round((QFontMetricsF(self._small_font()).height() + 2) * scale)
        fitting = max(1, int(self.width() * scale) // max(1, round(_CELL_PX * scale)))
        lines = math.ceil(state.experts / fitting)
        per_line = math.ceil(state.experts / lines)
        width = min(round(2 * _CELL_PX * scale), int(self.width() * scale) // per_line)
        return MapGeometry(0, top, 1, state.experts, per_line, width, round(_CELL_HEIGHT_PX * scale), scale)

    def sizeHint(self) -> QSize:
        """As high as the layer's lines."""
        geometry = self._geometry()
        return QSize(200, math.ceil((geometry.top + geometry.height) / geometry.scale) + 2 if geometry else 0)

    def minimumSizeHint(self) -> QSize:
        """The same height in any width."""
        return QSize(120, self.sizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Another width takes other lines."""
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self.updateGeometry()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Point at the cell."""
        geometry, position = self._geometry(), event.position()
        cell = geometry.cell_at(position.x(), position.y()) if geometry is not None else None
        self._map.point_at(self.layer, cell[1] if cell is not None else -1)

    def leaveEvent(self, event: QEvent) -> None:
        """Point at nothing."""
        super().leaveEvent(event)
        self._map.point_at(self.layer, -1)

    # ---- painting ----

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002 - Qt's signature
        """Draw the layer's name and its cells, and frame the one that is pointed at."""
        geometry = self._geometry()
        if geometry is None:
            return
        theme, state, layer, painter = current_theme(), self._map.shown, self.layer, QPainter(self)
        painter.setFont(self._small_font())
        painter.setPen(QColor(theme.text_dim))
        head = QRectF(0, 0, self.width(), geometry.top / geometry.scale)
        words = tr("Layer {number}, enlarged").format(number=layer)
        if self._expert >= 0:
            words = tr("Layer {number}, expert {expert}").format(number=layer, expert=state.name(self._expert))
        painter.drawText(head, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop, words)
        rows = slice(layer, layer + 1)
        image = self._painter.draw(state.places[rows], state.use[rows], geometry, theme)
        painter.drawImage(geometry.cell_rect(0, 0).topLeft(), image)
        if 0 <= self._expert < state.experts:
            painter.setPen(QPen(QColor(theme.text), 2))
            painter.drawRect(geometry.cell_rect(0, self._expert).adjusted(0, 0, -1, -1))
        painter.end()
