"""What differs between the families that this engine runs itself: one table, and how each reads its own settings.

Whatever is not said here is as in Mixtral. `CONTRIBUTING.md` tells how to add a family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from engine.checkpoint.fields import (
    MAX_HEAD_DIM,
    MAX_HEADS,
    MAX_HIDDEN,
    MAX_INTERMEDIATE,
    MAX_LAYERS,
    MAX_POSITIONS,
    MAX_ROPE_THETA,
    Fields,
)
from engine.checkpoint.yarn import MAX_FACTOR, ORIGINAL_TOKENS, THETA, read_gguf_yarn, read_yarn
from engine.sentences import say
from engine.traits import ClampedGate, LongRope, Traits

PHI_JITTER = 0.01
SWIGLU_SLOPE, SWIGLU_LIMIT = 1.702, 7.0

Renames = tuple[tuple[str, str], ...]
ReadTraits = Callable[[Fields, str], Traits]
Plain = tuple[tuple[str, tuple[Any, ...]], ...]

_QWEN_NAMES: Renames = (
    (".block_sparse_moe.", ".mlp."),
    (".w1.weight", ".gate_proj.weight"),
    (".w3.weight", ".up_proj.weight"),
    (".w2.weight", ".down_proj.weight"),
)
# Layers of a Qwen that are no Mixture-of-Experts.
_EVERY_LAYER: Plain = (("decoder_sparse_step", (1,)), ("mlp_only_layers", ([], None)))


def _plain_traits(_fields: Fields, _prefix: str) -> Traits:
    """Nothing beyond Mixtral."""
    return Traits()


@dataclass(frozen=True, slots=True)
class Family:
    """One architecture.

    Attributes:
        name: What config.json calls it (model_type).
        title: What people call it.
        causal_class: What config.json calls it where it lacks model_type (architectures).
        gguf: What llama.cpp calls it.
        width: config.json's field for the width inside an expert.
        gguf_width: The same in a GGUF file.
        rope_theta: What stands in for a missing base of the rotary embedding, as in transformers' config class.
        rms_norm_eps: The same for the norms' epsilon.
        query_key_norm: Whether queries and keys are normed.
        normalise_top_k: Whether the chosen experts' weights are scaled to sum to 1; None where norm_topk_prob says it.
        gguf_normalise_top_k: The same for a GGUF file, where llama.cpp has it fixed.
        rows_alternate: Whether llama.cpp's converter makes the two halves of each query and key head alternate.
        slides: Whether config.json's sliding window counts: always, where use_sliding_window asks for it, or never.
        ropes: Kinds of rotary embedding (rope_type) that are run.
        names: How safetensors files call tensors: the engine's word and the file's.
        stacked: Where safetensors files hold a layer's experts in two tensors, gate with up and down, their names.
        alternating: Whether gate and up alternate there and experts have biases (gpt-oss); otherwise gate is above up.
        gguf_names: How GGUF files call what they call otherwise in other families: their usual word and this one's.
        plain: Fields of config.json that must have one of these values, the first where they are missing.
        traits: What config.json says that it computes beyond Mixtral.
        gguf_traits: What a GGUF file's metadata says of that.
        gguf_scales: Keys of a GGUF file that `gguf_traits` reads; elsewhere they must be neutral.
    """

    name: str
    title: str
    causal_class: str
    gguf: str
    width: str = "intermediate_size"
    gguf_width: str = "feed_forward_length"
    rope_theta: float = 1e4
    rms_norm_eps: float = 1e-6
    query_key_norm: bool = False
    normalise_top_k: bool | None = True
    gguf_normalise_top_k: bool = True
    rows_alternate: bool = False
    slides: Literal["always", "asked", "never"] = "never"
    ropes: tuple[str, ...] = ("default",)
    names: Renames = ()
    stacked: tuple[str, str] | None = None
    alternating: bool = False
    gguf_names: Renames = ()
    plain: Plain = ()
    traits: ReadTraits = _plain_traits
    gguf_traits: ReadTraits = _plain_traits
    gguf_scales: tuple[str, ...] = ()


def _olmoe(fields: Fields, _prefix: str) -> Traits:
    """OLMoE's norms span all heads; some of its kind clip what attention sees."""
    biased = fields.flag("attention_bias")
    clipped = fields.content.get("clip_qkv") is not None
    clip = fields.number("clip_qkv", 1e-6, MAX_FACTOR) if clipped else None
    return Traits(wide_norms=True, qkv_bias=biased, output_bias=biased, clip_qkv=clip)


