"""Headers that our reader and the `gguf` package read back."""

from __future__ import annotations

from array import array
from pathlib import Path

import gguf

from engine.checkpoint.gguf_file import MetadataValue, read_gguf_header
from engine.convert.gguf_header import encode_header

METADATA: dict[str, MetadataValue] = {
    "general.architecture": "llama",
    "a.flag": True,
    "a.number": 7,
    "a.negative": -7,
    "a.large": 1 << 40,
    "a.huge": (1 << 63) + 1,
    "a.fraction": 0.5,
    "a.texts": ["one", "z\u00fc\u00df", ""],
    "a.numbers": array("i", [1, -2, 3]),
    "a.floats": array("f", [0.25, 4.0]),
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    tensors = [("x", "F32", (2, 3), 0), ("y", "Q8_0", (4, 64), 32)]
    path = tmp_path / "m.gguf"
    header = encode_header(METADATA, tensors)
    assert len(header) % 32 == 0
    path.write_bytes(header + bytes(32 + 4 * 68))
    read = read_gguf_header(path)
    assert dict(read.metadata) == METADATA
    assert [
        (entry.name, entry.format, entry.shape, entry.offset - len(header)) for entry in read.tensors.values()
    ] == tensors
    theirs = gguf.GGUFReader(path)
    assert [(tensor.name, tuple(tensor.shape[::-1])) for tensor in theirs.tensors] == [("x", (2, 3)), ("y", (4, 64))]
    for key, value in METADATA.items():
        field = theirs.fields[key].contents()
        assert field == (list(value) if isinstance(value, array) else value)
