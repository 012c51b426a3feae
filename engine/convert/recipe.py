"""Which format each tensor of a converted model gets."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

from engine.checkpoint.tensor_names import EMBEDDING, HEAD
from engine.quant.formats import FORMATS

ConversionFormat = Literal["q4", "q8", "bf16"]
CONVERSION_FORMATS: tuple[ConversionFormat, ...] = get_args(ConversionFormat)
DEFAULT_FORMAT: ConversionFormat = "q4"

# By preference; the first whose blocks divide a row is taken. Without blocks that fit a matrix stays in floats.
_MATRICES: Mapping[ConversionFormat, tuple[str, ...]] = MappingProxyType(
    {"q4": ("Q4_K", "Q4_1"), "q8": ("Q8_0",), "bf16": ()}
)
_VOCABULARY: Mapping[ConversionFormat, tuple[str, ...]] = MappingProxyType(
    {"q4": ("Q8_0",), "q8": ("Q8_0",), "bf16": ()}
)
_SMALL = (".block_sparse_moe.gate.weight", ".shared_expert_gate.weight", ".bias")


def target_format(conversion: ConversionFormat, name: str, shape: tuple[int, ...]) -> str:
    """The format of a tensor: norms, biases and routers stay in full floats, the vocabulary's matrices take 8 bits.

    Args:
        conversion: What the user asked for.
        name: The engine's name for the tensor.
        shape: Its dimensions.
    """
    if len(shape) == 1 or name.endswith(_SMALL):
        return "F32"
    wanted = (_VOCABULARY if name in (EMBEDDING, HEAD) else _MATRICES)[conversion]
    return next((name for name in wanted if shape[-1] % FORMATS[name].block_columns == 0), "BF16")
