"""Source code -> spans of a few kinds, by Pygments; loaded on first use. Knows nothing of Qt."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pygments.lexer import Lexer
    from pygments.token import _TokenType

SpanKind = Literal["keyword", "string", "number", "comment", "name", "builtin"]
MAX_HIGHLIGHTED_CHARS = 40_000

CODE_COLOURS: dict[str, dict[SpanKind, str]] = {
    "light": {
        "keyword": "#8a2f8f",
        "string": "#1c7340",
        "number": "#a34a00",
        "comment": "#6f6b62",
        "name": "#2552b8",
        "builtin": "#00707a",
    },
    "dark": {
        "keyword": "#d79af0",
        "string": "#93d39c",
        "number": "#f0b377",
        "comment": "#989ca6",
        "name": "#8ab8ff",
        "builtin": "#74cfd6",
    },
}


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of one line: `start` and `length` count Python characters."""

    start: int
    length: int
    kind: SpanKind


class LineSpans:
    """The spans of a piece of code, found some at a time.

    Args:
        code: The code, its lines ended by newlines alone.
        language: First word of a fence's info string.

    Attributes:
        lines: The spans of every line, as far as they are known; all stay empty where the language is unknown.
    """

    def __init__(self, code: str, language: str) -> None:
        self.lines: list[list[Span]] = [[] for _ in range(code.count("\n") + 1)]
        lexer = _lexer(language)
        self._tokens = iter(lexer.get_tokens(code)) if lexer is not None else iter(())
        self._row = self._column = 0

    @property
    def rows(self) -> int:
        """Lines that are complete."""
        return self._row

    def advance(self, chars: int) -> bool:
        """Read on, about so many characters; returns whether there are more."""
        for token, text in self._tokens:
            self._take(token, text)
            chars -= len(text)
            if chars <= 0:
                return True
        self._row = len(self.lines)
        return False

    def _take(self, token: _TokenType, text: str) -> None:
        kind = _kind(token)
        for part in text.splitlines(keepends=True):
            body = part.rstrip("\n")
            if kind is not None and body and self._row < len(self.lines):
                self.lines[self._row].append(Span(self._column, len(body), kind))
            self._column += len(part)
            if part.endswith("\n"):
                self._row, self._column = self._row + 1, 0


def highlight_lines(code: str, language: str) -> list[list[Span]]:
    """Spans of every line of a piece of code; all empty where the language is unknown or the code very long."""
    spans = LineSpans(code, language if len(code) <= MAX_HIGHLIGHTED_CHARS else "")
    spans.advance(len(code) + 1)
    return spans.lines


def load_lexer(language: str) -> None:
    """Have the lexer of a fence's info word ready, which takes its time at first; from any thread."""
    _lexer(language)


@lru_cache(maxsize=32)
def _lexer(language: str) -> Lexer | None:
    """The lexer of a fence's info word; never guesses."""
    if not language:
        return None
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None


@lru_cache(maxsize=512)
def _kind(token: _TokenType) -> SpanKind | None:
    from pygments.token import Comment, Keyword, Name, Number, Operator, String

    kinds: tuple[tuple[_TokenType, SpanKind], ...] = (
        (Comment, "comment"),
        (Operator.Word, "keyword"),
        (Keyword.Constant, "number"),
        (Keyword.Type, "builtin"),
        (Keyword, "keyword"),
        (String, "string"),
        (Number, "number"),
        (Name.Function, "name"),
        (Name.Class, "name"),
        (Name.Tag, "name"),
        (Name.Builtin, "builtin"),
        (Name.Decorator, "builtin"),
        (Name.Attribute, "builtin"),
    )
    return next((kind for parent, kind in kinds if token[: len(parent)] == parent), None)
