"""The header of a safetensors file, checked as if an enemy wrote it; and reads that survive a shrinking file.

Format: 8 bytes little-endian header length, a JSON header, then the tensors back to back
(https://huggingface.co/docs/safetensors). As strict as the reference implementation about holes and trailing bytes,
stricter about duplicate keys, names and counts. Never maps a file: touching a map whose file was cut kills Python.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeGuard

from engine.checkpoint.untrusted import DOWNLOAD_AGAIN, fill, open_regular, parse_json_object, quote
from engine.errors import CheckpointError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_HEADER_BYTES = 32 << 20
MAX_TENSORS = 200_000
MAX_DIMENSIONS = 8
MAX_DIMENSION = 1 << 48
MAX_NAME_CHARS = 512
MAX_IDLE_FILES = 16
LENGTH_BYTES = 8
VALUES_PER_TENSOR = 16

ITEM_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where one tensor lies.

    Attributes:
        name: Its name in the file.
        dtype: Its type in safetensors' own terms, e.g. "BF16"; a key of `ITEM_BYTES`.
        shape: Its dimensions.
        file: The file that holds it.
        offset: Bytes from the start of that file.
        nbytes: Its length.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset: int
    nbytes: int


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
    source = f"The header of {quote(path.name)}"
    header = parse_json_object(content, source, max_values=MAX_TENSORS * VALUES_PER_TENSOR)
    if not isinstance(header.pop("__metadata__", {}), dict):
        raise CheckpointError(f"{source} has metadata that is not an object.", DOWNLOAD_AGAIN)
    if len(header) > MAX_TENSORS:
        raise CheckpointError(f"{source} lists {len(header)} tensors, over the limit of {MAX_TENSORS}.", DOWNLOAD_AGAIN)
    start = LENGTH_BYTES + length
    entries = {name: _entry(path, start, name, fields) for name, fields in header.items()}
    _check_coverage(path, entries, start, size)
    return entries


class TensorReader:
    """Reads tensors' bytes into callers' buffers, from any thread.

    A read takes an idle open file of its own or opens one, and hands it back: no two reads share a file position,
    and at most `MAX_IDLE_FILES` wait open between reads.
    """

    def __init__(self) -> None:
        self._idle: list[tuple[Path, FileIO]] = []
        self._lock = Lock()
        self._closed = False

    def read(self, entry: TensorEntry, into: WriteableBuffer) -> None:
        """Fill a buffer with a tensor's raw bytes.

        Args:
            entry: Which tensor.
            into: Writable, contiguous, exactly `entry.nbytes` long.

        Raises:
            CheckpointError: The file is gone, has become shorter, or the drive fails.
            ValueError: The buffer has another length, or the reader is closed (a mistake of the caller).
        """
        view = memoryview(into)
        if view.nbytes != entry.nbytes:
            raise ValueError(f"{entry.name} is {entry.nbytes} bytes long, the buffer {view.nbytes}")
        if entry.nbytes:
            with self._borrow(entry.file) as file:
                fill(file, entry.file, entry.offset, view.cast("B"))

    def close(self) -> None:
        """Close every idle file; a read in flight closes its own when it ends."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for _, file in idle:
            file.close()

    @contextmanager
    def _borrow(self, path: Path) -> Iterator[FileIO]:
        """An open file that no one else uses meanwhile."""
        file = self._take_idle(path) or open_regular(path)
        try:
            yield file
        except BaseException:
            file.close()
            raise
        self._give_back(path, file)

    def _take_idle(self, path: Path) -> FileIO | None:
        """The idle file that was used last for this path, if any."""
        with self._lock:
            if self._closed:
                raise ValueError("the checkpoint is closed")
            for index in reversed(range(len(self._idle))):
                if self._idle[index][0] == path:
                    return self._idle.pop(index)[1]
        return None

    def _give_back(self, path: Path, file: FileIO) -> None:
        """Keep a file open for the next read, and close the one that has waited longest if there are too many."""
        with self._lock:
            if not self._closed:
                self._idle.append((path, file))
                if len(self._idle) <= MAX_IDLE_FILES:
                    return
                _, file = self._idle.pop(0)
        file.close()


def _header_length(file: FileIO, path: Path, size: int) -> int:
    """The length of the header, believed only where the file can hold it."""
    prefix = bytearray(LENGTH_BYTES)
    fill(file, path, 0, memoryview(prefix))
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER_BYTES:
        raise CheckpointError(
            f"{quote(path.name)} claims a header of {length} bytes, over the limit of {MAX_HEADER_BYTES}.",
            "Check that it is a safetensors file, and download it again.",
        )
    if LENGTH_BYTES + length > size:
        raise CheckpointError(
            f"{quote(path.name)} is truncated inside its header: {size} bytes of at least {LENGTH_BYTES + length}.",
            DOWNLOAD_AGAIN,
        )
    return length


def _entry(path: Path, start: int, name: str, fields: Any) -> TensorEntry:  # noqa: ANN401 - parsed JSON
    """Check one tensor's line of the header, all but where it lies."""
    if not 1 <= len(name) <= MAX_NAME_CHARS or not name.isprintable():
        raise _damaged(path, name, f"has a name that is empty, unprintable or over {MAX_NAME_CHARS} characters")
    if not isinstance(fields, dict):
        raise _damaged(path, name, f"is described by {quote(fields)}")
    dtype, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise _damaged(path, name, f"has the unknown dtype {quote(dtype)}")
    if not _is_sizes(shape, MAX_DIMENSIONS):
        raise _damaged(path, name, f"has the impossible shape {quote(shape)}")
    if not _is_sizes(offsets, 2) or len(offsets) != 2:
        raise _damaged(path, name, f"has the impossible data_offsets {quote(offsets)}")
    begin, end = offsets
    expected = math.prod(shape) * ITEM_BYTES[dtype]
    if end - begin != expected:
        raise _damaged(path, name, f"is {end - begin} bytes long where {dtype} {quote(shape)} takes {quote(expected)}")
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
                f"{quote(path.name)} is truncated: tensor {quote(entry.name)} ends {missing} bytes past its end.",
                DOWNLOAD_AGAIN,
            )
        if entry.offset != position:
            what = "overlaps another tensor" if entry.offset < position else "leaves a gap before it"
            raise _damaged(path, entry.name, what)
        position += entry.nbytes
    if position != size:
        raise CheckpointError(f"{quote(path.name)} has {size - position} bytes after its last tensor.", DOWNLOAD_AGAIN)


def _damaged(path: Path, name: str, what: str) -> CheckpointError:
    """The error for a header that cannot be true."""
    return CheckpointError(f"{quote(path.name)} is damaged: tensor {quote(name)} {what}.", DOWNLOAD_AGAIN)
