"""What an unfinished download leaves in its folder, so that it can go on after anything.

    rooftop-download.json   what is being fetched: written once, whole or not at all; stays with the model
    blocks.log              one line of JSON for each block in a `.part` file, with the CRC-32 of its bytes
    NAME.part               a file with holes
    NAME                    a file that is complete and whose SHA-256 was right

Lines follow their bytes, so a process that dies leaves nothing that is not true. A power cut may lose bytes whose line
is kept: the CRC shows it, and that block alone is fetched again. A line that was torn is passed over.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import get_args

from engine.checkpoint.untrusted import read_json_object
from engine.errors import CheckpointError, UnsafeRepositoryError
from engine.held_files import rename
from engine.hub.blocks import block_bytes_for
from engine.hub.names import COMMIT, HUB_ID, SHA256, check_path
from engine.hub.repository import Choice, Format, RemoteFile

MANIFEST = "rooftop-download.json"
JOURNAL_FILE = "blocks.log"
PART_SUFFIX = ".part"
MAX_RECORD_BYTES = 8 << 20

_KEPT = re.compile(rb'\["block",(\d+),(\d+),\d+\]')
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeptBlock:
    """A line of the journal: a block that was written."""

    file: int
    block: int
    crc: int


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A line of the journal: nothing that came before counts for this file."""

    file: int


@dataclass(frozen=True, slots=True)
class SeenTag:
    """A line of the journal: what a server called the version whose bytes are kept."""

    file: int
    etag: str


Line = KeptBlock | Forgotten | SeenTag
_KINDS: dict[str, type[Line]] = {"block": KeptBlock, "forget": Forgotten, "etag": SeenTag}
_WORDS = {kind: word for word, kind in _KINDS.items()}


def write_choice(path: Path, choice: Choice) -> None:
    """Put a choice in a file durably: a reader finds all of it or no file.

    Raises:
        OSError: It cannot be written.
    """
    temporary = path.with_name(path.name + ".new")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(asdict(choice), file)
        file.flush()
        os.fsync(file.fileno())
    rename(temporary, path)
    sync_folder(path.parent)


def read_choice(path: Path) -> Choice | None:
    """The choice in a file that `write_choice` made; None where there is none, or not one of ours."""
    try:
        values = read_json_object(path, MAX_RECORD_BYTES)
        files = tuple(RemoteFile(**file) for file in values.pop("files"))
        choice = Choice(files=files, **values)
        sound = _is_sound_choice(choice)
    except CheckpointError as error:
        if path.exists():
            _log.warning("ignoring a download: %s", error)
        return None
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        _log.warning("ignoring %s: %s", path, error)
        return None
    return choice if sound else None


def _is_sound_choice(choice: Choice) -> bool:
    """Whether a recorded choice is one that could have been recorded.

    Raises:
        TypeError: Something in it is of another type.
    """
    return (
        bool(choice.files)
        and all(_is_sound_file(file) for file in choice.files)
        and choice.total_bytes == sum(file.size_bytes for file in choice.files)
        and choice.format in get_args(Format)
        and all(isinstance(text, str) for text in (choice.title, choice.licence))
        and HUB_ID.fullmatch(choice.repo_id) is not None
        and COMMIT.fullmatch(choice.commit) is not None
    )


def _is_sound_file(file: RemoteFile) -> bool:
    try:
        check_path(file.path)
    except UnsafeRepositoryError:
        return False
    checksums = isinstance(file.etag, str) and (file.sha256 is None or SHA256.fullmatch(file.sha256) is not None)
    return checksums and isinstance(file.size_bytes, int) and file.size_bytes >= 0


class Journal:
    """The lines of `blocks.log`; each reaches the operating system in one write.

    Args:
        folder: Of the download.
    """

    def __init__(self, folder: Path) -> None:
        """See the class."""
        self._path = folder / JOURNAL_FILE
        self._file: FileIO | None = None

    def lines(self) -> Iterator[Line]:
        """Every line that can be read, the oldest first.

        Raises:
            OSError: The file is there and cannot be read.
        """
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            for text in file:
                line = _parsed(text)
                if line is not None:
                    yield line

    def add(self, line: Line) -> None:
        """Append a line.

        Raises:
            OSError: It cannot be written.
        """
        values = asdict(line).values()
        text = json.dumps([_WORDS[type(line)], *values], separators=(",", ":"))
        if self._file is None:
            self._file = FileIO(self._path, "ab")
        data = f"\n{text}\n".encode()  # a break before it too: what a crash tore off must not swallow this line
        if self._file.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _parsed(text: bytes) -> Line | None:
    try:
        word, *values = json.loads(text)
        line = _KINDS[word](*values)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    numbers, words = (values[:1], values[1:]) if isinstance(line, SeenTag) else (values, [])
    is_sound = all(type(number) is int and 0 <= number < 1 << 32 for number in numbers)
    return line if is_sound and all(isinstance(value, str) for value in words) else None


def bytes_here(folder: Path, choice: Choice) -> int:
    """About how much of a choice an unfinished download has, without reading it."""
    try:
        journal = (folder / JOURNAL_FILE).read_bytes()
    except OSError:
        journal = b""
    kept = Counter(file for file, _block in set(_KEPT.findall(journal)))
    block_bytes = block_bytes_for(choice.total_bytes)
    counts = (kept[b"%d" % index] * block_bytes for index in range(len(choice.files)))
    return sum(
        file.size_bytes if (folder / file.name).exists() else min(count, file.size_bytes)
        for file, count in zip(choice.files, counts, strict=True)
    )


def crc_of(data: bytes | bytearray | memoryview) -> int:
    """What the journal says of a block's bytes."""
    return zlib.crc32(data)


def sync_file(file: FileIO) -> None:
    """Make a file's bytes durable."""
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make what was renamed in a folder durable, where folders can be synced."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
