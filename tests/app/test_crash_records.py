from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from app.crash_records import KEPT_REPORTS, CrashRecords
from app.redaction import Redaction

NOBODY = Redaction("/home/anna", "anna", "annas-pc")
MODEL = "/home/anna/models/mixtral.gguf"
ROOT = Path(__file__).parents[2]


def records(tmp_path: Path) -> CrashRecords:
    return CrashRecords(tmp_path / "state", tmp_path / "rooftop.log", NOBODY)


def die(tmp_path: Path, loading: str = "") -> None:
    """A run that ends without a word: its process is gone."""
    run = records(tmp_path)
    run.begin()
    run.loading(loading)
    path = tmp_path / "state" / "session.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"started_s": 1.0}))


def test_a_run_that_ends_as_it_should_leaves_nothing(tmp_path: Path) -> None:
    run = records(tmp_path)
    run.begin()
    run.loading(MODEL)
    run.end()
    after = records(tmp_path)
    after.begin()
    assert after.unseen is None
    assert not after.is_deadly(MODEL)
    assert list((tmp_path / "state").glob("report-*")) == []
    after.end()


def test_a_run_that_died_is_reported_once_without_names(tmp_path: Path) -> None:
    (tmp_path / "rooftop.log").write_text(f"2026-01-01 INFO app: anna opened {MODEL} on annas-pc\n")
    die(tmp_path, MODEL)
    after = records(tmp_path)
    after.begin()
    assert after.unseen is not None
    who, text = after.unseen
    assert who == "app"
    assert "While loading: mixtral" in text
    assert "<user> opened ~/models/mixtral.gguf on <host>" in text
    assert "anna" not in text
    after.seen()
    after.end()
    assert records(tmp_path).unseen is None


def test_two_deaths_in_a_row_make_a_model_deadly(tmp_path: Path) -> None:
    die(tmp_path, MODEL)
    die(tmp_path, MODEL)
    run = records(tmp_path)
    assert not run.is_deadly(MODEL), "the second death is found by the next start"
    run.begin()
    assert run.is_deadly(MODEL)
    assert not run.is_deadly("guide")
    run.loading(MODEL)
    run.settled()
    assert not run.is_deadly(MODEL)


def test_other_models_and_deaths_elsewhere_do_not_count(tmp_path: Path) -> None:
    die(tmp_path, MODEL)
    die(tmp_path, "guide")
    die(tmp_path, MODEL)
    die(tmp_path, "")
    run = records(tmp_path)
    run.begin()
    assert not run.is_deadly(MODEL)
    assert not run.is_deadly("guide")


def test_a_refused_load_is_no_death(tmp_path: Path) -> None:
    die(tmp_path, MODEL)
    run = records(tmp_path)
    run.begin()
    run.loading(MODEL)
    run.survived()
    run.end()
    again = records(tmp_path)
    again.begin()
    assert not again.is_deadly(MODEL)


def test_an_engine_that_dies_counts_too(tmp_path: Path) -> None:
    (tmp_path / "engine.log").write_text('Fatal Python error: Segmentation fault\n  File "x.py", line 3\n')
    run = records(tmp_path)
    run.begin()
    for _ in range(2):
        run.loading(MODEL)
        run.engine_died("The engine process ended unexpectedly (signal 11).")
    assert run.is_deadly(MODEL)
    assert run.unseen is not None
    who, text = run.unseen
    assert who == "engine"
    assert "Segmentation fault" in text
    assert "signal 11" in text
    run.end()
    assert records(tmp_path).unseen is not None, "a run that ends well takes nothing back"


def test_only_the_latest_reports_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    for number in range(8):
        (folder / f"report-2020-01-0{number + 1}-000000.txt").touch()
    run = records(tmp_path)
    run.engine_died("Gone.")
    names = sorted(path.name for path in folder.glob("report-*"))
    assert len(names) == KEPT_REPORTS
    assert run.unseen is not None


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 200, b"[]", b'{"pid": "x", "deaths": true}', b'{"unseen": "../../etc/passwd"}']
)
def test_a_damaged_session_is_no_obstacle(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "session.json").write_bytes(content)
    run = records(tmp_path)
    run.begin()
    assert run.unseen is None
    run.end()


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    run = records(tmp_path)
    run.begin()
    run.loading(MODEL)
    run.engine_died("Gone.")
    assert not run.is_deadly(MODEL)
    run.loading(MODEL)
    run.engine_died("Gone.")
    assert run.is_deadly(MODEL), "in this run it is known all the same"
    run.end()


def test_another_rooftop_that_is_running_has_not_crashed(tmp_path: Path) -> None:
    first = records(tmp_path)
    first.begin()
    second = records(tmp_path)
    second.begin()
    assert second.unseen is None
    assert json.loads((tmp_path / "state" / "session.json").read_text())["pid"] == os.getpid() == psutil.Process().pid


CRASHES = """
import ctypes, sys
from pathlib import Path
from app.crash_records import CrashRecords
from app.redaction import Redaction
run = CrashRecords(Path(sys.argv[1]) / "state", None, Redaction("", "", ""))
run.begin()
run.watch()
run.loading("guide")
run.note(KeyError("my diary"))
ctypes.string_at(0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="reads address 0")
def test_a_process_that_really_crashes_leaves_its_trace(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASHES, str(tmp_path)], cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    assert done.returncode < 0
    run = records(tmp_path)
    run.begin()
    assert run.unseen is not None
    text = run.unseen[1]
    assert "Segmentation fault" in text
    assert 'File "<string>", line 11' in text
    assert "KeyError: '...'" in text
    assert "diary" not in text
    assert "While loading: Rooftop guide" in text
