"""GPTQ's and AWQ's int4 folders: what they mean, what they take, and what of them is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from engine import Engine, EngineConfig
from engine.checkpoint.checkpoint import open_checkpoint, read_config
from engine.checkpoint.int4 import is_rounded
from engine.checkpoint.tensor_names import expected_tensors, name_in_file
from engine.devices import CpuDevice
from engine.errors import CheckpointError, UnsupportedModelError
from engine.hardware import probe_hardware
from engine.kernels.cpu_library import available_isas
from engine.model.native_weights import load_native_dense
from engine.quant.formats import FORMATS
from tests.checkpoints import edit_json, read_raw_safetensors, write_mixtral, write_qwen3_moe, write_raw_safetensors
from tests.families import write_family
from tests.int4 import Method, write_int4
from tests.oracle import oracle_logits
from tests.quantised import dequantise

METHODS: tuple[Method, ...] = ("gptq", "gptq_v2", "awq")
SHAPE: dict[str, Any] = {"hidden": 64, "intermediate": 96, "heads": 4, "kv_heads": 2, "head_dim": 16, "layers": 2}
TOKENS = [int(token) for token in np.random.default_rng(2).integers(0, 300, 24)]
CPU = EngineConfig(device="cpu", isa="torch", context_tokens=64, cpu_threads=1)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("group", [32, 64])
@pytest.mark.parametrize("method", METHODS)
def test_every_weight_is_what_its_code_means(tmp_path: Path, method: Method, group: int, symmetric: bool) -> None:
    shape = {**SHAPE, "intermediate": 128}
    meant = write_int4(
        write_mixtral(tmp_path / "m", **shape), tmp_path / "int4", method, group=group, symmetric=symmetric
    )
    expected = load_file(meant / "model.safetensors")
    with open_checkpoint(tmp_path / "int4") as checkpoint:
        assert checkpoint.config.quantization == f"{'AWQ' if method == 'awq' else 'GPTQ'} int4"
        for name, size in expected_tensors(checkpoint.config):
            entry = checkpoint.tensors[name]
            assert entry.format == ("Q4_1" if is_rounded(name) else "F32")
            if not is_rounded(name):
                continue
            raw = np.empty(entry.nbytes, np.uint8)
            checkpoint.read(name, raw.data)
            floats = dequantise(FORMATS["Q4_1"], raw.reshape(size[0], -1), size[1])
            # Only the minimum is rounded, to fp16; it is exact where the zero point is 8.
            atol = 0 if symmetric else 2**-11 * float(np.abs(floats).max()) * 2
            np.testing.assert_allclose(floats, expected[name_in_file("mixtral", name)], atol=atol, rtol=0)


# Phi-3.5-MoE's router leaps where two scores are 2 % apart: with activations rounded to int8, other tokens leap.
@pytest.mark.parametrize(
    ("family", "lane"),
    [("phimoe", "torch"), *product(("mixtral", "qwen3_moe"), ("torch", *available_isas()[-1:]))],
)
@pytest.mark.parametrize("method", METHODS)
def test_logits_are_those_of_the_dequantised_weights(tmp_path: Path, family: str, method: Method, lane: Any) -> None:
    if family == "phimoe":
        folder = write_family(tmp_path / "m", family, hidden_size=64, intermediate_size=96)
    else:
        folder = (write_mixtral if family == "mixtral" else write_qwen3_moe)(tmp_path / "m", **SHAPE)
    expected = oracle_logits(write_int4(folder, tmp_path / "int4", method), TOKENS)
    with Engine.load(str(tmp_path / "int4"), replace(CPU, isa=lane)) as engine:
        assert engine.model.expert_formats == (("Q4_1",) * 3,) * engine.model.layers
        logits = engine.logits(TOKENS)
    cosines = (logits * expected).sum(axis=1) / np.linalg.norm(logits, axis=1) / np.linalg.norm(expected, axis=1)
    assert float(np.median(cosines)) >= 0.999
    if lane == "torch":
        np.testing.assert_allclose(logits, expected, atol=2e-3 * float(np.abs(expected).max()), rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_a_plan_without_weights_counts_what_a_load_takes(tmp_path: Path, method: Method) -> None:
    write_int4(write_mixtral(tmp_path / "m", **SHAPE), tmp_path / "int4", method)
    config = read_config(tmp_path / "int4")
    device = CpuDevice(probe_hardware())
    with open_checkpoint(tmp_path / "int4") as checkpoint:
        assert checkpoint.config == config
        load_native_dense(checkpoint, device, lambda _: None)
        assert device.allocated == {"dense": config.dense_packed_bytes}
    assert config.layer_expert_bytes(0) == sum(FORMATS["Q4_1"].packed_bytes(*s) for s in [(96, 64), (96, 64), (64, 96)])


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("gptq", {"bits": 8}, "bits of gptq is 8, of which only 4"),
        ("gptq", {"desc_act": True}, "desc_act of gptq is True, of which only False"),
        ("gptq", {"desc_act": 0}, "desc_act of gptq is 0, of which only False"),
        ("gptq", {"checkpoint_format": "marlin"}, "checkpoint_format of gptq is 'marlin', of which only gptq"),
        ("awq", {"version": "gemv"}, "version of awq is 'gemv', of which only gemm"),
        ("awq", {"zero_point": False}, "zero_point of awq is False, of which only True"),
        ("awq", {"quant_method": "fp8"}, "quantized .'fp8'.*not supported for Mixtral yet"),
    ],
)
def test_variants_that_are_not_run(tmp_path: Path, method: Method, changes: dict[str, Any], message: str) -> None:
    write_int4(write_mixtral(tmp_path / "m", **SHAPE), tmp_path / "int4", method)
    _edit_settings(tmp_path / "int4", **changes)
    with pytest.raises(UnsupportedModelError, match=message) as caught:
        read_config(tmp_path / "int4")
    assert "GGUF" in caught.value.remedy


@pytest.mark.parametrize("value", [-1, 0, 16, 48, "128", None, True, 1 << 40])
def test_groups_that_cannot_be(tmp_path: Path, value: object) -> None:
    write_int4(write_mixtral(tmp_path / "m", **SHAPE), tmp_path / "int4", "gptq")
    _edit_settings(tmp_path / "int4", group_size=value)
    with pytest.raises(CheckpointError, match="group_size is"):
        read_config(tmp_path / "int4")


def test_a_matrix_of_no_whole_groups_is_refused(tmp_path: Path) -> None:
    write_int4(write_mixtral(tmp_path / "m", **SHAPE), tmp_path / "int4", "gptq")
    _edit_settings(tmp_path / "int4", group_size=128)
    with pytest.raises(UnsupportedModelError, match="64 inputs and 64 outputs, not whole groups of 128"):
        open_checkpoint(tmp_path / "int4")


@pytest.mark.parametrize(("part", "message"), [("qweight", "qweight"), ("scales", "qweight"), ("qzeros", "qweight")])
def test_a_missing_part_is_named(tmp_path: Path, part: str, message: str) -> None:
    write_int4(write_mixtral(tmp_path / "m", **SHAPE), tmp_path / "int4", "awq")
    header, data = read_raw_safetensors(tmp_path / "int4" / "model.safetensors")
    name = f"model.layers.1.self_attn.k_proj.{part}"
    header[f"unused.{part}"] = header.pop(name)
    write_raw_safetensors(tmp_path / "int4" / "model.safetensors", json.dumps(header).encode(), data)
    with pytest.raises(CheckpointError, match=f"k_proj.{message}' is missing"):
        open_checkpoint(tmp_path / "int4")


def test_gptqs_words_are_not_taken_for_awqs(tmp_path: Path) -> None:
    write_int4(write_mixtral(tmp_path / "m", **SHAPE), tmp_path / "int4", "gptq")
    _edit_settings(tmp_path / "int4", quant_method="awq", version="gemm", zero_point=True)
    with pytest.raises(CheckpointError, match=r"q_proj.qweight' .* is I32 .*asks for I32 \[64, 8\]"):
        open_checkpoint(tmp_path / "int4")


def test_families_with_parts_of_their_own_are_refused(tmp_path: Path) -> None:
    folder = write_family(tmp_path / "m", "qwen2_moe")
    edit_json(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 32})
    with pytest.raises(UnsupportedModelError, match=r"quantized \('gptq'\), which is not supported for Qwen2-MoE yet"):
        read_config(folder)


def test_a_scale_that_is_no_number_is_refused(tmp_path: Path) -> None:
    write_int4(write_mixtral(tmp_path / "m", **SHAPE), tmp_path / "int4", "gptq")
    header, data = read_raw_safetensors(tmp_path / "int4" / "model.safetensors")
    begin = header["model.layers.1.block_sparse_moe.experts.2.w2.scales"]["data_offsets"][0]
    data = data[:begin] + np.float16(np.nan).tobytes() + data[begin + 2 :]
    write_raw_safetensors(tmp_path / "int4" / "model.safetensors", json.dumps(header).encode(), data)
    with pytest.raises(CheckpointError, match="NaN or infinite weights"):
        Engine.load(str(tmp_path / "int4"), CPU)


def _edit_settings(folder: Path, **changes: Any) -> None:
    """Change fields of quantization_config."""
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    edit_json(folder / "config.json", quantization_config={**content["quantization_config"], **changes})
