"""Costs before a model was measured: from the machine's own speed, from a simulated GPU's, or careful textbook ones."""

from __future__ import annotations

from dataclasses import replace

from engine.config import SIMULATED_LAUNCH_S, EngineConfig, ModelConfig
from engine.experts.cost_model import planned_threads
from engine.experts.footprint import PlannedDevice, has_blocks, read_dense_bytes
from engine.hardware import HardwareProfile, MachineSpeed
from engine.messages import TORCH_KERNELS, CostCurve, CostModel

# What our kernels reach of what a machine does at its best (`MachineSpeed`): experts, the matrices around them, keys
# and values; as phases of decode showed with two shapes on two cores of a Zen 5.
EXPERTS_RAM_SHARE, DENSE_RAM_SHARE, CACHE_RAM_SHARE = 0.9, 0.85, 0.6
BLOCKS_INT8_SHARE, FLOATS_INT8_SHARE = 0.62, 0.15
ONE_THREAD_RAM_SHARE = 0.6  # of what all threads read together
CACHED_WEIGHTS_BYTES = 32 << 20  # of a whole model that stays in a cache, from where our kernels read
CACHED_SHARE = 0.45  # of what is to be had there: then they wait for their own arithmetic
OWN_CALL_S = 2e-6  # of an expert that runs in the decoder's call, or of a layer around them
COLUMN_S = 8e-9  # of the residual stream, in a layer: norms, rotation, waiting for each other
ASSUMED_TOKEN_S, ASSUMED_WORD_S = 3e-5, 4.5e-9  # between two tokens, and for each word of the vocabulary

# Textbook numbers, on the low side: a plan made from them promises less than the machine gives.
ASSUMED_RAM_BYTES_PER_S_PER_THREAD = 10e9
ASSUMED_RAM_BYTES_PER_S = 20e9
ASSUMED_CPU_FLOPS_PER_THREAD = 30e9
ASSUMED_CPU_CALL_S = 20e-6
ASSUMED_LINK_BYTES_PER_S = 12e9
ASSUMED_GPU_BYTES_PER_S = 300e9
ASSUMED_GPU_FLOPS = 10e12
ASSUMED_GPU_CALL_S = 20e-6
ASSUMED_COPY_CALL_S = 20e-6
# Block formats that torch unpacks before it multiplies, however few the tokens.
ASSUMED_CPU_UNPACKING_WEIGHTS_PER_S_PER_THREAD = 100e6
ASSUMED_GPU_UNPACKING_WEIGHTS_PER_S = 5e9


def assumed_costs(
    model: ModelConfig,
    hardware: HardwareProfile,
    config: EngineConfig,
    kernels: str = TORCH_KERNELS,
    speed: MachineSpeed | None = None,
) -> CostModel:
    """Costs for a plan before the model was measured: from the machine's own speed, else careful textbook ones.

    Args:
        model: The model's shape.
        hardware: The machine; its cores, and whether it has a GPU.
        config: Which device is asked for, the threads, and the speeds of a simulated GPU (taken exactly).
        kernels: As in `PlanningInputs`.
        speed: What the CPU does with these kernels, where that is known.
    """
    threads = planned_threads(model, hardware, config)
    token_s = ASSUMED_TOKEN_S + ASSUMED_WORD_S * model.vocab_size
    alone = config.device == "cpu" or (config.device == "auto" and hardware.gpu is None)
    if speed is not None and kernels != TORCH_KERNELS:
        read = _read_bytes_per_s(speed, model, threads)
        cpu_expert, dense_s = _costs_at(
            speed, read, model, kernels, threads, OWN_CALL_S if alone else ASSUMED_CPU_CALL_S
        )
        key_s = model.kv_bytes_per_token(config.kv_precision) / model.layers / (CACHE_RAM_SHARE * read)
    else:
        cpu_expert, dense_s = _textbook_costs(model, kernels, threads)
        key_s = 0.0
    if config.device == "simulated":
        return simulated_gpu_costs(model, config, cpu_expert)
    if config.device == "cpu" or hardware.gpu is None:
        return CostModel(cpu_expert, None, None, None, dense_s, attention_key_s=key_s, token_s=token_s)
    gpu_expert = _roofline(model, ASSUMED_GPU_BYTES_PER_S, ASSUMED_GPU_FLOPS, ASSUMED_GPU_CALL_S)
    return CostModel(
        cpu_expert=cpu_expert,
        gpu_expert=_with_unpacking(model, gpu_expert, ASSUMED_GPU_UNPACKING_WEIGHTS_PER_S),
        weight_copy=CostCurve(0.0, _mean_expert_bytes(model) / ASSUMED_LINK_BYTES_PER_S, ASSUMED_COPY_CALL_S),
        activation_copy=CostCurve(0.0, _activation_bytes(model) / ASSUMED_LINK_BYTES_PER_S, 2 * ASSUMED_COPY_CALL_S),
        dense_layer_s=dense_layer_bytes(model, "cuda") / ASSUMED_GPU_BYTES_PER_S + 10 * ASSUMED_GPU_CALL_S,
        token_s=token_s,
        # As if the CPU's experts took all that RAM gives.
        copy_drag=min(1.0, ASSUMED_LINK_BYTES_PER_S * cpu_expert.floor_s / _mean_expert_bytes(model)),
    )


