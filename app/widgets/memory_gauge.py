"""Stacked memory gauges, drawn from `memory_content`.

The engine's own parts grow from the left, other programs from the right, so that what lies between is free; the budget
is a mark on the same scale. Every part has a colour, a texture, a legend entry with its value, and a tool tip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import (
    QBrush,
    QColor,
    QFont,
    QFontMetricsF,
    QHelpEvent,
    QPainter,
    QPainterPath,
    QPaintEvent,
    QPen,
    QPolygonF,
    QResizeEvent,
)
from PySide6.QtWidgets import QToolTip, QWidget

from app.language import tr
from app.theme import FONT_SMALL, current_theme
from app.units import bytes_text, share_text
from app.widgets.memory_content import GaugeContent, GaugePart

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.theme import Theme

_BAR_HEIGHT = 18
_SWATCH = 11
_MARKER_HEIGHT = 6
NO_VALUE = "\N{EN DASH}"


class MemoryGauge(QWidget):
    """One stacked bar with its legend.

    Args:
        title: What memory it is, e.g. "VRAM".
        parent: Owner.
    """

    def __init__(self, title: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._title = title
        self._content: GaugeContent | None = None
        self._spots: list[tuple[QRectF, GaugePart]] = []
        self.setAccessibleName(tr("{memory} gauge").format(memory=title))
        self.set_content(None)

    @property
    def content(self) -> GaugeContent | None:
        """What is shown."""
        return self._content

    def set_content(self, content: GaugeContent | None) -> None:
        """Show other values; None shows an empty gauge."""
        if content is None or content != self._content:
            self._content = content
            self.setAccessibleDescription(self._describe())
            self._lay_out()
            self.update()

    def part_at(self, position: QPointF) -> GaugePart | None:
        """The part whose segment or legend entry is there."""
        return next((part for box, part in self._spots if box.contains(position)), None)

    def _describe(self) -> str:
        content = self._content
        if content is None:
            return tr("{memory}: unknown.").format(memory=self._title)
        used = sum(part.size_bytes for part in content.held)
        words = [f"{part.label} {bytes_text(part.size_bytes)}" for part in content.legend]
        if content.budget_bytes is not None:
            words.append(tr("budget {size}").format(size=bytes_text(content.budget_bytes)))
        sentence = tr("{used} of {total} used: {parts}.")
        return sentence.format(used=bytes_text(used), total=bytes_text(content.total_bytes), parts=", ".join(words))

    # ---- layout ----

    def _small_font(self) -> QFont:
        font = QFont(self.font())
        font.setPointSizeF(font.pointSizeF() * FONT_SMALL)
        return font

    def _bar(self, width: int) -> QRectF:
        top = QFontMetricsF(self.font()).height() + _MARKER_HEIGHT + 2
        return QRectF(0.5, top, width - 1.0, _BAR_HEIGHT)

    def _lay_out(self) -> None:
        """Place segments and legend for the width."""
        self._spots = []
        if self._content is not None:
            self._spots = _segments(self._content, self._bar(self.width()))
            self._spots += self._legend_entries(self._content, self.width())
        self.updateGeometry()

    def _legend_line(self) -> float:
        return QFontMetricsF(self._small_font()).height() + 3

    def _legend_entries(self, content: GaugeContent, width: int) -> list[tuple[QRectF, GaugePart]]:
        """The legend in even columns, as many as fit."""
        metrics = QFontMetricsF(self._small_font())
        parts = content.legend
        needed = max(metrics.horizontalAdvance(_legend_text(part)) for part in parts) + _SWATCH + 10
        columns = max(1, min(len(parts), int(width // needed)))
        column = width / columns
        top, line = self._bar(width).bottom() + 6, self._legend_line()
        return [
            (QRectF((i % columns) * column, top + (i // columns) * line, column - 4, line), part)
            for i, part in enumerate(parts)
        ]

    def hasHeightForWidth(self) -> bool:
        """The narrower, the more lines the legend takes."""
        return True

    def heightForWidth(self, width: int) -> int:
        """As high as the legend needs."""
        entries = self._legend_entries(self._content, width) if self._content is not None else []
        one_line = self._bar(width).bottom() + 6 + self._legend_line()
        return round(max((box.bottom() for box, _ in entries), default=one_line) + 2)

    def sizeHint(self) -> QSize:
        """At the width that it has."""
        return QSize(320, self.heightForWidth(self.width()))

    def minimumSizeHint(self) -> QSize:
        """Narrow is fine."""
        return QSize(160, self.heightForWidth(self.width()))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Fit bar and legend again."""
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self._lay_out()

    def changeEvent(self, event: QEvent) -> None:
        """Take another theme or font."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self._lay_out()
            self.update()

    def event(self, event: QEvent) -> bool:
        """Show tool tips per part."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            part = self.part_at(QPointF(event.pos()))
            QToolTip.showText(event.globalPos(), self._tip(part) if part else "", self)
            return True
        return super().event(event)

    def _tip(self, part: GaugePart) -> str:
        content = self._content
        total = content.total_bytes if content is not None and part is not content.elsewhere else 0
        share = ""
        if total:
            share = tr(" ({share} of {total})").format(
                share=share_text(part.size_bytes / total), total=bytes_text(total)
            )
        return f"{part.label}: {bytes_text(part.size_bytes)}{share}. {part.meaning}"

    # ---- painting ----

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002 - Qt's signature
        """Draw title, bar, mark and legend."""
        theme = current_theme()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._paint_title(painter, theme)
        bar = self._bar(self.width())
        outline = QPainterPath()
        outline.addRoundedRect(bar, 4, 4)
        painter.fillPath(outline, QColor(theme.free))
        painter.save()
        painter.setClipPath(outline)
        legend_top = bar.bottom() + 1
        for box, part in self._spots:
            if box.top() < legend_top and part.size_bytes:
                _fill(painter, box, part.key, theme)
        painter.restore()
        if self._content is not None and self._content.budget_bytes is not None:
            _paint_mark(painter, bar, self._content.budget_bytes / self._content.total_bytes, theme)
        painter.setFont(self._small_font())
        for box, part in self._spots:
            if box.top() >= legend_top:
                _paint_legend_entry(painter, box, part, theme)
        painter.end()

    def _paint_title(self, painter: QPainter, theme: Theme) -> None:
        """Name and size at the left, how much is held at the right; what is too long gives way, the size first."""
        box = QRectF(0, 0, self.width(), QFontMetricsF(self.font()).height())
        font = QFont(self.font())
        font.setWeight(QFont.Weight.DemiBold)
        painter.setFont(font)
        painter.setPen(QColor(theme.text))
        middle = Qt.AlignmentFlag.AlignVCenter
        painter.drawText(box, Qt.AlignmentFlag.AlignLeft | middle, self._title)
        offset = painter.fontMetrics().horizontalAdvance(self._title + "  ")
        painter.setFont(self._small_font())
        painter.setPen(QColor(theme.text_dim))
        size = bytes_text(self._content.total_bytes) if self._content is not None else ""
        advance = painter.fontMetrics().horizontalAdvance
        held = self.fitting_headline(box.width() - offset, advance)
        if offset + advance(f"{size}  {held}") <= box.width():
            painter.drawText(box.adjusted(offset, 0, 0, 0), Qt.AlignmentFlag.AlignLeft | middle, size)
        painter.drawText(box, Qt.AlignmentFlag.AlignRight | middle, held)

    def fitting_headline(self, room: float, advance: Callable[[str], float]) -> str:
        """The headline, or its numbers alone where there is no room for its words.

        Args:
            room: Pixels beside the name.
            advance: The width of words in pixels.
        """
        content = self._content
        if content is None or content.budget_bytes is None or advance(self.headline) <= room:
            return self.headline
        own = sum(part.size_bytes for part in content.own)
        return f"{bytes_text(own)} / {bytes_text(content.budget_bytes)}"

    @property
    def headline(self) -> str:
        """How much is held, by the model against its budget or by everybody."""
        content = self._content
        if content is None:
            return NO_VALUE
        if content.budget_bytes is None:
            return tr("{size} used").format(size=bytes_text(sum(part.size_bytes for part in content.held)))
        own = sum(part.size_bytes for part in content.own)
        words = tr("model {size} of budget {budget}")
        return words.format(size=bytes_text(own), budget=bytes_text(content.budget_bytes))


