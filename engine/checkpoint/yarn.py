"""YaRN (arXiv 2309.00071), the rotary embedding of gpt-oss: what config.json and a GGUF file's metadata say of it.

Pairs of numbers that turn fast go on as they were trained, slow ones turn as much slower as the context became longer,
and a ramp lies in between. That is a factor for each pair, as LongRoPE has them, the same for every length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from engine.checkpoint.fields import MAX_HEAD_DIM, MAX_POSITIONS, MAX_ROPE_THETA, Fields
from engine.sentences import say
from engine.traits import LongRope

MAX_FACTOR = 1e6
ORIGINAL_TOKENS = "original_max_position_embeddings"
THETA = 150000.0
FAST_TURNS, SLOW_TURNS = 32.0, 1.0
# What stands in for a missing rotary embedding, as in transformers' config class.
USUAL: Mapping[str, Any] = MappingProxyType(
    {"rope_type": "yarn", "factor": 32.0, ORIGINAL_TOKENS: 4096, "truncate": False}
)
# What transformers and llama.cpp would heed, and we do not.
_PLAIN = ("mscale", "mscale_all_dim")
_GGUF_PLAIN = {"yarn_ext_factor": 1.0, "yarn_attn_factor": 1.0, "attn_factor": 1.0, "yarn_log_multiplier": 0.0}


def read_yarn(fields: Fields) -> LongRope | None:
    """What config.json says; None where the rotary embedding is plain.

    Args:
        fields: All of config.json.

    Raises:
        CheckpointError: A number is missing or outside its limits.
    """
    content = fields.content.get("rope_scaling") or fields.content.get("rope_parameters") or USUAL
    if not isinstance(content, Mapping):
        raise fields.refusal("rope_parameters", content, say("not an object"))
    if (content.get("rope_type") or content.get("type") or "default") == "default":
        return None
    rope = replace(fields, content={name: value for name, value in content.items() if value is not None})
    for name in _PLAIN:
        if name in rope.content:
            raise fields.refusal(name, rope.content[name], say("which is not supported"))
    based = rope if "rope_theta" in rope.content else fields
    factor = rope.number("factor", 1.0, MAX_FACTOR)
    original_tokens = rope.integer(ORIGINAL_TOKENS, 1, MAX_POSITIONS)
    factors = stretch(
        fields.integer("head_dim", 2, MAX_HEAD_DIM) // 2,
        based.number("rope_theta", 1.0, MAX_ROPE_THETA, THETA),
        factor,
        original_tokens,
        (
            rope.number("beta_fast", 1e-6, MAX_FACTOR, FAST_TURNS),
            rope.number("beta_slow", 1e-6, MAX_FACTOR, SLOW_TURNS),
        ),
        whole=rope.flag("truncate") if "truncate" in rope.content else True,
    )
    scale = rope.number("attention_factor", 1e-6, MAX_FACTOR, 0.1 * math.log(factor) + 1.0)
    return LongRope(original_tokens, factors, factors, scale, scale)


def read_gguf_yarn(fields: Fields, arch: str) -> LongRope | None:
    """What a GGUF file's metadata says; None where the rotary embedding is plain.

    The ramp begins and ends between pairs, as in the published model; llama.cpp rounds to whole ones.

    Args:
        fields: The metadata.
        arch: What its keys begin with.

    Raises:
        CheckpointError: A number is missing or outside its limits.
    """
    prefix = f"{arch}.rope.scaling."
    if fields.content.get(f"{prefix}type") != "yarn":
        return None
    for name, plain in _GGUF_PLAIN.items():
        fields.number(prefix + name, plain, plain, plain)
    factor = fields.number(f"{prefix}factor", 1.0, MAX_FACTOR)
    original_tokens = fields.integer(f"{prefix}original_context_length", 1, MAX_POSITIONS)
    factors = stretch(
        fields.integer(f"{arch}.attention.key_length", 2, MAX_HEAD_DIM) // 2,
        fields.number(f"{arch}.rope.freq_base", 1.0, MAX_ROPE_THETA),
        factor,
        original_tokens,
        (
            fields.number(f"{prefix}yarn_beta_fast", 1e-6, MAX_FACTOR, FAST_TURNS),
            fields.number(f"{prefix}yarn_beta_slow", 1e-6, MAX_FACTOR, SLOW_TURNS),
        ),
        whole=False,
    )
    scale = 0.1 * math.log(factor) + 1.0
    return LongRope(original_tokens, factors, factors, scale, scale)


def stretch(
    pairs: int, theta: float, factor: float, original_tokens: int, turns: tuple[float, float], *, whole: bool
) -> tuple[float, ...]:
    """Divisors of the frequencies [pairs].

    Args:
        pairs: Of a head's numbers.
        theta: Base of the rotary embedding.
        factor: How much longer the context became.
        original_tokens: What it was.
        turns: Pairs that turn more often than the first within that go on as they were; less often than the second,
            they turn slower by the whole factor.
        whole: Whether the ramp between begins and ends at whole pairs.
    """
    base = math.log(max(theta, 1.0 + 1e-9))
    low, high = (pairs * math.log(original_tokens / (turn * 2 * math.pi)) / base for turn in turns)
    if whole:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0.0), min(high, 2.0 * pairs - 1.0)
    slow = [min(max((pair - low) / (high - low or 0.001), 0.0), 1.0) for pair in range(pairs)]
    return tuple(1.0 / (part / factor + 1.0 - part) for part in slow)
