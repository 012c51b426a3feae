"""Files read past the system's cache of files (Linux): for models that would only push each other out of it.

A model that fills more than half of the RAM cannot lie there and in the cache as well. Through the cache, each of its
bytes costs finding a page, copying, and soon giving the page up again: more CPU time than packing the weights takes
(docs/decisions/0002).
"""

from __future__ import annotations

import errno
import io
import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK_BYTES = 4096  # what drives want positions, lengths and addresses to be multiples of
PIECE_BYTES = 2 << 20


class DirectFile(io.RawIOBase):
    """A file open for reading past the cache; any position and length.

    Args:
        path: A regular file.

    Raises:
        OSError: It cannot be opened, or the system or the drive has no such reads.
    """

    def __init__(self, path: Path) -> None:
        """See the class; the first block is read as a trial."""
        super().__init__()
        direct = getattr(os, "O_DIRECT", None)
        if direct is None:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        self._file, self._position = -1, 0
        self._piece = mmap.mmap(-1, PIECE_BYTES)
        self._bytes = np.frombuffer(self._piece, dtype=np.uint8)
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | direct)
        try:
            os.preadv(self._file, [memoryview(self._piece)[:BLOCK_BYTES]], 0)
        except OSError:
            self.close()
            raise

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Where the next read begins: bytes from the file's beginning."""
        assert whence == os.SEEK_SET, "from the beginning"
        self._position = offset
        return offset

    def readinto(self, into: WriteableBuffer, /) -> int:
        """Read up to a piece; returns its bytes, 0 at the file's end."""
        target = np.frombuffer(memoryview(into), dtype=np.uint8)
        skipped = self._position % BLOCK_BYTES
        wanted = min(target.size, PIECE_BYTES - skipped)
        blocks = -(-(skipped + wanted) // BLOCK_BYTES)
        count: int = os.preadv(self._file, [memoryview(self._piece)[: blocks * BLOCK_BYTES]], self._position - skipped)
        count = max(0, min(count - skipped, wanted))
        target[:count] = self._bytes[skipped : skipped + count]
        self._position += count
        return count

    def close(self) -> None:
        """Close it; closing twice does no harm."""
        super().close()
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)
