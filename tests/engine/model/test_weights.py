"""Weights arrive in their final place, whatever their type on disk; bad ones are refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.checkpoint import tensor_names
from engine.checkpoint.checkpoint import Checkpoint, open_checkpoint
from engine.config import DTYPE_FORMATS, ExpertFormats
from engine.devices import CpuDevice, CudaDevice
from engine.devices.gpu_experts import GpuExperts
from engine.devices.gpu_products import GpuMatrix
from engine.errors import CheckpointError
from engine.experts.footprint import held_dense_bytes, host_dense_bytes
from engine.experts.store import ExpertStore
from engine.hardware import probe_hardware
from engine.kernels.gpu_kernels import GpuKernels
from engine.model import weight_reader
from engine.model.weights import DenseWeights, checkpoint_bytes, floats_of, linear, load_dense, load_experts
from engine.quant.formats import FORMATS, TILE_ROWS
from tests.checkpoints import read_raw_safetensors, write_mixtral, write_qwen3_moe, write_raw_safetensors
from tests.engine.devices.fake_cuda import install
from tests.engine.kernels.cuda_emulation.launcher import EmulatedLauncher
from tests.gguf_files import Shape, gguf_model, write_gguf
from tests.oracle import open_oracle
from tests.quantised import dequantise

FILE = "model.safetensors"


# Where a block's scales lie: fp16, but for MXFP4, whose one byte is an exponent.
SCALES = {
    "Q8_0": (0,), "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q2_K": (80, 82), "Q3_K": (108,),
    "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,), "IQ4_XS": (0,), "MXFP4": (0,),
}  # fmt: skip


def load_all(checkpoint: Checkpoint, device: CpuDevice) -> tuple[DenseWeights, ExpertStore]:
    """Read everything, with progress that nobody watches."""
    store = ExpertStore(checkpoint.config, device)
    dense = load_dense(checkpoint, device, lambda _: None)
    load_experts(checkpoint, store, lambda _: None)
    return dense, store


def meant(checkpoint: Checkpoint, name: str) -> torch.Tensor:
    """What a tensor of two dimensions means, as ggml tells."""
    entry = checkpoint.tensors[name]
    raw = np.empty(entry.nbytes, dtype=np.uint8)
    checkpoint.read(name, raw.data)
    return torch.from_numpy(dequantise(FORMATS[entry.format], raw.reshape(entry.shape[0], -1), entry.shape[1]))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("tied", [False, True])
def test_every_weight_is_the_files(tmp_path: Path, dtype: Any, tied: bool) -> None:
    folder = write_mixtral(tmp_path / "m", dtype=dtype, tied=tied, shards=2)
    oracle = open_oracle(folder).state_dict()
    device = CpuDevice(probe_hardware())
    read: list[int] = []
    with open_checkpoint(folder) as checkpoint:
        model = checkpoint.config
        dense = load_dense(checkpoint, device, read.append)
        store = ExpertStore(model, device)
        load_experts(checkpoint, store, read.append)
        assert sum(read) == checkpoint_bytes(checkpoint) == checkpoint.total_bytes
    assert device.allocated == {"dense": model.dense_bytes}
    attention = [oracle[f"model.layers.1.self_attn.{part}_proj.weight"] for part in "qkv"]
    assert torch.equal(floats_of(dense.layers[1].qkv).float(), torch.cat(attention))
    assert torch.equal(floats_of(dense.head).float(), oracle["lm_head.weight"])
    assert (dense.head is dense.embedding) == tied
    weights = store.weights(1, 3)
    gate, up = oracle["model.layers.1.mlp.experts.gate_up_proj"][3].chunk(2)
    assert torch.equal(weights.gate.dense(torch.float32), gate)
    assert torch.equal(weights.up.dense(torch.float32), up)
    assert torch.equal(weights.down.dense(torch.float32), oracle["model.layers.1.mlp.experts.down_proj"][3])
    assert weights.down.format.name == DTYPE_FORMATS[dtype]


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [tensor_names.router(0), tensor_names.expert_tensor(1, 2, "w2")])
def test_a_weight_that_is_no_number_is_refused_by_name(tmp_path: Path, poison: float, name: str) -> None:
    folder = write_mixtral(tmp_path / "m")
    header, data = read_raw_safetensors(folder / FILE)
    begin = header[name]["data_offsets"][0]
    data = data[:begin] + np.float32(poison).tobytes() + data[begin + 4 :]
    write_raw_safetensors(folder / FILE, json.dumps(header).encode(), data)
    device = CpuDevice(probe_hardware())
    with open_checkpoint(folder) as checkpoint, pytest.raises(CheckpointError) as caught:
        load_all(checkpoint, device)
    assert name in caught.value.message
    assert FILE in caught.value.message
    assert "Download" in caught.value.remedy


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    folder = write_mixtral(tmp_path / "m")
    device = CpuDevice(probe_hardware())
    with open_checkpoint(folder) as checkpoint:
        path = folder / FILE
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
        with pytest.raises(CheckpointError, match="truncated"):
            load_all(checkpoint, device)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", ["Q4_K", "F32"])
def test_on_a_gpu_with_our_kernels_blocks_stay_blocks_and_a_look_up_stays_in_ram(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: EmulatedLauncher, name: str, tied: bool
) -> None:
    install(monkeypatch)
    device = CudaDevice(1 << 30)
    device._experts = GpuExperts(GpuKernels(launcher))
    shape = Shape(vocab_size=33, tied=tied)
    path = write_gguf(tmp_path / "m.gguf", "llama", shape=shape, formats=[("Q8_0",) * 3], dense_format=name)
    read: list[int] = []
    with open_checkpoint(path) as checkpoint:
        model = checkpoint.config
        dense = load_dense(checkpoint, device, read.append)
        load_experts(checkpoint, ExpertStore(model, CpuDevice(probe_hardware())), read.append)
        assert sum(read) == checkpoint_bytes(checkpoint)
        expected = load_dense(checkpoint, CpuDevice(probe_hardware()), lambda _: None)
    assert device.allocated == {"dense": held_dense_bytes(model, "cuda", "torch")}
    assert dense.host_bytes == host_dense_bytes(model, "cuda")
    assert (dense.host_bytes == 0) == tied
    tokens = [32, 0, 17]
    assert torch.equal(dense.embed(tokens), expected.embed(tokens))
    for held, floats in (
        (dense.layers[1].qkv, expected.layers[1].qkv),
        (dense.layers[0].output, expected.layers[0].output),
        (dense.head, expected.head),
    ):
        assert isinstance(held, GpuMatrix) == (name == "Q4_K")
        hidden = torch.randn(20, floats_of(floats).shape[1]).bfloat16()
        torch.testing.assert_close(linear(hidden, held), linear(hidden, floats))
    if isinstance(dense.layers[1].qkv, GpuMatrix):
        assert len(dense.layers[1].qkv.parts) == 1, "neighbours in the same format are one matrix"


@pytest.mark.parametrize("name", SCALES)
def test_blocks_keep_their_bits_in_experts_and_become_floats_elsewhere(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_reader, "slice_rows", lambda _: 3 * TILE_ROWS)
    formats: ExpertFormats = (name, "Q8_0", name)
    path = write_gguf(tmp_path / "m.gguf", "llama", shape=Shape(intermediate=512), formats=[formats], dense_format=name)
    read: list[int] = []
    device = CpuDevice(probe_hardware())
    with open_checkpoint(path) as checkpoint:
        model = checkpoint.config
        dense, store = load_dense(checkpoint, device, read.append), ExpertStore(model, device)
        load_experts(checkpoint, store, read.append)
        assert sum(read) == checkpoint_bytes(checkpoint)
        attention = [meant(checkpoint, tensor_names.attention(1, part)) for part in ("q", "k", "v")]
        embedding = meant(checkpoint, tensor_names.EMBEDDING)
        expert = [meant(checkpoint, tensor_names.expert_tensor(1, 3, part)) for part in ("w1", "w3", "w2")]
    assert device.allocated == {"dense": model.dense_bytes}
    assert torch.equal(floats_of(dense.layers[1].qkv), torch.cat(attention).bfloat16())
    assert torch.equal(floats_of(dense.embedding), embedding.bfloat16())
    weights = store.weights(1, 3)
    assert tuple(part.format.name for part in (weights.gate, weights.up, weights.down)) == formats
    for part, floats in zip((weights.gate, weights.up, weights.down), expert, strict=True):
        assert torch.equal(part.dense(torch.float32), floats)


@pytest.mark.parametrize("name", SCALES)
@pytest.mark.parametrize("tensor", ["blk.1.ffn_down_exps.weight", "blk.0.attn_k.weight"])
def test_a_scale_that_is_no_number_is_refused_by_name(tmp_path: Path, name: str, tensor: str) -> None:
    formats: ExpertFormats = (name, name, name)
    for start in SCALES[name]:
        for poison in (b"\xff",) if name == "MXFP4" else (b"\x00\x7c", b"\x01\xfc"):
            model = gguf_model("qwen3moe", formats=[formats], dense_format=name)
            blocks = bytearray(model.tensor(tensor).data)
            place = len(blocks) // 2 // FORMATS[name].block_bytes * FORMATS[name].block_bytes + start
            blocks[place : place + len(poison)] = poison
            model.tensor(tensor).data = bytes(blocks)
            (tmp_path / "m.gguf").write_bytes(model.encode())
            with (
                open_checkpoint(tmp_path / "m.gguf") as checkpoint,
                pytest.raises(CheckpointError, match="NaN or infinite") as caught,
            ):
                load_all(checkpoint, CpuDevice(probe_hardware()))
            assert "layers.1" in caught.value.message or "k_proj" in caught.value.message


def test_floats_of_other_types_become_the_models(tmp_path: Path) -> None:
    folder = write_mixtral(tmp_path / "m", dtype="bfloat16")
    header, data = read_raw_safetensors(folder / FILE)
    odd = [tensor_names.expert_tensor(1, 2, "w3"), tensor_names.attention(0, "k")]
    for name in odd:  # the same weights as fp32, at the end of the file
        begin, end = header[name]["data_offsets"]
        halves = np.frombuffer(data[begin:end], dtype="<u2").astype("<u4") << np.uint32(16)
        header[name + ".was"] = {**header[name]}
        header[name] = {
            "dtype": "F32",
            "shape": header[name]["shape"],
            "data_offsets": [len(data), len(data) + halves.nbytes],
        }
        data += halves.tobytes()
    header = {key.replace("model.", "unused.") if key.endswith(".was") else key: value for key, value in header.items()}
    write_raw_safetensors(folder / FILE, json.dumps(header).encode(), data)
    same = write_mixtral(tmp_path / "same", dtype="bfloat16")
    with open_checkpoint(folder) as checkpoint, open_checkpoint(same) as plain:
        dense, store = load_all(checkpoint, CpuDevice(probe_hardware()))
        expected_dense, expected_store = load_all(plain, CpuDevice(probe_hardware()))
        assert checkpoint_bytes(checkpoint) > checkpoint_bytes(plain)
    assert torch.equal(floats_of(dense.layers[0].qkv), floats_of(expected_dense.layers[0].qkv))
    assert torch.equal(store.layer(1), expected_store.layer(1))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_norms_of_queries_and_keys_are_read_where_there_are_any(tmp_path: Path, dtype: Any) -> None:
    folder = write_qwen3_moe(tmp_path / "m", dtype=dtype)
    oracle = open_oracle(folder).state_dict()
    with open_checkpoint(folder) as checkpoint:
        dense, _ = load_all(checkpoint, CpuDevice(probe_hardware()))
    query_norm, key_norm = dense.layers[1].query_norm, dense.layers[1].key_norm
    assert query_norm is not None
    assert key_norm is not None
    assert torch.equal(query_norm.float(), oracle["model.layers.1.self_attn.q_norm.weight"])
    assert torch.equal(key_norm.float(), oracle["model.layers.1.self_attn.k_norm.weight"])
    with open_checkpoint(write_mixtral(tmp_path / "mixtral")) as checkpoint:
        dense, _ = load_all(checkpoint, CpuDevice(probe_hardware()))
    assert dense.layers[0].query_norm is None


def test_an_arena_on_disk_holds_the_same(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "qwen3moe", formats=[("Q4_K", "Q4_K", "Q6_K")], dense_format="Q4_K")
    device = CpuDevice(probe_hardware())
    with open_checkpoint(path) as checkpoint:
        _, in_ram = load_all(checkpoint, device)
        on_disk = ExpertStore(checkpoint.config, device, tmp_path)
        load_experts(checkpoint, on_disk, lambda _: None)
    assert all(torch.equal(on_disk.layer(layer), in_ram.layer(layer)) for layer in range(2))
    on_disk.close()
