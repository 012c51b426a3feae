"""What to load with after the GPU broke off: once more as before, then on the CPU. Without Qt; it is told the time.

A GPU that breaks may be back at once (a driver that was reset) or gone for good. The engine's process is spoiled either
way, so a new one tries it again; a GPU that breaks a second time soon after is left alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.config import EngineConfig

TRUST_S = 600.0


class Recovery:
    """The losses of one run of the app."""

    def __init__(self) -> None:
        """None so far."""
        self._lost_s: float | None = None

    def settings_after_loss(self, config: EngineConfig, now_s: float) -> EngineConfig:
        """Settings for the next start; on the CPU nothing can be lost again, so that this ends.

        Args:
            config: What was in force.
            now_s: A clock that never goes back.
        """
        soon = self._lost_s is not None and now_s - self._lost_s < TRUST_S
        self._lost_s = now_s
        # Without a GPU that works, "auto" takes the CPU; "cuda" would be refused.
        return replace(config, device="cpu" if soon else "auto")
