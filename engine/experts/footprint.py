"""How large a model's weights are in memory, which depends on what runs them.

Our own kernels multiply packed weights as they are. Torch cannot: outside the experts it holds floats, and experts in a
block format are unpacked each time before they run. On a GPU with our kernels the embedding stays in RAM, as rows are
looked up and not multiplied, unless it is lm_head too. Pure arithmetic.
"""

from __future__ import annotations

from typing import Literal

from engine.config import KvPrecision, ModelConfig
from engine.kernels.grouping import group_bytes, group_visits
from engine.messages import TORCH_KERNELS
from engine.quant.formats import FORMATS, TILE_ROWS

PlannedDevice = Literal["cuda", "cpu", "simulated"]

# Unpacked at once (`engine.kernels.packed` does it), and what a weight takes meanwhile besides its float where torch
# does it.
UNPACKED_WEIGHTS: dict[PlannedDevice, int] = {"cpu": 1 << 21, "simulated": 1 << 21, "cuda": 1 << 24}
UNPACKING_BYTES_PER_WEIGHT = 8
LOOKED_UP_STRIPS = 64  # of an embedding in blocks that go to the GPU at once
LAUNCHED_TOKENS = 16  # at most, of one launch of GPU kernels
# Decode steps in CUDA graphs (`engine.model.gpu_steps`): launches of a layer, what the driver keeps for each of them,
# and the workspace of torch's products on the stream where they are captured.
STEP_LAUNCHES, LAUNCH_BYTES, CAPTURE_BYTES = 20, 64 << 10, 32 << 20
ATTENTION_BLOCKS = 128  # that the keys are shared out among


def has_blocks(model: ModelConfig) -> bool:
    """Whether any expert is stored in a block format."""
    return not all(FORMATS[name].is_float for layer in model.expert_formats for name in layer)


def unpacking_bytes(model: ModelConfig, device: PlannedDevice, kernels: str, *, gpu_kernels: bool = True) -> int:
    """Where weights are unpacked before they are multiplied, what one slice of a matrix takes meanwhile.

    Args:
        model: Its shape and formats.
        device: Where the dense part lives.
        kernels: As in `PlanningInputs`.
        gpu_kernels: Likewise.
    """
    expert = model.hidden_size * model.intermediate_size if has_blocks(model) else 0
    if _packed_on_gpu(model, device, gpu_kernels):
        size = min(UNPACKED_WEIGHTS[device], max(expert, _largest_blocks(model))) * model.dtype_bytes
        return size + _strips_bytes(model, LOOKED_UP_STRIPS)
    if device == "cpu" and kernels != TORCH_KERNELS:
        return 0
    return min(UNPACKED_WEIGHTS[device], expert) * (model.dtype_bytes + UNPACKING_BYTES_PER_WEIGHT)


def _packed_on_gpu(model: ModelConfig, device: PlannedDevice, gpu_kernels: bool) -> bool:
    """Whether our kernels multiply dense weights on a GPU; transformers' decoder holds floats."""
    return device == "cuda" and gpu_kernels and model.compatibility is None


def _largest_blocks(model: ModelConfig) -> int:
    """Weights of the largest matrix outside the experts, if any are in blocks."""
    if not model.dense_blocks and model.embedding_format is None:
        return 0
    return model.hidden_size * max(model.vocab_size, model.heads * model.head_dim, model.traits.shared_size)


def _strips_bytes(model: ModelConfig, strips: int) -> int:
    """Bytes of so many strips of an embedding in blocks; 0 for floats."""
    if model.embedding_format is None:
        return 0
    return FORMATS[model.embedding_format].packed_bytes(strips * TILE_ROWS, model.hidden_size)


def pass_group_visits(model: ModelConfig, tokens: int) -> int:
    """Visits that the GPU's experts of a pass are launched with at once.

    Args:
        model: Its shape.
        tokens: Of the pass (T).
    """
    return group_visits(tokens, model.experts_per_token, *_expert_shape(model))


def _expert_shape(model: ModelConfig) -> tuple[int, int, int]:
    """Hidden and intermediate size, and bytes of a hidden number."""
    return model.hidden_size, model.intermediate_size, model.dtype_bytes


