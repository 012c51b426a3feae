"""Marks of matches in a text widget, and what any text with marks can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from PySide6.QtCore import QRect
from PySide6.QtGui import QColor, QTextCursor
from PySide6.QtWidgets import QTextEdit

from app.stylesheet import mix
from app.theme import current_theme

if TYPE_CHECKING:
    from PySide6.QtGui import QTextDocument

    from app.text_search import Needle

MAX_MARKS = 500


class Markable(Protocol):
    """A text with matches in it."""

    def toPlainText(self) -> str:
        """What is searched."""

    def show_marks(self, needle: Needle, current: int | None) -> int:
        """Mark the matches, one of them as the current one; returns how many there are."""

    def match_rect(self, ordinal: int) -> QRect:
        """Where a match is, in the widget's own coordinates."""


class HiddenText:
    """A text that has no widget now: it takes part in the count alone."""

    def __init__(self, text: str) -> None:
        self._text = text

    def toPlainText(self) -> str:
        """What is searched."""
        return self._text

    def show_marks(self, needle: Needle, current: int | None) -> int:  # noqa: ARG002 - nothing to show
        """How many matches there are."""
        return len(needle.spans(self._text))

    def match_rect(self, _ordinal: int) -> QRect:
        """Nowhere."""
        return QRect()


def selections(
    document: QTextDocument, needle: Needle, text: str, current: int | None
) -> tuple[list[QTextEdit.ExtraSelection], list[int]]:
    """Marks for `setExtraSelections`, and the positions where matches begin.

    Args:
        document: Where they go.
        needle: What is looked for.
        text: The document's plain text.
        current: The match that has the accent.
    """
    theme = current_theme()
    spans = needle.spans(text)
    units = _Utf16(text)
    marks: list[QTextEdit.ExtraSelection] = []
    positions: list[int] = []
    for number, (start, end) in enumerate(spans):
        positions.append(units.at(start))
        if number >= MAX_MARKS and number != current:
            continue
        mark = QTextEdit.ExtraSelection()
        cursor = QTextCursor(document)
        cursor.setPosition(positions[-1])
        cursor.setPosition(units.at(end), QTextCursor.MoveMode.KeepAnchor)
        mark.cursor = cursor
        is_current = number == current
        background = theme.accent if is_current else mix(theme.window, theme.warning, 0.4)
        mark.format.setBackground(QColor(background))
        mark.format.setForeground(QColor(theme.accent_text if is_current else theme.text))
        marks.append(mark)
    return marks, positions


class _Utf16:
    """Offsets of characters in UTF-16 units, asked for in ascending order."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._ascii = text.isascii()
        self._char = self._unit = 0

    def at(self, char: int) -> int:
        """The offset of a character."""
        if self._ascii:
            return char
        if char < self._char:
            self._char = self._unit = 0
        self._unit += len(self._text[self._char : char].encode("utf-16-le", "surrogatepass")) // 2
        self._char = char
        return self._unit
