"""Writing so that nothing is lost, where others hold the files or nothing can be written at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.json_file import folder_problem, write_object
from tests.engine.test_held_files import Scanner


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
