"""The folder that a conversion works in, and how it becomes the finished one.

All is written into `DIR.unfinished`, beside the `DIR` that was asked for; one rename at the end makes it `DIR`. So
`DIR` is never half there, and what is unfinished can be told, resumed, or deleted as one folder.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from engine.checkpoint.untrusted import quote
from engine.convert.drive_file import DriveFile
from engine.convert.journal import CHOOSE_OTHER, JOURNAL, Identity, Journal, PieceRecord, read_journal, sync_folder
from engine.convert.reading_back import read_back
from engine.convert.source import Piece, Source
from engine.errors import CheckpointError, ConfigurationError, DoesNotFitError, EngineFailure, RooftopError
from engine.experts.explain import human_bytes
from engine.held_files import FOLDER_WAIT_S, rename
from engine.sentences import say

WEIGHTS = "model.gguf"
SUFFIX = ".unfinished"
SPARE_BYTES = 16 << 20  # for the journal, the small files and a vocabulary
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
        self._weights = DriveFile(self._folder / WEIGHTS)
        try:
            self._weights.write(0, source.header)
            self._weights.sync()
        except OSError:
            self._weights.close()
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
            with writing(target, 0, source.source_bytes):
                _check_space(folder, source, journal)
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
        self._weights.write(piece.offset, blocks)
        self._waiting.append(record)

    def commit(self) -> None:
        """Bring all that was written to the drive, then tell the journal.

        Raises:
            OSError: The drive fails.
        """
        if self._waiting:
            self._weights.sync()
            self.journal.add(self._waiting)
            self._waiting.clear()

    def read_back(self) -> Iterator[tuple[PieceRecord, bool]]:
        """Read from the drive what earlier runs have written, each piece with whether it is still what was written.

        Raises:
            OSError: The drive fails.
        """
        return read_back(self._folder / WEIGHTS, self.journal.records.values())

    def drop(self, pieces: Iterable[int]) -> None:
        """These are to be made again.

        Raises:
            OSError: The drive fails.
        """
        self.journal.drop(pieces)

    def finish(self) -> None:
        """Copy the small files, and give the folder its name.

        Raises:
            ConfigurationError: Something came to lie at its place meanwhile.
            OSError: The drive fails.
        """
        for path in self._source.copied:
            _copy(path, self._folder / path.name)
        sync_folder(self._folder)
        self.journal.finish({"bytes": self._source.target_bytes})
        self.close()
        if self._target.is_dir():
            check_free(self._target)
            self._target.rmdir()
        rename(self._folder, self._target, FOLDER_WAIT_S)
        sync_folder(self._target.parent)

    def close(self) -> None:
        """Let go of the files; closing twice does no harm."""
        self._weights.close()
        self.journal.close()


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
