from __future__ import annotations

from pathlib import Path

import pytest

from engine.held_files import FILE_WAIT_S, FOLDER_WAIT_S, TRIES, rename


class Scanner:
    """Holds files for a while, as Windows lets it: renaming is refused so often."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
        self.times = times
        self.waits: list[float] = []
        rename = Path.replace

        def replace(path: Path, target: Path) -> Path:
            if self.times:
                self.times -= 1
                raise PermissionError(13, "The file is used by another process")
            return rename(path, target)

        monkeypatch.setattr(Path, "replace", replace)
        monkeypatch.setattr("engine.held_files.time.sleep", self.waits.append)


def test_one_that_lets_go_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "old").write_text("old")
    scanner = Scanner(monkeypatch, TRIES - 1)
    rename(tmp_path / "new", tmp_path / "old")
    assert scanner.waits == [FILE_WAIT_S] * (TRIES - 1)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("old", "new")]


def test_one_that_does_not_is_an_error_and_nothing_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    scanner = Scanner(monkeypatch, TRIES)
    with pytest.raises(PermissionError):
        rename(tmp_path / "folder", tmp_path / "other", FOLDER_WAIT_S)
    assert scanner.waits == [FOLDER_WAIT_S] * (TRIES - 1)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_what_has_gone_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scanner = Scanner(monkeypatch, 0)
    with pytest.raises(FileNotFoundError):
        rename(tmp_path / "gone", tmp_path / "other")
    assert scanner.waits == []
