"""Placement and cost as data: what an expert costs on this machine, and the plan that is made of it.

Frozen, picklable and free of torch, for they cross the queue inside of `engine.messages`. `engine.experts` makes them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from engine.config import DeviceName, KvPrecision, ModelConfig
from engine.hardware import HardwareProfile

TORCH_KERNELS = "torch"  # `PlanningInputs.kernels` without a library of our own


@dataclass(frozen=True, slots=True)
class CostCurve:
    """Predicted seconds for s units of work: max(floor_s, s * per_unit_s) + overhead_s; `one_s` for a single one.

    Attributes:
        floor_s: Time that moving the bytes takes, however few the units.
        per_unit_s: Time that one more token (or byte) takes.
        overhead_s: Fixed time of one call.
        fit_error: Median relative error against the measurements, 0.1 = 10 %.
        one_s: What a single unit was measured to take, which all of decode is made of; None to take the formula.
    """

    floor_s: float
    per_unit_s: float
    overhead_s: float
    fit_error: float = 0.0
    one_s: float | None = None


@dataclass(frozen=True, slots=True)
class CostModel:
    """What one expert costs on each side of this machine, for one model shape.

    Attributes:
        cpu_expert: Expert on the CPU, units are tokens; what a call of several takes besides is `cpu_call_s`.
        gpu_expert: Expert and its call on the GPU, units are tokens; experts of one call share its `overhead_s`.
            None without a GPU.
        weight_copy: One expert's weights from RAM to VRAM, units are experts; None without a GPU.
        activation_copy: Activations there and back, units are tokens, for one the part that is not around the experts;
            None without a GPU.
        dense_layer_s: One decode layer around its experts in an empty context, with its share of embedding and lm_head.
        cpu_correction: Measured / predicted on the CPU, learnt while running.
        gpu_correction: The same for the GPU side.
        source: Where the numbers come from, e.g. "measured", "cached", "assumed".
        dense_tokens: One layer of a prompt around its experts, units are tokens; None where nobody measured it.
        attention_pair_s: What each pair of a query and an earlier key adds to that, per layer.
        cpu_call_s: What the call adds that runs all experts of a layer on the CPU; 0 where a whole token is one call.
        attention_key_s: What each token of context adds to one decode layer.
        token_s: What a token of a reply takes besides its layers: drawing it, by the sampling that replies have unless
            told otherwise, and all that is done between two passes.
        copy_drag: Share of the CPU's speed, where memory bounds it, that a weight copy takes while it runs.
    """

    cpu_expert: CostCurve
    gpu_expert: CostCurve | None
    weight_copy: CostCurve | None
    activation_copy: CostCurve | None
    dense_layer_s: float
    cpu_correction: float = 1.0
    gpu_correction: float = 1.0
    source: str = "assumed"
    dense_tokens: CostCurve | None = None
    attention_pair_s: float = 0.0
    cpu_call_s: float = 0.0
    attention_key_s: float = 0.0
    token_s: float = 0.0
    copy_drag: float = 0.0


@dataclass(frozen=True, slots=True)
class PlacementPlan:
    """What goes where, before anything is loaded.

    Attributes:
        fits: Whether the model can be loaded with these settings.
        device: "cuda", "cpu" or "simulated".
        resident_by_layer: For each layer the experts that live in VRAM, ascending.
        vram_bytes: Term -> bytes: dense, kv, workspace, experts, staging, margin, total; empty without a GPU.
        host_bytes: Term -> bytes: experts, engine (what its process holds besides), and on the CPU device dense, kv,
            workspace too; total. Beside a GPU dense is
            an embedding that is looked up in RAM. Experts that are kept on disk are the term experts_on_disk instead,
            which the total leaves out. Beside a GPU that needs it, experts_pinned is the part of them that is
            page-locked, which the total leaves out too.
        vram_budget_bytes: What the plan was allowed to use, 0 without a GPU.
        context_tokens: Tokens that the KV cache holds.
        predicted_decode_tokens_per_s: By the cost model.
        predicted_prefill_tokens_per_s: By the cost model, at a 512-token prompt.
        predicted_hit_rate: Share of expert visits that find their expert in VRAM.
        reasons: Sentences: why it fits or not, and what decided the numbers.
        remedy: What to change when it does not fit, else "".
        needed_bytes: What a plan that does not fit would need, else 0.
        available_bytes: What there was for it, else 0.
        kv_precision: What the KV cache holds, as in `EngineConfig`.
        prefill_chunk_tokens: Prompt tokens per forward pass, at most.
        lent_bytes: Tokens of a pass, ascending -> what residents lend its workspace: some make way until a prompt of
            more than the first of them is read; {} where nobody does. The other numbers are those of a reply.
        expert_parts: Parts that experts are placed in (`engine.experts.parts`); `resident_by_layer` then names these.
    """

    fits: bool
    device: DeviceName
    resident_by_layer: tuple[tuple[int, ...], ...]
    vram_bytes: dict[str, int]
    host_bytes: dict[str, int]
    vram_budget_bytes: int
    context_tokens: int
    predicted_decode_tokens_per_s: float
    predicted_prefill_tokens_per_s: float
    predicted_hit_rate: float
    reasons: tuple[str, ...]
    remedy: str = ""
    needed_bytes: int = 0
    available_bytes: int = 0
    kv_precision: KvPrecision = "auto"
    prefill_chunk_tokens: int = 512
    lent_bytes: dict[int, int] = field(default_factory=dict)
    expert_parts: int = 1

    @property
    def resident_experts(self) -> int:
        """How many experts live in VRAM, parts of any taken together."""
        return sum(len(layer) for layer in self.resident_by_layer) // self.expert_parts

    @property
    def residents_by_layer(self) -> tuple[tuple[int, ...], ...]:
        """Per layer experts, in all as many as the parts in VRAM make up: those with the most parts there."""
        parts = self.expert_parts
        present = Counter((layer, part // parts) for layer, row in enumerate(self.resident_by_layer) for part in row)
        named = {expert for expert, _ in present.most_common(self.resident_experts)}
        return tuple(
            tuple(sorted({part // parts for part in row if (layer, part // parts) in named}))
            for layer, row in enumerate(self.resident_by_layer)
        )


@dataclass(frozen=True, slots=True)
class PlanningInputs:
    """All that `engine.experts.placement.make_plan` needs besides an `EngineConfig`; lets the window preview a budget.

    Attributes:
        model: The model's shape.
        hardware: The machine.
        costs: What an expert costs here.
        popularity: Per layer and expert, the share of the layer's visits (rows sum to 1).
        kernels: What computes on the CPU: "torch", or the instructions that our own library uses, e.g. "avx2".
        gpu_note: A sentence: why the GPU is not used, or not as well as it could be; "" where there is nothing to say.
        gpu_kernels: Whether an NVIDIA GPU is taken to run our own kernels; only a load finds out.
    """

    model: ModelConfig
    hardware: HardwareProfile
    costs: CostModel
    popularity: tuple[tuple[float, ...], ...]
    kernels: str = TORCH_KERNELS
    gpu_note: str = ""
    gpu_kernels: bool = True
