"""Memory for weights, or a file: what the system refuses is said in numbers, and nothing is left behind."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from engine.errors import DoesNotFitError
from engine.experts.arena import FREE_DISK_BYTES, Arena


class Usage(NamedTuple):
    """What `shutil.disk_usage` tells."""

    total: int
    used: int
    free: int


def test_a_drive_without_room_is_refused_with_both_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 40, 0, FREE_DISK_BYTES + (3 << 20)))
    with pytest.raises(DoesNotFitError, match=r"need 5\.0 MiB on the drive of .* 3\.0 MiB available") as caught:
        Arena(5 << 20, tmp_path)
    assert (caught.value.needed_bytes, caught.value.available_bytes) == (5 << 20, 3 << 20)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system reserves nothing")
def test_a_drive_that_fills_up_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_space)
    with pytest.raises(DoesNotFitError, match="on the drive"):
        Arena(1 << 20, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DoesNotFitError, match="No file for the experts"):
        Arena(1 << 20, tmp_path / "file" / "below")


def test_any_bytes_of_a_file_may_be_expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 40, 0, 1 << 40))
    arena = Arena(5 << 20, tmp_path)
    for first, size in ((0, 1), (100, 5000), ((5 << 20) - 1, 1)):
        arena.expect(first, size)
    arena.close()


def test_memory_that_the_system_refuses_is_ours_to_tell() -> None:
    with pytest.raises(DoesNotFitError, match="does not give") as caught:
        Arena(1 << 62)
    assert caught.value.needed_bytes == 1 << 62


def test_without_huge_pages_the_arena_is_ordinary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    monkeypatch.delattr(mmap, "MAP_ANONYMOUS", raising=False)
    assert Arena(1 << 20).data.numel() == 1 << 20
