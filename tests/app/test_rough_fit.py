import shutil
from pathlib import Path

import pytest

from app.rough_fit import fit_words, free_bytes, rough_fit
from engine.hardware import HardwareProfile

GIB = 1 << 30
PC = HardwareProfile("CPU", 4, 16 * GIB, 12 * GIB, None)


def test_memory_and_drive_are_held_against_the_size(tmp_path: Path) -> None:
    small = rough_fit(1000, PC, tmp_path)
    assert (small.in_memory, small.on_drive) == (True, True)
    large = rough_fit(14 * GIB, PC, tmp_path)
    assert not large.in_memory
    huge = rough_fit(1 << 60, PC, tmp_path)
    assert not huge.on_drive
    assert len({fit_words(small), fit_words(large), fit_words(huge)}) > 1
    assert "Not enough room" in fit_words(huge)


def test_a_folder_that_is_not_there_yet_is_on_its_drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_bytes(tmp_path / "a" / "b") > 0

    def refuse(_path: object) -> object:
        raise PermissionError

    monkeypatch.setattr(shutil, "disk_usage", refuse)
    assert free_bytes(tmp_path) == 0
