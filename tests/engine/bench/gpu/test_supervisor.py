"""A suite that crashes, stands still or loses the GPU goes on in another process; what it has to say arrives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.bench.gpu.journal import Journal
from engine.bench.gpu.suite import Options
from engine.bench.gpu.supervisor import supervise
from engine.errors import ConfigurationError, EngineFailure, GpuLostError

STEPS = ("good", "bad", "last")

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals end what is tried here")


def steps(options: Options, bad: Callable[[], None]) -> dict[str, Any]:
    """A suite of three steps, of which one is bad."""
    journal = Journal(options.out / "j.jsonl")
    for key in STEPS:
        if key in journal.results or journal.crashed(key):
            continue
        journal.start(key)
        if key == "bad":
            bad()
        journal.finish(key, {"process": os.getpid(), "minutes": options.minutes})
    return {"found": journal.results, "crashed": journal.all_crashed}


def crashing(options: Options) -> dict[str, Any]:
    return steps(options, lambda: os.kill(os.getpid(), signal.SIGKILL))


def standing_still(options: Options) -> dict[str, Any]:
    return steps(options, lambda: time.sleep(60))


def losing_the_gpu(options: Options) -> dict[str, Any]:
    """As the suite does: the step is told, then the process ends."""

    def lost() -> None:
        Journal(options.out / "j.jsonl").finish("bad", {"refused": "lost"})
        raise GpuLostError("The GPU stopped working.", "Start again.")

    return steps(options, lost)


def refusing(options: Options) -> dict[str, Any]:
    raise ConfigurationError(f"{options.out} cannot be written.", "Choose another.")


def dying_at_once(options: Options) -> dict[str, Any]:
    os._exit(7)


NOTED: list[str] = []


@pytest.fixture
def supervised_by(tmp_path: Path) -> Callable[..., Any]:
    NOTED.clear()

    def run(work: Any, patience_s: float = 60.0, minutes: float | None = None) -> Any:
        options = Options(tmp_path, tmp_path, minutes=minutes, on_note=NOTED.append)
        return supervise(work, options, tmp_path / "j.jsonl", patience_s)

    return run


def test_a_step_that_takes_its_process_with_it_twice_is_left_out(supervised_by: Callable[..., Any]) -> None:
    report = supervised_by(crashing)
    assert list(report["found"]) == ["good", "last"]
    assert report["crashed"] == ["bad"]
    assert report["found"]["good"]["process"] != report["found"]["last"]["process"]
    assert NOTED == ["The process ended with -9. Going on in another process."] * 2


def test_a_step_that_stands_still_is_ended_and_says_where(
    supervised_by: Callable[..., Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Journal(tmp_path / "j.jsonl").start("bad")
    report = supervised_by(standing_still, patience_s=6.0)
    assert (list(report["found"]), report["crashed"]) == (["good", "last"], ["bad"])
    said = capfd.readouterr().err
    assert said.count("Fatal Python error: Aborted") == 1
    assert "in standing_still" in said


def test_what_lost_the_gpu_is_told_and_the_rest_has_another(supervised_by: Callable[..., Any]) -> None:
    report = supervised_by(losing_the_gpu)
    assert report["found"]["bad"] == {"refused": "lost"}
    assert list(report["found"]) == ["good", "bad", "last"]
    assert NOTED == ["The GPU stopped working. Start again. Going on in another process."]


def test_a_refusal_arrives_as_it_was_raised(supervised_by: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be written\. Choose another\."):
        supervised_by(refusing)


def test_a_process_that_begins_nothing_is_not_tried_for_ever(supervised_by: Callable[..., Any]) -> None:
    with pytest.raises(EngineFailure, match="ended with 7 before it began a step"):
        supervised_by(dying_at_once)


def test_the_time_that_is_left_is_shared(supervised_by: Callable[..., Any]) -> None:
    report = supervised_by(losing_the_gpu, minutes=5.0)
    assert 0 < report["found"]["last"]["minutes"] < report["found"]["good"]["minutes"] < 5.0


def test_nobody_outlives_who_asked(tmp_path: Path) -> None:
    """The suite ends with the command, however that ends."""
    code = (
        "from pathlib import Path; from engine.bench.gpu.suite import Options; "
        "from engine.bench.gpu.supervisor import supervise; "
        "from tests.engine.bench.gpu.test_supervisor import standing_still; "
        f"out = Path({str(tmp_path)!r}); supervise(standing_still, Options(out, out), out / 'j.jsonl')"
    )
    asking = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    until_s = time.monotonic() + 60
    while not (children := psutil.Process(asking.pid).children()) or "bad" not in _text(tmp_path / "j.jsonl"):
        assert time.monotonic() < until_s
        time.sleep(0.05)
    asking.kill()
    asking.wait()
    while any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in children):
        assert time.monotonic() < until_s
        time.sleep(0.05)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
