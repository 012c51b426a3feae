"""Which experts live in VRAM: equal slots, filled from the host arena, changed while the engine runs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.config import ModelConfig
from engine.devices import Device
from engine.experts.planner import STAGING_SLOTS
from engine.experts.store import ExpertStore
from engine.kernels.torch_expert import ExpertWeights


class Residency:
    """VRAM copies of experts.

    Attributes:
        resident: Per layer the set of experts in VRAM.
    """

    def __init__(self, model: ModelConfig, device: Device, store: ExpertStore, dtype: torch.dtype) -> None:
        """Start with nothing in VRAM."""
        self._model, self._device, self._store, self._dtype = model, device, store, dtype
        self._slots: list[dict[int, ExpertWeights]] = [{} for _ in range(model.layers)]
        self.resident: list[set[int]] = [set() for _ in range(model.layers)]
        self.staging: tuple[ExpertWeights, ...] = ()

    def weights(self, layer: int, expert: int) -> ExpertWeights:
        """Views of one resident in VRAM."""
        return self._slots[layer][expert]

    def borrow(self) -> tuple[ExpertWeights, ExpertWeights]:
        """A slot in VRAM and an expert in RAM that may be copied there at any time without harm, for measuring."""
        source = self._store.weights(0, 0)
        return (self.staging[0] if self.staging else self.weights(0, 0)), source

    def by_layer(self) -> tuple[tuple[int, ...], ...]:
        """Per layer the experts in VRAM, ascending."""
        return tuple(tuple(sorted(layer)) for layer in self.resident)

    def place(self, wanted_by_layer: Sequence[Sequence[int]], *, staging: bool) -> None:
        """Make exactly these experts resident: evict first, then copy in what is new.

        Args:
            wanted_by_layer: Per layer the experts to hold.
            staging: Whether to keep slots for streaming.

        Raises:
            DeviceOutOfMemoryError: The budget does not hold them; what was placed until then stays usable.
        """
        freed: list[ExpertWeights] = []
        for layer, wanted in enumerate(wanted_by_layer):
            for expert in self.resident[layer] - set(wanted):
                self.resident[layer].discard(expert)
                freed.append(self._slots[layer].pop(expert))
        self._resize_staging(STAGING_SLOTS if staging else 0)
        missing = [
            (layer, expert)
            for layer, wanted in enumerate(wanted_by_layer)
            for expert in wanted
            if expert not in self.resident[layer]
        ]
        for _ in range(max(0, len(freed) - len(missing))):
            self._free(freed.pop(), "experts")
        self._device.trim()
        for layer, expert in missing:
            slot = freed.pop() if freed else self._new("experts")
            slot.flat.copy_(self._store.weights(layer, expert).flat)
            self._slots[layer][expert] = slot
            self.resident[layer].add(expert)

    def close(self) -> None:
        """Evict everything."""
        self.place([()] * self._model.layers, staging=False)

    def _resize_staging(self, count: int) -> None:
        """Have exactly `count` slots for streaming."""
        slots = list(self.staging)
        while len(slots) > count:
            self._free(slots.pop(), "staging")
        while len(slots) < count:
            slots.append(self._new("staging"))
        self.staging = tuple(slots)

    def _new(self, term: str) -> ExpertWeights:
        """One more slot."""
        flat = self._device.allocate((self._model.expert_parameters,), self._dtype, term)
        return ExpertWeights.view(flat, self._model.hidden_size, self._model.intermediate_size)

    def _free(self, slot: ExpertWeights, term: str) -> None:
        """Give one slot's bytes back; its memory goes with the last reference."""
        self._device.release(term, slot.nbytes)
