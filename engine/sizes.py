"""Sizes as people write and read them: "8GiB", "8G", "512 MiB", "1.5e9"."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Literal

from engine.errors import ConfigurationError
from engine.sentences import Number, Sentence, say, say_count

Rounding = Literal["nearest", "up", "down"]

MAX_BYTES = 1 << 60

_BYTE_UNITS = ("KiB", "MiB", "GiB", "TiB")
_ROUND: dict[Rounding, Callable[[float], int]] = {"nearest": round, "up": math.ceil, "down": math.floor}
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SIZE = re.compile(r"(\d+(?:\.\d*)?(?:e\d{1,3})?|\.\d+)\s*([kmgt]?)(i?b)?", re.ASCII | re.IGNORECASE)


def parse_bytes(text: str) -> int:
    """Bytes of a size in words.

    Units count in 1024s, also without the "i", because VRAM is sold so: "8G", "8GB" and "8GiB" are the same.

    Args:
        text: A number with an optional unit, e.g. "8GiB", "512M", "1e9".

    Raises:
        ConfigurationError: It is no size, or beyond any machine.
    """
    match = _SIZE.fullmatch(text.strip()) if len(text) < 64 else None
    if match is None:
        raise ConfigurationError(
            say("{text} is not a size.", text=repr(text[:40])),
            say("Write a number and a unit, such as 8GiB or 512MiB."),
        )
    size = float(match[1]) * float(1024 ** _POWERS[match[2].lower()])
    if not math.isfinite(size) or size > MAX_BYTES:
        raise ConfigurationError(
            say("{text} is more than any machine has.", text=repr(text[:40])),
            say("Write a smaller size, such as 8GiB."),
        )
    return round(size)


def human_bytes(size_bytes: int, rounding: Rounding = "nearest") -> Sentence:
    """A size in words, e.g. "5.2 GiB", "512 MiB", "900 bytes".

    Args:
        size_bytes: At least 0.
        rounding: "up" for what is needed, "down" for what is available: then the words are as true as the numbers.
    """
    if size_bytes < 1024:
        return say_count("1 byte", "%n bytes", size_bytes)
    power = min(len(_BYTE_UNITS), (size_bytes.bit_length() - 1) // 10)
    tenths = size_bytes * 10 / 1024**power
    step = 1 if tenths < 1000 else 10
    rounded = _ROUND[rounding](tenths / step) * step
    return measure(f"{rounded // 10}{f'.{rounded % 10}' if rounded < 1000 else ''}", _BYTE_UNITS[power - 1])


def measure(number: str, unit: str) -> Sentence:
    """A number with a unit that is the same in every language."""
    return say("{number} {unit}", number=Number(number), unit=unit)
