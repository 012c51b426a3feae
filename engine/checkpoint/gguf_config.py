"""From the metadata and the tensors of a GGUF file to a model's shape.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. What llama.cpp would compute otherwise than this engine
is refused, also where the engine could load it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from engine.checkpoint.dense_formats import with_dense_formats
from engine.checkpoint.families import BY_GGUF_NAME, CHOOSE_SUPPORTED, FAMILIES, Family
from engine.checkpoint.fields import (
    MAX_EXPERTS,
    MAX_HEAD_DIM,
    MAX_HEADS,
    MAX_HIDDEN,
    MAX_INTERMEDIATE,
    MAX_LAYERS,
    MAX_NAME_CHARS,
    MAX_POSITIONS,
    MAX_ROPE_THETA,
    MAX_VOCAB,
    Fields,
    screen_name,
)
from engine.checkpoint.gguf_file import MetadataValue
from engine.checkpoint.gguf_model import GgufModel, stem
from engine.checkpoint.gguf_tensors import EMBEDDING, HEAD, LONG_FACTORS, SHORT_FACTORS, expert_formats, map_tensors
from engine.checkpoint.model_config import read_model_config
from engine.checkpoint.model_folder import CONFIG
from engine.checkpoint.tensor_names import is_expert, is_expert_matrix
from engine.checkpoint.tensor_reader import TensorEntry, TensorReader
from engine.checkpoint.untrusted import quote
from engine.checkpoint.yarn import MAX_FACTOR
from engine.config import DTYPE_FORMATS, MIN_CONTEXT_TOKENS, DTypeName, ModelConfig
from engine.errors import CheckpointError, UnsupportedModelError
from engine.quant.formats import FORMATS
from engine.sentences import say
from engine.traits import LongRope

ARCHITECTURE = "general.architecture"
DOWNLOAD_FROM_PUBLISHER = say("Download the model again from its publisher.")
CONVERTED = "rooftop.converted"  # the file's config and tokenizer lie beside it, as their publisher wrote them
DEFAULT_ROPE_THETA = 1e4
BLOCK_DTYPE: DTypeName = "bfloat16"  # beside weights in blocks

# general.file_type (llama_ftype) of the mixes that can hold supported formats alone; the floats are left out.
_MIXES: Mapping[int, str] = MappingProxyType(
    {2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L",
     14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 21: "Q2_K_S", 25: "IQ4_NL", 30: "IQ4_XS",
     38: "MXFP4"}
)  # fmt: skip
_GUESSED_MIX = 1024  # a flag in general.file_type
# Keys that change what is computed, and the values that do not.
_NEUTRAL: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "attention.clamp_kqv": (0.0,),
        "attention.max_alibi_bias": (0.0,),
        "attention.scale": (0.0,),
        "attn_logit_softcapping": (0.0,),
        "final_logit_softcapping": (0.0,),
        "embedding_scale": (0.0, 1.0),
        "residual_scale": (0.0, 1.0),
        "logit_scale": (0.0, 1.0),
        "expert_shared_count": (0,),
        "expert_group_count": (0, 1),
        "expert_weights_scale": (0.0, 1.0),
        "expert_gating_func": (0, 1),
        "leading_dense_block_count": (0,),
        "nextn_predict_layers": (0,),
        "rope.scale_linear": (0.0, 1.0),
    }
)


def read_gguf_config(model: GgufModel) -> tuple[ModelConfig, dict[str, TensorEntry]]:
    """The shape of a model and its tensors by the engine's names.

    Raises:
        CheckpointError: A key or a tensor is missing, or a number is outside its limits.
        UnsupportedModelError: A sound file of a model that this engine does not run.
    """
    converted = is_converted(model.path, model.metadata)
    config = _read_folder(model) if converted else _with_long_rope(model, _read_shape(model))
    tensors = map_tensors(model, config)
    experts = Counter(entry.format for name, entry in tensors.items() if is_expert_matrix(name))
    most_common = experts.most_common(1)[0][0]
    if all(FORMATS[entry.format].is_float for entry in tensors.values()):
        dtype = next(dtype for dtype, name in DTYPE_FORMATS.items() if name == most_common)
        return replace(config, dtype=dtype), tensors
    config = replace(
        config,
        dtype=BLOCK_DTYPE,
        quantization=_mix(model) or most_common,
        expert_formats=expert_formats(config, tensors),
    )
    dense = ((name, entry.format, entry.shape) for name, entry in tensors.items() if not is_expert(name))
    return with_dense_formats(config, dense), tensors


def is_converted(path: Path, metadata: Mapping[str, MetadataValue]) -> bool:
    """Whether a GGUF file holds the weights of the config.json beside it: then that one says more."""
    return metadata.get(CONVERTED) is True and (path.parent / CONFIG).is_file()


def _read_folder(model: GgufModel) -> ModelConfig:
    """The shape in the config.json beside a converted file."""
    return replace(read_model_config(model.path.parent), tie_word_embeddings=HEAD not in model.tensors)


def _with_long_rope(model: GgufModel, config: ModelConfig) -> ModelConfig:
    """The same, with the factors of a stretched rotary embedding, which are tensors, where the family may have them."""
    entries = {name: model.tensors[name] for name in (SHORT_FACTORS, LONG_FACTORS) if name in model.tensors}
    if "longrope" not in FAMILIES[config.family].ropes or not entries:
        return config
    fields = _fields(model)
    prefix = f"{FAMILIES[config.family].gguf}.rope.scaling"
    scale = fields.number(f"{prefix}.attn_factor", 1e-6, MAX_FACTOR, 1.0)
    rope = LongRope(
        original_tokens=fields.integer(f"{prefix}.original_context_length", 1, MAX_POSITIONS),
        short=_read_factors(model, SHORT_FACTORS, config.head_dim // 2),
        long=_read_factors(model, LONG_FACTORS, config.head_dim // 2),
        short_scale=scale,
        long_scale=scale,
    )
    return replace(config, traits=replace(config.traits, long_rope=rope))


def _fields(model: GgufModel) -> Fields:
    source = say("The metadata of {file}", file=quote(model.path.name))
    return Fields(model.metadata, source, DOWNLOAD_FROM_PUBLISHER)


def _read_factors(model: GgufModel, name: str, count: int) -> tuple[float, ...]:
    """So many numbers out of a small tensor."""
    entry = model.tensors.get(name)
    if entry is None or entry.shape != (count,) or entry.format != "F32":
        found = quote(list(entry.shape)) if entry is not None else ""
        what = say("is {format} {shape} in", format=entry.format, shape=found) if entry else say("is missing from")
        raise CheckpointError(
            say(
                "Tensor {name} {what} {file}, which needs {count} F32 numbers there.",
                name=quote(name),
                what=what,
                file=quote(model.path.name),
                count=count,
            ),
            DOWNLOAD_FROM_PUBLISHER,
        )
    values = np.empty(count, dtype="<f4")
    reader = TensorReader()
    try:
        reader.read(entry, values.data)
    finally:
        reader.close()
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise CheckpointError(
            say(
                "Tensor {name} in {file} holds factors that are not above 0.",
                name=quote(name),
                file=quote(entry.file.name),
            ),
            DOWNLOAD_FROM_PUBLISHER,
        )
    return tuple(values.tolist())


def _read_shape(model: GgufModel) -> ModelConfig:
    """The shape that the metadata tells; the embedding's own rows are the vocabulary."""
    fields = _fields(model)
    arch = _architecture(fields)
    family = BY_GGUF_NAME[arch]
    _refuse_variants(fields, family)
    hidden = fields.integer(f"{arch}.embedding_length", 1, MAX_HIDDEN)
    heads = fields.integer(f"{arch}.attention.head_count", 1, MAX_HEADS)
    experts = fields.integer(f"{arch}.expert_count", 1, MAX_EXPERTS)
    return ModelConfig(
        name=_name(model),
        family=family.name,
        hidden_size=hidden,
        intermediate_size=fields.integer(f"{arch}.{family.gguf_width}", 1, MAX_INTERMEDIATE),
        layers=fields.integer(f"{arch}.block_count", 1, MAX_LAYERS),
        heads=heads,
        kv_heads=_kv_heads(fields, arch, heads),
        head_dim=_head_dim(fields, arch, hidden, heads),
        experts=experts,
        experts_per_token=fields.integer(f"{arch}.expert_used_count", 1, experts),
        vocab_size=_vocab_size(model),
        max_position_embeddings=fields.integer(f"{arch}.context_length", MIN_CONTEXT_TOKENS, MAX_POSITIONS),
        rms_norm_eps=fields.number(f"{arch}.attention.layer_norm_rms_epsilon", 1e-12, 1.0),
        rope_theta=fields.number(f"{arch}.rope.freq_base", 1.0, MAX_ROPE_THETA, DEFAULT_ROPE_THETA),
        sliding_window=fields.integer(f"{arch}.attention.sliding_window", 0, MAX_POSITIONS, absent=0) or None,
        tie_word_embeddings=HEAD not in model.tensors,
        query_key_norm=family.query_key_norm,
        normalise_top_k=family.gguf_normalise_top_k,
        traits=family.gguf_traits(fields, arch),
    )


