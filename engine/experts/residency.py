"""Which experts live in VRAM: equal slots, filled from the host arena, changed while the engine runs.

Every slot holds the model's largest expert, so that any expert fits in any slot; a resident is looked at with the
formats of its own layer, and only its own bytes are copied.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.config import ExpertFormats, ModelConfig
from engine.devices import Device
from engine.experts.planner import STAGING_SLOTS
from engine.experts.store import ExpertStore
from engine.kernels.torch_expert import ExpertWeights


class Residency:
    """VRAM copies of experts.

    Attributes:
        resident: Per layer the set of experts in VRAM.
    """

    def __init__(self, model: ModelConfig, device: Device, store: ExpertStore) -> None:
        """Start with nothing in VRAM."""
        self._model, self._device, self._store = model, device, store
        self._slot_bytes = model.expert_bytes
        self._formats = tuple(model.formats(layer) for layer in range(model.layers))
        self._slots: list[dict[int, torch.Tensor]] = [{} for _ in range(model.layers)]
        self._weights: list[dict[int, ExpertWeights]] = [{} for _ in range(model.layers)]
        self.resident: list[set[int]] = [set() for _ in range(model.layers)]
        self._staging: list[torch.Tensor] = []
        self._staged: list[dict[ExpertFormats, ExpertWeights]] = []

    @property
    def staging_slots(self) -> int:
        """Slots for streaming."""
        return len(self._staging)

    def weights(self, layer: int, expert: int) -> ExpertWeights:
        """Views of one resident in VRAM."""
        return self._weights[layer][expert]

    def staged(self, slot: int, layer: int) -> ExpertWeights:
        """Views of a slot for streaming, as an expert of some layer."""
        return self._staged[slot][self._formats[layer]]

    def borrow(self, layer: int) -> tuple[ExpertWeights, ExpertWeights]:
        """A slot in VRAM and an expert that may be copied there at any time without harm, for measuring.

        Args:
            layer: Whose expert; without slots for streaming it must have a resident.
        """
        if self._staging:
            return self.staged(0, layer), self._store.weights(layer, 0)
        expert = min(self.resident[layer])
        return self.weights(layer, expert), self._store.weights(layer, expert)

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
        freed: list[torch.Tensor] = []
        for layer, wanted in enumerate(wanted_by_layer):
            for expert in self.resident[layer] - set(wanted):
                self.resident[layer].discard(expert)
                del self._weights[layer][expert]
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
            self._fill(layer, expert, freed.pop() if freed else self._new("experts"))

    def close(self) -> None:
        """Evict everything."""
        self.place([()] * self._model.layers, staging=False)

    def _fill(self, layer: int, expert: int, slot: torch.Tensor) -> None:
        """Copy one expert into a slot and have it live there."""
        weights = self._store.view(layer, slot)
        weights.flat.copy_(self._store.weights(layer, expert).flat)
        self._slots[layer][expert] = slot
        self._weights[layer][expert] = weights
        self.resident[layer].add(expert)

    def _resize_staging(self, count: int) -> None:
        """Have exactly `count` slots for streaming."""
        while len(self._staging) > count:
            self._staged.pop()
            self._free(self._staging.pop(), "staging")
        while len(self._staging) < count:
            slot = self._new("staging")
            self._staging.append(slot)
            self._staged.append(
                {formats: self._store.view(self._formats.index(formats), slot) for formats in set(self._formats)}
            )

    def _new(self, term: str) -> torch.Tensor:
        """One more slot."""
        return self._device.allocate((self._slot_bytes,), torch.uint8, term)

    def _free(self, slot: torch.Tensor, term: str) -> None:
        """Give one slot's bytes back; its memory goes with the last reference."""
        self._device.release(term, slot.nbytes)
