"""Reads a config.json by our own schema, one for each family.

`auto_map` and `_name_or_path` are never looked at: no code and no path comes out of a config.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from engine.checkpoint.families import BY_CLASS, CHOOSE_SUPPORTED, FAMILIES, Family
from engine.checkpoint.fields import (
    MAX_EXPERTS,
    MAX_HEAD_DIM,
    MAX_HEADS,
    MAX_HIDDEN,
    MAX_INTERMEDIATE,
    MAX_LAYERS,
    MAX_POSITIONS,
    MAX_ROPE_THETA,
    MAX_VOCAB,
    Fields,
    screen_name,
)
from engine.checkpoint.int4 import Int4, read_int4, with_int4
from engine.checkpoint.model_folder import CONFIG, find_config
from engine.checkpoint.stacked import is_mxfp4, with_mxfp4
from engine.checkpoint.untrusted import quote, read_json_object
from engine.config import MIN_CONTEXT_TOKENS, DTypeName, ModelConfig
from engine.errors import UnsupportedModelError
from engine.sentences import say

MAX_CONFIG_BYTES = 4 << 20

DTYPES: tuple[DTypeName, ...] = get_args(DTypeName)
DEFAULT_DTYPE: DTypeName = "bfloat16"

_EXPERT_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_experts_per_tok")
DOWNLOAD_CONFIG = say("Download {config} again from the model's publisher.", config=CONFIG)


def read_model_config(folder: Path) -> ModelConfig:
    """The shape of the model in a folder, from its config.json alone.

    `dtype` is what the config says, bfloat16 where it says nothing; `open_checkpoint` corrects it by the weights.

    Args:
        folder: A model folder.

    Raises:
        CheckpointError: The folder or config.json is missing or damaged, or a number is outside its limits.
        UnsupportedModelError: A sound config of a model that this engine does not run.
    """
    return read_config_and_int4(folder)[0]


def read_config_and_int4(folder: Path) -> tuple[ModelConfig, Int4 | None]:
    """The same, and how its matrices were rounded by GPTQ or AWQ; None for a model in floats."""
    content = read_config_json(folder)
    config, family = _config_and_family(content, model_name(folder))
    if family.alternating and is_mxfp4(content):
        return with_mxfp4(config), None
    int4 = read_int4(content, family)
    return (config if int4 is None else with_int4(config, int4)), int4


def config_from(content: dict[str, Any], name: str) -> ModelConfig:
    """The shape that the content of a config.json tells, its weights in floats; errors as for `read_model_config`.

    Args:
        content: What config.json holds.
        name: What to call the model.
    """
    return _config_and_family(content, name)[0]


def _config_and_family(content: dict[str, Any], name: str) -> tuple[ModelConfig, Family]:
    """The same, and the family that it is of."""
    family = _family(content)
    _refuse_variants(content, family)
    return _read_shape(name, content, family), family


def read_config_json(folder: Path) -> dict[str, Any]:
    """What a folder's config.json holds.

    Raises:
        CheckpointError: The folder or the file is missing or damaged.
    """
    return read_json_object(find_config(folder), MAX_CONFIG_BYTES)


def _read_shape(name: str, content: dict[str, Any], family: Family) -> ModelConfig:
    """The shape as config.json tells it."""
    fields = Fields(content, CONFIG, DOWNLOAD_CONFIG)
    hidden = fields.integer("hidden_size", 1, MAX_HIDDEN)
    heads = fields.integer("num_attention_heads", 1, MAX_HEADS)
    experts = _experts(fields)
    normalise = family.normalise_top_k
    return ModelConfig(
        name=name,
        family=family.name,
        hidden_size=hidden,
        intermediate_size=fields.integer(family.width, 1, MAX_INTERMEDIATE),
        layers=fields.integer("num_hidden_layers", 1, MAX_LAYERS),
        heads=heads,
        kv_heads=_kv_heads(fields, heads),
        head_dim=_head_dim(fields, hidden, heads),
        experts=experts,
        experts_per_token=fields.integer("num_experts_per_tok", 1, experts),
        vocab_size=fields.integer("vocab_size", 1, MAX_VOCAB),
        max_position_embeddings=fields.integer("max_position_embeddings", MIN_CONTEXT_TOKENS, MAX_POSITIONS),
        rms_norm_eps=fields.number("rms_norm_eps", 1e-12, 1.0, family.rms_norm_eps),
        rope_theta=_rope_theta(fields, family),
        sliding_window=_sliding_window(fields, family),
        tie_word_embeddings=fields.flag("tie_word_embeddings"),
        dtype=_dtype(content),
        query_key_norm=family.query_key_norm,
        normalise_top_k=fields.flag("norm_topk_prob") if normalise is None else normalise,
        traits=family.traits(fields, ""),
    )


def model_name(folder: Path) -> str:
    """What to call the model in a folder on screen: the folder's name, or the hub's name inside a hub cache."""
    try:
        folder = folder.resolve()
    except (OSError, RuntimeError, ValueError):
        folder = folder.absolute()
    name = folder.name
    if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
        name = folder.parent.parent.name.rpartition("--")[2]
    return screen_name(name)


def _family(content: dict[str, Any]) -> Family:
    """The architecture, refused unless this engine runs it."""
    named = content.get("model_type")
    if named is None:
        architectures = content.get("architectures")
        first = architectures[0] if isinstance(architectures, list) and architectures else None
        named = (BY_CLASS[first].name if first in BY_CLASS else first) if isinstance(first, str) else None
    if named is None:
        raise UnsupportedModelError(
            say("{config} does not say which architecture the model has.", config=CONFIG), CHOOSE_SUPPORTED
        )
    if isinstance(named, str) and named in FAMILIES:
        return FAMILIES[named]
    if not has_experts(content):
        raise UnsupportedModelError(
            say(
                "The model ({config}: {named}) is a dense model, not a Mixture-of-Experts.",
                config=CONFIG,
                named=quote(named),
            ),
            CHOOSE_SUPPORTED,
        )
    raise UnsupportedModelError(
        say("{config} names the architecture {named}, not supported yet.", config=CONFIG, named=quote(named)),
        CHOOSE_SUPPORTED,
    )


def has_experts(content: dict[str, Any]) -> bool:
    """Whether a config speaks of experts, itself or one level down (`text_config`, `ffn_config`)."""
    nested = (value for value in content.values() if isinstance(value, dict))
    return any(part.get(key) for part in (content, *nested) for key in _EXPERT_COUNTS)


def _refuse_variants(content: dict[str, Any], family: Family) -> None:
    """Refuse what would load but compute something else."""
    activation = content.get("hidden_act", "silu")
    if activation != "silu":
        raise UnsupportedModelError(
            say("{config} says hidden_act is {activation}, not 'silu'.", config=CONFIG, activation=quote(activation)),
            CHOOSE_SUPPORTED,
        )
    for name, plain in family.plain:
        value = content.get(name, plain[0])
        if value not in plain:
            raise UnsupportedModelError(
                say(
                    "{config} says {name} is {value}, of which only {plain} is supported.",
                    config=CONFIG,
                    name=name,
                    value=quote(value),
                    plain=str(plain[0]),
                ),
                CHOOSE_SUPPORTED,
            )


def _experts(fields: Fields) -> int:
    """Experts per layer; families differ in what they call it, and transformers 5 renames Qwen's when it saves."""
    known = "num_experts" in fields.content and "num_local_experts" not in fields.content
    return fields.integer("num_experts" if known else "num_local_experts", 1, MAX_EXPERTS)


