"""Experts out of stacks: gpt-oss's floats and MXFP4 as shipped, and what of them is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.checkpoint.checkpoint import open_checkpoint, read_config
from engine.checkpoint.stacked import to_gguf_blocks
from engine.checkpoint.tensor_names import expert_bias, expert_tensor
from engine.errors import CheckpointError, UnsupportedModelError
from tests.checkpoints import edit_json, write_mixtral
from tests.families import write_family
from tests.mxfp4 import round_to_mxfp4, write_as_shipped

EXPERTS = "model.layers.1.mlp.experts"


def _shipped(folder: Path, **changes: Any) -> Path:
    plain = write_family(
        folder / "plain", "gpt_oss", dtype="bfloat16", hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        **changes,
    )  # fmt: skip
    return write_as_shipped(plain, folder / "shipped")


def _change(folder: Path, name: str, change: Any) -> None:
    tensors = load_file(folder / "model.safetensors")
    changed = change(tensors.pop(name))
    save_file(tensors if changed is None else {**tensors, name: changed}, folder / "model.safetensors")


def _read(folder: Path, name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with open_checkpoint(folder) as checkpoint:
        raw = np.empty(checkpoint.tensors[name].nbytes, dtype=np.uint8)
        checkpoint.read(name, raw.data)
    return raw


def test_blocks_become_those_of_gguf() -> None:
    weights = np.random.default_rng(0).standard_normal((3, 5, 64)).astype(np.float32)
    expected = gguf.quantize(weights, gguf.GGMLQuantizationType.MXFP4).reshape(3, 5, 2, 17)
    codes, scales = round_to_mxfp4(weights)
    for expert in range(3):
        np.testing.assert_array_equal(to_gguf_blocks(codes[expert], scales[expert]), expected[expert])


@pytest.mark.parametrize(("part", "first"), [("w1", 0), ("w3", 1)])
def test_gate_and_up_alternate_in_both_kinds_of_stacks(tmp_path: Path, part: Any, first: int) -> None:
    shipped = _shipped(tmp_path)
    stacks = load_file(tmp_path / "plain/model.safetensors")
    floats = _read(tmp_path / "plain", expert_tensor(1, 2, part)).view(np.int16).reshape(96, 64)
    np.testing.assert_array_equal(floats, stacks[f"{EXPERTS}.gate_up_proj"][2, :, first::2].T.view(torch.int16).numpy())
    for folder in (tmp_path / "plain", shipped):
        bias = _read(folder, expert_bias(1, 2, part)).view(np.int16)
        np.testing.assert_array_equal(
            bias, stacks[f"{EXPERTS}.gate_up_proj_bias"][2, first::2].view(torch.int16).numpy()
        )
    meant = gguf.dequantize(_read(shipped, expert_tensor(1, 2, part)).reshape(96, -1), gguf.GGMLQuantizationType.MXFP4)
    exact = stacks[f"{EXPERTS}.gate_up_proj"][2, :, first::2].T.float().numpy()
    assert np.abs(meant - exact).max() < np.abs(exact).max() / 4


def test_a_shipped_model_is_known_by_its_config_alone(tmp_path: Path) -> None:
    shipped = _shipped(tmp_path)
    config = read_config(shipped)
    assert config.expert_formats == (("MXFP4",) * 3,) * 2
    assert (config.quantization, config.dtype) == ("MXFP4", "bfloat16")
    with open_checkpoint(shipped) as checkpoint:
        assert checkpoint.config == config
    # Blocks of 17 bytes for 32 weights, and biases in fp32.
    assert config.layer_expert_bytes(0) == 3 * 64 * 96 // 32 * 17 + 4 * (2 * 96 + 64)


def test_a_shipped_model_without_a_head_of_its_own(tmp_path: Path) -> None:
    shipped = _shipped(tmp_path, tie_word_embeddings=True)
    with open_checkpoint(shipped) as checkpoint:
        tied = checkpoint.config
    edit_json(shipped / "config.json", tie_word_embeddings=False)
    own = read_config(shipped)
    assert tied.tie_word_embeddings
    assert tied.dense_packed_bytes == (own.dense_packed_bytes or 0) - 2 * 300 * 64


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("gate_up_proj_scales", lambda _: None, "gate_up_proj_scales' is missing from 'model.safetensors'"),
        ("down_proj_blocks", lambda _: None, "down_proj_blocks' is missing"),
        ("down_proj_bias", lambda _: None, "down_proj_bias' is missing"),
        ("gate_up_proj_blocks", lambda held: held[:, :-2].contiguous(), r"has shape \[6, 190, 2, 16\], .* \[6, 192,"),
        ("gate_up_proj_scales", lambda held: held[:5].contiguous(), r"has shape \[5, 192, 2\]"),
        ("gate_up_proj_bias", lambda held: held[:, :-1].contiguous(), r"has shape \[6, 191\]"),
    ],
)
def test_damaged_stacks(tmp_path: Path, name: str, change: Any, message: str) -> None:
    shipped = _shipped(tmp_path)
    _change(shipped, f"{EXPERTS}.{name}", change)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(shipped)


def test_scales_in_another_type_are_refused(tmp_path: Path) -> None:
    shipped = _shipped(tmp_path)
    _change(shipped, f"{EXPERTS}.down_proj_scales", lambda held: held.float())
    with pytest.raises(UnsupportedModelError, match=r"down_proj_scales' .* is stored as F32, not one of U8"):
        open_checkpoint(shipped)


@pytest.mark.parametrize(
    ("widths", "said"), [({"intermediate_size": 80}, "64 by 80"), ({"hidden_size": 72, "head_dim": 16}, "72 by 96")]
)
def test_widths_that_are_no_whole_blocks(tmp_path: Path, widths: dict[str, int], said: str) -> None:
    shipped = _shipped(tmp_path)
    edit_json(shipped / "config.json", **widths)
    with pytest.raises(UnsupportedModelError, match=f"experts of {said} are in MXFP4, whose blocks hold 32 weights"):
        read_config(shipped)


def test_only_gpt_oss_ships_in_mxfp4(tmp_path: Path) -> None:
    folder = write_mixtral(tmp_path / "m", hidden=64, intermediate=64)
    edit_json(folder / "config.json", quantization_config={"quant_method": "mxfp4"})
    with pytest.raises(UnsupportedModelError, match="mxfp4"):
        read_config(folder)


def test_other_ways_to_quantise_gpt_oss_are_refused(tmp_path: Path) -> None:
    shipped = _shipped(tmp_path)
    edit_json(shipped / "config.json", quantization_config={"quant_method": "gptq"})
    with pytest.raises(UnsupportedModelError, match=r"quantized .'gptq'.*gpt-oss"):
        read_config(shipped)
