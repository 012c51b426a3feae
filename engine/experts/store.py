"""The host arena: every expert of the model, packed, each one contiguous run, page-locked where the device gains by it.

Residents keep their host copy too, so that the budget can shrink or the placement change without a reload. A model
larger than RAM keeps its arena in a file instead, of which the system holds in RAM what was used last.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.config import ModelConfig
from engine.devices import Device
from engine.experts.arena import Arena
from engine.experts.pinning import runs_of
from engine.kernels.torch_expert import ExpertWeights


class ExpertStore:
    """All experts, in RAM or on disk.

    Args:
        model: Their shape and formats.
        device: Page-locks the memory where that helps.
        disk_folder: Where the arena's file goes; None keeps it in RAM.

    Attributes:
        nbytes: Bytes of the arena.
        on_disk: Whether it is a file.
        pageable: Per layer the experts that are not page-locked, where the device needs that.

    Raises:
        DoesNotFitError: The system does not give the memory, or the drive has no room.
    """

    def __init__(self, model: ModelConfig, device: Device, disk_folder: Path | None = None) -> None:
        """Allocate one run per layer, each on pages of its own; pages are taken as they are first written."""
        self._model, self._device = model, device
        self._strides = tuple(model.layer_expert_bytes(layer) for layer in range(model.layers))
        self._starts: list[int] = []
        end = 0
        for stride in self._strides:
            self._starts.append(end)
            end += -(-model.experts * stride // mmap.PAGESIZE) * mmap.PAGESIZE
        self._arena = Arena(end, disk_folder)
        self.on_disk = self._arena.on_disk
        self.nbytes = model.experts * sum(self._strides)
        self._views: list[dict[int, ExpertWeights]] = [{} for _ in range(model.layers)]
        self._pinned: list[torch.Tensor] = []
        experts = range(model.experts) if device.needs_pinning else ()
        self.pageable: tuple[set[int], ...] = tuple(set(experts) for _ in range(model.layers))

    def layer(self, layer: int) -> torch.Tensor:
        """All experts of one layer: uint8 [E, layer_expert_bytes]."""
        first, stride = self._starts[layer], self._strides[layer]
        return self._arena.data[first : first + self._model.experts * stride].view(self._model.experts, stride)

    def parts_of(self, layer: int, expert: int) -> torch.Tensor:
        """All parts of one expert of one layer: uint8 [P, layer_expert_bytes].

        Args:
            layer: Its index.
            expert: As the router counts.
        """
        parts = self._model.expert_parts
        return self.layer(layer)[expert * parts : (expert + 1) * parts]

    def weights(self, layer: int, expert: int) -> ExpertWeights:
        """Views of one expert; made when they are first asked for, as most are never looked at."""
        views = self._views[layer]
        known = views.get(expert)
        if known is None:
            known = views[expert] = self.view(layer, self.layer(layer)[expert])
        return known

    def view(self, layer: int, flat: torch.Tensor) -> ExpertWeights:
        """Bytes as an expert of some layer.

        Args:
            layer: Its formats are taken.
            flat: uint8, at least as long as an expert of that layer.
        """
        model = self._model
        return ExpertWeights.view(
            flat, model.formats(layer), model.hidden_size, model.intermediate_size, model.traits.clamped_gate
        )

    def expect(self, layer: int, experts: Iterable[int]) -> None:
        """Have experts of an arena on disk read in, all at once and without waiting for them."""
        if self.on_disk:
            for expert in experts:
                self._arena.expect(self._starts[layer] + expert * self._strides[layer], self._strides[layer])

    def pin(self, wanted: NDArray[np.bool_]) -> None:
        """Page-lock experts until the system refuses; the rest is copied more slowly, or not at all.

        Args:
            wanted: Which [L, E].
        """
        if self.on_disk or not self._device.needs_pinning:
            return
        for layer, row in enumerate(wanted):
            for first, end in runs_of(row):
                run = self.layer(layer)[first:end]
                if not self._device.pin(run):
                    return
                self._pinned.append(run)
                self.pageable[layer].difference_update(range(first, end))

    def close(self) -> None:
        """Unlock the pages and close the file."""
        while self._pinned:
            self._device.unpin(self._pinned.pop())
        self._arena.close()
