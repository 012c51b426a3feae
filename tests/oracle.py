"""transformers' eager models, the oracles that the lean decoder is held against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts

from engine.checkpoint.checkpoint import open_checkpoint
from engine.checkpoint.tensor_names import expected_tensors, name_in_file
from engine.quant.formats import FORMATS
from tests.checkpoints import write_mixtral, write_qwen3_moe, write_safetensors
from tests.quantised import dequantise


def open_oracle(folder: Path) -> Any:
    """The model in fp32, with the plain implementations of attention and experts."""
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager"
    )
    for part in model.modules():
        if isinstance(part, GptOssExperts):  # transformers 5.17 takes neither from the config
            part.alpha = getattr(model.config, "swiglu_alpha", part.alpha)
            part.limit = getattr(model.config, "swiglu_limit", part.limit)
    return model.eval()


def oracle_logits(folder: Path, tokens: list[int]) -> NDArray[np.float32]:
    """Logits float32 [T, V]."""
    with torch.inference_mode():
        logits = open_oracle(folder)(torch.tensor([tokens])).logits[0]
    return np.asarray(logits.numpy(), dtype=np.float32)


def oracle_greedy(folder: Path, tokens: list[int], count: int) -> list[int]:
    """The next `count` greedy tokens, each from a full forward pass."""
    model, sequence = open_oracle(folder), list(tokens)
    with torch.inference_mode():
        for _ in range(count):
            sequence.append(int(model(torch.tensor([sequence])).logits[0, -1].argmax()))
    return sequence[len(tokens) :]


def write_dequantised(model: Path, folder: Path) -> Path:
    """Write what a model's weights mean, as ggml tells, to a folder in fp32 that transformers opens."""
    with open_checkpoint(model) as checkpoint:
        config = checkpoint.config
        shape: dict[str, Any] = {
            "layers": config.layers, "hidden": config.hidden_size, "intermediate": config.intermediate_size,
            "heads": config.heads, "kv_heads": config.kv_heads, "head_dim": config.head_dim,
            "experts": config.experts, "experts_per_token": config.experts_per_token, "vocab_size": config.vocab_size,
            "max_position_embeddings": config.max_position_embeddings, "rms_norm_eps": config.rms_norm_eps,
            "rope_theta": config.rope_theta, "tied": config.tie_word_embeddings, "tokenizer": False,
        }  # fmt: skip
        tensors = {}
        for name, size in expected_tensors(config):
            entry = checkpoint.tensors[name]
            raw = np.empty(entry.nbytes, dtype=np.uint8)
            checkpoint.read(name, raw.data)
            floats = dequantise(
                FORMATS[entry.format], raw.reshape(-1, entry.nbytes // (size[0] if size[1:] else 1)), size[-1]
            )
            tensors[name_in_file(config.family, name)] = floats.reshape(size)
    write = write_qwen3_moe if config.family == "qwen3_moe" else write_mixtral
    write_safetensors(write(folder, **shape) / "model.safetensors", tensors)
    return folder
