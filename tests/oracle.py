"""transformers' eager Mixtral, the oracle that the lean decoder is held against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import MixtralForCausalLM


def open_oracle(folder: Path) -> Any:
    """The model in fp32, with the plain implementations of attention and experts."""
    model: Any = MixtralForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager"
    )
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
