"""Sizes as people write them: "8GiB", "8G", "512 MiB", "1.5e9"."""

from __future__ import annotations

import math
import re

from engine.errors import ConfigurationError
from engine.sentences import say

MAX_BYTES = 1 << 60

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
