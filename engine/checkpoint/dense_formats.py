"""How much of a model's dense weights is stored in blocks: what placement must know of them, without reading any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from engine.checkpoint.tensor_names import EMBEDDING, Shape
from engine.config import ModelConfig
from engine.quant.formats import FORMATS
from engine.traits import DenseBlocks

Stored = tuple[str, str, Shape]  # the engine's name of a tensor, its format, its shape


def with_dense_formats(config: ModelConfig, tensors: Iterable[Stored]) -> ModelConfig:
    """The same model, with what its tensors outside the experts take.

    Args:
        config: Its shape.
        tensors: Those tensors.
    """
    packed_bytes, embedding = 0, None
    weights: Counter[str] = Counter()
    in_blocks: Counter[str] = Counter()
    for name, stored, shape in tensors:
        # norms and biases are float32 in memory
        size = FORMATS["F32" if len(shape) == 1 else stored].packed_bytes(shape[0] if len(shape) > 1 else 1, shape[-1])
        packed_bytes += size
        if FORMATS[stored].is_float:
            continue
        if name == EMBEDDING:
            embedding = stored
        if name != EMBEDDING or config.tie_word_embeddings:
            weights[stored] += shape[0] * shape[-1]
            in_blocks[stored] += size
    return replace(
        config,
        dense_packed_bytes=packed_bytes,
        dense_blocks=tuple(DenseBlocks(stored, weights[stored], in_blocks[stored]) for stored in sorted(weights)),
        embedding_format=embedding,
    )
