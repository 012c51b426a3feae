"""After the GPU broke off: load once more as before, then on the CPU, and say so. Without Qt; it is told the time.

A GPU that breaks may be back at once (a driver that was reset) or gone for good. The engine's process is spoiled either
way, so a new one tries it again; a GPU that breaks a second time soon after is left alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from app.language import tr

if TYPE_CHECKING:
    from engine.config import EngineConfig
    from engine.messages import Ready

TRUST_S = 600.0


class Recovery:
    """The losses of one run of the app."""

    def __init__(self) -> None:
        """None so far."""
        self._lost_s: float | None = None
        self._fallback: EngineConfig | None = None  # what the model was loaded with after a loss
        self._under_way = False

    def forget_model(self) -> None:
        """The user loads a model: what was chosen after a loss holds no longer."""
        self._fallback, self._under_way = None, False

    def in_force(self, config: EngineConfig) -> EngineConfig:
        """Other settings of the user for the same model, on the device that was left to it."""
        return config if self._fallback is None else replace(config, device=self._fallback.device)

    def words_when_ready(self, ready: Ready) -> str:
        """The sentence after a recovery; "" where there was none, or it has been said."""
        told, self._under_way = self._under_way, False
        if not told:
            return ""
        if ready.plan.device == "cpu":
            return tr("The GPU stopped working: the model was loaded again and runs on the CPU.")
        return tr("The GPU stopped working and is back: the model was loaded again.")

    def settings_after_loss(self, config: EngineConfig, now_s: float) -> EngineConfig:
        """Settings for the next start; on the CPU nothing can be lost again, so that this ends.

        Args:
            config: What was in force.
            now_s: A clock that never goes back.
        """
        soon = self._lost_s is not None and now_s - self._lost_s < TRUST_S
        self._lost_s = now_s
        # Without a GPU that works, "auto" takes the CPU; "cuda" would be refused.
        self._fallback = replace(config, device="cpu" if soon else "auto")
        self._under_way = True
        return self._fallback