def _legend_text(part: GaugePart) -> str:
    return f"{part.label} {bytes_text(part.size_bytes)}"


def _segments(content: GaugeContent, bar: QRectF) -> list[tuple[QRectF, GaugePart]]:
    """Where every part lies in the bar; a part that holds anything is at least two pixels wide."""
    per_byte = bar.width() / content.total_bytes
    boxes, left = [], bar.left()
    for part in content.own:
        width = max(2.0, part.size_bytes * per_byte) if part.size_bytes else 0.0
        boxes.append((QRectF(left, bar.top(), width, bar.height()), part))
        left += width
    others = content.others
    right = bar.right() - (others.size_bytes * per_byte if others is not None else 0.0)
    free = content.parts[len(content.own)]
    boxes.append((QRectF(left, bar.top(), max(0.0, right - left), bar.height()), free))
    if others is not None:
        boxes.append((QRectF(right, bar.top(), bar.right() - right, bar.height()), others))
    return boxes


_TEXTURES = {
    "kv": Qt.BrushStyle.HorPattern,
    "stream": Qt.BrushStyle.BDiagPattern,
    "others": Qt.BrushStyle.FDiagPattern,
}


def _fill(painter: QPainter, box: QRectF, key: str, theme: Theme) -> None:
    """One part's colour and texture, with a hairline to its neighbour."""
    painter.fillRect(box, QColor(getattr(theme, key)))
    texture = _TEXTURES.get(key)
    if texture is not None:
        line = QColor(theme.window)
        line.setAlpha(90)
        painter.fillRect(box, QBrush(line, texture))
    if key != "free":
        painter.fillRect(QRectF(box.right() - 1, box.top(), 1, box.height()), QColor(theme.window))


