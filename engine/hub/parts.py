"""The files of an unfinished download on the disk: written in blocks, read back for their checksum, put in place.

Whatever the drive refuses becomes one sentence, and what is there stays.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from engine.checkpoint.model_folder import INDEX, MAX_INDEX_BYTES, MAX_INDEX_VALUES
from engine.checkpoint.untrusted import quote, read_json_object
from engine.errors import DiskFullError, HubError, UnsupportedModelError
from engine.held_files import FOLDER_WAIT_S, rename
from engine.hub.blocks import Block
from engine.hub.record import (
    JOURNAL_FILE,
    MANIFEST,
    PART_SUFFIX,
    Forgotten,
    Journal,
    KeptBlock,
    Line,
    SeenTag,
    crc_of,
    read_choice,
    sync_file,
    sync_folder,
    write_choice,
)
from engine.sentences import say
from engine.sizes import human_bytes

if TYPE_CHECKING:
    from engine.hub.blocks import Blocks, Run
    from engine.hub.progress import Meter
    from engine.hub.repository import Choice

RESERVE_BYTES = 64 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Digest(Protocol):
    """A running checksum."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take in some bytes."""

    def hexdigest(self) -> str:
        """The checksum of all of them."""


class Parts:
    """The files of one download; several threads store, one reads and decides.

    Args:
        choice: What is fetched.
        folder: Where it is kept meanwhile.
        blocks: What is missing.
        meter: Counts what is here.
    """

    def __init__(self, choice: Choice, folder: Path, blocks: Blocks, meter: Meter) -> None:
        """See the class."""
        self._choice = choice
        self._folder = folder
        self._blocks = blocks
        self._meter = meter
        self._lock = threading.Lock()
        self._closed = False
        self._journal = Journal(folder)
        self._writers: dict[int, FileIO] = {}
        self._buffer = memoryview(bytearray(blocks.block_bytes))
        self._reader: tuple[int, FileIO] | None = None
        self._etags: dict[int, str] = {}
        self._summed_bytes: dict[int, int] = {}

    def is_in_place(self, target: Path) -> bool:
        """Whether the very same model is complete already; what is unfinished of it is removed then.

        Raises:
            HubError: Something else is in its place.
        """
        if not target.exists():
            return False
        here = all(_has_size(target / file.name, file.size_bytes) for file in self._choice.files)
        if not here or read_choice(target / MANIFEST) != self._choice:
            raise HubError(
                say("{target} is there already.", target=quote(target)),
                say("Delete it first to download this version."),
            )
        shutil.rmtree(self._folder, ignore_errors=True)
        return True

    def open(self) -> None:
        """Take stock of what earlier runs have left.

        Raises:
            HubError: The drive refuses.
        """
        manifest = self._folder / MANIFEST
        try:
            if read_choice(manifest) != self._choice:
                for leftover in self._folder.iterdir():
                    leftover.unlink()
                write_choice(manifest, self._choice)
            self._replay()
        except OSError as error:
            raise storage_error(error, manifest) from error
        self._meter.start_with(self._choice.total_bytes - self._blocks.missing_bytes())

    def is_complete(self, index: int) -> bool:
        """Whether a file was checked and has its own name."""
        return _has_size(self._path(index), self._choice.files[index].size_bytes)

    def etag(self, index: int) -> str:
        """What its server called the version whose bytes are kept; "" while nothing is."""
        return self._etags.get(index, "")

    def remember(self, index: int, etag: str) -> None:
        """The server's name for the version that is being fetched."""
        self._etags[index] = etag
        self._note(SeenTag(index, etag))

    def store(self, run: Run, block: int, data: memoryview) -> bool:
        """Write a block, then its line.

        Args:
            run: What its bytes were asked for with.
            block: Which block of the run's file.
            data: All of its bytes.

        Returns:
            Whether it counts; not after `close`, and not for a file that was begun anew meanwhile.

        Raises:
            HubError: The drive refuses.
        """
        crc = crc_of(data)
        with self._lock:
            if self._closed or not self._blocks.is_valid(run):
                return False
            try:
                file = self._writer(run.file)
                file.seek(self._blocks.span(run.file, block)[0])
                while data:
                    data = data[file.write(data) :]
                self._journal.add(KeptBlock(run.file, block, crc))
            except OSError as error:
                raise storage_error(error, self._part(run.file)) from error
            self._blocks.set(run.file, block, Block.STORED)
        return True

    def read(self, index: int, block: int) -> memoryview | None:
        """A block's bytes from the disk, until the next call.

        Returns:
            None, and missing again, where they are not those that were written.
        """
        start, stop = self._blocks.span(index, block)
        try:
            if self._reader is None or self._reader[0] != index:
                self._close_reader()
                self._reader = (index, FileIO(self._part(index), "rb"))
            self._reader[1].seek(start)
            data = self._buffer[: self._reader[1].readinto(self._buffer[: stop - start])]
            self._summed_bytes[index] = start  # the caller has summed all before
        except OSError as error:
            raise storage_error(error, self._part(index)) from error
        if self._blocks.state(index, block) is not Block.KEPT:
            return data
        kept = crc_of(data) == self._crcs.get((index, block))
        self._blocks.set(index, block, Block.STORED if kept else Block.MISSING)
        if not kept:
            self._meter.lose(stop - start)
        return data if kept else None

    def new_digest(self, index: int) -> Digest:
        """The checksum that the hub has of a file: SHA-256, or git's own for the small ones."""
        file = self._choice.files[index]
        if file.sha256:
            return hashlib.sha256()
        digest = hashlib.sha1(usedforsecurity=False)
        digest.update(b"blob %d\0" % file.size_bytes)
        return digest

    def is_expected(self, index: int, hexdigest: str) -> bool:
        """Whether a checksum is the one that the hub promised."""
        file = self._choice.files[index]
        return hexdigest == (file.sha256 or file.etag)

    def start_over(self, index: int) -> None:
        """Nothing that is here of a file counts any more.

        Raises:
            HubError: The drive refuses.
        """
        with self._lock:
            if self._closed:
                return
            try:
                self._journal.add(Forgotten(index))
            except OSError as error:
                raise storage_error(error, self._part(index)) from error
            self._etags.pop(index, None)
            self._meter.lose(self._blocks.forget(index))

    def complete(self, index: int) -> None:
        """A file's checksum is right: give it its name.

        Raises:
            HubError: The drive refuses.
        """
        part = self._part(index)
        self._close_reader()
        try:
            with self._lock:
                file = self._writer(index)  # makes a file without bytes, too
                sync_file(file)
                file.close()
                del self._writers[index]
            rename(part, self._path(index), FOLDER_WAIT_S)
            sync_folder(self._folder)
        except OSError as error:
            raise storage_error(error, part) from error

    def check_index(self, index: int) -> None:
        """Hold a complete file, if it is an index, against what there is to fetch.

        Raises:
            RooftopError: It names files which the repository lacks.
        """
        if self._choice.files[index].name == INDEX:
            self._check_index(self._path(index))

    def put_in_place(self, target: Path) -> None:
        """Give the complete folder its name among the models: the last step.

        Raises:
            HubError: The drive refuses.
        """
        try:
            (self._folder / JOURNAL_FILE).unlink(missing_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            rename(self._folder, target, FOLDER_WAIT_S)
            sync_folder(target.parent)
        except OSError as error:
            raise storage_error(error, target) from error

    def flush(self) -> None:
        """Have the drive write what has come so far, so that a power cut costs little and the end is not one long wait.

        What is checksummed, too, leaves the system's memory.

        Raises:
            HubError: The drive refuses.
        """
        with self._lock:
            copies = {index: os.dup(file.fileno()) for index, file in self._writers.items()}
        try:
            for index, copy in copies.items():
                summed_bytes = self._summed_bytes.get(index, 0)
                os.fsync(copy)
                _let_go(copy, summed_bytes)
        except OSError as error:
            raise storage_error(error, self._folder / MANIFEST) from error
        finally:
            for copy in copies.values():
                os.close(copy)

    def close(self) -> None:
        """Nothing is written after this."""
        with self._lock:
            self._closed = True
            self._journal.close()
            for file in self._writers.values():
                file.close()
            self._writers.clear()
        self._close_reader()

    # ---- its own --------------------------------------------------------------------------------------------------

    def _replay(self) -> None:
        """What the journal says is kept; whether it is true shows when it is read."""
        self._crcs: dict[tuple[int, int], int] = {}
        for line in self._journal.lines():
            if line.file < len(self._choice.files):
                self._apply(line)
        for index in range(len(self._choice.files)):
            if self.is_complete(index):
                self._blocks.set_all(index, Block.STORED)
                continue
            for block in range(self._blocks.count(index)):
                if (index, block) in self._crcs and self._part(index).exists():
                    self._blocks.set(index, block, Block.KEPT)

    def _apply(self, line: Line) -> None:
        if isinstance(line, KeptBlock):
            self._crcs[line.file, line.block] = line.crc
        elif isinstance(line, SeenTag):
            self._etags[line.file] = line.etag
        else:
            self._etags.pop(line.file, None)
            self._crcs = {key: crc for key, crc in self._crcs.items() if key[0] != line.file}

    def _note(self, line: Line) -> None:
        with self._lock:
            if self._closed:
                return
            try:
                self._journal.add(line)
            except OSError as error:
                raise storage_error(error, self._folder / JOURNAL_FILE) from error

    def _check_index(self, path: Path) -> None:
        index = read_json_object(path, MAX_INDEX_BYTES, MAX_INDEX_VALUES)
        named = index.get("weight_map")
        names = {str(name) for name in named.values()} if isinstance(named, dict) else set()
        absent = sorted(names - {file.name for file in self._choice.files})
        if absent:
            raise UnsupportedModelError(
                say(
                    "The index of {repo_id} names {file}, which the repository lacks.",
                    repo_id=quote(self._choice.repo_id),
                    file=quote(absent[0]),
                ),
                say("Choose another repository of this model."),
            )

    def _writer(self, index: int) -> FileIO:
        if index not in self._writers:
            part = self._part(index)
            self._writers[index] = FileIO(part, "r+b" if part.exists() else "w+b")
        return self._writers[index]

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader[1].close()
            self._reader = None

    def _path(self, index: int) -> Path:
        return self._folder / self._choice.files[index].name

    def _part(self, index: int) -> Path:
        return self._folder / (self._choice.files[index].name + PART_SUFFIX)


def _let_go(file: int, stop: int) -> None:
    """Have the system's memory forget a file's synced bytes up to there, where it can be told to.

    So a download does not push out what other programs have there, and its next bytes come into the same pages: new
    ones cost more time than all else that is done with a byte.
    """
    if stop and hasattr(os, "posix_fadvise"):  # a length of 0 would be the whole file
        with suppress(OSError):  # advice only
            os.posix_fadvise(file, 0, stop, os.POSIX_FADV_DONTNEED)


def _has_size(path: Path, size_bytes: int) -> bool:
    return path.is_file() and path.stat().st_size == size_bytes


def checked_room(folder: Path, needed_bytes: int) -> None:
    """Hold that a drive has room for so much, and a little more.

    Raises:
        HubError: It has not, or it cannot be asked.
    """
    try:
        free_bytes = shutil.disk_usage(folder).free
    except OSError as error:
        raise storage_error(error, folder) from error
    if needed_bytes and needed_bytes + RESERVE_BYTES > free_bytes:
        raise DiskFullError(
            say(
                "The download needs {needed} on the drive of {folder}, which has {free} free.",
                needed=human_bytes(needed_bytes + RESERVE_BYTES, "up"),
                folder=quote(folder),
                free=human_bytes(free_bytes, "down"),
            ),
            say("Free some space there, or choose another models folder."),
        )


def storage_error(error: OSError, path: Path) -> HubError:
    """The error for a drive that refused; what is there stays."""
    if error.errno in _FULL:
        return DiskFullError(
            say("The drive of {parent} is full.", parent=quote(path.parent)),
            say("Free some space there, then resume; what has come is kept."),
        )
    return HubError(
        say("{path} cannot be written or read: {reason}.", path=quote(path), reason=error.strerror or str(error)),
        say("Check the drive, then resume; what has come is kept."),
    )
