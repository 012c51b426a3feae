"""Writing so that nothing is lost, where others hold the files or nothing can be written at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app import json_file
from app.json_file import folder_problem, write_object


class Scanner:
    """Holds files for a while, as Windows lets it: renaming is refused so often."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
        self.times, self.waits = times, 0
        rename = Path.replace

        def replace(path: Path, target: Path) -> Path:
            if self.times:
                self.times -= 1
                raise PermissionError(13, "The file is used by another process")
            return rename(path, target)

        def wait(_seconds: float) -> None:
            self.waits += 1

        monkeypatch.setattr(Path, "replace", replace)
        monkeypatch.setattr("app.json_file.time.sleep", wait)


def test_a_scanner_that_lets_go_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "settings.json"
    write_object(path, {"number": 1})
    scanner = Scanner(monkeypatch, json_file.REPLACE_TRIES - 1)
    write_object(path, {"number": 2}, lambda _path: True)
    assert scanner.waits == json_file.REPLACE_TRIES - 1
    assert json.loads(path.read_text()) == {"number": 2}


def test_one_that_does_not_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "settings.json"
    write_object(path, {"number": 1})
    Scanner(monkeypatch, 1000)
    with pytest.raises(PermissionError):
        write_object(path, {"number": 2})
    assert json.loads(path.read_text()) == {"number": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_folder_that_takes_files(tmp_path: Path) -> None:
    assert folder_problem(tmp_path / "new" / "deeper") == ""
    assert list((tmp_path / "new" / "deeper").iterdir()) == []


def test_a_folder_that_takes_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert folder_problem(tmp_path / "file" / "deeper") == "Not a directory"
