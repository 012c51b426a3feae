"""What a model takes and what a machine offers, in bytes: VRAM term by term, RAM term by term, and their margins.

Pure arithmetic, nothing is placed here. A VRAM budget is all that the engine may take, its safety margin included.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.config import SINK_WIDTH, EngineConfig, ModelConfig
from engine.experts.footprint import (
    PlannedDevice,
    grouping_bytes,
    held_dense_bytes,
    host_dense_bytes,
    launching_bytes,
    step_bytes,
    table_bytes,
    unpacking_bytes,
)
from engine.experts.planner import STAGING_SLOTS, staging_slots_of
from engine.hardware import HardwareProfile
from engine.messages import TORCH_KERNELS

MIB = 1 << 20
VRAM_MARGIN_BYTES = 512 * MIB  # CUDA context, fragmentation, other programs' next window
RAM_MARGIN_BYTES = (512 * MIB, 2048 * MIB)
MARGIN_PARTS = 20  # a margin is one part in twenty, within those limits
FLOAT_BYTES = 4
# What the engine's process holds besides the model: Python, torch and transformers with their libraries, the stacks and
# heaps of its threads. Measured with `python -m app.bench --verdicts`; what CUDA's libraries add is not known yet.
ENGINE_BYTES: dict[PlannedDevice, int] = {"cpu": 264 * MIB, "simulated": 320 * MIB, "cuda": 320 * MIB}
TOKEN_BYTES = 512  # of a vocabulary in memory, for each token with the merge that made it
LEAST_CHUNK_TOKENS = 512  # of a prompt, per forward pass, where nobody chose; a GPU always has the workspace for it


def planned_device(config: EngineConfig, hardware: HardwareProfile) -> PlannedDevice:
    """Where the dense part will live; "auto" takes CUDA if there is a GPU, else the CPU."""
    if config.device == "auto":
        return "cuda" if hardware.gpu else "cpu"
    return config.device


def planned_context_tokens(model: ModelConfig, config: EngineConfig) -> int:
    """Tokens that the KV cache will hold: the setting, cut to the model's own limit."""
    return min(config.context_tokens, model.max_position_embeddings)


def planned_chunk_tokens(model: ModelConfig, config: EngineConfig) -> int:
    """Prompt tokens per forward pass: the setting, or the least that a plan chooses; never more than the context."""
    return min(config.prefill_chunk_tokens or LEAST_CHUNK_TOKENS, planned_context_tokens(model, config))


def workspace_bytes(model: ModelConfig, config: EngineConfig) -> int:
    """Activations of one prefill chunk of c tokens with a full context of S tokens, all taken as fp32.

    Alive all the time: residual, normed and output states (3 c H) and one row of logits (V). Beside them the larger of
        attention: queries and output (2 c heads D), keys and values (2 c kv_heads D); the mask of one head group, as
                   bytes for each kind of window and in the weights' type ((heads / kv_heads) c S). Scores are never
                   held: attention is fused. Where it has sinks, mask, queries, keys and values once more, with room
                   for them.
        experts:   input and output (2 c H), gate, up and their product (3 c I), for an expert that got the whole chunk,
                   or for a wider one that all tokens share, beside the sum of the others
    """
    context, chunk = planned_context_tokens(model, config), planned_chunk_tokens(model, config)
    states = 3 * chunk * model.hidden_size + model.vocab_size
    heads = 2 * chunk * (model.heads + model.kv_heads) * model.head_dim
    windows = 2 if 0 < len(model.traits.full_layers) < model.layers else 1
    seen = model.heads // model.kv_heads * chunk * context
    mask_bytes = seen * (windows + model.dtype_bytes)
    if model.traits.sinks:
        width = model.head_dim + SINK_WIDTH
        mask_bytes += seen + FLOAT_BYTES * 2 * chunk * model.heads * width
        mask_bytes += model.dtype_bytes * 2 * model.kv_heads * (context + 1) * width
    widest = max(model.intermediate_size, model.traits.shared_size)
    expert = chunk * ((3 if model.traits.shared_size else 2) * model.hidden_size + 3 * widest)
    return FLOAT_BYTES * states + max(FLOAT_BYTES * heads + mask_bytes, FLOAT_BYTES * expert)


def engine_bytes(model: ModelConfig, device: PlannedDevice) -> int:
    """RAM of the engine's process besides the model's weights and what it computes in; the tokenizer is part of it."""
    return ENGINE_BYTES[device] + TOKEN_BYTES * model.vocab_size


