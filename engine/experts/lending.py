"""A long prompt's workspace is lent by residents: the least popular make way, and come back when it is read.

While a reply is written, nothing needs that workspace, so experts live there. A pass of up to LEAST_CHUNK_TOKENS has
room without them.
"""

from __future__ import annotations

import numpy as np

from engine.config import ModelConfig
from engine.devices import Device
from engine.experts.memory import LEAST_CHUNK_TOKENS
from engine.experts.popularity import Popularity
from engine.experts.ranking import Mask, as_mask, staying_residents
from engine.experts.residency import Residency

Residents = tuple[tuple[int, ...], ...]  # per layer


class Lending:
    """What residents lend, of one loaded model.

    Args:
        model: Its shape.
        device: Where they live.
        residency: They.
        popularity: Says who makes way.

    Attributes:
        lent_bytes: As in the plan in force.
        reading: Whether a long prompt is being read.
    """

    def __init__(self, model: ModelConfig, device: Device, residency: Residency, popularity: Popularity) -> None:
        """Nothing is lent."""
        self._model, self._device, self._residency, self._popularity = model, device, residency, popularity
        self.lent_bytes = 0
        self.reading = False
        self._away: list[tuple[int, int]] = []

    def asked(self, tokens: int) -> bool:
        """Whether a prompt with so many new tokens takes what is lent."""
        return tokens > LEAST_CHUNK_TOKENS and self.lent_bytes > 0

    @property
    def taken_bytes(self) -> int:
        """What a prompt's workspace has of it now."""
        return self.lent_bytes if self.reading else 0

    def follow(self, residents: Residents, lent_bytes: int) -> Residents:
        """Take another plan's residents; returns those that are to live in VRAM now.

        Args:
            residents: Those of a reply.
            lent_bytes: What they lend.
        """
        self.lent_bytes = lent_bytes
        return self._staying(residents) if self.reading else residents

    def lend(self) -> None:
        """Have residents make way."""
        self._residency.finish_uploads()
        self.reading = True
        staying = self._staying(self._residency.by_layer())
        self._residency.vacate(staying, staging=self._residency.staging_slots > 0)

    def bring_back(self) -> bool:
        """Have those that made way come back, beside the work; returns whether there was memory for all of them."""
        self.reading, away, self._away = False, self._away, []
        self._device.trim()
        return self._residency.bring_back(away)

    def close(self) -> None:
        """Nobody comes back."""
        self.reading, self.lent_bytes, self._away = False, 0, []

    def residents(self) -> Residents:
        """Those of a reply: in VRAM, on their way there, or making way for a prompt that is being read."""
        mask = as_mask(self._model, self._residency.by_layer())
        for layer, expert in (*self._residency.uploading, *self._away):
            mask[layer, expert] = True
        return _by_layer(mask)

    def _staying(self, residents: Residents) -> Residents:
        """Those that stay; the others are noted, the most popular first."""
        model, shares = self._model, self._popularity.shares()
        resident = as_mask(model, residents)
        present = as_mask(model, self._residency.by_layer())
        staying = staying_residents(model, shares, resident, self.lent_bytes, present)
        away = np.argwhere(resident & ~staying).tolist()
        self._away = sorted(((layer, expert) for layer, expert in away), key=lambda pair: -shares[pair[0]][pair[1]])
        return _by_layer(staying)


def _by_layer(experts: Mask) -> Residents:
    """A mask [L, E] as experts by layer."""
    return tuple(tuple(np.flatnonzero(layer).tolist()) for layer in experts)
