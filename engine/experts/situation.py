"""What a plan is made for: a model, a machine and settings, and all that follows from them before words are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.config import EngineConfig, ModelConfig
from engine.experts.footprint import PlannedDevice
from engine.experts.memory import (
    Needs,
    Vram,
    host_terms,
    planned_chunk_tokens,
    planned_context_tokens,
    planned_device,
    ram_room,
)
from engine.experts.pinning import choose_pinned, pinned_budget
from engine.experts.ranking import Mask, choose_residents, layer_expert_bytes, staying_residents
from engine.messages import PlanningInputs


@dataclass(frozen=True, slots=True)
class Situation:
    """What is asked, and all that follows from it.

    Attributes:
        inputs: The model, the machine, costs and popularity.
        config: The settings.
        device: Where the dense part will live.
        context_tokens: Tokens that the KV cache will hold.
        needs: What the model takes.
        vram: What the GPU offers.
        resident: Experts that will live in VRAM [L, E].
        staying: Those of them that stay while a long prompt is read [L, E].
        pinned: Experts whose host copies will be page-locked [L, E]; None where the device has no need of that.
    """

    inputs: PlanningInputs
    config: EngineConfig
    device: PlannedDevice
    context_tokens: int
    needs: Needs
    vram: Vram
    resident: Mask
    staying: Mask
    pinned: Mask | None

    @classmethod
    def of(cls, inputs: PlanningInputs, config: EngineConfig, held: Sequence[Sequence[int]] = ()) -> Situation:
        """Work it out."""
        model, hardware, device = inputs.model, inputs.hardware, planned_device(config, inputs.hardware)
        if model.compatibility is not None:  # transformers keeps keys and values in the model's own type
            config = replace(config, kv_precision="auto")
        needs = Needs.of(model, config, device, inputs.kernels, gpu_kernels=inputs.gpu_kernels)
        vram = Vram.of(config, hardware)
        room = needs.resident_room(vram.room) if device != "cpu" and vram.room >= needs.least else 0
        resident = choose_residents(inputs, config.placement, room, held)
        lent = needs.lent(_bytes_of(resident, model))
        staying = staying_residents(model, inputs.popularity, resident, lent)
        return cls(
            inputs=inputs,
            config=config,
            device=device,
            context_tokens=planned_context_tokens(model, config),
            needs=needs,
            vram=vram,
            resident=resident,
            staying=staying,
            pinned=_pinned(inputs, config, device, staying),
        )

    @property
    def fits_vram(self) -> bool:
        """Whether the least that works has room, where a GPU is asked for."""
        return self.device == "cpu" or self.vram.room >= self.needs.least

    @property
    def resident_bytes(self) -> int:
        """Bytes of the experts that live in VRAM."""
        return _bytes_of(self.resident, self.inputs.model)

    @property
    def lent_bytes(self) -> int:
        """What they lend the workspace of a long prompt."""
        return self.needs.lent(self.resident_bytes)

    @property
    def vram_bytes(self) -> dict[str, int]:
        """VRAM by term; what it would be without residents where it does not fit."""
        return {} if self.device == "cpu" else self.needs.terms(self.resident_bytes, self.vram.margin)

    @property
    def host_bytes(self) -> dict[str, int]:
        """RAM by term; what is page-locked is counted among the experts already."""
        terms = host_terms(self.device, self.needs, self.vram_bytes)
        if self.pinned is None or self.needs.on_disk:
            return terms
        return {"experts_pinned": _bytes_of(self.pinned, self.inputs.model), **terms}

    @property
    def chunk_tokens(self) -> int:
        """Prompt tokens per forward pass."""
        return planned_chunk_tokens(self.inputs.model, self.config)

    @property
    def ram_left(self) -> int:
        """RAM that nothing takes; negative where there is too little."""
        return ram_room(self.inputs.hardware) - self.host_bytes["total"]

    @property
    def fits_ram(self) -> bool:
        """Whether RAM has room."""
        return self.ram_left >= 0


def _bytes_of(experts: Mask, model: ModelConfig) -> int:
    """Bytes of some experts [L, E]."""
    return int(experts.sum(axis=1) @ layer_expert_bytes(model))


def _pinned(inputs: PlanningInputs, config: EngineConfig, device: PlannedDevice, resident: Mask) -> Mask | None:
    """Experts whose host copies will be page-locked."""
    if device == "cpu" or (device == "simulated" and config.pinned_budget_bytes is None):
        return None
    if config.experts_on_disk:
        return np.zeros_like(resident)
    return choose_pinned(inputs.model, inputs.popularity, resident, pinned_budget(inputs.hardware, config))
