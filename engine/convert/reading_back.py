"""Reading pieces back from the drive, and holding them against the checksums that the journal has of them."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path

from engine.convert.journal import PieceRecord

_READ_BYTES = 4 << 20
_PAGE_BYTES = 4096


def read_back(path: Path, records: Iterable[PieceRecord]) -> Iterator[tuple[PieceRecord, bool]]:
    """Read pieces from the drive, in the file's order.

    Args:
        path: The file that they lie in.
        records: What was written.

    Yields:
        Each with whether it is there as it was written.

    Raises:
        OSError: The drive fails.
    """
    buffer = memoryview(bytearray(_READ_BYTES))
    with FileIO(path, "rb") as file:
        _forget(file, 0, 0)
        for record in sorted(records, key=lambda record: record.offset):
            yield record, _crc_of(file, record, buffer) == record.crc32
            _forget(file, record.offset, record.nbytes)


def _crc_of(file: FileIO, record: PieceRecord, buffer: memoryview) -> int | None:
    """The checksum of a piece as it lies on the drive; None where the file ends before it does."""
    crc, left = 0, record.nbytes
    file.seek(record.offset)
    while left:
        count = file.readinto(buffer[:left])
        if not count:
            return None
        crc, left = zlib.crc32(buffer[:count], crc), left - count
    return crc


def _forget(file: FileIO, start: int, size: int) -> None:
    """Have the system drop what it has in memory of it, if it can be told; to the file's end where the size is 0."""
    if hasattr(os, "posix_fadvise"):
        first = start - start % _PAGE_BYTES
        os.posix_fadvise(file.fileno(), first, size and start + size - first, os.POSIX_FADV_DONTNEED)
