"""How one row of the list of chats is drawn: a heading, or a chat with its marks and what a search found in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetrics, QPainter, QPen
from PySide6.QtWidgets import QLineEdit, QStyle, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from app.chat_list import BUSY_ROLE, ENTRY_ROLE, HEADING_ROLE, NAME_ROLE, SNIPPET_ROLE
from app.history_search import MATCH_END, MATCH_START
from app.icons import icon
from app.language import tr
from app.theme import FONT_SMALL, SPACE_S, SPACE_XS, current_theme

if TYPE_CHECKING:
    from app.theme import Theme

Index = QModelIndex | QPersistentModelIndex
RADIUS = 7
MARK_PX = 14
DOT_PX = 8
_PARTS = re.compile(f"({MATCH_START}.*?{MATCH_END})", re.DOTALL)


class ChatRowDelegate(QStyledItemDelegate):
    """Draws rows, and lets a name be edited in its place."""

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        """One line, or two where a search found something in the messages."""
        metrics = QFontMetrics(option.font)
        small = QFontMetrics(_small(option.font))
        if index.data(HEADING_ROLE):
            return QSize(0, small.height() + 2 * SPACE_S)
        second = small.height() + 2 if index.data(SNIPPET_ROLE) else 0
        return QSize(0, metrics.height() + second + 2 * (SPACE_XS + 2))

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        """Draw a row."""
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        theme = current_theme()
        heading = index.data(HEADING_ROLE)
        if heading:
            self._paint_heading(painter, option, theme, heading)
        else:
            self._paint_chat(painter, option, theme, index)
        painter.restore()

    def createEditor(self, parent: QWidget, _option: QStyleOptionViewItem, _index: Index) -> QWidget:
        """A field for the name."""
        field = QLineEdit(parent)
        field.setObjectName("rename")
        field.setAccessibleName(tr("Name of the chat"))
        return field

    def updateEditorGeometry(self, editor: QWidget, option: QStyleOptionViewItem, _index: Index) -> None:
        """The field covers the row."""
        editor.setGeometry(option.rect)

    def _paint_heading(self, painter: QPainter, option: QStyleOptionViewItem, theme: Theme, heading: str) -> None:
        font = _small(option.font)
        font.setWeight(QFont.Weight.DemiBold)
        painter.setFont(font)
        painter.setPen(QColor(theme.text_dim))
        rect = option.rect.adjusted(SPACE_S, SPACE_XS, -SPACE_S, 0)
        text = QFontMetrics(font).elidedText(heading, Qt.TextElideMode.ElideRight, rect.width())
        painter.drawText(rect, int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft), text)

    def _paint_chat(self, painter: QPainter, option: QStyleOptionViewItem, theme: Theme, index: Index) -> None:
        selected = bool(option.state & QStyle.StateFlag.State_Selected)
        focused = selected and bool(option.state & QStyle.StateFlag.State_HasFocus)
        rect = QRectF(option.rect).adjusted(0.5, 0.5, -0.5, -0.5)
        if selected or option.state & QStyle.StateFlag.State_MouseOver:
            painter.setPen(QPen(QColor(theme.accent)) if focused else Qt.PenStyle.NoPen)
            colour = QColor(theme.surface_alt)
            colour.setAlphaF(1.0 if selected else 0.6)
            painter.setBrush(colour)
            painter.drawRoundedRect(rect, RADIUS, RADIUS)
        inner = option.rect.adjusted(SPACE_S, SPACE_XS + 2, -SPACE_S, -(SPACE_XS + 2))
        entry = index.data(ENTRY_ROLE)
        if index.data(BUSY_ROLE):
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(theme.accent))
            painter.drawEllipse(QRectF(inner.right() - DOT_PX, inner.center().y() - DOT_PX / 2, DOT_PX, DOT_PX))
            inner.setRight(inner.right() - DOT_PX - SPACE_XS)
        if entry.pinned:
            mark = QRect(inner.right() - MARK_PX, inner.center().y() - MARK_PX // 2 + 1, MARK_PX, MARK_PX)
            icon("pin", theme.text_dim).paint(painter, mark)
            inner.setRight(mark.left() - SPACE_XS)
        snippet = index.data(SNIPPET_ROLE)
        line = QRect(inner.left(), inner.top(), inner.width(), QFontMetrics(option.font).height())
        _draw_marked(painter, line, option.font, theme, index.data(NAME_ROLE), theme.text)
        if snippet:
            small = _small(option.font)
            below = QRect(inner.left(), line.bottom() + 3, inner.width(), QFontMetrics(small).height())
            _draw_marked(painter, below, small, theme, snippet, theme.text_dim)


def _small(font: QFont) -> QFont:
    small = QFont(font)
    small.setPointSizeF(font.pointSizeF() * FONT_SMALL)
    return small


def from_match(text: str, fits: Callable[[str], bool]) -> str:
    """A line that begins, if need be behind an ellipsis, so late that its first match is seen.

    Args:
        text: With its matches marked.
        fits: Whether there is room for so much, without marks.
    """
    first, end = text.find(MATCH_START), text.find(MATCH_END)
    if first <= 0 or end < first or fits(_plain(text[:end])):
        return text
    begins = [at + 1 for at, letter in enumerate(text[:first]) if letter == " "]
    seen = (at for at in begins if fits("…" + _plain(text[at:end])))
    return "…" + text[next(seen, first) :]


def _plain(text: str) -> str:
    return text.replace(MATCH_START, "").replace(MATCH_END, "")


def _draw_marked(painter: QPainter, rect: QRect, font: QFont, theme: Theme, text: str, colour: str) -> None:
    """One line of text, its matches in bold and in the accent, cut off with an ellipsis where it is too long."""
    bold = QFont(font)
    bold.setWeight(QFont.Weight.DemiBold)
    left, widest = rect.left(), QFontMetrics(bold)
    text = from_match(" ".join(text.split()), lambda seen: widest.horizontalAdvance(seen) <= rect.width())
    for part in _PARTS.split(text):
        matched, plain = part.startswith(MATCH_START), _plain(part)
        metrics = QFontMetrics(bold if matched else font)
        room = rect.right() - left
        shown = metrics.elidedText(plain, Qt.TextElideMode.ElideRight, room)
        painter.setFont(bold if matched else font)
        painter.setPen(QColor(theme.accent if matched else colour))
        painter.drawText(QRect(left, rect.top(), room, rect.height()), int(Qt.AlignmentFlag.AlignVCenter), shown)
        left += metrics.horizontalAdvance(shown)
        if shown != plain:
            return