def _architecture(fields: Fields) -> str:
    """The architecture, refused unless this engine runs it."""
    arch = fields.content.get(ARCHITECTURE)
    if arch is None:
        raise CheckpointError(
            say("{source} lacks {architecture}.", source=fields.source, architecture=ARCHITECTURE), fields.remedy
        )
    if not isinstance(arch, str):
        raise fields.refusal(ARCHITECTURE, arch, say("not a text"))
    if not fields.content.get(f"{arch}.expert_count", 0):
        raise UnsupportedModelError(
            say(
                "{source} tells of a dense model ({arch}), not a Mixture-of-Experts.",
                source=fields.source,
                arch=quote(arch),
            ),
            CHOOSE_SUPPORTED,
        )
    if arch not in BY_GGUF_NAME:
        raise UnsupportedModelError(
            say("{source} names the architecture {arch}, not supported yet.", source=fields.source, arch=quote(arch)),
            CHOOSE_SUPPORTED,
        )
    return arch


def _refuse_variants(fields: Fields, family: Family) -> None:
    """Refuse what would load but compute something else."""
    arch = family.gguf
    for suffix, neutral in _NEUTRAL.items():
        if suffix in family.gguf_scales:
            continue
        value = fields.content.get(f"{arch}.{suffix}", neutral[0])
        if type(value) not in (int, float) or value not in neutral:
            raise UnsupportedModelError(
                say(
                    "{source} says {name} is {value}, which is not supported.",
                    source=fields.source,
                    name=f"{arch}.{suffix}",
                    value=quote(value),
                ),
                CHOOSE_SUPPORTED,
            )
    kind = fields.content.get(f"{arch}.rope.scaling.type", "linear")
    factor = fields.content.get(f"{arch}.rope.scaling.factor", 0.0)
    plain = type(factor) in (int, float) and factor in (0.0, 1.0)
    stretched = kind == "yarn" and "yarn" in family.ropes
    if type(kind) is not str or not (kind == "none" or stretched or (kind == "linear" and plain)):
        raise UnsupportedModelError(
            say(
                "{source} asks for the rotary embedding {kind}, scaled by {factor}, of which only the plain "
                "kind is supported.",
                source=fields.source,
                kind=quote(kind),
                factor=quote(factor),
            ),
            CHOOSE_SUPPORTED,
        )


