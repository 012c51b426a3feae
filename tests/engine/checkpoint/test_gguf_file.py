"""The header of a GGUF file: every type of value, every lie, and honest files at speed."""

from __future__ import annotations

import time
from array import array
from pathlib import Path
from typing import Any

import pytest

from engine.checkpoint import gguf_file
from engine.checkpoint.gguf_file import read_gguf_header
from engine.errors import CheckpointError, UnsupportedModelError
from engine.quant.formats import FORMATS
from tests.gguf_files import (
    ARRAY,
    BOOL,
    FLOAT32,
    FLOAT64,
    INT8,
    INT16,
    INT32,
    INT64,
    STRING,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    Gguf,
    Shape,
    Tensor,
    Value,
    gguf_model,
)

VALUES: dict[str, tuple[Value, Any]] = {
    "uint8": ((UINT8, 255), 255),
    "int8": ((INT8, -128), -128),
    "uint16": ((UINT16, 65535), 65535),
    "int16": ((INT16, -32768), -32768),
    "uint32": ((UINT32, 2**32 - 1), 2**32 - 1),
    "int32": ((INT32, -(2**31)), -(2**31)),
    "float32": ((FLOAT32, 0.5), 0.5),
    "true": ((BOOL, True), True),
    "false": ((BOOL, False), False),
    "string": ((STRING, "Grüße 漢字 \U0001f3e0\0"), "Grüße 漢字 \U0001f3e0\0"),
    "empty string": ((STRING, ""), ""),
    "uint64": ((UINT64, 2**64 - 1), 2**64 - 1),
    "int64": ((INT64, -(2**63)), -(2**63)),
    "float64": ((FLOAT64, 0.1), 0.1),
    "strings": ((ARRAY, (STRING, ["a", "", "ß"])), ["a", "", "ß"]),
    "no strings": ((ARRAY, (STRING, [])), []),
    "floats": ((ARRAY, (FLOAT32, [0.5, -2])), [0.5, -2]),
    "longs": ((ARRAY, (INT64, [2**62, -1])), [2**62, -1]),
    "bytes": ((ARRAY, (UINT8, [0, 255])), [0, 255]),
    "bools": ((ARRAY, (BOOL, [True, False])), [True, False]),
    "no bools": ((ARRAY, (BOOL, [])), []),
}


def write(tmp_path: Path, model: Gguf) -> Path:
    """A file with this content."""
    path = tmp_path / "m.gguf"
    path.write_bytes(model.encode())
    return path


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("version", [2, 3])
def test_every_type_of_value(tmp_path: Path, name: str, version: int) -> None:
    value, expected = VALUES[name]
    path = write(tmp_path, Gguf([("before", (UINT8, 1)), (name, value), ("after", (UINT8, 2))], version=version))
    metadata = read_gguf_header(path).metadata
    assert list(metadata) == ["before", name, "after"]
    actual = metadata[name]
    if isinstance(actual, array):
        assert actual.tolist() == expected
    else:
        assert (actual, type(actual)) == (expected, type(expected))
    assert metadata["after"] == 2


@pytest.mark.parametrize("stored", FORMATS.values(), ids=FORMATS)
def test_every_format(tmp_path: Path, stored: Any) -> None:
    columns = 2 * stored.block_columns
    tensor = Tensor("a", (3, 5, columns), bytes(15 * 2 * stored.block_bytes), stored.gguf_id)
    path = write(tmp_path, Gguf([], [tensor]))
    entry = read_gguf_header(path).tensors["a"]
    assert (entry.format, entry.shape, entry.nbytes) == (stored.name, (3, 5, columns), len(tensor.data))
    assert entry.offset + entry.nbytes == path.stat().st_size


@pytest.mark.parametrize("alignment", [8, 32, 4096])
def test_alignment(tmp_path: Path, alignment: int) -> None:
    tensors = [Tensor(name, (3,), name.encode() * 12, 0) for name in "abc"]
    metadata: list[tuple[str, Value]] = [("general.alignment", (UINT32, alignment))]
    path = write(tmp_path, Gguf(metadata, tensors, alignment=alignment))
    raw = path.read_bytes()
    for name, entry in read_gguf_header(path).tensors.items():
        assert entry.offset % alignment == 0
        assert raw[entry.offset :][: entry.nbytes] == name.encode() * 12