def grouping_bytes(model: ModelConfig, device: PlannedDevice, tokens: int, *, gpu_kernels: bool = True) -> int:
    """What experts with many tokens work in on a GPU.

    Args:
        model: Its shape and formats.
        device: Where the dense part lives.
        tokens: Of a pass of a prompt (T).
        gpu_kernels: As in `PlanningInputs`.
    """
    in_blocks = any(not any(FORMATS[name].is_float for name in layer) for layer in model.expert_formats)
    if device != "cuda" or not gpu_kernels or not in_blocks or model.traits.clamped_gate is not None:
        return 0
    return group_bytes(tokens, pass_group_visits(model, tokens), *_expert_shape(model))


def launching_bytes(model: ModelConfig, device: PlannedDevice) -> int:
    """What launches of few tokens work in on a GPU, all taken as fp32: hidden states, and the inside of each visit."""
    if device == "cpu":
        return 0
    visits = LAUNCHED_TOKENS * model.experts_per_token
    experts = LAUNCHED_TOKENS * model.hidden_size + visits * model.intermediate_size
    return 4 * max(experts, LAUNCHED_TOKENS * widest_columns(model))


def widest_columns(model: ModelConfig) -> int:
    """Columns of the widest matrix outside the experts."""
    return max(model.hidden_size, model.heads * model.head_dim, model.traits.shared_size)


def table_bytes(model: ModelConfig, device: PlannedDevice) -> int:
    """What a GPU looks its residents up in: an address for each expert."""
    return 0 if device == "cpu" else 8 * model.layers * model.experts


def held_dense_bytes(model: ModelConfig, device: PlannedDevice, kernels: str, *, gpu_kernels: bool = True) -> int:
    """Bytes outside the experts on the device: packed where our own kernels run them, else in the model's float type.

    Args:
        model: Its shape and formats.
        device: Where the dense part lives.
        kernels: As in `PlanningInputs`.
        gpu_kernels: Likewise.
    """
    if _packed_on_gpu(model, device, gpu_kernels):
        in_blocks = sum(blocks.weights for blocks in model.dense_blocks)
        floats = model.dense_parameters - model.looked_up_weights - in_blocks
        return floats * model.dtype_bytes + sum(blocks.packed_bytes for blocks in model.dense_blocks)
    if device == "cpu" and kernels != TORCH_KERNELS and model.dense_packed_bytes is not None:
        return model.dense_packed_bytes
    return model.dense_bytes


def host_dense_bytes(model: ModelConfig, device: PlannedDevice, *, gpu_kernels: bool = True) -> int:
    """Bytes outside the experts that stay in RAM beside a GPU: the embedding, where our kernels run there.

    Args:
        model: Its shape and formats.
        device: Where the dense part lives.
        gpu_kernels: As in `PlanningInputs`.
    """
    in_ram = _packed_on_gpu(model, device, gpu_kernels) and not model.tie_word_embeddings
    return model.embedding_bytes if in_ram else 0


def read_dense_bytes(model: ModelConfig, device: PlannedDevice, kernels: str, *, gpu_kernels: bool = True) -> float:
    """Bytes outside the experts that a decoded token reads: all but an embedding that is only looked up.

    Args:
        model: Its shape and formats.
        device: Where the dense part lives.
        kernels: As in `PlanningInputs`.
        gpu_kernels: Likewise.
    """
    held = held_dense_bytes(model, device, kernels, gpu_kernels=gpu_kernels)
    if _packed_on_gpu(model, device, gpu_kernels):
        return held
    return held * (1.0 - model.looked_up_weights / model.dense_parameters)


def graph_bytes(model: ModelConfig) -> int:
    """What CUDA graphs of all decode layers may take on a GPU."""
    return CAPTURE_BYTES + model.layers * STEP_LAUNCHES * LAUNCH_BYTES


def step_bytes(model: ModelConfig, device: PlannedDevice, precision: KvPrecision) -> int:
    """What decode steps work in on a GPU, with their graphs; all states taken as fp32, of one token."""
    if device != "cuda" or precision == "q8":
        return 0
    parts = model.heads * -(-ATTENTION_BLOCKS // model.kv_heads)
    states = 8 * model.hidden_size + 3 * (model.heads + model.kv_heads) * model.head_dim + 2 * model.experts
    inside = model.experts_per_token * model.intermediate_size + widest_columns(model)
    looked_up = TILE_ROWS * model.hidden_size if model.embedding_format else 0
    work = parts * (model.head_dim + 2) + states + inside + looked_up
    return graph_bytes(model) + 4 * work + _strips_bytes(model, 1)