def _read_bytes_per_s(speed: MachineSpeed, model: ModelConfig, threads: int) -> float:
    """How fast some threads read a model's weights, from memory or from a cache."""
    cached = model.dense_bytes + model.experts_bytes <= CACHED_WEIGHTS_BYTES
    read = max(speed.read_bytes_per_s, CACHED_SHARE * speed.cached_bytes_per_s) if cached else speed.read_bytes_per_s
    return read * (ONE_THREAD_RAM_SHARE if threads == 1 < speed.threads else 1.0)


def _costs_at(
    speed: MachineSpeed, read: float, model: ModelConfig, kernels: str, threads: int, call_s: float
) -> tuple[CostCurve, float]:
    """An expert on the CPU, and one layer around them, on a machine that reads so many bytes per second."""
    int8 = speed.int8_operations_per_s * threads / speed.threads
    share = BLOCKS_INT8_SHARE if has_blocks(model) else FLOATS_INT8_SHARE
    dense_s = (
        dense_layer_bytes(model, "cpu", kernels) / (DENSE_RAM_SHARE * read) + OWN_CALL_S + COLUMN_S * model.hidden_size
    )
    return _roofline(model, EXPERTS_RAM_SHARE * read, share * int8, call_s), dense_s


def _textbook_costs(model: ModelConfig, kernels: str, threads: int) -> tuple[CostCurve, float]:
    """The same on a slow machine."""
    ram_bytes_per_s = min(ASSUMED_RAM_BYTES_PER_S, threads * ASSUMED_RAM_BYTES_PER_S_PER_THREAD)
    cpu_expert = _roofline(model, ram_bytes_per_s, threads * ASSUMED_CPU_FLOPS_PER_THREAD, ASSUMED_CPU_CALL_S)
    if kernels == TORCH_KERNELS:
        cpu_expert = _with_unpacking(model, cpu_expert, threads * ASSUMED_CPU_UNPACKING_WEIGHTS_PER_S_PER_THREAD)
    return cpu_expert, dense_layer_bytes(model, "cpu", kernels) / ram_bytes_per_s + ASSUMED_CPU_CALL_S


def simulated_gpu_costs(
    model: ModelConfig, config: EngineConfig, cpu_expert: CostCurve, source: str = "assumed"
) -> CostModel:
    """The exact curves of the simulated GPU, beside a real CPU.

    Args:
        model: The model's shape.
        config: Its `simulated_*` fields are the GPU: an expert takes max(bytes / memory speed, operations / flops),
            a copy bytes / link speed, and each of them one launch.
        cpu_expert: The CPU's curve, measured or assumed.
        source: Where `cpu_expert` comes from.
    """
    link = config.simulated_link_bytes_per_s
    return CostModel(
        cpu_expert=cpu_expert,
        gpu_expert=_roofline(model, config.simulated_memory_bytes_per_s, config.simulated_flops, SIMULATED_LAUNCH_S),
        weight_copy=CostCurve(0.0, _mean_expert_bytes(model) / link, SIMULATED_LAUNCH_S),
        activation_copy=CostCurve(0.0, _activation_bytes(model) / link, 2 * SIMULATED_LAUNCH_S),
        dense_layer_s=dense_layer_bytes(model, "simulated") / config.simulated_memory_bytes_per_s,
        source=source,
    )


def _roofline(model: ModelConfig, bytes_per_s: float, flops: float, overhead_s: float) -> CostCurve:
    """One expert: its bytes are read once, every token multiplies and adds each weight once."""
    return CostCurve(_mean_expert_bytes(model) / bytes_per_s, 2 * model.expert_parameters / flops, overhead_s)


def _with_unpacking(model: ModelConfig, curve: CostCurve, weights_per_s: float) -> CostCurve:
    """An expert of a block format is unpacked first, at some weights per second."""
    if not has_blocks(model):
        return curve
    return replace(curve, overhead_s=curve.overhead_s + model.expert_parameters / weights_per_s)


def _mean_expert_bytes(model: ModelConfig) -> float:
    """Bytes of one expert; layers may differ in format."""
    return model.experts_bytes / (model.layers * model.experts)


def _activation_bytes(model: ModelConfig) -> int:
    """Bytes of one token's hidden state, there and back."""
    return 2 * model.hidden_size * model.dtype_bytes


def dense_layer_bytes(model: ModelConfig, device: PlannedDevice, kernels: str = TORCH_KERNELS) -> float:
    """Bytes outside the experts that one decode layer reads, with its share of lm_head; the embedding is a look-up.

    Args:
        model: The model's shape.
        device: Where the dense part lives.
        kernels: As in `PlanningInputs`.
    """
    return read_dense_bytes(model, device, kernels) / model.layers
