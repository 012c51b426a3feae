"""LaTeX -> SVG by ziamath, in pure Python; loaded with the first formula. Knows nothing of Qt.

ziamath lays out what is nested again and again, so that its time doubles with every level. Work is therefore estimated
before it is begun, and a formula beyond the limits stays source text (`docs/decisions/0027-formulas.md`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

BASE_SIZE = 32.0
MAX_CHARS = 1200
MAX_WORK = 900
MAX_EMS = 400.0
_PIECE = re.compile(r"\\[A-Za-z]+|\\.|[^\s]")
_DEEPER = {"{", "\\left", "\\begin", "^", "_"}
_UP = {"}": 1, "\\right": 1, "\\end": 1}
_VIEW_BOX = re.compile(r'viewBox="\S+ (\S+) (\S+) (\S+)"')
# Commands that define others, name files, or that ziamath would drop in silence.
_REFUSED = re.compile(
    r"\\(newcommand|renewcommand|providecommand|def|let|includegraphics|href|url|input|include|tag|label|ref|require)\b"
)


@dataclass(frozen=True, slots=True)
class Drawing:
    """A formula in black.

    Attributes:
        svg: The drawing.
        width: In ems.
        ascent: Above the baseline, in ems.
        descent: Below it, in ems.
    """

    svg: str
    width: float
    ascent: float
    descent: float


def work_of(latex: str) -> int:
    """Estimated work of a formula: every piece counts twice as much for each level that it is nested."""
    work, depth = 0, 0
    for piece in _PIECE.findall(latex):
        if piece in _UP:
            depth = max(0, depth - 1)
        work += 1 << min(depth, 20)
        if piece in _DEEPER and piece not in "^_":
            depth += 1
    return work


def is_drawable(latex: str) -> bool:
    """Whether a formula is within the limits."""
    return bool(latex.strip()) and len(latex) <= MAX_CHARS and not _REFUSED.search(latex) and work_of(latex) <= MAX_WORK


@lru_cache(maxsize=512)
def draw(latex: str, *, display: bool) -> Drawing | None:
    """Draw a formula; None for one that is beyond the limits or that ziamath does not understand.

    Args:
        latex: Without its delimiters.
        display: Whether it stands alone, with limits above and below.
    """
    if not is_drawable(latex):
        return None
    import ziamath

    try:
        ziamath.config.svg2 = False  # plain paths: QtSvg knows no symbols with a view box
        svg = ziamath.Latex(latex, size=BASE_SIZE, inline=not display).svg()
    except Exception:  # noqa: BLE001 - ziamath and its parsers raise bare ones, RecursionError and SyntaxError too
        return None
    box = _VIEW_BOX.search(svg)
    if box is None:
        return None
    top, width, height = (float(number) / BASE_SIZE for number in box.groups())
    return Drawing(svg, width, -top, height + top) if 0 < width <= MAX_EMS and 0 < height <= MAX_EMS else None
