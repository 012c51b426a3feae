"""Marks of matches in a text widget, and what any text with marks can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from PySide6.QtCore import QRect
from PySide6.QtGui import QColor, QTextCursor
from PySide6.QtWidgets import QTextEdit

from app.stylesheet import mix
from app.theme import current_theme

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PySide6.QtGui import QTextDocument

    from app.text_search import Needle

MAX_MARKS = 500
LAST_ONE_UNIT = 0xFFFF  # characters beyond take two units of UTF-16


class Markable(Protocol):
    """A text with matches in it."""

    def search_text(self) -> str:
        """What is searched."""

    def show_marks(self, needle: Needle, current: int | None) -> int:
        """Mark the matches, one of them as the current one; returns how many there are."""

    def match_rect(self, ordinal: int) -> QRect:
        """Where a match is, in the widget's own coordinates."""


class HiddenText:
    """A text that has no widget now: it takes part in the count alone."""

    def __init__(self, text: str) -> None:
        self._text = text

    def search_text(self) -> str:
        """What is searched."""
        return self._text

    def show_marks(self, needle: Needle, current: int | None) -> int:  # noqa: ARG002 - nothing to show
        """How many matches there are."""
        return len(needle.spans(self._text))

    def match_rect(self, _ordinal: int) -> QRect:
        """Nowhere."""
        return QRect()


class ShownText:
    """What of a document is searched, and where its characters stand.

    Args:
        plain: The document's plain text, one replacement character for each image.
        images: Place in the document, in UTF-16 units -> what is read where that image stands.
    """

    def __init__(self, plain: str, images: Mapping[int, str] | None = None) -> None:
        self._units = _Utf16(plain)
        self._places: list[int] = []
        self.text = plain
        if images:
            self._read_images(plain, images)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where characters of the text stand, in UTF-16 units; of an image there is all or nothing."""
        if not self._places:
            return self._units.at(start), self._units.at(end)
        last = self._places[end - 1]
        return self._places[start], next((place for place in self._places[end:] if place > last), last + 1)

    def _read_images(self, plain: str, images: Mapping[int, str]) -> None:
        parts, place = [], 0
        for char in plain:
            part = images.get(place, char)
            parts.append(part)
            self._places += [place] * len(part)
            place += 2 if ord(char) > LAST_ONE_UNIT else 1
        self.text = "".join(parts)


def selections(
    document: QTextDocument, needle: Needle, shown: ShownText, current: int | None
) -> tuple[list[QTextEdit.ExtraSelection], list[int]]:
    """Marks for `setExtraSelections`, and the positions where matches begin.

    Args:
        document: Where they go.
        needle: What is looked for.
        shown: What of the document is searched.
        current: The match that has the accent.
    """
    theme = current_theme()
    marks: list[QTextEdit.ExtraSelection] = []
    positions: list[int] = []
    for number, span in enumerate(needle.spans(shown.text)):
        start, end = shown.span(*span)
        positions.append(start)
        if number >= MAX_MARKS and number != current:
            continue
        mark = QTextEdit.ExtraSelection()
        cursor = QTextCursor(document)
        cursor.setPosition(start)
        cursor.setPosition(end, QTextCursor.MoveMode.KeepAnchor)
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
