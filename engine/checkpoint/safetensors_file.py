"""The header of a safetensors file, checked as if an enemy wrote it.

Format: 8 bytes little-endian header length, a JSON header, then the tensors back to back
(https://huggingface.co/docs/safetensors). As strict as the reference implementation about holes and trailing bytes,
stricter about duplicate keys, names and counts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any, TypeGuard

from engine.checkpoint.tensor_reader import TensorEntry
from engine.checkpoint.untrusted import DOWNLOAD_AGAIN, fill, open_regular, parse_json_object, quote
from engine.errors import CheckpointError
from engine.sentences import say

MAX_HEADER_BYTES = 32 << 20
MAX_TENSORS = 200_000
MAX_DIMENSIONS = 8
MAX_DIMENSION = 1 << 48
MAX_NAME_CHARS = 512
LENGTH_BYTES = 8
VALUES_PER_TENSOR = 16

ITEM_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}


def read_header(path: Path) -> dict[str, TensorEntry]:
    """Every tensor of a safetensors file, by name.

    Bounded: at most `MAX_HEADER_BYTES` are read and `MAX_TENSORS` believed, whatever the file claims.

    Raises:
        CheckpointError: The file is missing, truncated, damaged or lies about its contents.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = _header_length(file, path, size)
        content = bytearray(length)
        fill(file, path, LENGTH_BYTES, memoryview(content))
    source = say("The header of {file}", file=quote(path.name))
    header = parse_json_object(content, source, max_values=MAX_TENSORS * VALUES_PER_TENSOR)
    if not isinstance(header.pop("__metadata__", {}), dict):
        raise CheckpointError(say("{source} has metadata that is not an object.", source=source), DOWNLOAD_AGAIN)
    if len(header) > MAX_TENSORS:
        raise CheckpointError(
            say(
                "{source} lists {number} tensors, over the limit of {most}.",
                source=source,
                number=len(header),
                most=MAX_TENSORS,
            ),
            DOWNLOAD_AGAIN,
        )
    start = LENGTH_BYTES + length
    entries = {name: _entry(path, start, name, fields) for name, fields in header.items()}
    _check_coverage(path, entries, start, size)
    return entries


def _header_length(file: FileIO, path: Path, size: int) -> int:
    """The length of the header, believed only where the file can hold it."""
    prefix = bytearray(LENGTH_BYTES)
    fill(file, path, 0, memoryview(prefix))
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER_BYTES:
        raise CheckpointError(
            say(
                "{file} claims a header of {length} bytes, over the limit of {most}.",
                file=quote(path.name),
                length=length,
                most=MAX_HEADER_BYTES,
            ),
            say("Check that it is a safetensors file, and download it again."),
        )
    if LENGTH_BYTES + length > size:
        raise CheckpointError(
            say(
                "{file} is truncated inside its header: {size} bytes of at least {end}.",
                file=quote(path.name),
                size=size,
                end=LENGTH_BYTES + length,
            ),
            DOWNLOAD_AGAIN,
        )
    return length


def _entry(path: Path, start: int, name: str, fields: Any) -> TensorEntry:  # noqa: ANN401 - parsed JSON
    """Check one tensor's line of the header, all but where it lies."""
    if not 1 <= len(name) <= MAX_NAME_CHARS or not name.isprintable():
        raise _damaged(
            path,
            name,
            say(
                "has a name that is empty, unprintable or over {most} characters",
                most=MAX_NAME_CHARS,
            ),
        )
    if not isinstance(fields, dict):
        raise _damaged(path, name, say("is described by {fields}", fields=quote(fields)))
    dtype, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise _damaged(path, name, say("has the unknown dtype {dtype}", dtype=quote(dtype)))
    if not _is_sizes(shape, MAX_DIMENSIONS):
        raise _damaged(path, name, say("has the impossible shape {shape}", shape=quote(shape)))
    if not _is_sizes(offsets, 2) or len(offsets) != 2:
        raise _damaged(path, name, say("has the impossible data_offsets {offsets}", offsets=quote(offsets)))
    begin, end = offsets
    expected = math.prod(shape) * ITEM_BYTES[dtype]
    if end - begin != expected:
        raise _damaged(
            path,
            name,
            say(
                "is {size} bytes long where {dtype} {shape} takes {expected}",
                size=end - begin,
                dtype=dtype,
                shape=quote(shape),
                expected=quote(expected),
            ),
        )
    return TensorEntry(name, dtype, tuple(shape), path, start + begin, end - begin)


def _is_sizes(value: object, most: int) -> TypeGuard[list[int]]:
    """Whether a JSON value is a short list of sane, non-negative integers (bool is none)."""
    return (
        isinstance(value, list)
        and len(value) <= most
        and all(type(item) is int and 0 <= item <= MAX_DIMENSION for item in value)
    )


def _check_coverage(path: Path, entries: Mapping[str, TensorEntry], start: int, size: int) -> None:
    """Hold that the tensors fill the file from the header to the end, without overlap or gap."""
    position = start
    for entry in sorted(entries.values(), key=lambda entry: (entry.offset, entry.nbytes)):
        if entry.offset + entry.nbytes > size:
            missing = entry.offset + entry.nbytes - size
            raise CheckpointError(
                say(
                    "{file} is truncated: tensor {name} ends {number} bytes past its end.",
                    file=quote(path.name),
                    name=quote(entry.name),
                    number=missing,
                ),
                DOWNLOAD_AGAIN,
            )
        if entry.offset != position:
            overlaps = entry.offset < position
            what = say("overlaps another tensor") if overlaps else say("leaves a gap before it")
            raise _damaged(path, entry.name, what)
        position += entry.nbytes
    if position != size:
        raise CheckpointError(
            say("{file} has {size} bytes after its last tensor.", file=quote(path.name), size=size - position),
            DOWNLOAD_AGAIN,
        )


def _damaged(path: Path, name: str, what: str) -> CheckpointError:
    """The error for a header that cannot be true."""
    return CheckpointError(
        say("{file} is damaged: tensor {name} {what}.", file=quote(path.name), name=quote(name), what=what),
        DOWNLOAD_AGAIN,
    )
