"""Headers read as the reference implementation reads them, and lies refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engine.checkpoint.safetensors_file import LENGTH_BYTES, MAX_TENSORS, read_header
from engine.checkpoint.tensor_reader import TensorEntry, TensorReader
from engine.errors import CheckpointError
from tests.checkpoints import read_raw_safetensors, write_raw_safetensors, write_safetensors

Header = dict[str, Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A sound file with the tensors a [2, 3] and b [4], float32."""
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {"a": np.ones((2, 3), np.float32), "b": np.arange(4, dtype=np.float32)})
    return path


def test_reads_what_the_reference_implementation_wrote(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    arrays: dict[str, Any] = {
        "half": np.arange(6, dtype=np.float16).reshape(2, 3),
        "long": np.array([2**40], dtype=np.int64),
        "flag": np.array([True, False]),
        "scalar": np.array(3.5, dtype=np.float32),
        "none": np.zeros((0, 4), dtype=np.float32),
    }
    save_file(arrays, path)
    reader = TensorReader()
    entries = read_header(path)
    assert entries.keys() == arrays.keys()
    for name, array in arrays.items():
        buffer = np.empty_like(array)
        assert entries[name].shape == array.shape
        reader.read(entries[name], buffer.data)
        np.testing.assert_array_equal(buffer, array)
    reader.close()


def test_the_tests_own_writer_is_read_by_the_reference_implementation(path: Path) -> None:
    arrays = load_file(path)
    np.testing.assert_array_equal(arrays["b"], np.arange(4, dtype=np.float32))


def test_an_entry_says_where_its_bytes_are(path: Path) -> None:
    entry = read_header(path)["b"]
    start = path.stat().st_size - 16
    assert entry == TensorEntry("b", "F32", (4,), path, start, 16)


def changed(path: Path, change: Callable[[Header], object]) -> None:
    """Rewrite the header of a file."""
    header, data = read_raw_safetensors(path)
    change(header)
    write_raw_safetensors(path, json.dumps(header).encode(), data)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("data_offsets", [24, 41], "17 bytes long where F32 .4. takes 16"),
        ("data_offsets", [25, 41], "truncated: tensor 'b' ends 1 bytes past"),
        ("data_offsets", [10**12, 10**12 + 16], "truncated: tensor 'b' ends"),
        ("data_offsets", [16, 32], "overlaps"),
        ("data_offsets", [0, 16], "overlaps|leaves a gap"),
        ("data_offsets", [40, 24], "-16 bytes long"),
        ("data_offsets", [-16, 0], "impossible data_offsets"),
        ("data_offsets", [24.0, 40.0], "impossible data_offsets"),
        ("data_offsets", [2**64 + 24, 2**64 + 40], "impossible data_offsets"),
        ("data_offsets", [24], "impossible data_offsets"),
        ("data_offsets", [24, 40, 40], "impossible data_offsets"),
        ("data_offsets", None, "impossible data_offsets"),
        ("shape", [5], "16 bytes long where F32 .5. takes 20"),
        ("shape", [2**31, 2**31, 2**31], "takes"),
        ("shape", [2**48] * 8, "takes"),
        ("shape", [2**62, 2**62], "impossible shape"),
        ("shape", [1] * 9, "impossible shape"),
        ("shape", [True, 4], "impossible shape"),
        ("shape", [-4], "impossible shape"),
        ("shape", "4", "impossible shape"),
        ("dtype", "F31", "unknown dtype 'F31'"),
        ("dtype", ["F32"], "unknown dtype"),
        ("dtype", "F" * 10**6, "unknown dtype"),
    ],
)
def test_lies_about_a_tensor(path: Path, field: str, value: object, message: str) -> None:
    changed(path, lambda header: header["b"].update({field: value}))
    with pytest.raises(CheckpointError, match=message) as caught:
        read_header(path)
    assert "model.safetensors" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header.update(b=7), "is described by 7"),
        (lambda header: header.update({"": header.pop("b")}), "has a name that is empty"),
        (lambda header: header.update({"x" * 513: header.pop("b")}), "has a name that is empty"),
        (lambda header: header.update({"b\x1b[2J": header.pop("b")}), "has a name that is empty"),
        (lambda header: header.update({"\ud800": header.pop("b")}), "not valid JSON: 'utf-8' codec can't encode"),
        (lambda header: header.update(__metadata__=[]), "metadata that is not an object"),
        (lambda header: header.pop("a"), "leaves a gap"),
        (lambda header: header.pop("b"), "has 16 bytes after its last tensor"),
    ],
)
def test_lies_about_the_file(path: Path, change: Callable[[Header], object], message: str) -> None:
    changed(path, change)
    with pytest.raises(CheckpointError, match=message):
        read_header(path)


def test_a_name_twice(path: Path) -> None:
    entry = b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    write_raw_safetensors(path, b'{"a":' + entry + b',"a":' + entry + b"}", bytes(4))
    with pytest.raises(CheckpointError, match="the key 'a' appears twice"):
        read_header(path)


@pytest.mark.parametrize("size", [0, 7, 8, 20])
def test_truncated_in_the_header(path: Path, size: int) -> None:
    os.truncate(path, size)
    with pytest.raises(CheckpointError, match=r"'model.safetensors' is truncated"):
        read_header(path)


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 33 << 20])
def test_a_header_length_that_is_a_lie(path: Path, length: int) -> None:
    path.write_bytes(length.to_bytes(LENGTH_BYTES, "little") + b"{}")
    with pytest.raises(CheckpointError, match="claims a header of"):
        read_header(path)


def test_too_many_tensors(path: Path) -> None:
    entry = b'":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    header = b"{" + b",".join(b'"%d' % index + entry for index in range(MAX_TENSORS + 1)) + b"}"
    write_raw_safetensors(path, header, b"")
    with pytest.raises(CheckpointError, match=f"lists {MAX_TENSORS + 1} tensors, over the limit"):
        read_header(path)
