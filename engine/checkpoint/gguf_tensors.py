"""From the tensors of a GGUF file to the engine's own names, each with its place, its shape and its format.

Names in the file: https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/constants.py. The experts of a layer
lie stacked in one tensor for each of gate, up and down, [E, rows, columns], or, in Mixtrals of before April 2024, one
tensor each. The architectures "llama" and "granitemoe" hold the rows of q and k in the order of the original LLaMA
code, where the two halves of a head alternate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from engine.checkpoint import tensor_names
from engine.checkpoint.families import FAMILIES
from engine.checkpoint.gguf_model import GgufModel
from engine.checkpoint.safetensors_file import MAX_TENSORS
from engine.checkpoint.tensor_names import ExpertPart, Shape, expert_bias, expert_shape, expert_tensor
from engine.checkpoint.tensor_reader import TensorEntry
from engine.checkpoint.untrusted import quote
from engine.config import ExpertFormats, ModelConfig
from engine.errors import CheckpointError, UnsupportedModelError
from engine.sentences import say

EMBEDDING, HEAD = "token_embd.weight", "output.weight"
EXPERT_PARTS: tuple[tuple[str, ExpertPart], ...] = (("gate", "w1"), ("up", "w3"), ("down", "w2"))

_NAMES: Mapping[str, str] = MappingProxyType(
    {
        tensor_names.EMBEDDING: EMBEDDING,
        tensor_names.FINAL_NORM: "output_norm.weight",
        tensor_names.HEAD: HEAD,
        "input_layernorm.weight": "attn_norm.weight",
        "self_attn.q_proj.weight": "attn_q.weight",
        "self_attn.k_proj.weight": "attn_k.weight",
        "self_attn.v_proj.weight": "attn_v.weight",
        "self_attn.o_proj.weight": "attn_output.weight",
        "self_attn.q_norm.weight": "attn_q_norm.weight",
        "self_attn.k_norm.weight": "attn_k_norm.weight",
        "self_attn.sinks": "attn_sinks.weight",
        "post_attention_layernorm.weight": "ffn_norm.weight",
        "block_sparse_moe.gate.weight": "ffn_gate_inp.weight",
        "block_sparse_moe.gate.bias": "ffn_gate_inp.bias",
        tensor_names.FINAL_NORM_BIAS: "output_norm.bias",
        tensor_names.HEAD_BIAS: "output.bias",
        "input_layernorm.bias": "attn_norm.bias",
        "post_attention_layernorm.bias": "ffn_norm.bias",
        "self_attn.o_proj.bias": "attn_output.bias",
        "self_attn.q_proj.bias": "attn_q.bias",
        "self_attn.k_proj.bias": "attn_k.bias",
        "self_attn.v_proj.bias": "attn_v.bias",
        "block_sparse_moe.shared_expert.w1.weight": "ffn_gate_shexp.weight",
        "block_sparse_moe.shared_expert.w3.weight": "ffn_up_shexp.weight",
        "block_sparse_moe.shared_expert.w2.weight": "ffn_down_shexp.weight",
        "block_sparse_moe.shared_expert_gate.weight": "ffn_gate_inp_shexp.weight",
    }
)
LONG_FACTORS, SHORT_FACTORS = "rope_factors_long.weight", "rope_factors_short.weight"
_ROPE_FACTORS = ("rope_freqs.weight", LONG_FACTORS, SHORT_FACTORS)
_IGNORED_SUFFIX = ".attn_rot_embd.weight"
_DOWNLOAD = say("Download the model again from its publisher.")


def map_tensors(model: GgufModel, config: ModelConfig) -> dict[str, TensorEntry]:
    """Every tensor of a model by the engine's name.

    Args:
        model: The file's headers.
        config: The shape that its metadata asks for; formats are not looked at.

    Raises:
        CheckpointError: A tensor is missing or has another shape.
        UnsupportedModelError: There is a tensor that this engine would leave out of the computation.
    """
    if config.total_experts * len(EXPERT_PARTS) > MAX_TENSORS:
        raise CheckpointError(
            say(
                "{file} has {number} experts, more than can be right.",
                file=quote(model.path.name),
                number=config.total_experts,
            ),
            say("Get the model from its publisher."),
        )
    left = dict(model.tensors)
    mapped: dict[str, TensorEntry] = {}
    for name, shape in tensor_names.dense_tensors(config):
        mapped[name] = _take(model, left, name_in_gguf(config.family, name), shape)
    for layer in range(config.layers):
        if FAMILIES[config.family].rows_alternate:
            _mark_permuted(mapped, tensor_names.attention(layer, "q"), config.heads)
            _mark_permuted(mapped, tensor_names.attention(layer, "k"), config.kv_heads)
        for word, part in EXPERT_PARTS:
            shape = expert_shape(config, part)
            for expert, entry in enumerate(
                _take_experts(model, left, f"blk.{layer}.ffn_{word}", config.experts, shape)
            ):
                mapped[expert_tensor(layer, expert, part)] = entry
            if config.traits.clamped_gate:
                stack = _take(model, left, f"blk.{layer}.ffn_{word}_exps.bias", (config.experts, shape[0]))
                for expert, entry in enumerate(_cut(stack, config.experts, shape[:1])):
                    mapped[expert_bias(layer, expert, part)] = entry
    for name in left:
        _refuse_unknown(model, config, name)
    return mapped


def expert_formats(config: ModelConfig, tensors: dict[str, TensorEntry]) -> tuple[ExpertFormats, ...]:
    """Per layer the formats of gate, up and down.

    Raises:
        UnsupportedModelError: The experts of a layer differ in format.
    """
    layers: list[ExpertFormats] = []
    for layer in range(config.layers):
        formats = []
        for word, part in EXPERT_PARTS:
            entries = [tensors[expert_tensor(layer, expert, part)] for expert in range(config.experts)]
            odd = next((entry for entry in entries if entry.format != entries[0].format), None)
            if odd is not None:
                raise UnsupportedModelError(
                    say(
                        "The {word} tensors of layer {layer}'s experts are stored as {format} and as {other}.",
                        word=word,
                        layer=layer,
                        format=entries[0].format,
                        other=odd.format,
                    ),
                    say("Choose a file that holds a layer's experts in one format."),
                )
            formats.append(entries[0].format)
        layers.append((formats[0], formats[1], formats[2]))
    return tuple(layers)


def name_in_gguf(family: str, name: str) -> str:
    """What a GGUF file of a family calls a tensor outside the experts."""
    if name in _NAMES:
        return _NAMES[name]
    layer, _, rest = name.removeprefix("model.layers.").partition(".")
    named = _NAMES[rest]
    for usual, own in FAMILIES[family].gguf_names:
        named = named.replace(usual, own)
    return f"blk.{layer}.{named}"


def _take(model: GgufModel, left: dict[str, TensorEntry], name: str, shape: Shape) -> TensorEntry:
    """Take one tensor out of those that are left."""
    entry = left.pop(name, None)
    if entry is None:
        raise CheckpointError(
            say("Tensor {name} is missing from {file}.", name=quote(name), file=quote(model.path.name)), _DOWNLOAD
        )
    if entry.shape == shape:
        return entry
    if _without_ones(entry.shape) != _without_ones(shape):
        raise CheckpointError(
            say(
                "Tensor {name} in {file} has shape {shape}, the file's metadata asks for {wanted}.",
                name=quote(name),
                file=quote(entry.file.name),
                shape=quote(list(entry.shape)),
                wanted=quote(list(shape)),
            ),
            _DOWNLOAD,
        )
    return replace(entry, shape=shape)


def _without_ones(shape: Shape) -> Shape:
    """A shape without leading dimensions of 1, which some writers leave out."""
    first = next((index for index, size in enumerate(shape) if size != 1), len(shape))
    return shape[first:]


def _take_experts(
    model: GgufModel, left: dict[str, TensorEntry], prefix: str, experts: int, shape: Shape
) -> list[TensorEntry]:
    """One entry for each expert's matrix, out of a stack or of one tensor each."""
    if f"{prefix}.0.weight" in left:
        return [_take(model, left, f"{prefix}.{expert}.weight", shape) for expert in range(experts)]
    stack = _take(model, left, f"{prefix}_exps.weight", (experts, *shape))
    return _cut(stack, experts, shape)


