"""Numbers with their units as short texts in the user's language, which never say NaN.

Qt is imported when a text is made: the terminal chat shares the words of this package but works without it.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from app.language import tr, translated
from engine.experts.explain import human_bytes, human_percent, human_seconds, human_speed

if TYPE_CHECKING:
    from engine.experts.explain import Rounding

DASH = "\N{EN DASH}"
NO_BREAK = "\N{NO-BREAK SPACE}"
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:[KMG]i?B|TiB|TB|B|[mµ]?s|%)(?!\w))")


def number_text(value: float, decimals: int = 0) -> str:
    """A number as the user writes them, e.g. "1,234.5", in German "1.234,5"."""
    from PySide6.QtCore import QLocale

    return QLocale().toString(float(value), "f", decimals)


def bytes_text(size_bytes: int, rounding: Rounding = "nearest") -> str:
    """A size, e.g. "5.2 GiB"; rounded as `human_bytes` says."""
    return translated(human_bytes(size_bytes, rounding))


def parameters_text(parameters: int) -> str:
    """A number of weights, e.g. "46.7 billion"."""
    if parameters >= 10**9:
        return tr("{number} billion").format(number=number_text(parameters / 10**9, 1))
    return tr("{number} million").format(number=number_text(parameters / 10**6, 1 if parameters < 10**8 else 0))


def speed_text(tokens_per_s: float) -> str:
    """A predicted speed to two digits, e.g. "0.37 tokens/s"."""
    return translated(human_speed(tokens_per_s))


def brief_text(seconds: float) -> str:
    """A time as short as an expert takes, e.g. "42 µs"; as `human_seconds` says."""
    return translated(human_seconds(seconds))


def share_text(share: float) -> str:
    """A share of 1 as the live panel says it, e.g. "12 %", which no line is broken in."""
    return translated(human_percent(share)).replace(" ", NO_BREAK)


def rate_text(tokens_per_s: float) -> str:
    """A measured speed, e.g. "8.4 tokens/s"; a dash when there is none yet."""
    if not math.isfinite(tokens_per_s) or tokens_per_s <= 0:
        return tr("{number} tokens/s").format(number=DASH)
    return tr("{number} tokens/s").format(number=number_text(tokens_per_s, 0 if tokens_per_s >= 100 else 1))


def seconds_text(seconds: float) -> str:
    """A duration, e.g. "240 ms" or "3.2 s"."""
    if not math.isfinite(seconds) or seconds < 0:
        return DASH
    if seconds < 0.9995:
        return tr("{number} ms").format(number=number_text(seconds * 1000))
    if seconds < 60:
        return tr("{number} s").format(number=number_text(seconds, 1))
    return tr("{minutes} min {seconds} s").format(minutes=int(seconds // 60), seconds=int(seconds % 60))


def duration_text(seconds: float) -> str:
    """How long something will take, roughly, e.g. "8 min"; for estimates, which need no seconds beyond a minute."""
    if not math.isfinite(seconds) or seconds < 0:
        return DASH
    if seconds < 60:
        return tr("{number} s").format(number=number_text(max(1, round(seconds))))
    minutes = round(seconds / 60)
    if minutes < 60:
        return tr("{number} min").format(number=minutes)
    return tr("{hours} h {minutes} min").format(hours=minutes // 60, minutes=minutes % 60)


def percent_text(share: float) -> str:
    """A share of 1, e.g. "12%", in German "12 %", which no line is broken in."""
    return tr("{number}%").format(number=number_text(share * 100)).replace(" ", NO_BREAK)


def unbroken(text: str) -> str:
    """For a label that wraps: no line ends between a number and its unit, nor at the slash of "GB/s" or "tokens/s"."""
    return _BEFORE_UNIT.sub(NO_BREAK, text).replace("/s", "/\N{WORD JOINER}s")
