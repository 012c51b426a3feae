"""How a model's row is drawn: name and size, what it is, and whether it runs here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetrics, QPainter, QPen
from PySide6.QtWidgets import QStyle, QStyledItemDelegate, QStyleOptionViewItem

from app.language import tr
from app.theme import FONT_SMALL, SPACE_M, SPACE_S, SPACE_XS, current_theme
from app.units import bytes_text
from app.widgets.models.found_list import LOADED_ROLE, MODEL_ROLE, VERDICT_ROLE, facts_line, verdict_line

if TYPE_CHECKING:
    from app.model_scan import FoundModel
    from app.theme import Theme
    from app.verdict import Verdict

Index = QModelIndex | QPersistentModelIndex
RADIUS = 8
DOT_PX = 8
_LEFT, _RIGHT = Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignRight


def verdict_colour(verdict: Verdict | None, theme: Theme) -> str:
    """The colour of a verdict's mark; its words say the same."""
    if verdict is None:
        return theme.border
    return {"fits": theme.kv, "disk": theme.warning, "too_big": theme.error}.get(verdict.kind, theme.text_dim)


class FoundRowDelegate(QStyledItemDelegate):
    """Draws rows of three lines, all of the same height."""

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:  # noqa: ARG002 - Qt's signature
        """Three lines and the room around them."""
        name, small = QFontMetrics(option.font), QFontMetrics(_font(option.font, FONT_SMALL))
        return QSize(200, name.height() + 2 * small.height() + 2 * SPACE_XS + 2 * SPACE_S)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        """Draw a row."""
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        theme = current_theme()
        _paint_ground(painter, option, theme)
        model: FoundModel = index.data(MODEL_ROLE)
        verdict: Verdict | None = index.data(VERDICT_ROLE)
        inner = option.rect.adjusted(SPACE_M, SPACE_S, -SPACE_M, -SPACE_S)
        runs = model.runs and (verdict is None or verdict.plan is not None)
        bottom = self._paint_name(painter, option.font, inner, model, theme, loaded=index.data(LOADED_ROLE), runs=runs)
        small = _font(option.font, FONT_SMALL)
        line = QRect(inner.left(), bottom + SPACE_XS, inner.width(), QFontMetrics(small).height())
        _text(painter, line, small, theme.text_dim, facts_line(model))
        line.translate(0, line.height() + SPACE_XS)
        dot = QRectF(line.left(), line.center().y() - DOT_PX / 2 + 1, DOT_PX, DOT_PX)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(verdict_colour(verdict, theme)))
        painter.drawEllipse(dot)
        line.setLeft(line.left() + DOT_PX + SPACE_S)
        _text(painter, line, small, theme.text if runs else theme.text_dim, verdict_line(model, verdict))
        painter.restore()

    def _paint_name(
        self, painter: QPainter, base: QFont, inner: QRect, model: FoundModel, theme: Theme, *, loaded: bool, runs: bool
    ) -> int:
        """The first line; returns where it ends."""
        bold = QFont(base)
        bold.setWeight(QFont.Weight.DemiBold)
        metrics = QFontMetrics(bold)
        line = QRect(inner.left(), inner.top(), inner.width(), metrics.height())
        size = bytes_text(model.size_bytes) if model.size_bytes else ""
        _text(painter, line, base, theme.text_dim, size, _RIGHT)
        line.setRight(line.right() - QFontMetrics(base).horizontalAdvance(size) - SPACE_M)
        if loaded:
            words, small = tr("loaded"), _font(base, FONT_SMALL)
            width = QFontMetrics(small).horizontalAdvance(words) + 2 * SPACE_S
            left = min(line.left() + metrics.horizontalAdvance(model.name) + SPACE_S, line.right() - width)
            pill = QRect(left, line.top(), width, line.height())
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(theme.accent))
            painter.drawRoundedRect(pill, pill.height() / 2, pill.height() / 2)
            _text(painter, pill, small, theme.accent_text, words, Qt.AlignmentFlag.AlignHCenter)
            line.setRight(left - SPACE_S)
        _text(painter, line, bold, theme.text if runs else theme.text_dim, model.name)
        return inner.top() + metrics.height()


def _paint_ground(painter: QPainter, option: QStyleOptionViewItem, theme: Theme) -> None:
    selected = bool(option.state & QStyle.StateFlag.State_Selected)
    if not selected and not option.state & QStyle.StateFlag.State_MouseOver:
        return
    focused = selected and bool(option.state & QStyle.StateFlag.State_HasFocus)
    painter.setPen(QPen(QColor(theme.accent)) if focused else Qt.PenStyle.NoPen)
    colour = QColor(theme.surface_alt)
    colour.setAlphaF(1.0 if selected else 0.6)
    painter.setBrush(colour)
    painter.drawRoundedRect(QRectF(option.rect).adjusted(0.5, 0.5, -0.5, -0.5), RADIUS, RADIUS)


def _text(painter: QPainter, rect: QRect, font: QFont, colour: str, text: str, side: Qt.AlignmentFlag = _LEFT) -> None:
    painter.setFont(font)
    painter.setPen(QColor(colour))
    shown = QFontMetrics(font).elidedText(text, Qt.TextElideMode.ElideRight, rect.width())
    painter.drawText(rect, int(side | Qt.AlignmentFlag.AlignVCenter), shown)


def _font(base: QFont, factor: float) -> QFont:
    font = QFont(base)
    font.setPointSizeF(base.pointSizeF() * factor)
    return font
