"""How large a model's weights are in memory, which depends on what runs them.

Our own kernels multiply packed weights as they are. Torch cannot: outside the experts it holds floats, and experts in a
block format are unpacked each time before they run. Pure arithmetic.
"""

from __future__ import annotations

from typing import Literal

from engine.config import KvPrecision, ModelConfig
from engine.messages import TORCH_KERNELS
from engine.quant.formats import FORMATS

PlannedDevice = Literal["cuda", "cpu", "simulated"]

# Unpacked at once (`engine.kernels.packed` does it), and what a weight takes meanwhile besides its float.
UNPACKED_WEIGHTS: dict[PlannedDevice, int] = {"cpu": 1 << 21, "simulated": 1 << 21, "cuda": 1 << 24}
UNPACKING_BYTES_PER_WEIGHT = 8
LAUNCHED_TOKENS = 16  # at most, of one launch of GPU kernels
# Decode steps in CUDA graphs (`engine.model.gpu_steps`): launches of a layer, what the driver keeps for each of them,
# and the workspace of torch's products on the stream where they are captured.
STEP_LAUNCHES, LAUNCH_BYTES, CAPTURE_BYTES = 16, 64 << 10, 32 << 20
ATTENTION_BLOCKS = 128  # that the keys are shared out among


def has_blocks(model: ModelConfig) -> bool:
    """Whether any expert is stored in a block format."""
    return not all(FORMATS[name].is_float for layer in model.expert_formats for name in layer)


def unpacking_bytes(model: ModelConfig, device: PlannedDevice, kernels: str) -> int:
    """Where experts are unpacked before they run, what one slice of a matrix takes meanwhile."""
    if not has_blocks(model) or (device == "cpu" and kernels != TORCH_KERNELS):
        return 0
    weights = min(UNPACKED_WEIGHTS[device], model.hidden_size * model.intermediate_size)
    return weights * (model.dtype_bytes + UNPACKING_BYTES_PER_WEIGHT)


def launching_bytes(model: ModelConfig, device: PlannedDevice) -> int:
    """What launches of few tokens work in on a GPU, all taken as fp32: hidden states, and the inside of each visit."""
    visits = LAUNCHED_TOKENS * model.experts_per_token
    return 0 if device == "cpu" else 4 * (LAUNCHED_TOKENS * model.hidden_size + visits * model.intermediate_size)


def table_bytes(model: ModelConfig, device: PlannedDevice) -> int:
    """What a GPU looks its residents up in: an address for each expert."""
    return 0 if device == "cpu" else 8 * model.total_experts


def held_dense_bytes(model: ModelConfig, device: PlannedDevice, kernels: str) -> int:
    """Bytes outside the experts: as packed where our own kernels run them, else in the model's float type."""
    if device == "cpu" and kernels != TORCH_KERNELS and model.dense_packed_bytes is not None:
        return model.dense_packed_bytes
    return model.dense_bytes


def graph_bytes(model: ModelConfig) -> int:
    """What CUDA graphs of all decode layers may take on a GPU."""
    return CAPTURE_BYTES + model.layers * STEP_LAUNCHES * LAUNCH_BYTES


def step_bytes(model: ModelConfig, device: PlannedDevice, precision: KvPrecision) -> int:
    """What decode steps work in on a GPU, with their graphs; all states taken as fp32, of one token."""
    if device != "cuda" or precision == "q8":
        return 0
    parts = model.heads * -(-ATTENTION_BLOCKS // model.kv_heads)
    states = 8 * model.hidden_size + 3 * (model.heads + model.kv_heads) * model.head_dim + 2 * model.experts
    inside = model.experts_per_token * model.intermediate_size
    return graph_bytes(model) + 4 * (parts * (model.head_dim + 2) + states + inside)
