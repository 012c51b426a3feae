"""The memory behind the host arena: anonymous and in huge pages, or a file that the system reads as it is used.

The file is unlinked as soon as it is open, so that nothing is left behind however
the process ends (Windows deletes it on close).
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

import torch

from engine.errors import DoesNotFitError
from engine.experts.explain import human_bytes
from engine.kernels.host_memory import anonymous_memory
from engine.sentences import say

FREE_DISK_BYTES = 1 << 30  # left to everybody else on that drive


class Arena:
    """Zeroed bytes to put weights in.

    Args:
        size_bytes: How many.
        folder: Where the file goes; None for memory.

    Attributes:
        data: All of them, uint8, page-aligned.
        on_disk: Whether they are a file.

    Raises:
        DoesNotFitError: The system does not give so much memory, or the drive has no room.
    """

    def __init__(self, size_bytes: int, folder: Path | None = None) -> None:
        """See the class."""
        self.on_disk = folder is not None
        self._file = _new_file(size_bytes, folder) if folder is not None else None
        try:
            self._map = (
                anonymous_memory(size_bytes) if self._file is None else mmap.mmap(self._file.fileno(), size_bytes)
            )
        except OSError as error:
            self.close()
            raise _refused(size_bytes, say("memory addresses") if self.on_disk else say("RAM")) from error
        self.data = torch.frombuffer(self._map, dtype=torch.uint8)

    def expect(self, first: int, size_bytes: int) -> None:
        """Tell the system that some bytes of the file are needed soon, so that it reads them all at once.

        Args:
            first: Where they begin.
            size_bytes: How many.
        """
        if self.on_disk and hasattr(mmap, "MADV_WILLNEED"):
            begin = first // mmap.PAGESIZE * mmap.PAGESIZE
            self._map.madvise(mmap.MADV_WILLNEED, begin, first + size_bytes - begin)

    def close(self) -> None:
        """Close the file; the memory goes with the last tensor that looks at it."""
        if self._file is not None:
            self._file.close()


def _new_file(size_bytes: int, folder: Path) -> IO[bytes]:
    """A file of that size without a name, its blocks reserved where the system can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if size_bytes + FREE_DISK_BYTES > free:
            raise _no_room(size_bytes, max(0, free - FREE_DISK_BYTES), folder)
        file = tempfile.TemporaryFile(dir=folder, prefix="experts-")  # noqa: SIM115 - closed by the arena
    except OSError as error:
        raise DoesNotFitError(
            say(
                "No file for the experts can be made in {folder} ({reason}).",
                folder=str(folder),
                reason=error.strerror or "",
            ),
            say("Choose another cache folder."),
        ) from error
    try:
        file.truncate(size_bytes)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size_bytes)
    except OSError as error:
        file.close()
        raise _no_room(size_bytes, shutil.disk_usage(folder).free, folder) from error
    return file


def _no_room(size_bytes: int, free_bytes: int, folder: Path) -> DoesNotFitError:
    """The drive is too full."""
    return DoesNotFitError(
        say(
            "The experts need {size} on the drive of {folder}, {available} available (after {reserve} kept free).",
            size=human_bytes(size_bytes, "up"),
            folder=str(folder),
            available=human_bytes(free_bytes, "down"),
            reserve=human_bytes(FREE_DISK_BYTES),
        ),
        say("Free some space there, or choose a smaller model."),
        size_bytes,
        free_bytes,
    )


def _refused(size_bytes: int, what: str) -> DoesNotFitError:
    """The system said no."""
    return DoesNotFitError(
        say(
            "The system does not give the {size} of {what} that the experts need.",
            size=human_bytes(size_bytes, "up"),
            what=what,
        ),
        say("Close other programs, or choose a smaller model."),
        size_bytes,
    )
