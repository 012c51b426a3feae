"""The bad-input matrix: every way in which a folder can be wrong or hostile, opened as a user would open it.

Each row ends in a typed error: one short sentence and one action, in bounded time. Then fuzzing: whatever the bytes
are, nothing but a `RooftopError` comes out.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from engine.checkpoint.catalog import resolve_model
from engine.checkpoint.checkpoint import open_checkpoint
from engine.checkpoint.model_config import read_model_config
from engine.checkpoint.safetensors_file import read_header
from engine.errors import CheckpointError, RooftopError, UnsupportedModelError
from engine.tokenizer import ChatTokenizer
from tests.checkpoints import edit_json, read_raw_safetensors, write_mixtral, write_raw_safetensors
from tests.examples import examples

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
NORM = "model.norm.weight"
MAX_SECONDS = 10.0
MAX_MESSAGE_CHARS = 600

fuzzing = examples(120, HealthCheck.function_scoped_fixture)


def open_all(folder: Path) -> None:
    """What opening a model does: find it, check it, ask for its tokenizer, read a tensor."""
    with open_checkpoint(resolve_model(str(folder))) as checkpoint:
        ChatTokenizer.open(checkpoint.path)
        checkpoint.read(NORM, bytearray(checkpoint.tensors[NORM].nbytes))


def change_header(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Rewrite the header of the one weights file."""
    header, data = read_raw_safetensors(folder / WEIGHTS)
    change(header)
    write_raw_safetensors(folder / WEIGHTS, json.dumps(header).encode(), data)


def remove_all(folder: Path) -> None:
    """Empty a folder."""
    for path in folder.iterdir():
        path.unlink()


def keep_only_pickles(folder: Path) -> None:
    """Turn a safetensors folder into one of the old kind."""
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def keep_only_gguf(folder: Path) -> None:
    """A folder that holds one GGUF file."""
    remove_all(folder)
    (folder / "mixtral.Q4_K_M.gguf").write_bytes(b"GGUF")


def write_index(folder: Path, weight_map: object) -> None:
    """Replace the weights file by an index."""
    (folder / WEIGHTS).unlink()
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")


def drop_norm(folder: Path) -> None:
    """Take the final norm, and its bytes, out of the weights."""
    header, data = read_raw_safetensors(folder / WEIGHTS)
    begin, end = header.pop(NORM)["data_offsets"]
    for name, fields in header.items():
        if name != "__metadata__" and fields["data_offsets"][0] >= end:
            fields["data_offsets"] = [offset - (end - begin) for offset in fields["data_offsets"]]
    write_raw_safetensors(folder / WEIGHTS, json.dumps(header).encode(), data[:begin] + data[end:])


def config(**changes: Any) -> Callable[[Path], None]:
    """Change fields of config.json."""
    return lambda folder: edit_json(folder / "config.json", **changes)