def machine_without_engine(hardware: HardwareProfile, device: PlannedDevice, held_bytes: int) -> HardwareProfile:
    """The machine for a plan that is made in the engine's process: what this holds already is planned for, too.

    Args:
        hardware: As it is now.
        device: Where the dense part will live.
        held_bytes: RAM of this process.
    """
    available = hardware.ram_available_bytes + min(held_bytes, ENGINE_BYTES[device])
    return replace(hardware, ram_available_bytes=min(hardware.ram_total_bytes, available))


def cache_slice_bytes(model: ModelConfig, config: EngineConfig, device: PlannedDevice, kernels: str) -> int:
    """What one layer's keys and values take as torch attends to them, where the KV cache holds another type."""
    as_it_is = model.kv_format(config.kv_precision) == model.kv_format("auto")
    if as_it_is or (device == "cpu" and kernels != TORCH_KERNELS):
        return 0
    return 2 * model.kv_heads * model.kv_row_bytes("auto") * planned_context_tokens(model, config)


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes of the parts, before any expert is placed.

    Attributes:
        dense: Weights outside the experts, where the dense part lives.
        kv: The KV cache.
        workspace: Activations, what is unpacked for the moment (weights, keys and values), and the GPU's table of its
            residents and graphs of its decode steps.
        prompt_workspace: Beside a GPU, what passes of more than LEAST_CHUNK_TOKENS take besides; residents lend it.
        expert: The largest expert, which a slot for streaming holds.
        experts: All experts, each as large as it is.
        on_disk: Whether they are kept in a file instead of RAM.
        host_dense: Weights outside the experts that stay in RAM beside a GPU.
        engine: RAM of the process besides.
        slots: For streaming.
    """

    dense: int
    kv: int
    workspace: int
    expert: int
    experts: int
    on_disk: bool = False
    host_dense: int = 0
    engine: int = 0
    slots: int = STAGING_SLOTS
    prompt_workspace: int = 0

    @classmethod
    def of(
        cls,
        model: ModelConfig,
        config: EngineConfig,
        device: PlannedDevice = "cuda",
        kernels: str = TORCH_KERNELS,
        *,
        gpu_kernels: bool = True,
    ) -> Needs:
        """Work them out.

        Args:
            model: Its shape and formats.
            config: Context, prompt chunks, and where the experts are kept.
            device: Where the dense part lives.
            kernels: As in `PlanningInputs`.
            gpu_kernels: Likewise.
        """
        unpacking = unpacking_bytes(model, device, kernels, gpu_kernels=gpu_kernels)

        def computing(tokens: int) -> int:
            """In passes of so many tokens; one buffer serves both, as nothing is unpacked while a launch works."""
            grouping = grouping_bytes(model, device, tokens, gpu_kernels=gpu_kernels)
            moment = max(unpacking, grouping, launching_bytes(model, device))
            return workspace_bytes(model, replace(config, prefill_chunk_tokens=tokens)) + moment

        chunk = planned_chunk_tokens(model, config)
        standing = chunk if device == "cpu" else min(chunk, LEAST_CHUNK_TOKENS)
        return cls(
            dense=held_dense_bytes(model, device, kernels, gpu_kernels=gpu_kernels),
            kv=model.kv_bytes_per_token(config.kv_precision) * planned_context_tokens(model, config),
            workspace=computing(standing)
            + table_bytes(model, device)
            + cache_slice_bytes(model, config, device, kernels)
            + step_bytes(model, device, config.kv_precision),
            expert=model.expert_bytes,
            experts=model.experts_bytes,
            on_disk=config.experts_on_disk,
            host_dense=host_dense_bytes(model, device, gpu_kernels=gpu_kernels),
            engine=engine_bytes(model, device),
            slots=staging_slots_of(model),
            prompt_workspace=computing(chunk) - computing(standing),
        )

    @property
    def fixed(self) -> int:
        """What must be there whatever the experts do, while a long prompt is read."""
        return self.dense + self.kv + self.workspace + self.prompt_workspace

    @property
    def everything(self) -> int:
        """With every expert; nothing is left to stream."""
        return self.fixed + self.experts

    @property
    def least(self) -> int:
        """The least that works: no resident and slots to stream through, or all experts where that is less."""
        return min(self.fixed + self.slots * self.expert, self.everything)

    def resident_room(self, room: int) -> int:
        """Bytes for residents out of so much room, which is at least `least`; slots for streaming come first.

        Where not all have room, some lend a long prompt its workspace and are streamed meanwhile: never do all live
        in VRAM then, which would leave no slots for that.
        """
        if room >= self.everything:
            return self.experts
        return min(room - self.least + self.prompt_workspace, self.experts - 1)

    def lent(self, resident_bytes: int) -> int:
        """Of a long prompt's workspace, what so many bytes of residents lend: nothing where all experts live there."""
        return 0 if resident_bytes == self.experts else min(resident_bytes, self.prompt_workspace)

    def terms(self, resident_bytes: int, margin: int) -> dict[str, int]:
        """VRAM by term while a reply is written; nothing is streamed where every expert is resident."""
        staging = 0 if resident_bytes == self.experts else self.slots * self.expert
        terms = {
            "dense": self.dense,
            "kv": self.kv,
            "workspace": self.workspace + self.prompt_workspace - self.lent(resident_bytes),
            "experts": resident_bytes,
            "staging": staging,
            "margin": margin,
        }
        return terms | {"total": sum(terms.values())}


