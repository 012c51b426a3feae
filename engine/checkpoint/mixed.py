"""What a model's GGUF file holds where only its shape is known, and the mix of formats that the file is named after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from engine.checkpoint.dense_formats import Stored, with_dense_formats
from engine.checkpoint.gguf_config import BLOCK_DTYPE
from engine.checkpoint.gguf_tensors import EXPERT_PARTS, HEAD, name_in_gguf
from engine.checkpoint.tensor_names import EMBEDDING, dense_tensors, expert_shape
from engine.config import ExpertFormats, ModelConfig
from engine.quant.mixes import Place, tensor_format


def with_mix(config: ModelConfig, mix: str) -> ModelConfig:
    """The same model as llama.cpp's quantiser writes it.

    Args:
        config: Its shape, in floats.
        mix: A key of `engine.quant.mixes.MIXES`, not a float.
    """
    layers = tuple(_expert_formats(config, mix, layer) for layer in range(config.layers))
    mixed = replace(config, dtype=BLOCK_DTYPE, quantization=mix, expert_formats=layers)
    return with_dense_formats(mixed, _dense(config, mix))


def _expert_formats(config: ModelConfig, mix: str, layer: int) -> ExpertFormats:
    """The formats of gate, up and down in one layer."""
    gate, up, down = (
        tensor_format(mix, f"ffn_{word}_exps", expert_shape(config, part)[-1], _place(config, layer))
        for word, part in EXPERT_PARTS
    )
    return gate, up, down


def _dense(config: ModelConfig, mix: str) -> Iterator[Stored]:
    """Every tensor outside the experts with its format."""
    for name, shape in dense_tensors(config):
        # An embedding that makes the logits too gets the format of what makes them.
        named = HEAD if name == EMBEDDING and config.tie_word_embeddings else name_in_gguf(config.family, name)
        layer = int(named.split(".")[1]) if named.startswith("blk.") else 0
        rows = [size for size in shape if size != 1]
        stored = "F32" if len(rows) == 1 else tensor_format(mix, named, shape[-1], _place(config, layer))
        yield name, stored, shape


def _place(config: ModelConfig, layer: int) -> Place:
    return Place(layer, config.layers, config.experts, config.heads // config.kv_heads)
