from __future__ import annotations

from pathlib import Path

import pytest

from engine.experts.saved_file import read_saved, write_saved


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.json"
    values: tuple[object, ...] = ({"a": [1, 2.5, None, "ä"]}, [], "text")
    for value in values:
        write_saved(path, value)
        assert read_saved(path) == value
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_what_cannot_be_read_is_absent(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.json"
    assert read_saved(path) is None
    path.write_bytes(content)
    assert read_saved(path) is None
    assert read_saved(tmp_path) is None


def test_a_failed_write_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "file.json"
    write_saved(path, "old")

    def full_disk(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("engine.experts.saved_file.os.fsync", full_disk)
    write_saved(path, "new")
    assert read_saved(path) == "old"
    assert list(tmp_path.iterdir()) == [path]
    assert "no space left" in caplog.text