def _cut(stack: TensorEntry, experts: int, shape: Shape) -> list[TensorEntry]:
    """Equal parts of a stack."""
    size = stack.nbytes // experts
    return [
        TensorEntry(stack.name, stack.format, shape, stack.file, stack.offset + expert * size, size)
        for expert in range(experts)
    ]


def _mark_permuted(mapped: dict[str, TensorEntry], name: str, heads: int) -> None:
    """Say that the rows of a tensor are to be put in order."""
    mapped[name] = replace(mapped[name], permuted_heads=heads)


def _refuse_unknown(model: GgufModel, config: ModelConfig, name: str) -> None:
    """Refuse a tensor that would change what the model computes."""
    read_already = config.traits.long_rope is not None and name in (LONG_FACTORS, SHORT_FACTORS)
    if name.endswith(_IGNORED_SUFFIX) or read_already:
        return
    if name in _ROPE_FACTORS:
        raise UnsupportedModelError(
            say(
                "{file} holds {name}: factors for a scaled rotary embedding, of which only the plain kind is "
                "supported.",
                file=quote(model.path.name),
                name=quote(name),
            ),
            say("Choose the model without an extended context."),
        )
    raise UnsupportedModelError(
        say(
            "{file} holds tensor {name}, which is not part of a {family} model as this engine runs it.",
            file=quote(model.path.name),
            name=quote(name),
            family=config.family,
        ),
        say("Choose another conversion of the model."),
    )
