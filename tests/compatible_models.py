"""Small random models of families that only transformers' own decoder runs, as `save_pretrained` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

SHAPE: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "moe_intermediate_size": 16, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip
_LATENT: dict[str, Any] = {
    "n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1, "first_k_dense_replace": 1,
    "q_lora_rank": 16, "kv_lora_rank": 16,
    "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "num_key_value_heads": 4,
}  # fmt: skip
_GROUPED: dict[str, Any] = {
    "n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1, "first_k_dense_replace": 1, "head_dim": 8,
    "n_group": 2, "topk_group": 1,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "deepseek_v2": {**_LATENT, "topk_method": "greedy", "norm_topk_prob": False},
    "deepseek_v3": {**_LATENT, "n_group": 2, "topk_group": 1},
    "glm4_moe": _GROUPED,
    "dots1": _GROUPED,
    "qwen3_next": {
        "num_experts": 8, "num_experts_per_tok": 2, "shared_expert_intermediate_size": 16, "head_dim": 8,
        "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
        "num_hidden_layers": 4,
    },
    "ernie4_5_moe": {
        "moe_num_experts": 8, "moe_k": 2, "moe_num_shared_experts": 1, "moe_layer_start_index": 1,
        "moe_layer_end_index": -1, "moe_layer_interval": 1, "head_dim": 8,
    },
    "hunyuan_v1_moe": {"num_experts": 8, "moe_topk": 2, "head_dim": 8},
    "minimax": {"num_local_experts": 8, "num_experts_per_tok": 2, "head_dim": 8},
}  # fmt: skip


def write_compatible(folder: Path, family: str, **changes: object) -> Path:
    """Write a random model of a family.

    Args:
        folder: Where to.
        family: A key of `FAMILIES`.
        changes: What its config shall say otherwise.
    """
    torch.manual_seed(7)
    config = transformers.AutoConfig.for_model(family, **{**SHAPE, **FAMILIES[family], **changes})
    causal: Any = transformers.AutoModelForCausalLM  # comes without types
    model = causal.from_config(config).float()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    model.save_pretrained(folder)
    return folder
