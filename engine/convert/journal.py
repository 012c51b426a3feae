"""What a conversion has done so far, line by line in a file beside the weights.

The first line says what is converted and how; each further one tells of a piece that is on the drive, the last one of
the whole. A line counts once it ends: what a crash tore off is cut away. The weights are brought to the drive before
the lines that speak of them, so that the journal never promises what is not there. The journal stays in the finished
folder: it holds the checksums.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any, Self

from engine.checkpoint.untrusted import quote
from engine.errors import ConfigurationError
from engine.sentences import say

JOURNAL = "conversion.jsonl"
VERSION = 4
MAX_JOURNAL_BYTES = 256 << 20
CHOOSE_OTHER = say("Choose another folder, or move that one away first.")


@dataclass(frozen=True, slots=True)
class PieceRecord:
    """A piece that is on the drive.

    Attributes:
        piece: Its number.
        offset: Its first byte in the file.
        nbytes: How many it has.
        crc32: Of its bytes: against a drive that errs, not against an enemy, and at a fraction of the time.
        lost: Sum of its squared errors.
        squares: The same of its weights.
        sample_lost: Of some of its rows, sum of the squared errors.
        sample_rounded: What rounding plainly would have lost there.
    """

    piece: int
    offset: int
    nbytes: int
    crc32: int
    lost: float
    squares: float
    sample_lost: float
    sample_rounded: float


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes two conversions the same.

    Attributes:
        format: What the user asked for.
        layout: SHA-256 of the new file's header.
        files: The source's fingerprint.
        source: Where it lies; the same files elsewhere are the same.
    """

    format: str
    layout: str
    files: list[list[Any]]
    source: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Told:
    """What a journal tells a reader who has not the model that was converted.

    Attributes:
        layout: SHA-256 of the file's header.
        records: The pieces that are done.
        total: Of a finished conversion; None before.
    """

    layout: str
    records: list[PieceRecord]
    total: Mapping[str, Any] | None


class Journal:
    """The journal of one conversion, held open and locked.

    Attributes:
        records: The pieces that are done, by number.
        total: What the last line of a finished conversion says; None before.
    """

    def __init__(self, file: FileIO, records: dict[int, PieceRecord], total: Mapping[str, Any] | None) -> None:
        """See `open`."""
        self.records = records
        self.total = total
        self._file = file

    @classmethod
    def open(cls, folder: Path, identity: Identity) -> Self:
        """Begin a journal in a folder, or go on with the one that is there.

        Raises:
            ConfigurationError: It belongs to another conversion, or another process holds it.
            OSError: The drive fails.
        """
        path = folder / JOURNAL
        file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644), "r+b")
        try:
            _lock(file, folder)
            lines = _whole_lines(file)
            if not lines:
                journal = cls(file, {}, None)
                journal._append([{"rooftop": VERSION, **asdict(identity)}])
                sync_folder(folder)
                return journal
            _check_same(lines[0], identity, folder)
            return cls(file, *_replay(lines[1:]))
        except BaseException:
            file.close()
            raise

    def add(self, records: Iterable[PieceRecord]) -> None:
        """Tell of pieces that are on the drive.

        Raises:
            OSError: The drive fails.
        """
        new = list(records)
        if new:
            self._append([asdict(record) for record in new])
            self.records.update((record.piece, record) for record in new)

    def drop(self, pieces: Iterable[int]) -> None:
        """Tell of pieces that are not what they were.

        Raises:
            OSError: The drive fails.
        """
        bad = sorted(pieces)
        self._append([{"again": bad}])
        for piece in bad:
            self.records.pop(piece, None)

    def finish(self, total: Mapping[str, Any]) -> None:
        """Tell that all is there and has been checked.

        Raises:
            OSError: The drive fails.
        """
        self._append([{"total": dict(total)}])
        self.total = total

    def close(self) -> None:
        """Let go of the file and its lock; closing twice does no harm."""
        self._file.close()

    def _append(self, lines: list[dict[str, Any]]) -> None:
        end = self._file.seek(0, os.SEEK_END)
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        try:
            while content:
                content = content[self._file.write(content) :]
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(end)  # a torn line must not stand before later ones
            raise


def read_journal(folder: Path) -> Mapping[str, Any] | None:
    """What the journal in a folder says of its conversion; None where there is none.

    For showing only: an unreadable or foreign file counts as none.
    """
    lines = _lines_of(folder)
    return None if lines is None else _first_of(lines)


def read_records(folder: Path) -> Told | None:
    """All that the journal in a folder says; None where there is none that can be read."""
    lines = _lines_of(folder)
    first = None if lines is None else _first_of(lines)
    if lines is None or first is None:
        return None
    records, total = _replay(lines[1:])
    return Told(str(first.get("layout")), list(records.values()), total)


def _lines_of(folder: Path) -> list[bytes] | None:
    try:
        with FileIO(folder / JOURNAL, "rb") as file:
            return _whole_lines(file, cut=False)
    except OSError:
        return None


def _first_of(lines: list[bytes]) -> Mapping[str, Any] | None:
    try:
        first = json.loads(lines[0]) if lines else None
    except ValueError:
        return None
    return first if isinstance(first, dict) and first.get("rooftop") == VERSION else None


def _whole_lines(file: FileIO, *, cut: bool = True) -> list[bytes]:
    """Every line that ends; with `cut` the rest is taken off the file."""
    content = file.read(MAX_JOURNAL_BYTES)
    end = content.rfind(b"\n") + 1
    if cut and end < len(content):
        file.truncate(end)
    return content[:end].splitlines()


def _check_same(line: bytes, identity: Identity, folder: Path) -> None:
    """Hold that a journal's first line speaks of this conversion."""
    try:
        content = json.loads(line)
        same = content.pop("rooftop") == VERSION and Identity(**content) == identity
    except (ValueError, TypeError, KeyError, AttributeError):
        same = False
    if not same:
        raise ConfigurationError(
            say(
                "{folder} holds a conversion of another model, of an earlier state of it, or to another format.",
                folder=quote(folder),
            ),
            CHOOSE_OTHER,
        )


def _replay(lines: Iterable[bytes]) -> tuple[dict[int, PieceRecord], Mapping[str, Any] | None]:
    """What is done by the lines after the first; one that makes no sense counts as not written."""
    records: dict[int, PieceRecord] = {}
    total: Mapping[str, Any] | None = None
    for line in lines:
        try:
            content = json.loads(line)
            if "again" in content:
                for piece in content["again"]:
                    records.pop(piece, None)
            elif "total" in content:
                total = dict(content["total"])
            else:
                record = PieceRecord(**content)
                if _is_sound(record):
                    records[record.piece] = record
        except (ValueError, TypeError):
            continue
    return records, total


def _is_sound(record: PieceRecord) -> bool:
    """Whether a record is one that could have been written."""
    counts = (record.piece, record.offset, record.nbytes, record.crc32)
    sums = (record.lost, record.squares, record.sample_lost, record.sample_rounded)
    return all(type(count) is int and count >= 0 for count in counts) and all(type(s) in (int, float) for s in sums)


def _lock(file: FileIO, folder: Path) -> None:
    """Hold the journal alone; the system lets go of it when this process ends, however it ends."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(MAX_JOURNAL_BYTES)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            file.seek(0)
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ConfigurationError(
            say("Another conversion into {folder} is running.", folder=quote(folder)),
            say("Wait for it to end, or stop it first."),
        ) from error


def sync_folder(folder: Path) -> None:
    """Bring a folder's list of files to the drive, where the system can."""
    if sys.platform != "win32":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
