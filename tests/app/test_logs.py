from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import logs


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    """The root logger as it was."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    for handler in [one for one in root.handlers if one not in before]:
        root.removeHandler(handler)
        handler.close()


def test_the_log_is_bounded_and_rotates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES", 2000)
    path = tmp_path / "deep" / "rooftop.log"
    assert logs.start_logging(path) == ""
    for number in range(300):
        logging.getLogger("app.test").info("line %d with hf_abcdefghij1234", number)
    files = sorted(path.parent.iterdir())
    assert len(files) == 1 + logs.OLDER_FILES
    assert all(file.stat().st_size <= 2000 for file in files)
    assert "hf_" not in "".join(file.read_text() for file in files)
    assert logs.tail(path, 1500).splitlines()[-1].endswith("app.test: line 299 with <hidden>")


def test_the_tail_has_whole_lines_and_goes_on_in_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    (tmp_path / "engine.log.1").write_text("older one\nolder two\n")
    path.write_text("new\n")
    assert logs.tail(path, 20) == "older two\nnew"
    assert logs.tail(path, 1000) == "older one\nolder two\nnew"
    assert logs.tail(tmp_path / "none.log", 100) == ""


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert logs.start_logging(tmp_path / "file" / "rooftop.log") != ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_a_full_drive_costs_lines_and_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rooftop.log"
    path.symlink_to("/dev/full")
    assert logs.start_logging(path) == ""
    for number in range(3):
        logging.getLogger("app.test").info("line %d", number)
    assert capfd.readouterr().err == ""
    (handler,) = (one for one in logging.getLogger().handlers if isinstance(one, logs._LogFile))
    logging.getLogger().removeHandler(handler)
    with contextlib.suppress(OSError):
        handler.close()


def test_a_mistake_of_ours_is_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with contextlib.closing(logs._LogFile(tmp_path / "rooftop.log", encoding="utf-8")) as handler:
        handler.handle(logging.LogRecord("app.test", logging.INFO, "", 0, "%d", ("no number",), None))
    assert "Logging error" in capfd.readouterr().err
