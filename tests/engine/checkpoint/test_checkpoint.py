"""A whole model folder: opened, found complete, read byte for byte; and the tests' own writer against transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engine.checkpoint import tensor_names
from engine.checkpoint.checkpoint import Checkpoint
from engine.checkpoint.tensor_names import HEAD, expected_tensors, expert_tensor
from engine.errors import CheckpointError, UnsupportedModelError
from tests.checkpoints import edit_json, read_raw_safetensors, write_mixtral, write_raw_safetensors


@pytest.mark.parametrize("options", [{}, {"shards": 3}, {"tied": True}, {"dtype": "bfloat16", "shards": 2}])
def test_every_tensor_is_read_as_it_is_on_disk(tmp_path: Path, options: dict[str, Any]) -> None:
    folder = write_mixtral(tmp_path, **options)
    expected: dict[str, bytes] = {}
    for file in folder.glob("*.safetensors"):
        header, data = read_raw_safetensors(file)
        header.pop("__metadata__")
        expected |= {name: data[slice(*fields["data_offsets"])] for name, fields in header.items()}
    with Checkpoint.open(folder) as checkpoint:
        assert checkpoint.tensors.keys() == dict(expected_tensors(checkpoint.config)).keys() == expected.keys()
        assert checkpoint.total_bytes == sum(map(len, expected.values()))
        for name, content in expected.items():
            buffer = bytearray(len(content))
            checkpoint.read(name, buffer)
            assert buffer == content


def test_reads_into_part_of_a_larger_buffer(tmp_path: Path) -> None:
    with Checkpoint.open(write_mixtral(tmp_path)) as checkpoint:
        both = np.zeros((96, 32), np.float32)
        checkpoint.read(expert_tensor(1, 2, "w1"), both[:48].data)
        checkpoint.read(expert_tensor(1, 2, "w3"), both[48:].data)
        assert both.std(axis=1).all()


def test_a_closed_or_mistaken_read(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(write_mixtral(tmp_path))
    with pytest.raises(CheckpointError, match="holds no tensor 'nothing'"):
        checkpoint.read("nothing", bytearray())
    checkpoint.close()
    with pytest.raises(ValueError, match="closed"):
        checkpoint.read(HEAD, bytearray(checkpoint.tensors[HEAD].nbytes))


def test_the_weights_decide_the_dtype(tmp_path: Path) -> None:
    folder = write_mixtral(tmp_path, dtype="float16")
    edit_json(folder / "config.json", dtype="bfloat16")
    assert Checkpoint.open(folder).config.dtype == "float16"


def test_a_head_of_its_own_wins_over_a_tied_config(tmp_path: Path) -> None:
    folder = write_mixtral(tmp_path)
    edit_json(folder / "config.json", tie_word_embeddings=True)
    assert not Checkpoint.open(folder).config.tie_word_embeddings
    assert Checkpoint.open(write_mixtral(tmp_path, tied=True)).config.tie_word_embeddings


def change_tensor(folder: Path, name: str, **fields: Any) -> None:
    """Change the header's line about one tensor;"""
    file = folder / "model.safetensors"
    header, data = read_raw_safetensors(file)
    header[name].update(fields)
    write_raw_safetensors(file, json.dumps(header).encode(), data)


def test_mixed_float_dtypes_are_let_through(tmp_path: Path) -> None:
    folder, router = write_mixtral(tmp_path), tensor_names.router(0)
    arrays = load_file(folder / "model.safetensors")
    save_file(arrays | {router: arrays[router].astype(np.float16)}, folder / "model.safetensors")
    with Checkpoint.open(folder) as checkpoint:
        assert checkpoint.tensors[router].dtype == "F16"
        assert checkpoint.config.dtype == "float32"


def test_a_wrong_shape(tmp_path: Path) -> None:
    folder = write_mixtral(tmp_path)
    change_tensor(folder, expert_tensor(0, 1, "w2"), shape=[48, 32])
    with pytest.raises(
        CheckpointError, match=r"'model.layers.0.*w2.weight' in 'model.safetensors' has shape \[48, 32\]"
    ):
        Checkpoint.open(folder)


def test_a_dtype_that_is_no_float(tmp_path: Path) -> None:
    folder = write_mixtral(tmp_path)
    change_tensor(folder, expert_tensor(0, 1, "w2"), dtype="I32")
    with pytest.raises(UnsupportedModelError, match="stored as I32, not one of F32, BF16, F16"):
        Checkpoint.open(folder)


@pytest.mark.parametrize(("changes", "message"), [
    ({"num_hidden_layers": 3}, "'model.layers.2.input_layernorm.weight' is missing from 'model.safetensors'"),
    ({"num_hidden_layers": 1}, "holds tensor 'model.layers.1.* which a model as in config.json does not have"),
    ({"num_local_experts": 3}, r"gate.weight' in .* has shape \[4, 32\], config.json asks for \[3, 32\]"),
    ({"vocab_size": 301}, r"has shape \[300, 32\], config.json asks for \[301, 32\]"),
])  # fmt: skip
def test_a_config_of_another_model(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = write_mixtral(tmp_path)
    edit_json(folder / "config.json", **changes)
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(folder)


def test_an_index_that_promises_too_much(tmp_path: Path) -> None:
    folder = write_mixtral(tmp_path, shards=2)
    edit_json(
        folder / "model.safetensors.index.json", weight_map={"lm_head.weight": "model-00001-of-00002.safetensors"}
    )
    with pytest.raises(
        CheckpointError, match=r"promises tensor 'lm_head.weight' in 'model-00001-of-00002.safetensors'"
    ):
        Checkpoint.open(folder)


def test_weights_need_no_tokenizer(tmp_path: Path) -> None:
    with Checkpoint.open(write_mixtral(tmp_path, tokenizer=False)) as checkpoint:
        checkpoint.read(HEAD, bytearray(checkpoint.tensors[HEAD].nbytes))


def test_no_torch_is_imported() -> None:
    code = "import sys, engine.checkpoint.checkpoint, engine.checkpoint.catalog; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_transformers_and_the_checkpoint_agree_on_what_save_pretrained_writes(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    source = write_mixtral(tmp_path / "ours", dtype="bfloat16")
    model, report = transformers.MixtralForCausalLM.from_pretrained(source, output_loading_info=True)
    assert not any(report.values())
    assert model.dtype == torch.bfloat16
    model.save_pretrained(tmp_path / "theirs", max_shard_size="50KB")
    with Checkpoint.open(source) as ours, Checkpoint.open(tmp_path / "theirs") as theirs:
        assert {name: entry.shape for name, entry in ours.tensors.items()} == {
            name: entry.shape for name, entry in theirs.tensors.items()
        }
        for name, entry in ours.tensors.items():
            pair = bytearray(entry.nbytes), bytearray(entry.nbytes)
            ours.read(name, pair[0])
            theirs.read(name, pair[1])
            assert pair[0] == pair[1], name