def _gguf_olmoe(_fields: Fields, _prefix: str) -> Traits:
    """llama.cpp's OLMoE has neither biases nor clips."""
    return Traits(wide_norms=True)


def _granite(fields: Fields, _prefix: str) -> Traits:
    """Granite's four factors."""
    biased = fields.flag("attention_bias")
    return Traits(
        qkv_bias=biased,
        output_bias=biased,
        embedding_scale=fields.number("embedding_multiplier", -MAX_FACTOR, MAX_FACTOR, 1.0),
        residual_scale=fields.number("residual_multiplier", -MAX_FACTOR, MAX_FACTOR, 1.0),
        attention_scale=fields.number("attention_multiplier", 1e-9, MAX_FACTOR, 1.0),
        logit_scale=1.0 / fields.number("logits_scaling", 1e-6, MAX_FACTOR, 1.0),
    )


def _granite_shared(fields: Fields, prefix: str) -> Traits:
    """The same and an expert that every token visits, without a weight of its own."""
    shared = fields.integer("shared_intermediate_size", 0, MAX_INTERMEDIATE, absent=0)
    return replace(_granite(fields, prefix), shared_size=shared, shared_gated=not shared)


def _gguf_granite(fields: Fields, prefix: str) -> Traits:
    """The same of both kinds; llama.cpp takes a factor of 0 for none."""
    shared = fields.integer(f"{prefix}.expert_shared_feed_forward_length", 0, MAX_INTERMEDIATE, absent=0)
    read = {name: fields.number(f"{prefix}.{name}", 0.0, MAX_FACTOR, 0.0) for name in _GRANITE_SCALES}
    return Traits(
        embedding_scale=read["embedding_scale"] or 1.0,
        residual_scale=read["residual_scale"] or 1.0,
        attention_scale=read["attention.scale"] or None,
        logit_scale=1.0 / fields.number(f"{prefix}.logit_scale", 1e-6, MAX_FACTOR),
        shared_size=shared,
        shared_gated=not shared,
    )


def _qwen2_moe(fields: Fields, _prefix: str) -> Traits:
    """Qwen2-MoE's biases and the expert that all tokens visit."""
    biased = fields.flag("qkv_bias") if "qkv_bias" in fields.content else True
    shared = fields.integer("shared_expert_intermediate_size", 1, MAX_INTERMEDIATE)
    return Traits(qkv_bias=biased, shared_size=shared)


def _gguf_qwen2_moe(fields: Fields, prefix: str) -> Traits:
    """The same; llama.cpp always has the biases."""
    shared = fields.integer(f"{prefix}.expert_shared_feed_forward_length", 1, MAX_INTERMEDIATE)
    return Traits(qkv_bias=True, shared_size=shared)


def _phimoe(fields: Fields, _prefix: str) -> Traits:
    """Phi-3.5-MoE's norms, biases, routing and rotary embedding."""
    biased = fields.flag("attention_bias")
    return Traits(
        qkv_bias=biased,
        output_bias=biased,
        layer_norm=True,
        head_bias=fields.flag("lm_head_bias"),
        router_jitter=fields.number("router_jitter_noise", 0.0, 1.0, PHI_JITTER),
        long_rope=_long_rope(fields),
    )


