"""What the tensors of a Mixtral are called on disk, and what shape each has.

The layout is the one that Mistral publishes and `save_pretrained` of transformers 5 still writes: one tensor per
expert and projection. Letters: H hidden, I intermediate, E experts, V vocabulary, N heads, K key/value heads, D head
width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from engine.config import ModelConfig

Shape = tuple[int, ...]
ExpertPart = Literal["w1", "w2", "w3"]
AttentionPart = Literal["q", "k", "v", "o"]

EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
HEAD = "lm_head.weight"
EXPERT_PARTS: tuple[ExpertPart, ...] = ("w1", "w2", "w3")


def attention(layer: int, part: AttentionPart) -> str:
    """A projection of self-attention: q [N*D, H], k and v [K*D, H], o [H, N*D]."""
    return f"model.layers.{layer}.self_attn.{part}_proj.weight"


def attention_norm(layer: int) -> str:
    """The norm before attention [H]."""
    return f"model.layers.{layer}.input_layernorm.weight"


def expert_norm(layer: int) -> str:
    """The norm before the experts [H]."""
    return f"model.layers.{layer}.post_attention_layernorm.weight"


def router(layer: int) -> str:
    """The router [E, H]."""
    return f"model.layers.{layer}.block_sparse_moe.gate.weight"


def expert_tensor(layer: int, expert: int, part: ExpertPart) -> str:
    """A matrix of one expert: w1 is gate [I, H], w3 is up [I, H], w2 is down [H, I]."""
    return f"model.layers.{layer}.block_sparse_moe.experts.{expert}.{part}.weight"


def is_expert(name: str) -> bool:
    """Whether a tensor that `expected_tensors` names belongs to an expert."""
    return ".block_sparse_moe.experts." in name


def expected_tensors(config: ModelConfig) -> Iterator[tuple[str, Shape]]:
    """Every tensor that a Mixtral of this shape needs, with its shape; experts included, lazily."""
    wide = config.hidden_size
    yield EMBEDDING, (config.vocab_size, wide)
    yield FINAL_NORM, (wide,)
    if not config.tie_word_embeddings:
        yield HEAD, (config.vocab_size, wide)
    for layer in range(config.layers):
        yield from _dense_layer(config, layer)
        for expert in range(config.experts):
            for part in EXPERT_PARTS:
                yield expert_tensor(layer, expert, part), expert_shape(config, part)


def expert_shape(config: ModelConfig, part: ExpertPart) -> Shape:
    """The shape of one matrix of an expert."""
    wide, narrow = config.hidden_size, config.intermediate_size
    return (wide, narrow) if part == "w2" else (narrow, wide)


def _dense_layer(config: ModelConfig, layer: int) -> Iterator[tuple[str, Shape]]:
    """The tensors of one layer outside its experts."""
    wide = config.hidden_size
    q_width, kv_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
    yield attention_norm(layer), (wide,)
    yield attention(layer, "q"), (q_width, wide)
    yield attention(layer, "k"), (kv_width, wide)
    yield attention(layer, "v"), (kv_width, wide)
    yield attention(layer, "o"), (wide, q_width)
    yield expert_norm(layer), (wide,)
    yield router(layer), (config.experts, wide)
