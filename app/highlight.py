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


def highlight_lines(code: str, language: str) -> list[list[Span]]:
    """Spans of every line of a piece of code; all empty where the language is unknown or the code very long."""
    lines: list[list[Span]] = [[] for _ in range(code.count("\n") + 1)]
    lexer = _lexer(language)
    if lexer is None or len(code) > MAX_HIGHLIGHTED_CHARS:
        return lines
    row = column = 0
    for token, text in lexer.get_tokens(code):
        kind = _kind(token)
        for part in text.splitlines(keepends=True):
            body = part.rstrip("\n")
            if kind is not None and body and row < len(lines):
                lines[row].append(Span(column, len(body), kind))
            column += len(part)
            if part.endswith("\n"):
                row, column = row + 1, 0
    return lines


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
