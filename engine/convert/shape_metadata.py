"""A model's shape as the metadata of a GGUF file, for the families that this engine runs itself.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. What is written is read again by
`engine.checkpoint.gguf_config`, which follows llama.cpp: only a model that comes back the same is described at all, so
that no other program computes something else with it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from engine.checkpoint.families import FAMILIES
from engine.checkpoint.gguf_config import ARCHITECTURE, read_gguf_config
from engine.checkpoint.gguf_file import MetadataValue
from engine.checkpoint.gguf_model import GgufModel
from engine.checkpoint.model_config import read_config_json
from engine.checkpoint.tensor_reader import TensorEntry
from engine.config import ModelConfig
from engine.errors import UnsupportedModelError
from engine.sentences import say

USE_FOLDER = say("Use the new folder with this engine, which reads the files beside the weights.")
_SLIDING = "gpt_oss"  # of the families here, the only one whose window llama.cpp heeds
# Of a shape, what depends on the formats and not on the model.
_STORED = ("name", "family", "dtype", "quantization", "expert_formats", "dense_packed_bytes", "dense_blocks",
           "embedding_format")  # fmt: skip


def shape_metadata(folder: Path, config: ModelConfig, tensors: Mapping[str, TensorEntry]) -> dict[str, MetadataValue]:
    """What a GGUF file says of a model's shape.

    Args:
        folder: The model's own.
        config: What its config.json says.
        tensors: Those of the new file, by their names there.

    Raises:
        UnsupportedModelError: GGUF has no words for something that the model computes.
        CheckpointError: A number is outside its limits.
    """
    arch = FAMILIES[config.family].gguf
    settings = {**_numbers(config), **_factors(config), **_stretch(folder)}
    metadata = {f"{arch}.{key}": value for key, value in settings.items()}
    told = {ARCHITECTURE: arch, **metadata}
    found, _ = read_gguf_config(GgufModel(Path(config.name), told, tensors))
    differs = _unheeded(config) or _difference(_comparable(config), _comparable(found))
    if differs is not None:
        raise UnsupportedModelError(say("GGUF has no words for its {field}.", field=differs), USE_FOLDER)
    return metadata


def _unheeded(config: ModelConfig) -> str | None:
    """What our reader takes as said, and llama.cpp does not compute: None where there is nothing."""
    if config.traits.router_jitter is not None:
        return "router_jitter_noise"
    # Both norms have as many numbers as the embedding there.
    narrow = config.traits.wide_norms and config.kv_heads * config.head_dim != config.hidden_size
    return "num_key_value_heads" if narrow else None


def _numbers(config: ModelConfig) -> dict[str, MetadataValue]:
    """What is counted."""
    family, shared = FAMILIES[config.family], config.traits.shared_size
    numbers = {
        "block_count": config.layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        family.gguf_width: config.intermediate_size,
        "attention.head_count": config.heads,
        "attention.head_count_kv": config.kv_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "rope.dimension_count": config.head_dim,
        "expert_count": config.experts,
        "expert_used_count": config.experts_per_token,
        "vocab_size": config.vocab_size,
    }
    if shared:
        numbers["expert_shared_feed_forward_length"] = shared
    if config.family == _SLIDING and config.sliding_window:
        numbers["attention.sliding_window"] = config.sliding_window
    return {**numbers}


def _factors(config: ModelConfig) -> dict[str, MetadataValue]:
    """What is measured, as 32 bits hold it."""
    traits = config.traits
    factors = {"attention.layer_norm_rms_epsilon": config.rms_norm_eps, "rope.freq_base": config.rope_theta}
    if FAMILIES[config.family].gguf_scales:
        factors |= {
            "embedding_scale": traits.embedding_scale,
            "residual_scale": traits.residual_scale,
            "attention.scale": traits.attention_scale or config.head_dim**-0.5,
            "logit_scale": 1.0 / traits.logit_scale,
        }
    return {key: _in_32_bits(value) for key, value in factors.items()}


def _stretch(folder: Path) -> dict[str, MetadataValue]:
    """YaRN's numbers, where config.json asks for it; anything else that stretches is no metadata."""
    content = read_config_json(folder)
    rope = content.get("rope_scaling") or content.get("rope_parameters") or {}
    if not isinstance(rope, Mapping) or (rope.get("rope_type") or rope.get("type")) != "yarn":
        return {}
    names = {"factor": "factor", "beta_fast": "yarn_beta_fast", "beta_slow": "yarn_beta_slow"}
    numbers = {f"rope.scaling.{ours}": _in_32_bits(rope[name]) for name, ours in names.items() if rope.get(name)}
    original = rope.get("original_max_position_embeddings", 0)
    return {"rope.scaling.type": "yarn", "rope.scaling.original_context_length": original, **numbers}


def _in_32_bits(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def _comparable(config: ModelConfig) -> dict[str, Any]:
    """A shape without what the formats change; a window as long as the context is none."""
    window = config.sliding_window
    heeded = window is not None and window < config.max_position_embeddings
    fields = asdict(replace(config, sliding_window=window if heeded else None))
    return {name: value for name, value in fields.items() if name not in _STORED}


def _difference(wanted: object, found: object, name: str = "shape") -> str | None:
    """The field in which two shapes differ first by more than 32 bits can hold; None where they are the same."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        parts = (_difference(wanted[field], found[field], field) for field in wanted)
        return next((part for part in parts if part is not None), None)
    if isinstance(wanted, tuple) and isinstance(found, tuple) and len(wanted) == len(found):
        parts = (_difference(*pair, name) for pair in zip(wanted, found, strict=True))
        return next((part for part in parts if part is not None), None)
    if type(wanted) is float and type(found) is float:
        return None if math.isclose(wanted, found, rel_tol=1e-5) else name
    return None if wanted == found else name
