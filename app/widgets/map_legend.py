"""The expert map's legend: what colours, textures and brightness mean, drawn as the map draws them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPaintEvent
from PySide6.QtWidgets import QWidget

from app.language import tr
from app.theme import FONT_SMALL, current_theme
from app.widgets.map_image import CPU, GPU, STREAM, MapGeometry, MapPainter, ramp_color

if TYPE_CHECKING:
    from app.theme import Theme


class MapLegend(QWidget):
    """What the map's colours, textures and brightness mean.

    Args:
        parent: Owner.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._painter = MapPainter()
        self.setAccessibleName(tr("Legend of the expert map"))
        self.setAccessibleDescription(
            tr(
                "Solid blue: on the GPU. Hatched orange: just streamed to the GPU. Hollow grey: on the CPU. "
                "The more a cell stands out, the more recently it was used."
            )
        )
        self.setToolTip(tr("The more a cell stands out, the more recently its expert was used."))

    def sizeHint(self) -> QSize:
        """Two lines of small text."""
        return QSize(280, 2 * self._line_height())

    def minimumSizeHint(self) -> QSize:
        """The same height in any width."""
        return QSize(200, self.sizeHint().height())

    def _line_height(self) -> int:
        return round(QFontMetricsF(self.font()).height() + 4)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002 - Qt's signature
        """Draw the three places, then the ramp of recent use."""
        theme = current_theme()
        painter = QPainter(self)
        font = QFont(self.font())
        font.setPointSizeF(font.pointSizeF() * FONT_SMALL)
        painter.setFont(font)
        x = 0.0
        for place, words in ((GPU, tr("on the GPU")), (STREAM, tr("just streamed")), (CPU, tr("on the CPU"))):
            x = self._paint_entry(painter, x, place, words, theme)
        self._paint_ramp(painter, theme)
        painter.end()

    def _paint_entry(self, painter: QPainter, x: float, place: int, words: str, theme: Theme) -> float:
        size, line = 13, self._line_height()
        scale = self.devicePixelRatioF()
        pixels = round(size * scale)
        swatch = MapGeometry(0, 0, 1, 1, 1, pixels, pixels, scale)
        image = self._painter.draw(np.array([[place]], np.uint8), np.full((1, 1), 0.6, np.float32), swatch, theme)
        painter.drawImage(QRectF(x, (line - size) / 2, size, size), image)
        painter.setPen(QColor(theme.text_dim))
        advance = painter.fontMetrics().horizontalAdvance(words)
        painter.drawText(QRectF(x + size + 4, 0, advance + 2, line), Qt.AlignmentFlag.AlignVCenter, words)
        return x + size + 4 + advance + 12

    def _paint_ramp(self, painter: QPainter, theme: Theme) -> None:
        line = self._line_height()
        idle = tr("idle")
        left = painter.fontMetrics().horizontalAdvance(idle) + 6
        painter.setPen(QColor(theme.text_dim))
        painter.drawText(QRectF(0, line, left, line), Qt.AlignmentFlag.AlignVCenter, idle)
        steps, width = 8, 9
        for place in (GPU, CPU):
            for step in range(steps):
                box = QRectF(left + step * width, line + (3 if place == GPU else line / 2), width, line / 2 - 3)
                painter.fillRect(box, ramp_color(theme, place, step / (steps - 1)))
        right = left + steps * width + 6
        painter.drawText(QRectF(right, line, 200, line), Qt.AlignmentFlag.AlignVCenter, tr("used just now"))
