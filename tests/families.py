"""Small random models of every family, written by transformers itself: the layout of files and configs is its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    GptOssConfig,
    GraniteMoeConfig,
    GraniteMoeSharedConfig,
    OlmoeConfig,
    PhimoeConfig,
    Qwen2MoeConfig,
)

from tests.checkpoints import write_tokenizer

_SHAPE: Mapping[str, Any] = MappingProxyType(
    {
        "hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "num_experts_per_tok": 2, "vocab_size": 300, "max_position_embeddings": 512,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None,
    }
)  # fmt: skip
_GRANITE: Mapping[str, Any] = MappingProxyType(
    {
        "num_local_experts": 6, "embedding_multiplier": 12.0, "residual_multiplier": 0.22,
        "attention_multiplier": 0.05, "logits_scaling": 6.0,
    }
)  # fmt: skip


def yarn_rope(**changes: Any) -> dict[str, Any]:
    """gpt-oss's rotary embedding; so short an original context that the ramp lies within heads of 16."""
    return {
        "rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "beta_fast": 4.0, "beta_slow": 1.0,
        "truncate": False, "original_max_position_embeddings": 64, **changes,
    }  # fmt: skip


# Per family its config class, and what makes it differ from the others as its published models do.
_CONFIGS: Mapping[str, tuple[Any, dict[str, Any]]] = MappingProxyType(
    {
        "olmoe": (OlmoeConfig, {"num_experts": 6}),
        "granitemoe": (GraniteMoeConfig, {**_GRANITE}),
        "granitemoeshared": (GraniteMoeSharedConfig, {**_GRANITE, "shared_intermediate_size": 40}),
        "gpt_oss": (
            GptOssConfig,
            {"num_local_experts": 6, "head_dim": 16, "sliding_window": 9, "rope_parameters": yarn_rope()},
        ),
        "qwen2_moe": (
            Qwen2MoeConfig,
            {"num_experts": 6, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 40},
        ),
        "phimoe": (PhimoeConfig, {"num_local_experts": 6, "attention_bias": True, "lm_head_bias": True}),
    }
)  # fmt: skip


def long_rope(original_tokens: int, head_dim: int = 8) -> dict[str, Any]:
    """Phi's stretched rotary embedding, its factors growing with the wave, as those of the published model."""
    pairs = range(head_dim // 2)
    return {
        "rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": original_tokens,
        "short_factor": [1.0 + 0.1 * pair for pair in pairs], "long_factor": [1.0 + 3.0 * pair for pair in pairs],
        "short_mscale": 1.2, "long_mscale": 1.3,
    }  # fmt: skip


def write_family(folder: Path, family: str, *, dtype: str = "float32", seed: int = 0, **changes: Any) -> Path:
    """Write a random model of a family that any loader can open, tokenizer included, and return the folder.

    Args:
        folder: Where to write.
        family: What config.json calls it.
        dtype: Type of every weight.
        seed: Of the random weights.
        changes: Fields of config.json.
    """
    kind, own = _CONFIGS[family]
    config = kind(**{**_SHAPE, **own, **changes})
    model: Any = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            _draw(name, weights, generator)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    write_tokenizer(folder, config.vocab_size)
    return folder


def _draw(name: str, weights: torch.Tensor, generator: torch.Generator) -> None:
    """Random weights of a sensible size, biases included; norms lie around 1."""
    values = torch.randn(weights.shape, generator=generator)
    if name.endswith("norm.weight"):
        weights.copy_(1 + 0.1 * values)
    elif name.endswith(("experts.gate_up_proj", "experts.down_proj")) and "mlp" in name:
        weights.copy_(values * weights.shape[-2] ** -0.5)
    elif name.endswith(("bias", "sinks")):
        weights.copy_(0.3 * values)
    else:
        weights.copy_(values * weights.shape[-1] ** -0.5)
