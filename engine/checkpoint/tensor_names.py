"""What the engine calls a model's tensors, whatever file they lie in, and what shape each has.

The names are those of Mixtral as Mistral publishes it and `save_pretrained` of transformers 5 still writes it: one
tensor per expert and projection. A file of another family has names of its own for some: see `families`. Letters:
H hidden, I intermediate, E experts, V vocabulary, N heads, K key/value heads, D head width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from engine.checkpoint.families import FAMILIES
from engine.config import ModelConfig

Shape = tuple[int, ...]
ExpertPart = Literal["w1", "w2", "w3"]
AttentionPart = Literal["q", "k", "v", "o"]

EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
HEAD = "lm_head.weight"
FINAL_NORM_BIAS = "model.norm.bias"
HEAD_BIAS = "lm_head.bias"
EXPERT_PARTS: tuple[ExpertPart, ...] = ("w1", "w2", "w3")


def attention(layer: int, part: AttentionPart) -> str:
    """A projection of self-attention: q [N*D, H], k and v [K*D, H], o [H, N*D]."""
    return f"model.layers.{layer}.self_attn.{part}_proj.weight"


def attention_bias(layer: int, part: AttentionPart) -> str:
    """The bias of a projection, as long as that has rows, where the model has one."""
    return f"model.layers.{layer}.self_attn.{part}_proj.bias"


def attention_norm(layer: int) -> str:
    """The norm before attention [H]."""
    return f"model.layers.{layer}.input_layernorm.weight"


def expert_norm(layer: int) -> str:
    """The norm before the experts [H]."""
    return f"model.layers.{layer}.post_attention_layernorm.weight"


def attention_norm_bias(layer: int) -> str:
    """The bias of the norm before attention [H], where norms have one."""
    return f"model.layers.{layer}.input_layernorm.bias"


def expert_norm_bias(layer: int) -> str:
    """The bias of the norm before the experts [H], where norms have one."""
    return f"model.layers.{layer}.post_attention_layernorm.bias"


def query_norm(layer: int) -> str:
    """The norm of each query head [D], or of all together [N*D], where the model has one."""
    return f"model.layers.{layer}.self_attn.q_norm.weight"


def key_norm(layer: int) -> str:
    """The norm of each key head [D], or of all together [K*D], where the model has one."""
    return f"model.layers.{layer}.self_attn.k_norm.weight"


def router(layer: int) -> str:
    """The router [E, H]."""
    return f"model.layers.{layer}.block_sparse_moe.gate.weight"


def router_bias(layer: int) -> str:
    """The router's bias [E], where the model has one."""
    return f"model.layers.{layer}.block_sparse_moe.gate.bias"


def sinks(layer: int) -> str:
    """The score of each query head that no key has [N], where the model has them."""
    return f"model.layers.{layer}.self_attn.sinks"


def expert_tensor(layer: int, expert: int, part: ExpertPart) -> str:
    """A matrix of one expert: w1 is gate [I, H], w3 is up [I, H], w2 is down [H, I]."""
    return f"model.layers.{layer}.block_sparse_moe.experts.{expert}.{part}.weight"


def expert_bias(layer: int, expert: int, part: ExpertPart) -> str:
    """The bias of a matrix of one expert, as long as that has rows, where the model has them."""
    return f"model.layers.{layer}.block_sparse_moe.experts.{expert}.{part}.bias"


def shared_expert(layer: int, part: ExpertPart) -> str:
    """A matrix of the expert that every token visits, shaped as an expert's."""
    return f"model.layers.{layer}.block_sparse_moe.shared_expert.{part}.weight"


def shared_gate(layer: int) -> str:
    """What decides on the weight of that expert [1, H]."""
    return f"model.layers.{layer}.block_sparse_moe.shared_expert_gate.weight"


def is_expert(name: str) -> bool:
    """Whether a tensor that `expected_tensors` names belongs to an expert."""
    return ".block_sparse_moe.experts." in name


def is_expert_matrix(name: str) -> bool:
    """Whether it is a matrix of one."""
    return is_expert(name) and name.endswith(".weight")


def name_in_file(family: str, name: str) -> str:
    """What a safetensors file of a family calls a tensor."""
    for ours, theirs in FAMILIES[family].names:
        name = name.replace(ours, theirs)
    return name


def expected_tensors(config: ModelConfig) -> Iterator[tuple[str, Shape]]:
    """Every tensor that a model of this shape needs, with its shape; experts included, lazily.

    Experts alone where transformers' decoder runs the model, which knows best what else it needs.
    """
    if config.compatibility is None:
        yield from dense_tensors(config)
    for layer in range(config.layers):
        for expert in range(config.experts):
            for part in EXPERT_PARTS:
                yield expert_tensor(layer, expert, part), expert_shape(config, part)
                if config.traits.clamped_gate:
                    yield expert_bias(layer, expert, part), expert_shape(config, part)[:1]


def dense_tensors(config: ModelConfig) -> Iterator[tuple[str, Shape]]:
    """Every tensor outside the experts, with its shape."""
    wide = config.hidden_size
    yield EMBEDDING, (config.vocab_size, wide)
    yield FINAL_NORM, (wide,)
    if not config.tie_word_embeddings:
        yield HEAD, (config.vocab_size, wide)
    if config.traits.head_bias:
        yield HEAD_BIAS, (config.vocab_size,)
    if config.traits.layer_norm:
        yield FINAL_NORM_BIAS, (wide,)
    for layer in range(config.layers):
        yield from _dense_layer(config, layer)


def expert_shape(config: ModelConfig, part: ExpertPart) -> Shape:
    """The shape of one matrix of an expert."""
    return _part_shape(config.hidden_size, config.intermediate_size, part)


def _part_shape(wide: int, narrow: int, part: ExpertPart) -> Shape:
    """Down [wide, narrow], gate and up [narrow, wide]."""
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
    traits = config.traits
    if traits.layer_norm:
        yield attention_norm_bias(layer), (wide,)
        yield expert_norm_bias(layer), (wide,)
    if traits.qkv_bias:
        yield attention_bias(layer, "q"), (q_width,)
        yield attention_bias(layer, "k"), (kv_width,)
        yield attention_bias(layer, "v"), (kv_width,)
    if traits.output_bias:
        yield attention_bias(layer, "o"), (wide,)
    if config.query_key_norm:
        yield query_norm(layer), (q_width if traits.wide_norms else config.head_dim,)
        yield key_norm(layer), (kv_width if traits.wide_norms else config.head_dim,)
    if traits.sinks:
        yield sinks(layer), (config.heads,)
    yield expert_norm(layer), (wide,)
    yield router(layer), (config.experts, wide)
    if traits.router_bias:
        yield router_bias(layer), (config.experts,)
    if traits.shared_size:
        for part in EXPERT_PARTS:
            yield shared_expert(layer, part), _part_shape(wide, traits.shared_size, part)
        if traits.shared_gated:
            yield shared_gate(layer), (1, wide)
