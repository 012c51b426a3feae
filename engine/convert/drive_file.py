"""A file whose bytes go to the drive past the system's memory, where the system can do that.

Through its memory each byte would be copied once more, into pages that have to be found first and that push out what
others have there. Such writes are of whole blocks, from memory that begins with one: bytes are gathered until they
make some, and what is left at a `sync` is written as in any file. `docs/decisions/0049-what-a-byte-costs.md` has the
figures.
"""

from __future__ import annotations

import errno
import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from io import FileIO
from pathlib import Path

import numpy as np

BLOCK_BYTES = 4096
_GATHERED_BYTES = 4 << 20


class DriveFile:
    """Writes anywhere into a file, quickest where each write goes on where the last one ended.

    Blocks are written by a thread while the next are gathered; `sync` waits for it.

    Args:
        path: The file; made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        """See the class.

        Raises:
            OSError: The drive fails.
        """
        self._file = FileIO(path, "r+b" if path.exists() else "w+b")
        self._direct = _open_direct(path)
        self._gathered, self._spare = (
            memoryview(mmap.mmap(-1, _GATHERED_BYTES)) for _ in range(2)
        )  # each from a block
        self._start = 0
        self._size = 0
        self._writer = ThreadPoolExecutor(1, "write")
        self._writing: Future[None] | None = None
        self._lost: OSError | None = None

    def write(self, offset: int, content: bytes | memoryview) -> None:
        """Write some bytes; they are there after `sync`.

        Raises:
            OSError: The drive fails.
        """
        if offset != self._start + self._size:
            self._flush()
            self._go_to(offset)
        left = memoryview(content).cast("B")
        while left:
            count = min(len(left), _GATHERED_BYTES - self._size)
            room = self._gathered[self._size : self._size + count]
            np.copyto(np.frombuffer(room, np.uint8), np.frombuffer(left[:count], np.uint8))  # others may work meanwhile
            self._size += count
            left = left[count:]
            if self._size == _GATHERED_BYTES:
                self._write_blocks()

    def sync(self) -> None:
        """Bring all that was written to the drive.

        Raises:
            OSError: The drive fails.
        """
        self._flush()
        if self._lost is not None:
            raise self._lost
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            self._lost = error  # the system would not tell again of what it could not keep
            raise

    def close(self) -> None:
        """Let go of the file; what was not synced is lost. Closing twice does no harm."""
        self._writer.shutdown()
        self._file.close()
        if self._direct is not None:
            self._direct.close()

    def _go_to(self, offset: int) -> None:
        """Go on somewhere else: the block there keeps what it has before that."""
        self._start, self._size = offset - offset % BLOCK_BYTES, offset % BLOCK_BYTES
        kept = self._gathered[: self._size]
        self._file.seek(self._start)
        while kept and (count := self._file.readinto(kept)):
            kept = kept[count:]
        kept[:] = bytes(len(kept))

    def _flush(self) -> None:
        """Write all that is gathered; the last block stays, as more of it may come."""
        self._write_blocks()
        self._await_blocks()
        self._put(self._file, self._start, self._gathered[: self._size])

    def _write_blocks(self) -> None:
        """Have the whole blocks of what is gathered written, while more is gathered."""
        self._await_blocks()
        size = self._size - self._size % BLOCK_BYTES
        self._spare[: self._size - size] = self._gathered[size : self._size]
        self._writing = self._writer.submit(self._put_blocks, self._start, self._gathered[:size])
        self._gathered, self._spare = self._spare, self._gathered
        self._start, self._size = self._start + size, self._size - size

    def _await_blocks(self) -> None:
        """Wait until the blocks are written; once some could not be, no later `sync` promises anything."""
        if self._writing is not None:
            self._writing.result()

    def _put_blocks(self, offset: int, blocks: memoryview) -> None:
        try:
            self._put(self._direct or self._file, offset, blocks)
        except OSError as error:
            if self._direct is None or error.errno != errno.EINVAL:
                raise
            self._direct.close()  # this drive wants larger blocks, or none of this
            self._direct = None
            self._put(self._file, offset, blocks)

    def _put(self, file: FileIO, offset: int, content: memoryview) -> None:
        file.seek(offset)
        while content:
            content = content[file.write(content) :]


def _open_direct(path: Path) -> FileIO | None:
    """The file for writes past the system's memory; None where there are none."""
    with suppress(OSError, AttributeError):
        return FileIO(os.open(path, os.O_WRONLY | os.O_DIRECT), "wb")
    return None