def _long_rope(fields: Fields) -> LongRope | None:
    """What config.json says of LongRoPE, None where the rotary embedding is plain."""
    content = fields.content.get("rope_scaling") or fields.content.get("rope_parameters") or {}
    if (content.get("rope_type") or content.get("type") or "default") == "default":
        return None
    rope = replace(fields, content=content)
    named = rope if ORIGINAL_TOKENS in content else fields
    hidden, heads = fields.integer("hidden_size", 1, MAX_HIDDEN), fields.integer("num_attention_heads", 1, MAX_HEADS)
    pairs = (fields.integer("head_dim", 1, MAX_HEAD_DIM, null=0, absent=0) or hidden // heads) // 2
    return LongRope(
        original_tokens=named.integer(ORIGINAL_TOKENS, 1, MAX_POSITIONS),
        short=rope.numbers("short_factor", pairs, 1e-6, MAX_FACTOR),
        long=rope.numbers("long_factor", pairs, 1e-6, MAX_FACTOR),
        short_scale=rope.number("short_mscale", 1e-6, MAX_FACTOR),
        long_scale=rope.number("long_mscale", 1e-6, MAX_FACTOR),
    )


def _gguf_phimoe(_fields: Fields, _prefix: str) -> Traits:
    """The same, all fixed; the factors of LongRoPE are tensors, which `gguf_config` reads."""
    return Traits(qkv_bias=True, output_bias=True, layer_norm=True, head_bias=True, router_jitter=PHI_JITTER)


def _gpt_oss(fields: Fields, _prefix: str) -> Traits:
    """gpt-oss's biases, sinks, windows, activation and rotary embedding."""
    biased = fields.flag("attention_bias") if "attention_bias" in fields.content else True
    # transformers has numbers of its own for these where they are missing, which no published model relies on.
    fields.integer("head_dim", 1, MAX_HEAD_DIM)
    fields.integer("sliding_window", 1, MAX_POSITIONS)
    return Traits(
        qkv_bias=biased,
        output_bias=biased,
        long_rope=read_yarn(fields),
        full_layers=_full_layers(fields),
        sinks=True,
        router_bias=True,
        clamped_gate=ClampedGate(
            fields.number("swiglu_alpha", 0.0, MAX_FACTOR, SWIGLU_SLOPE),
            fields.number("swiglu_limit", 1e-6, MAX_FACTOR, SWIGLU_LIMIT),
        ),
    )


def _full_layers(fields: Fields) -> tuple[int, ...]:
    """Layers without a sliding window: those that config.json lists, or every other one."""
    layers = fields.integer("num_hidden_layers", 1, MAX_LAYERS)
    kinds = fields.content.get("layer_types")
    if kinds is None:
        return tuple(range(1, layers, 2))
    known = isinstance(kinds, list) and all(kind in (_SLIDING, _FULL) for kind in kinds)
    if not known or len(kinds) != layers:
        limit = say("not a list of {number} times {one} or {other}", number=layers, one=_SLIDING, other=_FULL)
        raise fields.refusal("layer_types", kinds, limit)
    return tuple(layer for layer, kind in enumerate(kinds) if kind == _FULL)


def _gguf_gpt_oss(fields: Fields, prefix: str) -> Traits:
    """The same; llama.cpp has all but the rotary embedding fixed."""
    fields.integer(f"{prefix}.attention.sliding_window", 1, MAX_POSITIONS)
    fields.integer(f"{prefix}.attention.sliding_window_pattern", 2, 2, absent=2)
    theta = fields.number(f"{prefix}.rope.freq_base", 1.0, MAX_ROPE_THETA)
    fields.number(f"{prefix}.rope.freq_base_swa", theta, theta, theta)
    return Traits(
        qkv_bias=True,
        output_bias=True,
        long_rope=read_gguf_yarn(fields, prefix),
        full_layers=tuple(range(1, fields.integer(f"{prefix}.block_count", 1, MAX_LAYERS), 2)),
        sinks=True,
        router_bias=True,
        clamped_gate=ClampedGate(SWIGLU_SLOPE, SWIGLU_LIMIT),
    )


_SLIDING, _FULL = "sliding_attention", "full_attention"
_GRANITE_SCALES = ("embedding_scale", "residual_scale", "attention.scale", "logit_scale")
_NO_WINDOW: Plain = (("sliding_window", (None, 0)),)

_ALL = (
    Family(
        "mixtral", "Mixtral", "MixtralForCausalLM", "llama",
        rope_theta=1e6, rms_norm_eps=1e-5, rows_alternate=True, slides="always",
    ),
    Family(
        "qwen3_moe", "Qwen3-MoE", "Qwen3MoeForCausalLM", "qwen3moe",
        width="moe_intermediate_size", gguf_width="expert_feed_forward_length",
        query_key_norm=True, normalise_top_k=None, slides="asked", names=_QWEN_NAMES,
        plain=(*_EVERY_LAYER, ("attention_bias", (False,))),
    ),
    Family(
        "qwen2_moe", "Qwen2-MoE", "Qwen2MoeForCausalLM", "qwen2moe",
        width="moe_intermediate_size", gguf_width="expert_feed_forward_length",
        normalise_top_k=None, gguf_normalise_top_k=False, names=_QWEN_NAMES,
        plain=(*_EVERY_LAYER, ("use_sliding_window", (False,))),
        traits=_qwen2_moe, gguf_traits=_gguf_qwen2_moe,
    ),
    Family(
        "olmoe", "OLMoE", "OlmoeForCausalLM", "olmoe",
        rms_norm_eps=1e-5, query_key_norm=True, normalise_top_k=None, gguf_normalise_top_k=False,
        names=_QWEN_NAMES, plain=_NO_WINDOW, traits=_olmoe, gguf_traits=_gguf_olmoe,
    ),
    Family(
        "granitemoe", "Granite-MoE", "GraniteMoeForCausalLM", "granitemoe",
        rows_alternate=True, names=((".block_sparse_moe.gate.", ".block_sparse_moe.router.layer."),),
        stacked=(".block_sparse_moe.input_linear.weight", ".block_sparse_moe.output_linear.weight"),
        plain=_NO_WINDOW, traits=_granite, gguf_traits=_gguf_granite, gguf_scales=_GRANITE_SCALES,
    ),
    Family(
        "granitemoeshared", "Granite-MoE-Shared", "GraniteMoeSharedForCausalLM", "granitemoe",
        rows_alternate=True, names=((".block_sparse_moe.gate.", ".block_sparse_moe.router.layer."),),
        stacked=(".block_sparse_moe.input_linear.weight", ".block_sparse_moe.output_linear.weight"),
        plain=_NO_WINDOW, traits=_granite_shared, gguf_traits=_gguf_granite, gguf_scales=_GRANITE_SCALES,
    ),
    Family(
        "gpt_oss", "gpt-oss", "GptOssForCausalLM", "gpt-oss",
        gguf_width="expert_feed_forward_length", rope_theta=THETA, rms_norm_eps=1e-5, slides="always",
        ropes=("default", "yarn"), names=((".block_sparse_moe.gate.", ".mlp.router."),),
        stacked=(".mlp.experts.gate_up_proj", ".mlp.experts.down_proj"), alternating=True,
        gguf_names=(("ffn_norm.", "post_attention_norm."),), traits=_gpt_oss, gguf_traits=_gguf_gpt_oss,
    ),
    Family(
        "phimoe", "Phi-3.5-MoE", "PhiMoEForCausalLM", "phimoe",
        rope_theta=1e6, rms_norm_eps=1e-5, slides="always", ropes=("default", "longrope"),
        plain=(("num_experts_per_tok", (2,)),), traits=_phimoe, gguf_traits=_gguf_phimoe,
    ),
)  # fmt: skip
FAMILIES: Mapping[str, Family] = MappingProxyType({family.name: family for family in _ALL})
# llama.cpp has one name for both kinds of Granite; the file's metadata tells them apart.
BY_GGUF_NAME: Mapping[str, Family] = MappingProxyType({family.gguf: family for family in reversed(_ALL)})
BY_CLASS: Mapping[str, Family] = MappingProxyType({family.causal_class: family for family in _ALL})
CHOOSE_SUPPORTED = say(
    "Choose a {names} or {last}; those are the architectures supported today.",
    names=", ".join(family.title for family in _ALL[:-1]),
    last=_ALL[-1].title,
)
