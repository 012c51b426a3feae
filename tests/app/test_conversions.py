"""Conversions as the window runs them: one by the engine itself, the others by a child that does as it is told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from app.conversions import Conversions, ConversionState, free_target, needed_bytes
from app.library import Library
from app.model_places import Place
from app.removal import REMOVED
from engine.config import EngineConfig
from engine.convert.workplace import unfinished_folder
from engine.messages import ErrorReport
from engine.sentences import Sentence
from tests.checkpoints import write_mixtral
from tests.gguf_files import write_gguf

CHILD = (sys.executable, "-S", "-E", str(Path(__file__).with_name("convert_child.py")))
CPU = EngineConfig(device="cpu", isa="torch", context_tokens=64, cpu_threads=1)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "own"


@pytest.fixture
def conversions(models: Path, qtbot: QtBot) -> Iterator[Conversions]:
    made = Conversions(models, command=CHILD)
    yield made
    made.shutdown()


def state(conversions: Conversions, key: str) -> ConversionState:
    found = conversions.state(key)
    assert found is not None
    return found


def wait_for(conversions: Conversions, key: str, phase: str, qtbot: QtBot) -> ConversionState:
    qtbot.waitUntil(lambda: state(conversions, key).phase == phase)
    return state(conversions, key)


def test_the_engine_makes_a_model_that_the_library_finds(tmp_path: Path, models: Path, qtbot: QtBot) -> None:
    source = write_mixtral(tmp_path / "Mix", layers=1, hidden=256, intermediate=64)
    conversions = Conversions(models)
    with qtbot.waitSignal(conversions.sized) as sized:
        conversions.ask_sizes(source)
    assert sized.args is not None
    _, sizes, error = sized.args
    assert error is None
    with qtbot.waitSignal(conversions.finished, timeout=20_000) as finished:
        key = conversions.start(source, "q4")
    assert finished.args == ["Mix-q4", models / "Mix-q4"]
    done = state(conversions, key)
    assert (done.phase, done.error) == ("done", None)
    assert done.done_bytes == done.total_bytes > 0
    conversions.shutdown()

    written = sum(path.stat().st_size for path in (models / "Mix-q4").iterdir())
    assert sizes["q4"] <= written <= needed_bytes(sizes["q4"])
    assert sizes["q4"] < sizes["q8"]
    library = Library(lambda: (Place("rooftop", models),), lambda: CPU)
    with qtbot.waitSignal(library.scanned):
        library.refresh()
    (found,) = [model for model in library.models() if model.source == "rooftop"]
    library.close()
    assert (found.name, found.path, found.problem) == ("Mix q4", str(models / "Mix-q4"), "")
    assert found.runs
    assert not found.can_be_smaller


def test_progress_pause_and_resume(conversions: Conversions, models: Path, qtbot: QtBot) -> None:
    key = conversions.start(Path("/models/Big Mix"), "q4")
    assert key == "Big-Mix-q4"
    running = wait_for(conversions, key, "checking", qtbot)
    assert (running.done_bytes, running.total_bytes, running.seconds_left) == (60, 120, 45.0)
    conversions.pause(key)
    paused = state(conversions, key)
    assert (paused.phase, paused.done_bytes, paused.seconds_left) == ("paused", 60, None)
    assert conversions.start(Path("/models/Big Mix"), "q4") == key, "the same is gone on with"
    wait_for(conversions, key, "checking", qtbot)
    assert conversions.start(Path("/models/Big Mix"), "q8") == "Big-Mix-q8", "another format is another model"


def test_one_runs_and_the_others_wait(conversions: Conversions, qtbot: QtBot) -> None:
    first, second = (conversions.start(Path(f"/models/{name}"), "q8") for name in "ab")
    wait_for(conversions, first, "checking", qtbot)
    assert state(conversions, second).phase == "waiting"
    conversions.pause(first)
    wait_for(conversions, second, "checking", qtbot)
    assert state(conversions, first).phase == "paused"


def test_giving_up_removes_what_is_there(conversions: Conversions, models: Path, qtbot: QtBot) -> None:
    key = conversions.start(Path("/models/a"), "q8")
    wait_for(conversions, key, "checking", qtbot)
    assert unfinished_folder(models / key).is_dir()
    conversions.cancel(key)
    assert conversions.states() == ()
    assert not unfinished_folder(models / key).exists()
    qtbot.waitUntil(lambda: not list(models.iterdir()))


def test_an_earlier_run_left_it_unfinished(conversions: Conversions, models: Path, qtbot: QtBot) -> None:
    source = Path("/models/a")
    key = conversions.start(source, "q8")
    wait_for(conversions, key, "checking", qtbot)
    conversions.shutdown()
    (models / f"{REMOVED}7").mkdir()
    later = Conversions(models, command=CHILD)
    assert later.states() == (ConversionState(key, source, "q8", models / key, "paused"),)
    assert free_target(models, source, "q8").name == "A-q8-2"
    later.resume(key)
    wait_for(later, key, "checking", qtbot)
    qtbot.waitUntil(lambda: not (models / f"{REMOVED}7").exists())
    later.shutdown()


@pytest.mark.parametrize(
    ("kind", "code"), [("checkpoint", "conversion-source"), ("does-not-fit", "conversion"), ("engine", "conversion")]
)
def test_what_the_engine_refuses_is_told_in_its_words(
    conversions: Conversions, kind: str, code: str, qtbot: QtBot
) -> None:
    with qtbot.waitSignal(conversions.failed) as failed:
        key = conversions.start(Path(f"/models/fails-{kind}"), "q4")
    assert failed.args == [key, ErrorReport(code, "This is odd.", "Mend it.")]
    report = failed.args[1]
    assert isinstance(report.message, Sentence)
    assert report.message.template == "{path} is odd."
    conversions.resume(key)
    assert state(conversions, key).error is None
    wait_for(conversions, key, "failed", qtbot)


def test_a_child_that_breaks_off_or_cannot_be_started(conversions: Conversions, models: Path, qtbot: QtBot) -> None:
    key = conversions.start(Path("/models/breaks"), "q4")
    broken = wait_for(conversions, key, "failed", qtbot).error
    assert broken is not None
    assert "ended unexpectedly" in broken.message
    absent = Conversions(models, command=("/nowhere/python",))
    with qtbot.waitSignal(absent.failed):
        absent.start(Path("/models/other"), "q4")


def test_what_cannot_be_converted_has_no_size(conversions: Conversions, tmp_path: Path, qtbot: QtBot) -> None:
    small = write_gguf(tmp_path / "small.gguf", "llama", formats=[("Q8_0", "Q8_0", "Q8_0")], dense_format="Q8_0")
    with qtbot.waitSignal(conversions.sized) as sized:
        conversions.ask_sizes(small)
    assert sized.args is not None
    path, sizes, error = sized.args
    assert (path, sizes, error.code) == (str(small), {}, "unsupported-model")
