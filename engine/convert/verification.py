"""Reading the new file back from the drive: behind the writing, in threads of its own.

A piece is read as soon as the journal tells that it is on the drive, while later ones are still converted. So the whole
file's SHA-256, which takes its bytes in order and on one core, is nearly done when the last piece is.
"""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillWorking
from itertools import cycle
from pathlib import Path

from engine.convert.drive_file import BLOCK_BYTES
from engine.convert.journal import PieceRecord
from engine.convert.source import Piece

_READ_BYTES = 4 << 20
_TELL_EVERY_S = 0.1


class Verification:
    """Holds a file against the checksums of its pieces, as they become known.

    Args:
        path: The file.
        pieces: All of them, in the file's order.
        records: Those that are on the drive; others come to it, from another thread.

    Attributes:
        bad: Pieces that are not what was written.
    """

    def __init__(self, path: Path, pieces: Iterator[Piece], records: Mapping[int, PieceRecord]) -> None:
        """See the class."""
        self.bad: list[int] = []
        self._records = records
        self._pieces = pieces
        self._next = next(pieces, None)
        self._file = path.open("rb", buffering=0)
        self._position = 0
        self._known: deque[Piece] = deque()  # on the drive, and not compared to their end yet
        self._known_end = 0
        self._crc = 0
        self._told = 0
        self._buffers = cycle([memoryview(bytearray(_READ_BYTES)) for _ in range(2)])
        self._whole = hashlib.sha256()
        self._reader, self._summer = ThreadPoolExecutor(1, "verify"), ThreadPoolExecutor(1, "checksum")
        self._reading: Future[None] | None = None
        self._summing: Future[None] | None = None
        self._closing = threading.Event()

    def follow(self) -> None:
        """Read what the journal has told of since, unless that is being done already."""
        if self._reading is not None and not self._reading.done():
            return
        if self._reading is not None:
            self._reading.result()
        self._reading = self._reader.submit(self._read_known)

    def finish(self, on_read: Callable[[int], None]) -> str:
        """Read the rest.

        Args:
            on_read: Told how many bytes were read since, some times a second.

        Returns:
            The SHA-256 of the whole file.

        Raises:
            OSError: The drive fails.
        """
        last = self._reader.submit(self._read_known)
        while not last.done():
            try:
                last.result(_TELL_EVERY_S)
            except StillWorking:
                self._tell(on_read)
        if self._reading is not None:
            self._reading.result()
        last.result()
        assert self._next is None, "the journal knows every piece"
        if self._summing is not None:
            self._summing.result()
        self._tell(on_read)
        return self._whole.hexdigest()

    def close(self) -> None:
        """Read no further; closing twice does no harm."""
        self._closing.set()
        self._reader.shutdown()
        self._summer.shutdown()
        self._file.close()

    def _tell(self, on_read: Callable[[int], None]) -> None:
        position = self._position
        on_read(position - self._told)
        self._told = position

    def _read_known(self) -> None:
        """Read all that is on the drive for certain; but for the file's end in steps that begin and end with a page."""
        while not self._closing.is_set() and (size := self._known_bytes()):
            content = self._read(size)
            if self._summing is not None:
                self._summing.result()
            self._summing = self._summer.submit(self._whole.update, content)
            self._compare(content)
            self._forget(self._position, size)  # the memory serves what comes next
            self._position += size

    def _known_bytes(self) -> int:
        """How many bytes to read next; none while the journal does not know enough of them."""
        before = self._known_end
        while self._next is not None and self._next.number in self._records:
            self._known.append(self._next)
            self._known_end, self._next = self._next.end, next(self._pieces, None)
        if self._known_end != before:  # it is to be read from the drive, whatever the system has in memory of it
            self._forget(before, self._known_end - before)
        left = self._known_end - self._position
        return min(left, _READ_BYTES) if self._next is None or left >= _READ_BYTES else 0

    def _read(self, size: int) -> memoryview:
        """What comes next; what is missing at the file's end counts as zeros, which no sum expects."""
        whole = left = next(self._buffers)[:size]
        self._file.seek(self._position)
        while left and (count := self._file.readinto(left)):
            left = left[count:]
        left[:] = bytes(len(left))
        return whole

    def _compare(self, content: memoryview) -> None:
        """Hold what was read against the checksums of its pieces; there may be padding in between."""
        position, end = self._position, self._position + len(content)
        while self._known and (position := max(position, self._known[0].offset)) < end:
            piece, stop = self._known[0], min(end, self._known[0].end)
            self._crc = zlib.crc32(content[position - self._position : stop - self._position], self._crc)
            position = stop
            if stop == piece.end:
                if self._crc != self._records[piece.number].crc32:
                    self.bad.append(piece.number)
                self._crc = 0
                self._known.popleft()

    def _forget(self, start: int, size: int) -> None:
        """Have the system drop what it has in memory, if it can be told; pages count only as a whole."""
        if hasattr(os, "posix_fadvise"):
            first, last = start - start % BLOCK_BYTES, start + size + -(start + size) % BLOCK_BYTES
            os.posix_fadvise(self._file.fileno(), first, last - first, os.POSIX_FADV_DONTNEED)