@dataclass(frozen=True, slots=True)
class Vram:
    """What a GPU offers.

    Attributes:
        total: All of it.
        used: By other programs.
        asked: The budget that was set; None for automatic.
        simulated: A simulated GPU has no driver to leave room for: its margin is small.
        reserve: Bytes that are left to other programs where the budget is automatic.
    """

    total: int
    used: int
    asked: int | None
    simulated: bool = False
    reserve: int = 0

    @classmethod
    def of(cls, config: EngineConfig, hardware: HardwareProfile) -> Vram:
        """The GPU that the settings name; all zero where there is none."""
        asked, reserve = config.vram_budget_bytes, config.vram_reserve_bytes
        device = planned_device(config, hardware)
        if device == "simulated":
            total, used = config.simulated_vram_bytes, hardware.simulated_used_bytes
            return cls(total=total, used=used, asked=asked, simulated=True, reserve=reserve)
        if device == "cpu" or hardware.gpu is None:
            return cls(total=0, used=0, asked=asked)
        gpu = hardware.gpu
        return cls(total=gpu.total_bytes, used=gpu.used_bytes, asked=asked, reserve=reserve)

    @property
    def free(self) -> int:
        """What the engine could have."""
        return max(0, self.total - self.used)

    @property
    def budget(self) -> int:
        """What it may have."""
        if self.asked is None:
            return max(0, self.total - max(self.used, self.reserve))
        return min(self.asked, self.free)

    @property
    def margin(self) -> int:
        """What it leaves free of its budget."""
        part = self.budget // MARGIN_PARTS
        return min(part, VRAM_MARGIN_BYTES) if self.simulated else max(part, VRAM_MARGIN_BYTES)

    @property
    def room(self) -> int:
        """What it may allocate; negative where the margin alone is too much."""
        return self.budget - self.margin

    def budget_for(self, needed: int) -> int:
        """The least budget with so much room."""
        with_part = -(-needed * MARGIN_PARTS // (MARGIN_PARTS - 1))
        with_fixed = needed + VRAM_MARGIN_BYTES
        return min(with_part, with_fixed) if self.simulated else max(with_part, with_fixed)


def host_terms(device: PlannedDevice, needs: Needs, vram_bytes: dict[str, int]) -> dict[str, int]:
    """RAM by term, with the total; a simulated GPU's memory is RAM too, and experts on disk are not.

    Args:
        device: Where the dense part lives.
        needs: What the model takes.
        vram_bytes: The VRAM terms of the same plan, {} without a GPU.
    """
    terms = {} if needs.on_disk else {"experts": needs.experts}
    if device == "cpu":
        terms |= {"dense": needs.dense, "kv": needs.kv, "workspace": needs.workspace}
    elif needs.host_dense:
        terms["dense"] = needs.host_dense
    if device == "simulated":
        terms["simulated_vram"] = vram_bytes["total"] - vram_bytes["margin"]
    terms["engine"] = needs.engine
    terms["total"] = sum(terms.values())
    return {"experts_on_disk": needs.experts, **terms} if needs.on_disk else terms


def ram_room(hardware: HardwareProfile) -> int:
    """RAM that may be taken: what is available, less breathing space for the app and the system."""
    low, high = RAM_MARGIN_BYTES
    return hardware.ram_available_bytes - min(high, max(low, hardware.ram_available_bytes // MARGIN_PARTS))
