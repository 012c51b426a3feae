"""gpt-oss as its publisher ships it: experts in MXFP4, everything else in bfloat16."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.utils.quantization_config import Mxfp4Config

from tests.checkpoints import edit_json

BLOCK = 32


def write_as_shipped(folder: Path, out: Path) -> Path:
    """Round the experts of a folder in bfloat16 as the publisher did; returns the new folder.

    Args:
        folder: What `write_family` wrote.
        out: Where to write.
    """
    shutil.copytree(folder, out)
    tensors: dict[str, torch.Tensor] = {}
    for name, values in load_file(folder / "model.safetensors").items():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            blocks, scales = round_to_mxfp4(values.float().transpose(1, 2).numpy())
            tensors |= {f"{name}_blocks": torch.from_numpy(blocks), f"{name}_scales": torch.from_numpy(scales)}
        else:
            tensors[name] = values
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    edit_json(out / "config.json", quantization_config={"quant_method": "mxfp4"})
    return out


def round_to_mxfp4(weights: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Codes [..., columns / 32, 16], two neighbours to a byte, and scales [..., columns / 32] of weights."""
    raw = gguf.quantize(np.ascontiguousarray(weights), gguf.GGMLQuantizationType.MXFP4)
    blocks = raw.reshape(*weights.shape[:-1], -1, 17)
    codes = np.concatenate([blocks[..., 1:] & 15, blocks[..., 1:] >> 4], axis=-1)  # in the order of the columns
    return codes[..., 0::2] | codes[..., 1::2] << 4, np.ascontiguousarray(blocks[..., 0])


def shipped_logits(folder: Path, tokens: list[int]) -> NDArray[np.float32]:
    """What transformers makes of such a folder, unpacked by itself, in fp32: logits [T, V]."""
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.bfloat16,
        attn_implementation="eager",
        experts_implementation="eager",
        quantization_config=Mxfp4Config(dequantize=True),
    )
    with torch.inference_mode():
        logits = loaded.float().eval()(torch.tensor([tokens])).logits[0]
    return np.asarray(logits.numpy(), dtype=np.float32)