def test_tensors_need_not_lie_in_the_order_of_the_list(tmp_path: Path) -> None:
    tensors = [Tensor("a", (8,), b"a" * 32, 0, offset=32), Tensor("b", (8,), b"b" * 32, 0, offset=0)]
    assert set(read_gguf_header(write(tmp_path, Gguf([], tensors))).tensors) == {"a", "b"}


@pytest.mark.parametrize("kind", [9, 15, 16, 19, 24, 28, 34, 40, 41, 99, 2**32 - 1])
def test_formats_that_are_not_supported(tmp_path: Path, kind: int) -> None:
    path = write(tmp_path, Gguf([], [Tensor("a", (256,), bytes(4096), kind)]))
    name = gguf_file._OTHER_FORMATS.get(kind, f"the unknown format {kind}")
    with pytest.raises(UnsupportedModelError, match=f"'a' in 'm.gguf' is stored as {name}, which is not") as caught:
        read_gguf_header(path)
    assert "Q4_K_M or Q4_0" in caught.value.remedy


def test_a_mirror_of_the_gguf_packages_list_of_formats() -> None:
    gguf = pytest.importorskip("gguf")
    known = {entry.gguf_id: name for name, entry in FORMATS.items()} | dict(gguf_file._OTHER_FORMATS)
    assert known == {int(kind): kind.name for kind in gguf.GGMLQuantizationType}
    for entry in FORMATS.values():
        assert gguf.GGML_QUANT_SIZES[entry.gguf_id] == (entry.block_columns, entry.block_bytes)


@pytest.mark.parametrize("size", [1, 7, 1 << 10, 1 << 20])
def test_the_header_is_read_a_piece_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    model = gguf_model(shape=Shape(hidden=32, intermediate=32, head_dim=8, vocab_size=3000))
    whole = read_gguf_header(write(tmp_path, model))
    monkeypatch.setattr(gguf_file, "FIRST_READ_BYTES", size)
    again = read_gguf_header(tmp_path / "m.gguf")
    assert whole.tensors == again.tensors
    assert str(whole.metadata) == str(again.metadata)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"magic": b"GGML"}, CheckpointError, "'m.gguf' is not a GGUF file"),
        ({"magic": b"FUGG"}, CheckpointError, "'m.gguf' is not a GGUF file"),
        ({"version": 0}, UnsupportedModelError, "of version 0, not"),
        ({"version": 1}, UnsupportedModelError, "of version 1, not"),
        ({"version": 4}, UnsupportedModelError, "of version 4, not"),
        ({"version": 3 << 24}, UnsupportedModelError, "in big-endian byte order"),
    ],
)
def test_other_kinds_of_files(tmp_path: Path, change: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        read_gguf_header(write(tmp_path, Gguf(**change)))


def test_cut_anywhere(tmp_path: Path) -> None:
    raw = gguf_model(shape=Shape(hidden=32, intermediate=32, head_dim=8)).encode()
    path = tmp_path / "m.gguf"
    for size in [*range(64), *range(64, len(raw), 997), len(raw) - 1]:
        path.write_bytes(raw[:size])
        with pytest.raises(CheckpointError, match=r"is truncated|is not a GGUF file|more than its .* bytes can hold"):
            read_gguf_header(path)


def test_a_large_vocabulary_is_read_quickly(tmp_path: Path) -> None:
    """Qwen3's own numbers: 151,936 tokens and 151,387 merges. Measured: 0.07 s."""
    model = gguf_model("qwen3moe", Shape(hidden=32, intermediate=32, head_dim=8, vocab_size=151_936, layers=1))
    merges = [f"Ġtoken{number} part{number}" for number in range(151_387)]
    model.set("tokenizer.ggml.merges", (ARRAY, (STRING, merges)))
    path = write(tmp_path, model)
    started = time.process_time()
    header = read_gguf_header(path)
    assert time.process_time() - started < 1.0
    assert header.metadata["tokenizer.ggml.merges"] == merges
