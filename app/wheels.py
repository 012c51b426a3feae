"""Wheels as files: held against their checksum, unpacked into a folder that nothing leaves, held against their lists.

A wheel is a zip with its own list of files and their SHA-256 (`RECORD`). What it calls its files is never trusted,
although the wheel's own checksum is known: the list of pins may come from elsewhere one day. What only compilers need
is left out.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from engine.checkpoint.untrusted import quote
from engine.errors import DamagedDownloadError, OperationCancelledError, UnsafeRepositoryError
from engine.hub.names import check_distinct, check_path
from engine.sentences import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK_BYTES = 4 << 20
MAX_FILES = 200_000
RECORD = ".dist-info/RECORD"

_COMPILERS_SUFFIXES = (".a", ".lib", ".h", ".hpp", ".cuh", ".cmake")
_COMPILERS_FOLDERS = frozenset({"include", "cmake"})


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What has become of a wheel.

    Attributes:
        record_path: Where its list of files is.
        record_sha256: Of that list.
        sizes: Bytes of every file that was unpacked, the list included.
    """

    record_path: str
    record_sha256: str
    sizes: dict[str, int]


class Stop:
    """Asks whoever works to end.

    Args:
        is_set: Whether to.
    """

    def __init__(self, is_set: Callable[[], bool] = lambda: False) -> None:
        self._is_set = is_set

    def check(self) -> None:
        """Go on only while nobody asked to end.

        Raises:
            OperationCancelledError: Somebody did.
        """
        if self._is_set():
            raise OperationCancelledError(say("The installation is paused."), say("Resume it when you like."))


def is_kept(path: str) -> bool:
    """Whether a file of a wheel is unpacked: not what only compilers read, and no folders by themselves."""
    parts = PurePosixPath(path).parts
    return not path.endswith(("/", *_COMPILERS_SUFFIXES)) and not _COMPILERS_FOLDERS & set(parts[:-1])


def sha256_of(path: Path, told: Callable[[int], None], stop: Stop) -> str:
    """The SHA-256 of a file in hexadecimal.

    Args:
        path: The file.
        told: Hears of every so many bytes.
        stop: Ends it.

    Raises:
        OSError: It cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(BLOCK_BYTES):
            digest.update(data)
            told(len(data))
            stop.check()
    return digest.hexdigest()


def unpack(wheel: Path, folder: Path, told: Callable[[int], None], stop: Stop) -> Unpacked:
    """Unpack a wheel into a folder that has none of its files.

    Args:
        wheel: The file.
        folder: Where to.
        told: Hears of every so many bytes.
        stop: Ends it.

    Raises:
        DamagedDownloadError: It is no wheel, or one that cannot be taken.
        OSError: The drive refuses.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = _members(archive, wheel.name)
            sizes = {}
            for member in members:
                sizes[member.filename] = _unpack_one(archive, member, folder, told, stop)
            record = next(name for name in sizes if name.endswith(RECORD))
            return Unpacked(record, hashlib.sha256(archive.read(record)).hexdigest(), sizes)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, StopIteration) as error:
        raise _unusable(wheel.name) from error


def recorded(folder: Path, record_path: str) -> Iterator[tuple[str, str]]:
    """The files of a wheel that were unpacked, and their SHA-256 in hexadecimal; its list itself has none.

    Raises:
        OSError, ValueError: The list cannot be read.
    """
    text = (folder / record_path).read_text(encoding="utf-8")
    for row in csv.reader(io.StringIO(text)):
        if len(row) == 3 and row[1].startswith("sha256=") and is_kept(row[0]):
            code = row[1].removeprefix("sha256=")
            yield row[0], base64.urlsafe_b64decode(code + "=" * (-len(code) % 4)).hex()


def _members(archive: zipfile.ZipFile, name: str) -> list[zipfile.ZipInfo]:
    """What is to be unpacked of a wheel.

    Raises:
        DamagedDownloadError: A name in it leads elsewhere, or means another file on some system.
    """
    members = [info for info in archive.infolist() if not info.is_dir()]
    if len(members) > MAX_FILES or any(stat.S_ISLNK(info.external_attr >> 16) for info in members):
        raise _unusable(name)
    try:
        for info in members:
            check_path(info.filename)
        check_distinct(info.filename for info in members)
    except UnsafeRepositoryError as error:
        raise _unusable(name) from error
    names = [info.filename for info in members]
    if len(set(names)) < len(names):
        raise _unusable(name)
    return [info for info in members if is_kept(info.filename)]


def _unpack_one(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, told: Callable[[int], None], stop: Stop
) -> int:
    """Unpack a file; returns its size, which is never more than the wheel says."""
    path = folder / member.filename
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with archive.open(member) as source, path.open("xb") as target:
        while data := source.read(BLOCK_BYTES):
            written += target.write(data)
            told(len(data))
            stop.check()
        if os.name == "nt":  # elsewhere everything is synced at once, at the end
            target.flush()
            os.fsync(target.fileno())
    if (member.external_attr >> 16) & 0o100:
        path.chmod(0o755)
    return written


def _unusable(name: str) -> DamagedDownloadError:
    return DamagedDownloadError(
        say("{file} is damaged, or no wheel that can be taken.", file=quote(name)),
        say("Install again; if it happens again, report it."),
    )
