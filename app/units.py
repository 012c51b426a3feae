"""Rates and durations as short texts that never say NaN; sizes are `engine.experts.explain.human_bytes`."""

from __future__ import annotations

import math


def rate_text(tokens_per_s: float) -> str:
    """A speed, e.g. "8.4 tokens/s"; a dash when there is none yet."""
    if not math.isfinite(tokens_per_s) or tokens_per_s <= 0:
        return "\N{EN DASH} tokens/s"
    return f"{tokens_per_s:.0f} tokens/s" if tokens_per_s >= 100 else f"{tokens_per_s:.1f} tokens/s"


def seconds_text(seconds: float) -> str:
    """A duration, e.g. "240 ms" or "3.2 s"."""
    if not math.isfinite(seconds) or seconds < 0:
        return "\N{EN DASH}"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"
