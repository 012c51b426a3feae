"""Writes past the system's memory, held against the same bytes in memory."""

from __future__ import annotations

import errno
import os
import random
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine.convert import drive_file
from engine.convert.drive_file import BLOCK_BYTES, DriveFile

HAS_DIRECT = hasattr(os, "O_DIRECT")


@pytest.fixture(params=["past memory", "refused at opening", "refused at writing"])
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a file comes, on a drive of each kind; little is gathered, so that much is written."""
    monkeypatch.setattr(drive_file, "_GATHERED_BYTES", 4 * BLOCK_BYTES)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    real = DriveFile._put

    def put(self: DriveFile, file: Any, offset: int, content: memoryview) -> None:
        if file is self._direct:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(self, file, offset, content)

    if request.param == "refused at opening":
        monkeypatch.setattr(drive_file, "_open_direct", lambda _: None)
    elif request.param == "refused at writing":
        monkeypatch.setattr(DriveFile, "_put", put)
    return tmp_path / "file"


def test_it_is_the_same_wherever_is_written(path: Path) -> None:
    """In a row, with gaps, back and forth; also after others closed the file and after it was opened again."""
    draw, wanted, offset = random.Random(0), bytearray(), 0
    for _ in range(4):
        with closing(DriveFile(path)) as file:
            for _ in range(25):
                content = draw.randbytes(draw.choice([1, 31, BLOCK_BYTES, 5_000, 70_000]))
                offset = draw.choice([offset, offset, offset + 13, draw.randrange(len(wanted) + 1)])
                wanted.extend(bytes(max(0, offset + len(content) - len(wanted))))
                wanted[offset : offset + len(content)] = content
                file.write(offset, content)
                offset += len(content)
                if draw.random() < 0.2:
                    file.sync()
                    assert path.read_bytes() == wanted
            file.sync()
        assert path.read_bytes() == wanted


@pytest.mark.skipif(not HAS_DIRECT, reason="the system has no such writes")
def test_whole_blocks_pass_by_memory_and_nothing_is_written_too_far(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with closing(DriveFile(path)) as file:
        assert file._direct is not None or drive_file._open_direct(path) is None  # a drive without
        file.write(0, bytes(BLOCK_BYTES + 1))
        assert path.stat().st_size == 0
        file.sync()
        assert path.stat().st_size == BLOCK_BYTES + 1


def test_once_blocks_were_lost_nothing_is_promised_any_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The drive may have room again when the last pieces are to be kept, but not these."""
    with closing(DriveFile(path)) as file:
        with monkeypatch.context() as patch:

            def full(*_: object) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            patch.setattr(DriveFile, "_put", full)
            with pytest.raises(OSError, match="No space"):
                file.write(0, bytes(20 * BLOCK_BYTES))
        with pytest.raises(OSError, match="No space"):
            file.sync()


def test_once_a_sync_failed_no_later_one_promises_anything(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system tells of bytes that it could not keep once only, and forgets them."""
    with closing(DriveFile(path)) as file:
        file.write(0, bytes(20))
        with monkeypatch.context() as patch:

            def broken(_handle: int) -> None:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

            patch.setattr(os, "fsync", broken)
            with pytest.raises(OSError, match="Input/output"):
                file.sync()
        with pytest.raises(OSError, match="Input/output"):
            file.sync()


def test_an_end_that_could_not_be_written_is_written_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = DriveFile._put

    def full(self: DriveFile, file: Any, offset: int, content: memoryview) -> None:
        if len(content) % BLOCK_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(self, file, offset, content)

    content = random.Random(1).randbytes(3 * BLOCK_BYTES + 5)
    with closing(DriveFile(path)) as file:
        file.write(0, content)
        with monkeypatch.context() as patch:
            patch.setattr(DriveFile, "_put", full)
            with pytest.raises(OSError, match="No space"):
                file.sync()
        file.sync()
    assert path.read_bytes() == content
