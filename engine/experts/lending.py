"""A long prompt's workspace is lent by residents: the least popular make way, and come back when it is read.

While a reply is written, nothing needs that workspace, so experts live there. A pass of up to LEAST_CHUNK_TOKENS has
room without them.
"""

from __future__ import annotations

import numpy as np

from engine.config import ModelConfig
from engine.devices import Device
from engine.experts.popularity import Popularity
from engine.experts.ranking import Mask, as_mask, lent_for, staying_residents
from engine.experts.residency import Residency
from engine.messages import PlacementPlan

Residents = tuple[tuple[int, ...], ...]  # per layer


class Lending:
    """What residents lend, of one loaded model.

    Args:
        model: Its shape.
        device: Where they live.
        residency: They.
        popularity: Says who makes way.

    Attributes:
        reading: Whether a long prompt is being read.
        taken_bytes: What its workspace has of theirs.
    """

    def __init__(self, model: ModelConfig, device: Device, residency: Residency, popularity: Popularity) -> None:
        """Nothing is lent."""
        self._model, self._device, self._residency, self._popularity = model, device, residency, popularity
        self._lent_bytes: dict[int, int] = {}
        self.reading, self.taken_bytes, self._tokens = False, 0, 0
        self._away: list[tuple[int, int]] = []

    def asked(self, tokens: int) -> bool:
        """Whether somebody makes way for a prompt with so many new tokens."""
        return lent_for(self._lent_bytes, tokens) > 0

    def follow(self, plan: PlacementPlan) -> Residents:
        """Take another plan; returns those of its residents that are to live in VRAM now."""
        self._lent_bytes = plan.lent_bytes
        return self._staying(plan.resident_by_layer) if self.reading else plan.resident_by_layer

    def lend(self, tokens: int) -> None:
        """Have residents make way for a prompt with so many new tokens."""
        self._residency.finish_uploads()
        self.reading, self._tokens = True, tokens
        staying = self._staying(self._residency.by_layer())
        self._residency.vacate(staying, staging=self._residency.staging_slots > 0)

    def bring_back(self) -> bool:
        """Have those that made way come back, beside the work; returns whether there was memory for all of them."""
        away = self._away
        self._nobody_away()
        self._device.trim()
        return self._residency.bring_back(away)

    def close(self) -> None:
        """Nobody comes back."""
        self._nobody_away()

    def residents(self) -> Residents:
        """Those of a reply: in VRAM, on their way there, or making way for a prompt that is being read."""
        mask = as_mask(self._model, self._residency.by_layer())
        for layer, expert in (*self._residency.uploading, *self._away):
            mask[layer, expert] = True
        return _by_layer(mask)

    def _staying(self, residents: Residents) -> Residents:
        """Those that stay beside the workspace of the prompt; the others are noted, the most popular first."""
        self.taken_bytes = lent_for(self._lent_bytes, self._tokens)
        model, shares = self._model, self._popularity.shares()
        resident = as_mask(model, residents)
        present = as_mask(model, self._residency.by_layer())
        staying = staying_residents(model, shares, resident, self.taken_bytes, present)
        away = np.argwhere(resident & ~staying).tolist()
        self._away = sorted(((layer, expert) for layer, expert in away), key=lambda pair: -shares[pair[0]][pair[1]])
        return _by_layer(staying)

    def _nobody_away(self) -> None:
        """No prompt is being read."""
        self.reading, self.taken_bytes, self._away = False, 0, []


def _by_layer(experts: Mask) -> Residents:
    """A mask [L, E] as experts by layer."""
    return tuple(tuple(np.flatnonzero(layer).tolist()) for layer in experts)