def _kv_heads(fields: Fields, arch: str, heads: int) -> int:
    """Key/value heads, each shared by the same number of query heads; as many as those where nothing is said."""
    name = f"{arch}.attention.head_count_kv"
    kv_heads = fields.integer(name, 1, MAX_HEADS, absent=heads)
    if heads % kv_heads:
        raise fields.refusal(
            name, kv_heads, say("no divisor of {name} {heads}", name=f"{arch}.attention.head_count", heads=heads)
        )
    return kv_heads


def _head_dim(fields: Fields, arch: str, hidden: int, heads: int) -> int:
    """The width of a head, the same for keys and values; even and rotated as a whole."""
    name = f"{arch}.attention.key_length"
    head_dim = fields.integer(name, 1, MAX_HEAD_DIM, absent=hidden // heads)
    if name not in fields.content and (hidden % heads or head_dim > MAX_HEAD_DIM):
        limit = say(
            "not a multiple of {name} {heads} up to {most} times that",
            name=f"{arch}.attention.head_count",
            heads=heads,
            most=MAX_HEAD_DIM,
        )
        raise fields.refusal(f"{arch}.embedding_length", hidden, limit)
    if head_dim % 2:
        raise fields.refusal(name, head_dim, say("not an even number"))
    for other in ("attention.value_length", "rope.dimension_count"):
        width = fields.integer(f"{arch}.{other}", 1, MAX_HEAD_DIM, absent=head_dim)
        if width != head_dim:
            raise UnsupportedModelError(
                say(
                    "{source} says {name} is {width}, of which only the width of a head, {head_dim}, is supported.",
                    source=fields.source,
                    name=f"{arch}.{other}",
                    width=width,
                    head_dim=head_dim,
                ),
                CHOOSE_SUPPORTED,
            )
    return head_dim


def _vocab_size(model: GgufModel) -> int:
    """The rows of the embedding."""
    entry = model.tensors.get(EMBEDDING)
    rows = entry.shape[0] if entry is not None and len(entry.shape) == 2 else 0
    if not 1 <= rows <= MAX_VOCAB:
        what = say("has shape {shape} in", shape=quote(list(entry.shape))) if entry else say("is missing from")
        raise CheckpointError(
            say(
                "Tensor {embedding} {what} {file}.", embedding=quote(EMBEDDING), what=what, file=quote(model.path.name)
            ),
            DOWNLOAD_FROM_PUBLISHER,
        )
    return rows


def _name(model: GgufModel) -> str:
    """What to call the model on screen: as it calls itself, or as its file is called."""
    name = model.metadata.get("general.name")
    sound = isinstance(name, str) and name.isprintable() and 0 < len(name.strip()) <= MAX_NAME_CHARS
    return screen_name(str(name) if sound else stem(model.path.name))


def _mix(model: GgufModel) -> str | None:
    """What the file calls its mix of formats; None where it says nothing, or floats."""
    number = model.metadata.get("general.file_type")
    return _MIXES.get(number & ~_GUESSED_MIX) if type(number) is int else None
