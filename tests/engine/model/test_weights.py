"""Weights arrive in their final place, whatever their type on disk; bad ones are refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.checkpoint import tensor_names
from engine.checkpoint.checkpoint import Checkpoint
from engine.devices import CpuDevice
from engine.errors import CheckpointError
from engine.experts.store import ExpertStore
from engine.hardware import probe_hardware
from engine.model.weights import TORCH_DTYPES, checkpoint_bytes, load_dense, load_experts
from tests.checkpoints import read_raw_safetensors, write_mixtral, write_raw_safetensors
from tests.oracle import open_oracle

FILE = "model.safetensors"


def load_all(checkpoint: Checkpoint, device: CpuDevice) -> None:
    """Read everything, with progress that nobody watches."""
    load_dense(checkpoint, device, lambda _: None)
    load_experts(checkpoint, ExpertStore(checkpoint.config, device, torch.float32), lambda _: None)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("tied", [False, True])
def test_every_weight_is_the_files(tmp_path: Path, dtype: Any, tied: bool) -> None:
    folder = write_mixtral(tmp_path / "m", dtype=dtype, tied=tied, shards=2)
    oracle = open_oracle(folder).state_dict()
    device = CpuDevice(probe_hardware())
    read: list[int] = []
    with Checkpoint.open(folder) as checkpoint:
        model = checkpoint.config
        dense = load_dense(checkpoint, device, read.append)
        store = ExpertStore(model, device, TORCH_DTYPES[model.dtype])
        load_experts(checkpoint, store, read.append)
    assert sum(read) == checkpoint_bytes(model)
    assert device.allocated == {"dense": model.dense_bytes}
    attention = [oracle[f"model.layers.1.self_attn.{part}_proj.weight"] for part in "qkv"]
    assert torch.equal(dense.layers[1].qkv.float(), torch.cat(attention))
    assert torch.equal(dense.head.float(), oracle["lm_head.weight"])
    assert (dense.head is dense.embedding) == tied
    weights = store.weights(1, 3)
    assert torch.equal(weights.gate_up.float(), oracle["model.layers.1.mlp.experts.gate_up_proj"][3])
    assert torch.equal(weights.down.float(), oracle["model.layers.1.mlp.experts.down_proj"][3])
    assert weights.flat.dtype == TORCH_DTYPES[dtype]


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [tensor_names.router(0), tensor_names.expert_tensor(1, 2, "w2")])
def test_a_weight_that_is_no_number_is_refused_by_name(tmp_path: Path, poison: float, name: str) -> None:
    folder = write_mixtral(tmp_path / "m")
    header, data = read_raw_safetensors(folder / FILE)
    begin = header[name]["data_offsets"][0]
    data = data[:begin] + np.float32(poison).tobytes() + data[begin + 4 :]
    write_raw_safetensors(folder / FILE, json.dumps(header).encode(), data)
    device = CpuDevice(probe_hardware())
    with Checkpoint.open(folder) as checkpoint, pytest.raises(CheckpointError) as caught:
        load_all(checkpoint, device)
    assert name in caught.value.message
    assert FILE in caught.value.message
    assert "Download" in caught.value.remedy


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    folder = write_mixtral(tmp_path / "m")
    device = CpuDevice(probe_hardware())
    with Checkpoint.open(folder) as checkpoint:
        path = folder / FILE
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
        with pytest.raises(CheckpointError, match="truncated"):
            load_all(checkpoint, device)