MATRIX: dict[str, tuple[Callable[[Path], object], type[RooftopError], str]] = {
    "missing folder": (
        lambda folder: folder.rename(folder.with_name("moved")),
        CheckpointError,
        "There is no folder or file '.*/model'",
    ),
    "empty folder": (remove_all, CheckpointError, "The folder '.*/model' is empty"),
    "dense model": (
        config(model_type="llama", num_local_experts=..., num_experts_per_tok=...),
        UnsupportedModelError,
        "'llama'.* is a dense model",
    ),
    "unknown architecture": (
        config(model_type="zebra_moe", num_experts=4),
        UnsupportedModelError,
        "architecture 'zebra_moe', not supported",
    ),
    "quantized": (config(quantization_config={"quant_method": "fp8"}), UnsupportedModelError, "quantized .'fp8'"),
    "truncated weights": (
        lambda folder: os.truncate(folder / WEIGHTS, (folder / WEIGHTS).stat().st_size - 100),
        CheckpointError,
        "'model.safetensors' is truncated",
    ),
    "weights cut to nothing": (
        lambda folder: os.truncate(folder / WEIGHTS, 0),
        CheckpointError,
        "'model.safetensors' is truncated",
    ),
    "an HTML page for weights": (
        lambda folder: (folder / WEIGHTS).write_text("<!DOCTYPE html><title>403 Forbidden</title>"),
        CheckpointError,
        "'model.safetensors' claims a header of",
    ),
    "a header that lies about offsets": (
        lambda folder: change_header(folder, lambda header: header[NORM].update(data_offsets=[2**40, 2**40 + 128])),
        CheckpointError,
        "'model.safetensors' is .* tensor",
    ),
    "a header with a huge shape": (
        lambda folder: change_header(folder, lambda header: header[NORM].update(shape=[2**40, 2**40])),
        CheckpointError,
        "'model.safetensors' is damaged: tensor 'model.norm.weight'",
    ),
    "an index that names ../x": (
        lambda folder: write_index(folder, {NORM: "../x.safetensors"}),
        CheckpointError,
        "names the file '../x.safetensors'",
    ),
    "an index of a million entries": (
        lambda folder: write_index(folder, {f"t{number}": "x.safetensors" for number in range(10**6)}),
        CheckpointError,
        "'model.safetensors.index.json' .* over the limit",
    ),
    "half a download": (
        lambda folder: write_index(folder, {NORM: "model-00001-of-00002.safetensors"}),
        CheckpointError,
        "1 of 1 files .* missing, the first is 'model-00001-of-00002.safetensors'",
    ),
    "a missing tensor": (drop_norm, CheckpointError, "'model.norm.weight' is missing from 'model.safetensors'"),
    "a wrong shape": (
        lambda folder: change_header(folder, lambda header: header[NORM].update(shape=[8, 4])),
        CheckpointError,
        r"'model.norm.weight' in 'model.safetensors' has shape \[8, 4\], config.json asks for \[32\]",
    ),
    "pickle only": (keep_only_pickles, CheckpointError, "only pickle files, which can run code"),
    "a gguf file of four bytes": (keep_only_gguf, CheckpointError, "'mixtral.Q4_K_M.gguf' is truncated"),
    "10^9 layers": (config(num_hidden_layers=10**9), CheckpointError, "num_hidden_layers is 1000000000, not"),
    "the most layers and experts": (
        config(num_hidden_layers=512, num_local_experts=1024),
        CheckpointError,
        "config.json asks for .1024, 32.|is missing from",
    ),
    "a number of 5000 digits": (
        lambda folder: (folder / "config.json").write_text('{"hidden_size": ' + "9" * 5000 + "}"),
        CheckpointError,
        "'config.json' is not valid JSON",
    ),
    "a config of 5 MB": (config(padding="x" * (5 << 20)), CheckpointError, "'config.json' is .* over the limit"),
    "a config that nests": (
        lambda folder: (folder / "config.json").write_text('{"a":' * 100_000),
        CheckpointError,
        "'config.json' is not valid JSON",
    ),
    "a value of a megabyte": (config(num_hidden_layers="x" * (1 << 20)), CheckpointError, "num_hidden_layers is 'xx"),
    "a field of a megabyte": (
        config(rope_parameters={"rope_type": "default", "y" * (1 << 20): {}}),
        UnsupportedModelError,
        "rotary",
    ),
    "no config": (lambda folder: (folder / "config.json").unlink(), CheckpointError, "config.json is missing"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), CheckpointError, "tokenizer.json is missing"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound model."""
    return write_mixtral(tmp_path / "model")


def test_the_sound_model_opens(folder: Path) -> None:
    open_all(folder)


@pytest.mark.parametrize("row", MATRIX)
def test_matrix(folder: Path, row: str) -> None:
    break_it, kind, message = MATRIX[row]
    break_it(folder)
    started = time.monotonic()
    with pytest.raises(kind, match=message) as caught:
        open_all(folder)
    assert time.monotonic() - started < MAX_SECONDS
    error = caught.value
    assert len(str(error)) <= MAX_MESSAGE_CHARS
    assert error.message.endswith(".")
    assert error.remedy.endswith(".")
    assert "\n" not in error.message + error.remedy


def test_a_shard_cut_while_the_model_is_open(tmp_path: Path) -> None:
    folder = write_mixtral(tmp_path, shards=2)
    with open_checkpoint(folder) as checkpoint:
        entry = checkpoint.tensors[NORM]
        checkpoint.read(NORM, bytearray(entry.nbytes))
        os.truncate(entry.file, entry.offset)
        with pytest.raises(CheckpointError, match="is truncated") as caught:
            checkpoint.read(NORM, bytearray(entry.nbytes))
    assert entry.file.name in caught.value.message


def only_rooftop_errors(action: Callable[[], object]) -> None:
    """Run it; it may succeed or raise one of ours, short. Anything else fails the test."""
    message = ""
    try:
        action()
    except RooftopError as error:
        message = str(error)
    assert len(message) <= MAX_MESSAGE_CHARS
    assert message.isprintable()


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from([0, 1, 2, 8, 32, 10**9, 2**63, 2**64, -1, "silu", "mixtral", "default", "float32", "F32"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)


@fuzzing
@given(content=st.binary(max_size=200))
def test_random_bytes_for_weights(folder: Path, content: bytes) -> None:
    (folder / WEIGHTS).write_bytes(content)
    only_rooftop_errors(lambda: read_header(folder / WEIGHTS))


@fuzzing
@given(header=st.binary(max_size=200), data=st.binary(max_size=16))
def test_random_bytes_for_a_header(folder: Path, header: bytes, data: bytes) -> None:
    write_raw_safetensors(folder / WEIGHTS, b"{" + header, data)
    only_rooftop_errors(lambda: read_header(folder / WEIGHTS))


@fuzzing
@given(data=st.data())
def test_a_mutated_header(tmp_path: Path, data: st.DataObject) -> None:
    folder = write_mixtral(tmp_path, layers=1, experts=2)
    header, body = read_raw_safetensors(folder / WEIGHTS)
    name = data.draw(st.sampled_from(sorted(header)))
    match data.draw(st.sampled_from(["value", "field", "name", "drop", "offsets"])):
        case "value":
            header[name] = data.draw(json_values)
        case "field" | "offsets" if name == "__metadata__":
            header[name] = data.draw(json_values)
        case "field":
            header[name][data.draw(st.sampled_from(["dtype", "shape", "data_offsets"]))] = data.draw(json_values)
        case "name":
            header[data.draw(st.text(max_size=30))] = header.pop(name)
        case "offsets":
            header[name]["data_offsets"] = data.draw(st.lists(st.integers(-4, len(body) + 4), min_size=2, max_size=2))
        case _:
            del header[name]
    write_raw_safetensors(folder / WEIGHTS, json.dumps(header).encode(), body)
    only_rooftop_errors(lambda: open_all(folder))


@fuzzing
@given(position=st.integers(0, 4000), byte=st.integers(0, 255))
def test_one_wrong_byte(folder: Path, position: int, byte: int) -> None:
    sound = (folder / WEIGHTS).read_bytes()
    raw = bytearray(sound)
    raw[position] = byte
    (folder / WEIGHTS).write_bytes(raw)
    only_rooftop_errors(lambda: open_all(folder))
    (folder / WEIGHTS).write_bytes(sound)


@fuzzing
@given(share=st.floats(0, 1, exclude_max=True))
def test_weights_cut_anywhere(folder: Path, share: float) -> None:
    sound = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(sound[: int(len(sound) * share)])
    with pytest.raises(CheckpointError, match=r"'model.safetensors' is truncated"):
        open_all(folder)
    (folder / WEIGHTS).write_bytes(sound)


@fuzzing
@given(data=st.data())
def test_a_mutated_config(folder: Path, data: st.DataObject) -> None:
    edited = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    keys = [*sorted(edited), "rope_scaling", "rope_theta", "torch_dtype", "quantization_config", "text_config"]
    for key in data.draw(st.lists(st.sampled_from(keys), min_size=1, max_size=3)):
        edited[key] = data.draw(json_values)
    path = folder / "config.json"
    sound = path.read_bytes()
    path.write_text(json.dumps(edited), encoding="utf-8")
    only_rooftop_errors(lambda: open_all(folder))
    path.write_bytes(sound)


@fuzzing
@given(content=st.binary(max_size=100))
def test_random_bytes_for_a_config(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    only_rooftop_errors(lambda: read_model_config(folder))


@fuzzing
@given(index=st.dictionaries(st.text(max_size=10), st.text(max_size=30) | json_values, max_size=4))
def test_a_random_index(folder: Path, index: dict[str, Any]) -> None:
    (folder / WEIGHTS).unlink(missing_ok=True)
    (folder / INDEX).write_text(json.dumps({"weight_map": index}), encoding="utf-8")
    only_rooftop_errors(lambda: open_all(folder))


@fuzzing
@given(name=st.text(max_size=60))
def test_a_random_model_name(name: str) -> None:
    only_rooftop_errors(lambda: resolve_model(name))