def _paint_mark(painter: QPainter, bar: QRectF, share: float, theme: Theme) -> None:
    """The budget: a line across the bar with a small flag on top."""
    x = min(bar.left() + bar.width() * share, bar.right() - 1)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.fillRect(QRectF(x - 2, bar.top(), 4, bar.height()), QColor(theme.window))
    painter.fillRect(QRectF(x - 1, bar.top() - 1, 2, bar.height() + 2), QColor(theme.text))
    painter.setBrush(QColor(theme.text))
    top = bar.top() - _MARKER_HEIGHT
    right = min(x + 5, bar.right())
    painter.drawPolygon(QPolygonF([QPointF(right - 10, top), QPointF(right, top), QPointF(x, bar.top())]))


def _paint_legend_entry(painter: QPainter, box: QRectF, part: GaugePart, theme: Theme) -> None:
    swatch = QRectF(box.left() + 0.5, box.center().y() - _SWATCH / 2, _SWATCH, _SWATCH)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    if part.key == "disk":  # an empty frame: it has no place in the bar
        painter.setPen(QPen(QColor(theme.cpu), 2))
        painter.drawRect(swatch.adjusted(1, 1, -1, -1))
    else:
        _fill(painter, swatch, part.key, theme)
        painter.setPen(QColor(theme.border))
        painter.drawRect(swatch)
    text_box = box.adjusted(_SWATCH + 6, 0, 0, 0)
    value = bytes_text(part.size_bytes)
    painter.setPen(QColor(theme.text_dim))
    painter.drawText(text_box, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, f"{part.label} ")
    offset = painter.fontMetrics().horizontalAdvance(f"{part.label} ")
    painter.setPen(QColor(theme.text))
    painter.drawText(
        text_box.adjusted(offset, 0, 0, 0), Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, value
    )