def _sliding_window(fields: Fields, family: Family) -> int | None:
    """Tokens that attention looks back on; Qwen names a number also where it does not use one."""
    if family.slides == "never" or (family.slides == "asked" and not fields.flag("use_sliding_window")):
        return None
    return fields.integer("sliding_window", 1, MAX_POSITIONS, null=0, absent=0) or None


def _kv_heads(fields: Fields, heads: int) -> int:
    """Key/value heads, each shared by the same number of query heads; null means one for each."""
    kv_heads = fields.integer("num_key_value_heads", 1, MAX_HEADS, null=heads)
    if heads % kv_heads:
        raise fields.refusal(
            "num_key_value_heads",
            kv_heads,
            say("no divisor of {name} {heads}", name="num_attention_heads", heads=heads),
        )
    return kv_heads


def _head_dim(fields: Fields, hidden: int, heads: int) -> int:
    """The width of a head: given, or hidden_size / num_attention_heads; even, for the rotary embedding."""
    head_dim = fields.integer("head_dim", 1, MAX_HEAD_DIM, null=0, absent=0)
    if not head_dim:
        if hidden % heads or hidden // heads > MAX_HEAD_DIM:
            limit = say(
                "not a multiple of {name} {heads} up to {most} times that",
                name="num_attention_heads",
                heads=heads,
                most=MAX_HEAD_DIM,
            )
            raise fields.refusal("hidden_size", hidden, limit)
        head_dim = hidden // heads
    if head_dim % 2:
        raise fields.refusal("head_dim", head_dim, say("not an even number"))
    return head_dim


def _rope_theta(fields: Fields, family: Family) -> float:
    """The base of the rotary embedding; only the kinds that the family names are supported.

    Reads `rope_parameters` (transformers 5) and `rope_theta` with `rope_scaling` (before), in transformers' order.
    """
    rope = fields.content.get("rope_scaling") or fields.content.get("rope_parameters") or {}
    if not isinstance(rope, dict):
        raise fields.refusal("rope_parameters", rope, say("not an object"))
    kind = rope.get("rope_type") or rope.get("type") or "default"
    plain = kind in family.ropes and not any(isinstance(value, dict) for value in rope.values())
    partial = rope.get("partial_rotary_factor", fields.content.get("partial_rotary_factor"))
    if not plain or partial not in (None, 1):
        raise UnsupportedModelError(
            say(
                "{config} asks for the rotary embedding {rope}, of which only rope_type {names} is supported.",
                config=CONFIG,
                rope=quote(rope),
                names=" or ".join(map(quote, family.ropes)),
            ),
            CHOOSE_SUPPORTED,
        )
    source = replace(fields, content=rope) if "rope_theta" in rope else fields
    return source.number("rope_theta", 1.0, MAX_ROPE_THETA, family.rope_theta)


def _dtype(content: dict[str, Any]) -> DTypeName:
    """The type of the weights as the config says it, before the weights are asked."""
    stated = content.get("dtype") or content.get("torch_dtype") or DEFAULT_DTYPE
    plain = stated.removeprefix("torch.") if isinstance(stated, str) else stated
    for dtype in DTYPES:
        if plain == dtype:
            return dtype
    raise UnsupportedModelError(
        say(
            "{config} says that the weights are {stated}, not one of {names}.",
            config=CONFIG,
            stated=quote(stated),
            names=", ".join(DTYPES),
        ),
        say("Choose the bfloat16 version of the model."),
    )
