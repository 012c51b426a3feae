"""The folder that a conversion works in, and how it becomes the finished one.

All is written into `DIR.unfinished`, beside the `DIR` that was asked for, and checked there; one rename at the end
makes it `DIR`. So `DIR` is never half there, and what is unfinished can be told, resumed, or deleted as one folder.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path
from types import TracebackType
from typing import Self

from engine.checkpoint.untrusted import quote
from engine.convert.journal import CHOOSE_OTHER, JOURNAL, Identity, Journal, PieceRecord, read_journal, sync_folder
from engine.convert.source import Piece, Source
from engine.errors import CheckpointError, ConfigurationError, DoesNotFitError, EngineFailure, RooftopError
from engine.experts.explain import human_bytes
from engine.sentences import say

WEIGHTS = "model.gguf"
SUFFIX = ".unfinished"
SPARE_BYTES = 16 << 20  # for the journal, the small files and a vocabulary
_READ_BYTES = 4 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CHECK_DRIVE = say("Check the drive and the folder's permissions, then convert again: it goes on where it stopped.")


class Workplace:
    """A conversion's folder while it works.

    Attributes:
        journal: What is done.
    """

    def __init__(self, source: Source, target: Path, journal: Journal) -> None:
        """See `open`."""
        self.journal = journal
        self._source = source
        self._target = target
        self._folder = unfinished_folder(target)
        self._waiting: list[PieceRecord] = []
        self._buffers = cycle([memoryview(bytearray(_READ_BYTES)) for _ in range(2)])
        self._file = (self._folder / WEIGHTS).open("r+b" if (self._folder / WEIGHTS).exists() else "w+b", buffering=0)
        try:
            self._write(0, source.header)
        except OSError:
            self._file.close()
            raise

    @classmethod
    def open(cls, source: Source, target: Path, identity: Identity) -> Self:
        """Make the folder, or go on in the one that is there.

        Raises:
            ConfigurationError: It holds something else, or another process works in it.
            DoesNotFitError: The drive has too little space.
            EngineFailure: The drive fails.
        """
        folder = unfinished_folder(target)
        with writing(target, 0, source.source_bytes):
            _check_own(folder)
            folder.mkdir(parents=True, exist_ok=True)
            journal = Journal.open(folder, identity)
        try:
            _check_space(folder, source, journal)
            with writing(target, 0, source.source_bytes):
                return cls(source, target, journal)
        except BaseException:
            journal.close()
            if not journal.records:
                _remove(folder)
            raise

    def write(self, piece: Piece, blocks: memoryview, record: PieceRecord) -> None:
        """Write a piece; `commit` makes it count.

        Raises:
            OSError: The drive fails.
        """
        self._write(piece.offset, blocks)
        self._waiting.append(record)

    def commit(self) -> None:
        """Bring all that was written to the drive, then tell the journal.

        Raises:
            OSError: The drive fails.
        """
        if self._waiting:
            os.fsync(self._file.fileno())
            self.journal.add(self._waiting)
            self._waiting.clear()

    def verify(self, on_read: Callable[[int], None]) -> str:
        """Read everything back from the drive and hold it against the journal.

        Args:
            on_read: Told how many bytes were read, every few of them.

        Returns:
            The SHA-256 of the whole file.

        Raises:
            EngineFailure: Something is not what was written; the pieces in question will be converted again.
            OSError: The drive fails.
        """
        self._forget_cached()
        bad, position = [], 0
        with _SumBeside() as whole:
            for piece in self._source.pieces():
                own = 0
                for start, end in ((position, piece.offset), (piece.offset, piece.end)):
                    for content in self._read(start, end):
                        whole.update(content)
                        own = zlib.crc32(content, own) if start == piece.offset else 0
                        on_read(len(content))
                position = piece.end
                if own != self.journal.records[piece.number].crc32:
                    bad.append(piece.number)
            total = whole.hexdigest()
        if bad:
            self.journal.drop(bad)
            raise EngineFailure(
                say(
                    "{file} in {folder} does not read back as it was written, in {number} places.",
                    file=WEIGHTS,
                    folder=quote(self._folder),
                    number=len(bad),
                ),
                CHECK_DRIVE,
            )
        return total

    def finish(self, total: dict[str, object]) -> None:
        """Copy the small files, and give the folder its name.

        Raises:
            ConfigurationError: Something came to lie at its place meanwhile.
            OSError: The drive fails.
        """
        for path in self._source.copied:
            _copy(path, self._folder / path.name)
        sync_folder(self._folder)
        self.journal.finish(total)
        self.close()
        if self._target.is_dir():
            check_free(self._target)
            self._target.rmdir()
        self._folder.rename(self._target)
        sync_folder(self._target.parent)

    def close(self) -> None:
        """Let go of the files; closing twice does no harm."""
        self._file.close()
        self.journal.close()

    def _write(self, offset: int, content: bytes | memoryview) -> None:
        view = memoryview(content)
        self._file.seek(offset)
        while view.nbytes:
            view = view[self._file.write(view) :]

    def _read(self, start: int, end: int) -> Iterator[memoryview]:
        """A part of the file, bit by bit; what is missing at its end counts as zeros, which no sum expects.

        What is given stays as it is until the next but one is asked for.
        """
        self._file.seek(start)
        while start < end:
            content = next(self._buffers)[: end - start]
            size = self._file.readinto(content)
            if not size:
                size, content[:] = content.nbytes, bytes(content.nbytes)
            start += size
            yield content[:size]

    def _forget_cached(self) -> None:
        """Have the system read from the drive and not from its memory, where it lets itself be told."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class _SumBeside:
    """A SHA-256 that a thread of its own computes, at most one read behind."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()
        self._pool = ThreadPoolExecutor(1, "checksum")
        self._last: Future[None] | None = None

    def update(self, content: memoryview) -> None:
        self._wait()
        self._last = self._pool.submit(self._sum.update, content)

    def hexdigest(self) -> str:
        self._wait()
        return self._sum.hexdigest()

    def _wait(self) -> None:
        if self._last is not None:
            self._last.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()


def unfinished_folder(target: Path) -> Path:
    """Where a conversion into a folder works."""
    return target.with_name(target.name + SUFFIX)


def unfinished_targets(folder: Path) -> list[Path]:
    """What conversions into a folder were to become that were begun and not completed."""
    try:
        places = sorted(folder.glob(f"[!.]*{SUFFIX}"))
    except OSError:
        return []
    return [place.with_name(place.name.removesuffix(SUFFIX)) for place in places if read_journal(place) is not None]


def check_free(target: Path) -> None:
    """Hold that nothing is at the place of the finished folder; an empty folder is nothing.

    Raises:
        ConfigurationError: Something is.
    """
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists() or target.is_symlink():
        raise ConfigurationError(
            say("{path} exists already, and is never overwritten.", path=quote(target)), CHOOSE_OTHER
        )


@contextmanager
def writing(target: Path, done_bytes: int, total_bytes: int) -> Iterator[None]:
    """Turn what the drive says while a target is written into an error with a remedy.

    Raises:
        DoesNotFitError: The drive is full.
        EngineFailure: It fails otherwise.
    """
    try:
        yield
    except RooftopError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise DoesNotFitError(
                say(
                    "The drive of {folder} is full, at {share} of the conversion.",
                    folder=quote(target.parent),
                    share=f"{done_bytes / max(total_bytes, 1):.0%}",
                ),
                say("Free some space there, then convert again: it goes on where it stopped."),
            ) from error
        reason = error.strerror or str(error)
        raise EngineFailure(
            say("{path} cannot be written: {reason}.", path=quote(unfinished_folder(target)), reason=quote(reason)),
            CHECK_DRIVE,
        ) from error


def _check_own(folder: Path) -> None:
    """Hold that a folder for unfinished work is absent, empty, or ours."""
    if folder.is_dir() and ((folder / JOURNAL).is_file() or not any(folder.iterdir())):
        return
    if folder.exists() or folder.is_symlink():
        raise ConfigurationError(
            say("{folder} is in the way, and is no unfinished conversion.", folder=quote(folder)), CHOOSE_OTHER
        )


def _check_space(folder: Path, source: Source, journal: Journal) -> None:
    """Hold that the rest fits onto the drive."""
    done = sum(piece.nbytes for piece in source.pieces() if piece.number in journal.records)
    needed = source.target_bytes - done + sum(path.stat().st_size for path in source.copied) + SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DoesNotFitError(
            say(
                "The conversion needs {needed} more in {folder}, where {free} are free.",
                needed=human_bytes(needed, "up"),
                folder=quote(folder.parent),
                free=human_bytes(free, "down"),
            ),
            say("Free {missing} there, or choose a folder on another drive.", missing=human_bytes(needed - free, "up")),
            needed,
            free,
        )


def _remove(folder: Path) -> None:
    """Leave nothing of a conversion that did not begin."""
    with suppress(OSError):
        for name in (JOURNAL, WEIGHTS):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _copy(path: Path, target: Path) -> None:
    """Copy a small file and bring it to the drive."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            say("{file} cannot be read: {reason}.", file=quote(path), reason=quote(error.strerror or str(error))),
            CHECK_DRIVE,
        ) from error
    with target.open("wb", buffering=0) as file:
        view = memoryview(content)
        while view.nbytes:
            view = view[file.write(view) :]
        os.fsync(file.fileno())
