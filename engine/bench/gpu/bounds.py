"""What the bytes of a decoded token allow, given where its experts were found.

    bound = (dense + KV) / VRAM speed
            + max(hits * expert / VRAM speed, on the CPU * expert / RAM speed, streamed * expert / link speed)

Dense weights and cached keys and values are read from VRAM before the experts of each layer; after that VRAM, RAM and
link work at the same time. Averages over layers and tokens, so the true bound is a little higher. No launch, no
arithmetic and no upload of a new resident is charged: what is measured beyond the bound is all of those.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.config import ModelConfig
from engine.experts.footprint import PlannedDevice, read_dense_bytes


@dataclass(frozen=True, slots=True)
class Speeds:
    """Bytes per second, measured or of a preset.

    Attributes:
        vram: Reading VRAM.
        ram: Reading RAM, all threads.
        link: From page-locked RAM to VRAM.
    """

    vram: float
    ram: float
    link: float


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that one decoded token moves, on average.

    Attributes:
        dense: Weights outside the experts, and keys and values, from VRAM.
        hits: Experts from VRAM.
        cpu: Experts from RAM to the CPU.
        streamed: Experts over the link.
    """

    dense: float
    hits: float
    cpu: float
    streamed: float

    def dense_s(self, speeds: Speeds) -> float:
        """The part that comes first."""
        return self.dense / speeds.vram

    def bound_s(self, speeds: Speeds) -> float:
        """Least seconds of a token."""
        experts = (self.hits / speeds.vram, self.cpu / speeds.ram, self.streamed / speeds.link)
        return self.dense_s(speeds) + max(experts)


@dataclass(frozen=True, slots=True)
class Visits:
    """Expert visits of some decoded tokens, by place.

    Attributes:
        tokens: How many tokens.
        all: Visits of all layers.
        hits: Those that ran in VRAM.
        streamed: Those that were copied there first.
    """

    tokens: int
    all: int
    hits: int
    streamed: int

    def traffic(
        self,
        model: ModelConfig,
        layers: int,
        device: PlannedDevice,
        kernels: str,
        context_tokens: float,
        *,
        gpu_kernels: bool = True,
    ) -> Traffic:
        """What they moved per token.

        Args:
            model: Whose bytes count.
            layers: How many of its layers were run.
            device: Where the dense part is.
            kernels: As in `PlanningInputs`.
            context_tokens: Mean length of the sequence meanwhile.
            gpu_kernels: As in `PlanningInputs`.
        """
        expert = model.experts_bytes / (model.layers * model.experts) / max(1, self.tokens)
        dense = read_dense_bytes(model, device, kernels, gpu_kernels=gpu_kernels)
        return Traffic(
            dense=(dense + model.kv_bytes_per_token("auto") * context_tokens) * layers / model.layers,
            hits=self.hits * expert,
            cpu=(self.all - self.hits - self.streamed) * expert,
            streamed=self.streamed * expert,
        )
