"""A whole model folder: opened, found complete, read byte for byte; and the tests' own writer against transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engine.checkpoint import tensor_names
from engine.checkpoint.checkpoint import open_checkpoint, read_config
from engine.checkpoint.tensor_names import HEAD, expected_tensors, expert_tensor
from engine.errors import CheckpointError, UnsupportedModelError
from tests.checkpoints import edit_json, read_raw_safetensors, write_mixtral, write_qwen3_moe, write_raw_safetensors


@pytest.mark.parametrize("options", [{}, {"shards": 3}, {"tied": True}, {"dtype": "bfloat16", "shards": 2}])
def test_every_tensor_is_read_as_it_is_on_disk(tmp_path: Path, options: dict[str, Any]) -> None:
    folder = write_mixtral(tmp_path, **options)
    expected: dict[str, bytes] = {}
    for file in folder.glob("*.safetensors"):
        header, data = read_raw_safetensors(file)
        header.pop("__metadata__")
        expected |= {name: data[slice(*fields["data_offsets"])] for name, fields in header.items()}
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.tensors.keys() == dict(expected_tensors(checkpoint.config)).keys() == expected.keys()
        assert checkpoint.total_bytes == sum(map(len, expected.values()))
        for name, content in expected.items():
            buffer = bytearray(len(content))
            checkpoint.read(name, buffer)
            assert buffer == content


@pytest.mark.parametrize("options", [{}, {"shards": 3, "tied": True}])
def test_a_qwen3_moe_goes_by_the_engines_names(tmp_path: Path, options: dict[str, Any]) -> None:
    folder = write_qwen3_moe(tmp_path, **options)
    arrays = {name: array for file in folder.glob("*.safetensors") for name, array in load_file(file).items()}
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.tensors.keys() == dict(expected_tensors(checkpoint.config)).keys()
        assert sorted(entry.name for entry in checkpoint.tensors.values()) == sorted(arrays)
        for part, projection in (("w1", "gate_proj"), ("w3", "up_proj"), ("w2", "down_proj")):
            array = arrays[f"model.layers.1.mlp.experts.3.{projection}.weight"]
            buffer = np.empty_like(array)
            checkpoint.read(expert_tensor(1, 3, part), buffer.data)  # type: ignore[arg-type]
            np.testing.assert_array_equal(buffer, array)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.layers.0.mlp.gate.weight", "'model.layers.0.mlp.gate.weight' is missing from 'model.safetensors'"),
        ("model.layers.1.self_attn.q_norm.weight", "'model.layers.1.self_attn.q_norm.weight' is missing"),
    ],
)
def test_a_qwen3_moe_that_lacks_a_tensor(tmp_path: Path, name: str, message: str) -> None:
    folder = write_qwen3_moe(tmp_path)
    arrays = load_file(folder / "model.safetensors")
    arrays["model.layers.0.block_sparse_moe.gate.weight"] = arrays.pop(name)
    save_file(arrays, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(folder)


def test_the_config_alone_and_with_the_weights(tmp_path: Path) -> None:
    for folder in (write_mixtral(tmp_path / "a"), write_qwen3_moe(tmp_path / "b")):
        with open_checkpoint(folder) as checkpoint:
            assert read_config(folder) == checkpoint.config


def test_reads_into_part_of_a_larger_buffer(tmp_path: Path) -> None:
    with open_checkpoint(write_mixtral(tmp_path)) as checkpoint:
        both = np.zeros((96, 32), np.float32)
        checkpoint.read(expert_tensor(1, 2, "w1"), both[:48].data)
        checkpoint.read(expert_tensor(1, 2, "w3"), both[48:].data)
        assert both.std(axis=1).all()


def test_a_closed_or_mistaken_read(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_mixtral(tmp_path))
    with pytest.raises(CheckpointError, match="holds no tensor 'nothing'"):
        checkpoint.read("nothing", bytearray())
    checkpoint.close()
    with pytest.raises(ValueError, match="closed"):
        checkpoint.read(HEAD, bytearray(checkpoint.tensors[HEAD].nbytes))


def test_the_weights_decide_the_dtype(tmp_path: Path) -> None:
    folder = write_mixtral(tmp_path, dtype="float16")
    edit_json(folder / "config.json", dtype="bfloat16")
    assert open_checkpoint(folder).config.dtype == "float16"


def test_a_head_of_its_own_wins_over_a_tied_config(tmp_path: Path) -> None:
    folder = write_mixtral(tmp_path)
    edit_json(folder / "config.json", tie_word_embeddings=True)
    assert not open_checkpoint(folder).config.tie_word_embeddings
    assert open_checkpoint(write_mixtral(tmp_path, tied=True)).config.tie_word_embeddings


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
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.tensors[router].format == "F16"
        assert checkpoint.config.dtype == "float32"


def test_a_wrong_shape(tmp_path: Path) -> None:
    folder = write_mixtral(tmp_path)
    change_tensor(folder, expert_tensor(0, 1, "w2"), shape=[48, 32])
    with pytest.raises(
        CheckpointError, match=r"'model.layers.0.*w2.weight' in 'model.safetensors' has shape \[48, 32\]"
    ):
        open_checkpoint(folder)


def test_a_dtype_that_is_no_float(tmp_path: Path) -> None:
    folder = write_mixtral(tmp_path)
    change_tensor(folder, expert_tensor(0, 1, "w2"), dtype="I32")
    with pytest.raises(UnsupportedModelError, match="stored as I32, not one of F32, BF16, F16"):
        open_checkpoint(folder)


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
        open_checkpoint(folder)


def test_an_index_that_promises_too_much(tmp_path: Path) -> None:
    folder = write_mixtral(tmp_path, shards=2)
    edit_json(
        folder / "model.safetensors.index.json", weight_map={"lm_head.weight": "model-00001-of-00002.safetensors"}
    )
    with pytest.raises(
        CheckpointError, match=r"promises tensor 'lm_head.weight' in 'model-00001-of-00002.safetensors'"
    ):
        open_checkpoint(folder)


def test_weights_need_no_tokenizer(tmp_path: Path) -> None:
    with open_checkpoint(write_mixtral(tmp_path, tokenizer=False)) as checkpoint:
        checkpoint.read(HEAD, bytearray(checkpoint.tensors[HEAD].nbytes))


def test_no_torch_is_imported() -> None:
    code = (
        "import sys, engine.checkpoint.checkpoint, engine.checkpoint.catalog; "
        "sys.exit(bool({'torch', 'transformers', 'gguf'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("write", [write_mixtral, write_qwen3_moe])
def test_transformers_and_the_checkpoint_agree_on_what_save_pretrained_writes(
    tmp_path: Path, write: Callable[..., Path]
) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    source = write(tmp_path / "ours", dtype="bfloat16")
    model, report = transformers.AutoModelForCausalLM.from_pretrained(source, output_loading_info=True)
    assert not any(report.values())
    assert model.dtype == torch.bfloat16
    model.save_pretrained(tmp_path / "theirs", max_shard_size="50KB")
    with open_checkpoint(source) as ours, open_checkpoint(tmp_path / "theirs") as theirs:
        assert replace(theirs.config, name=ours.config.name) == ours.config
        assert {name: entry.shape for name, entry in ours.tensors.items()} == {
            name: entry.shape for name, entry in theirs.tensors.items()
        }
        for name, entry in ours.tensors.items():
            pair = bytearray(entry.nbytes), bytearray(entry.nbytes)
            ours.read(name, pair[0])
            theirs.read(name, pair[1])
            assert pair[0] == pair[1], name
