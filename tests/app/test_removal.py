from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from app.removal import NAME, REMOVED, remove, remove_leftovers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with something in it."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "large").touch()
    return folder


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What the drive is asked to remove, which it has no time for."""
    asked: list[Path] = []
    monkeypatch.setattr("app.removal.shutil.rmtree", lambda path, **_: asked.append(path))
    return asked


def wait_for_threads() -> None:
    for thread in threading.enumerate():
        if thread.name == NAME:
            thread.join()


def test_it_has_no_name_at_once_and_is_gone_later(folder: Path) -> None:
    remove(folder)
    assert not folder.exists()
    wait_for_threads()
    assert list(folder.parent.iterdir()) == []


def test_what_there_was_no_time_for_goes_the_next_time(folder: Path, later: list[Path]) -> None:
    remove(folder)
    wait_for_threads()
    (aside,) = folder.parent.iterdir()
    assert aside.name.startswith(REMOVED)
    remove_leftovers(folder.parent)
    wait_for_threads()
    assert later == [aside, aside]


def test_what_is_not_there_is_removed_already(tmp_path: Path, later: list[Path]) -> None:
    remove(tmp_path / "none")
    remove_leftovers(tmp_path / "none")
    wait_for_threads()
    assert later == []


def test_what_cannot_be_renamed_is_removed_under_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_path: Path, _target: Path) -> None:
        raise PermissionError(13, "The file is used by another process")

    monkeypatch.setattr(Path, "rename", refuse)
    with caplog.at_level(logging.WARNING, logger="app.removal"):
        remove(folder)
    wait_for_threads()
    assert not folder.exists()
    assert "cannot be renamed" in caplog.text
