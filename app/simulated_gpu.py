"""The simulated GPU that is offered: enough for two experts in five, to have something to see, and no more RAM."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.messages import Ready

TRY_SHARE = 0.4
MOST_BYTES = 8 << 30


def bytes_to_try(ready: Ready | None) -> int:
    """VRAM of a simulated GPU that holds some of a model's experts.

    Args:
        ready: The model; None while none is loaded.
    """
    from engine.experts.placement import budget_range

    if ready is None:
        return MOST_BYTES
    config = dataclasses.replace(ready.effective, device="simulated", simulated_vram_bytes=1 << 50)
    least, most = budget_range(ready.planning, config)
    return max(least, min(least + int(TRY_SHARE * (most - least)), MOST_BYTES))
