"""Where the long tables of a Markdown source are. Knows no parser and no Qt.

A table is parsed and laid out whole, so that one of hundreds of rows would hold the window up whenever a row arrives.
Those that are written as nearly all are (each row begins with a pipe, an empty line before and after) can be cut.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE_ROWS = 40
MAX_ROW_CHARS = 2000
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:", re.MULTILINE)  # may be used in any cell
_TABLE = re.compile(
    r"(?:\A|(?<=\n\n))"
    r"(?P<head>\|[^\n]*\n\|[-: |\t]*-[-: |\t]*\n)"
    rf"(?P<rows>(?:\|[^\n]{{0,{MAX_ROW_CHARS}}}+\n?+){{{PIECE_ROWS + 1},}}+)"
    r"(?=\n|\Z)"
)


@dataclass(frozen=True, slots=True)
class LongTable:
    """What looks like a table of more than `PIECE_ROWS` rows.

    Attributes:
        start: Offset of its first character in the source.
        end: Offset behind its last one.
        head: Its first two lines.
        pieces: Its rows, so many of them at a time; all but the last stay what they are while the table grows.
    """

    start: int
    end: int
    head: str
    pieces: tuple[str, ...]


def long_tables(source: str) -> Iterator[LongTable]:
    """The long tables outside of fences, in order; none in a source that defines references."""
    if source.count("\n|") <= PIECE_ROWS or REFERENCE.search(source):
        return
    for found in _TABLE.finditer(source):
        if not _ends_in_fence(source[: found.start()]):
            rows = found["rows"].splitlines(keepends=True)
            pieces = tuple("".join(rows[n : n + PIECE_ROWS]) for n in range(0, len(rows), PIECE_ROWS))
            yield LongTable(found.start(), found.end(), found["head"], pieces)


def fence_after(line: str, fence: str) -> str:
    """The mark of the fence that is open after a line, "" for none; `fence` was open before it."""
    mark = FENCE.match(line)
    if mark is None or (fence and not line.strip().startswith(fence)):
        return fence
    return "" if fence else mark[1]


def _ends_in_fence(text: str) -> bool:
    fence = ""
    for line in text.split("\n"):
        fence = fence_after(line, fence)
    return bool(fence)
