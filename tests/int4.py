"""A folder of floats rounded to 4 bits as GPTQ and AWQ do it, written from the description of their files alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from tests.checkpoints import edit_json

Method = Literal["gptq", "gptq_v2", "awq"]
_AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
_ROUNDED = ("_proj.weight", "w1.weight", "w2.weight", "w3.weight")


def write_int4(folder: Path, out: Path, method: Method, *, group: int = 32, symmetric: bool = False) -> Path:
    """Write a model rounded to 4 bits, and beside it a folder in fp32 of what its weights mean, which is returned.

    Args:
        folder: A model in float32.
        out: Where to write.
        method: How.
        group: Inputs that share a scale.
        symmetric: Whether all zero points are 8.
    """
    meant = out.with_name(f"{out.name}-meant")
    shutil.copytree(folder, out)
    shutil.copytree(folder, meant)
    tensors = load_file(folder / "model.safetensors")
    rounded: dict[str, Any] = {}
    floats: dict[str, Any] = {}
    for name, weights in tensors.items():
        if not name.endswith(_ROUNDED):
            rounded[name] = floats[name] = weights
            continue
        codes, zeros, scales = _round(weights, group, symmetric=symmetric)
        values = scales.astype(np.float32)[:, None] * (codes.reshape(len(scales), group, -1) - zeros[:, None])
        floats[name] = np.ascontiguousarray(values.reshape(codes.shape).T.astype(np.float32))
        prefix = name.removesuffix("weight")
        rounded |= {f"{prefix}{part}": array for part, array in _pack(method, codes, zeros, scales, group).items()}
    rounded = {name: np.ascontiguousarray(array) for name, array in rounded.items()}  # else rows and columns mix
    save_file(rounded, out / "model.safetensors", {"format": "pt"})
    save_file(floats, meant / "model.safetensors", {"format": "pt"})
    settings: dict[str, Any] = {"bits": 4, "group_size": group}
    if method == "awq":
        settings |= {"quant_method": "awq", "version": "gemm", "zero_point": True, "modules_to_not_convert": ["gate"]}
    else:
        settings |= {"quant_method": "gptq", "desc_act": False, "sym": symmetric, "checkpoint_format": method}
    edit_json(out / "config.json", quantization_config=settings)
    assert "quantization_config" not in json.loads((meant / "config.json").read_text(encoding="utf-8"))
    return meant


def _round(weights: NDArray[np.float32], group: int, *, symmetric: bool) -> tuple[NDArray[np.int64], ...]:
    """Codes [inputs, outputs], zero points [groups, outputs] and scales fp16 [groups, outputs]."""
    columns = weights.T.reshape(-1, group, weights.shape[0])
    if symmetric:
        scales = (np.abs(columns).max(axis=1) / 7).astype(np.float16)
        zeros = np.full(scales.shape, 8)
    else:
        low, high = np.minimum(columns.min(axis=1), 0), np.maximum(columns.max(axis=1), 0)
        scales = ((high - low) / 15).astype(np.float16)
        zeros = np.clip(np.rint(-low / scales.astype(np.float32)), 1, 15).astype(int)
    codes = np.rint(columns / scales.astype(np.float32)[:, None]).astype(int) + zeros[:, None]
    return np.clip(codes, 0, 15).reshape(-1, weights.shape[0]), zeros, scales


def _pack(method: Method, codes: Any, zeros: Any, scales: Any, group: int) -> dict[str, Any]:
    """The tensors of one matrix."""
    if method == "awq":
        return {
            "qweight": _along_outputs(codes, _AWQ_ORDER),
            "qzeros": _along_outputs(zeros, _AWQ_ORDER),
            "scales": scales,
        }
    inputs = codes.shape[0]
    return {
        "qweight": _along_outputs(codes.T, list(range(8))).T.copy(),
        "qzeros": _along_outputs(zeros - (1 if method == "gptq" else 0), list(range(8))),
        "scales": scales,
        "g_idx": (np.arange(inputs) // group).astype(np.int32),
    }


def _along_outputs(codes: Any, order: list[int]) -> NDArray[np.int32]:
    """8 columns to a word: the column at `order[place]` in the bits of a place."""
    words = np.zeros((codes.shape[0], codes.shape[1] // 8), dtype=np.uint32)
    for place, column in enumerate(order):
        words |= (codes[:, column::8].astype(np.uint32) & 15) << np.uint32(4 * place)
    return words.view(np.int32)
