"""The host arena: every expert of the model in RAM, each one contiguous run, page-locked where the device gains by it.

Residents keep their host copy too, so that the budget can shrink or the placement change without a reload.
"""

from __future__ import annotations

import torch

from engine.config import ModelConfig
from engine.devices import Device
from engine.kernels.torch_expert import ExpertWeights

ALIGNMENT_BYTES = 64


class ExpertStore:
    """All experts in RAM.

    Attributes:
        nbytes: Bytes of the arena.
        pinned_layers: Layers whose run is page-locked.
    """

    def __init__(self, model: ModelConfig, device: Device, dtype: torch.dtype) -> None:
        """Allocate one run per layer, each expert 64-byte aligned; pages are taken as they are first written."""
        step = ALIGNMENT_BYTES // dtype.itemsize
        self._stride = -(-model.expert_parameters // step) * step
        self._device = device
        self._layers = [torch.empty(model.experts, self._stride, dtype=dtype) for _ in range(model.layers)]
        self._weights = [
            [
                ExpertWeights.view(run[expert][: model.expert_parameters], model.hidden_size, model.intermediate_size)
                for expert in range(model.experts)
            ]
            for run in self._layers
        ]
        self.nbytes = sum(run.nbytes for run in self._layers)
        self._pinned: list[torch.Tensor] = []

    def weights(self, layer: int, expert: int) -> ExpertWeights:
        """Views of one expert in RAM."""
        return self._weights[layer][expert]

    @property
    def pinned_layers(self) -> int:
        """Layers whose run is page-locked."""
        return len(self._pinned)

    def pin(self) -> None:
        """Page-lock layer after layer until the system refuses; the rest is copied more slowly."""
        for run in self._layers[len(self._pinned) :]:
            if not self._device.pin(run):
                return
            self._pinned.append(run)

    def close(self) -> None:
        """Unlock the pages."""
        while self._pinned:
            self._device.unpin(self._pinned.pop())
