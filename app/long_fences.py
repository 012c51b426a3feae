"""Where the long code of a Markdown source is. Knows no parser and no Qt.

A parser looks at every character, though inside a fence nothing matters but the line that closes it. A long fence that
begins a line at its very start can be cut out: whatever it stands in ends there. After a fence that is indented, or a
formula, which may be part of something larger, nothing is cut.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MIN_CODE_CHARS = 2000
REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:", re.MULTILINE)  # may be used anywhere
_OPENING = re.compile(
    r"^(?:(?P<mark>`{3,}(?=[^`\n]*\n)|~{3,})(?P<info>[^\n]*)\n|(?P<other>[ \t>*+\-0-9.)]*(?:```|~~~|\$\$|\\\[)))",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class LongFence:
    """A fence with much code in it.

    Attributes:
        start: Offset of its first character in the source.
        end: Offset behind its last line.
        info: What stands behind its opening mark.
        code: What is inside, ended by a newline where the source has one.
    """

    start: int
    end: int
    info: str
    code: str


def long_fences(source: str) -> Iterator[LongFence]:
    """The fences that can be cut out, in order; the last may still be open."""
    if len(source) < MIN_CODE_CHARS:
        return
    position = 0
    while (found := _OPENING.search(source, position)) and not found["other"]:
        mark = found["mark"]
        closing = re.compile(rf"(?:\A|(?<=\n)) {{0,3}}{mark}{mark[0]}*[ \t]*(?:\n|\Z)")
        end = _closing_line(source, found.end(), closing)
        code_end, position = end or (len(source), len(source))
        if code_end - found.end() >= MIN_CODE_CHARS:
            if REFERENCE.search(source, 0, found.start()) or REFERENCE.search(source, position):
                return
            yield LongFence(found.start(), position, found["info"], source[found.end() : code_end])


def _closing_line(source: str, start: int, closing: re.Pattern[str]) -> tuple[int, int] | None:
    """Where the line that closes a fence begins and ends."""
    found = closing.search(source, start)
    return found.span() if found else None
