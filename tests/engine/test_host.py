"""Hosting the engine: whatever becomes of it, the caller hears of it and nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

import engine.host
from engine.config import EngineConfig, SamplingParams
from engine.gpu_packages import find_component
from engine.host import EngineHost, InProcessHost, ProcessHost, start_host
from engine.messages import (
    Cancel,
    ChatMessage,
    CountTokens,
    Event,
    Failed,
    Finished,
    Generate,
    Load,
    Ready,
    Reconfigure,
    Shutdown,
    Snapshot,
    Token,
    TokensCounted,
    TorchBuild,
)
from engine.worker import EngineWorker
from tests.checkpoints import write_mixtral
from tests.engine.fake_engine import LOAD_FAKE
from tests.engine.test_worker import FAKE_COMMAND, LOAD, PATIENCE_S, ask
from tests.gpu_wheels import BROKEN, DEADLY, OWN, write_installed


def until(host: EngineHost, *kinds: type) -> list[Event]:
    """Events up to a poll that brought one of these kinds."""
    seen: list[Event] = []
    while not any(isinstance(event, kinds) for event in seen):
        assert host.wait(PATIENCE_S)
        seen += host.poll()
    return seen


def failures(events: list[Event]) -> list[str]:
    return [event.error.code for event in events if isinstance(event, Failed)]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[ProcessHost]:
    host = ProcessHost(FAKE_COMMAND, tmp_path / "engine.log")
    host.start()
    yield host
    host.stop()
    assert not psutil.Process().children()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("engine")]


@pytest.fixture
def loaded(host: ProcessHost) -> ProcessHost:
    host.send(LOAD)
    until(host, Ready)
    return host


def _busy_with(host: ProcessHost, prompt: str) -> None:
    host.send(ask(prompt))
    until(host, Token)


def test_answers_come_back_in_order(loaded: ProcessHost) -> None:
    loaded.send(ask("a b c"))
    events = until(loaded, Finished)
    assert [event.text for event in events if isinstance(event, Token)] == ["a ", "b ", "c "]
    assert isinstance(events[-1], Finished)
    assert loaded.alive
    assert loaded.pid is not None


def test_no_token_is_dropped_and_only_the_latest_snapshot_kept(loaded: ProcessHost) -> None:
    loaded.send(ask("flood"))
    loaded.send(ask("end"))
    with loaded._inbox._changed:
        done = loaded._inbox._changed.wait_for(
            lambda: sum(isinstance(event, Finished) for event in loaded._inbox._events) == 2, PATIENCE_S
        )
    assert done
    events = loaded.poll()
    assert sum(isinstance(event, Token) for event in events) == 20_001
    assert sum(isinstance(event, Snapshot) for event in events) == 1
    assert loaded.poll() == []
    assert not loaded.wait(0)


def test_counts_come_back_and_a_dead_engine_owes_none(loaded: ProcessHost) -> None:
    loaded.send(CountTokens(5, (ChatMessage("user", "one two"),)))
    events = until(loaded, TokensCounted)
    assert events[-1] == TokensCounted(5, (2,), (), 2, 512)
    loaded.stop()
    loaded.poll()
    loaded.send(CountTokens(6, ()))
    assert loaded.poll() == []


def test_cancel_is_heard_while_the_engine_computes(loaded: ProcessHost) -> None:
    _busy_with(loaded, "busy")
    loaded.send(Cancel())
    end = until(loaded, Finished)[-1]
    assert isinstance(end, Finished)
    assert end.reason == "cancelled"


# ---- death ----


def test_killed_engine_is_one_failure_and_a_new_host_goes_on(loaded: ProcessHost) -> None:
    _busy_with(loaded, "busy")
    assert loaded.pid is not None
    os.kill(loaded.pid, signal.SIGKILL)
    events = until(loaded, Failed)
    loaded._drainer.join(PATIENCE_S)
    events += loaded.poll()
    assert failures(events) == ["engine-stopped"]
    assert not loaded.alive
    loaded.send(Cancel())
    loaded.send(Shutdown())
    assert loaded.poll() == []
    loaded.send(LOAD)
    assert failures(loaded.poll()) == ["engine-stopped"]
    again = ProcessHost(FAKE_COMMAND)
    again.start()
    again.send(LOAD)
    until(again, Ready)
    again.stop()


@pytest.mark.parametrize(
    ("prompt", "words"),
    [("die", "out of memory"), ("crash", "Segmentation fault"), ("exit", "exit code 3: the reason")],
)
def test_failure_says_how_the_engine_ended(loaded: ProcessHost, prompt: str, words: str) -> None:
    loaded.send(ask(prompt))
    (failed,) = (event for event in until(loaded, Failed) if isinstance(event, Failed))
    assert failed.error.code == "engine-stopped"
    assert words in failed.error.message


def test_command_that_cannot_start_is_an_event() -> None:
    host = ProcessHost(["/nonexistent/python"])
    host.start()
    assert failures(host.poll()) == ["engine-stopped"]
    host.send(LOAD)
    assert failures(host.poll()) == ["engine-stopped"]
    assert not host.alive
    assert host.pid is None
    host.stop()


def test_child_that_is_no_engine_is_ended_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.host, "STOP_TIMEOUT_S", 2 * PATIENCE_S)  # what one that ends by itself may take
    host = ProcessHost([sys.executable, "-c", "print('hello ' * 100, flush=True); import time; time.sleep(60)"])
    host.start()
    assert failures(until(host, Failed)) == ["engine-stopped"]
    assert not host.alive
    host.stop()


def test_message_that_is_not_plain_data_is_refused(loaded: ProcessHost) -> None:
    loaded.send(ask("not plain"))
    (failed,) = (event for event in until(loaded, Failed) if isinstance(event, Failed))
    assert failed.error.code == "engine-stopped"
    assert "PurePosixPath may not be sent" in failed.error.message


# ---- the GPU component ----


def test_a_child_takes_torch_from_the_component_and_says_so_first(tmp_path: Path) -> None:
    folder = write_installed(tmp_path)
    host = ProcessHost(FAKE_COMMAND, packages=lambda: folder)
    host.start()
    host.send(LOAD)
    events = until(host, Ready)
    assert events[0] == TorchBuild("2.13.0+cu130", "13.0")
    assert find_component(tmp_path, OWN).state == "ready"
    host.stop()


@pytest.mark.parametrize(
    ("torch", "how"),
    [
        (BROKEN, "exit code 3: ImportError: libcublas.so.13: cannot open shared object file"),
        pytest.param(DEADLY, "killed", marks=pytest.mark.skipif(sys.platform == "win32", reason="signals")),
    ],
)
def test_a_component_that_ends_the_child_is_refused_and_the_cpu_goes_on(tmp_path: Path, torch: str, how: str) -> None:
    folder = write_installed(tmp_path, torch)
    host = ProcessHost(FAKE_COMMAND, packages=lambda: folder)
    host.start()
    host.send(LOAD)
    host.send(ask("a b c"))
    events = until(host, Finished)
    (build,) = (event for event in events if isinstance(event, TorchBuild))
    assert (build.version, build.cuda) == ("", "")
    assert build.problem.startswith(
        "GPU support could not be used, so the CPU computes alone. The engine process ended"
    )
    assert how in build.problem
    assert [type(event) for event in events].count(Ready) == 1, "what the first child was told, the second one does"
    assert failures(events) == []
    found = find_component(tmp_path, OWN)
    assert found.state == "refused"
    assert how in found.problem
    host.stop()


def test_a_child_that_has_spoken_is_not_begun_again(tmp_path: Path) -> None:
    folder = write_installed(tmp_path)
    host = ProcessHost(FAKE_COMMAND, packages=lambda: folder)
    host.start()
    host.send(LOAD)
    until(host, Ready)
    host.send(ask("die"))
    assert failures(until(host, Failed)) == ["engine-stopped"]
    assert find_component(tmp_path, OWN).state == "ready"
    host.stop()


def test_a_request_that_meets_the_childs_first_event_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that hears the child forgets what it was told, between any two looks of the one that sends."""
    remembered: list[list[object] | None] = [[]]

    def look(_: ProcessHost) -> list[object] | None:
        return remembered.pop(0) if remembered else None

    host = ProcessHost(FAKE_COMMAND)
    monkeypatch.setattr(ProcessHost, "_unheard", property(look), raising=False)
    host.send(LOAD)
    assert host._outbox.get_nowait() == LOAD


def test_a_slow_look_at_the_component_keeps_nobody_waiting() -> None:
    looked = threading.Event()

    def look() -> None:
        looked.wait(PATIENCE_S)

    host = ProcessHost(FAKE_COMMAND, packages=look)
    host.start()
    assert host.pid is None
    host.send(LOAD)
    looked.set()
    until(host, Ready)
    host.stop()
    looked.clear()
    stopped = ProcessHost(FAKE_COMMAND, packages=look)
    stopped.start()
    stopped.stop(0.01)
    looked.set()
    stopped._drainer.join(PATIENCE_S)
    assert not psutil.Process().children()
    assert stopped.poll() == []


def test_a_stop_while_the_component_is_imported_begins_nothing_anew(tmp_path: Path) -> None:
    folder = write_installed(tmp_path, "import time\ntime.sleep(60)\n")
    host = ProcessHost(FAKE_COMMAND, packages=lambda: folder)
    host.start()
    host.send(LOAD)
    host.stop(0.1)
    assert not host.alive
    assert host.poll() == []
    assert find_component(tmp_path, OWN).state == "ready"
    assert not psutil.Process().children()


# ---- stop ----


def test_a_child_that_comes_to_be_while_all_stops_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    born, stopped, popen = threading.Event(), threading.Event(), subprocess.Popen

    def late(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        process = popen(*args, **options)
        born.set()
        stopped.wait(PATIENCE_S)
        return process

    monkeypatch.setattr(subprocess, "Popen", late)
    host = ProcessHost(FAKE_COMMAND)
    host.start()
    assert born.wait(PATIENCE_S)
    host.stop(0.01)
    stopped.set()
    host._drainer.join(PATIENCE_S)
    assert not psutil.Process().children()
    assert host.poll() == []


def exit_code(host: ProcessHost) -> int | None:
    """How the child ended: negative for the signal that it took."""
    assert host._process is not None
    return host._process.returncode


@pytest.mark.parametrize("prompt", ["busy", "stuck"])
def test_a_busy_child_that_is_stopped_ends_by_itself(loaded: ProcessHost, prompt: str) -> None:
    _busy_with(loaded, prompt)
    loaded.stop()
    assert exit_code(loaded) == 0, "within the timeout, after which it is ended by force"
    assert failures(loaded.poll()) == []
    loaded.stop()


@pytest.mark.parametrize(("prompt", "force"), [("keep gil", signal.SIGTERM), ("stopped", signal.SIGKILL)])
def test_stop_ends_what_does_not_listen(loaded: ProcessHost, prompt: str, force: int) -> None:
    if prompt == "stopped":
        assert loaded.pid is not None
        os.kill(loaded.pid, signal.SIGSTOP)
    else:
        _busy_with(loaded, prompt)
    loaded.stop(timeout_s=0.2)
    assert exit_code(loaded) == -force
    assert failures(loaded.poll()) == []


def test_stop_without_start_is_harmless() -> None:
    for host in (ProcessHost(FAKE_COMMAND), InProcessHost()):
        host.stop()
        host.send(LOAD)
        assert failures(host.poll()) == ["engine-stopped"]


def test_caller_that_just_exits_leaves_no_orphan() -> None:
    source = (
        "from engine.host import ProcessHost\n"
        "from engine.messages import Token\n"
        "from tests.engine.test_host import FAKE_COMMAND, LOAD, ask, until\n"
        "host = ProcessHost(FAKE_COMMAND); host.start(); host.send(LOAD); host.send(ask('busy')); until(host, Token)\n"
        "print(host.pid, flush=True)\n"
    )
    ended = subprocess.run([sys.executable, "-c", source], capture_output=True, timeout=PATIENCE_S, check=True)
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(ended.stdout)).wait(PATIENCE_S)


# ---- the rest ----


def test_log_takes_stderr_and_stays_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.host, "MAX_LOG_BYTES", 10_000)
    path = tmp_path / "logs" / "engine.log"
    host = ProcessHost(
        [sys.executable, "-c", "import sys; [print('x' * 99, file=sys.stderr) for _ in range(2000)]"], path
    )
    host.start()
    until(host, Failed)
    host.stop()
    assert 0 < path.stat().st_size <= 10_200
    assert {item.name for item in path.parent.iterdir()} == {"engine.log", "engine.log.1"}


def test_full_disk_loses_the_log_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    host = ProcessHost(FAKE_COMMAND, tmp_path / "file" / "engine.log")
    host.start()
    host.send(LOAD)
    host.send(ask("print"))
    assert until(host, Finished)
    host.stop()


def test_in_process_host_has_the_same_behaviour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.worker.EngineWorker", lambda emit: EngineWorker(emit, LOAD_FAKE))
    host = start_host(in_process=True)
    assert host.pid is None
    host.send(LOAD)
    host.send(ask("busy"))
    until(host, Token)
    assert host.alive
    host.send(Cancel())
    until(host, Finished)
    host.send(ask("busy"))
    until(host, Token)
    host.stop()
    host.stop()
    assert not host.alive
    host.poll()
    host.send(LOAD)
    assert failures(host.poll()) == ["engine-stopped"]


def test_real_worker_starts_answers_and_stops_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "__init__.py").write_text("raise SystemExit('the wrong engine')")
    host = start_host()
    host.send(ask("hello"))
    assert failures(until(host, Failed)) == ["configuration"]
    host.stop()
    assert isinstance(host, ProcessHost)
    assert exit_code(host) == 0


def test_host_imports_no_torch() -> None:
    source = (
        "import sys, engine.host; sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", source], check=False).returncode == 0


@pytest.mark.parametrize("in_process", [False, True], ids=["process", "thread"])
def test_real_model_loads_answers_and_is_cancelled(tmp_path: Path, in_process: bool) -> None:
    folder = write_mixtral(tmp_path / "tiny", max_position_embeddings=4096)
    host = start_host(in_process=in_process)
    config = EngineConfig(device="simulated", simulated_vram_bytes=1 << 30, cpu_threads=1, context_tokens=4096)
    sampling = SamplingParams(max_tokens=4000, seed=1, ignore_eos=True)
    try:
        host.send(Load(str(folder), config))
        events = until(host, Ready, Failed)
        assert failures(events) == []
        host.send(Generate((ChatMessage("user", "hello"),), sampling))
        until(host, Token)
        host.send(Cancel())
        (end,) = (event for event in until(host, Finished, Failed) if isinstance(event, (Finished, Failed)))
        assert isinstance(end, Finished)
        assert end.reason == "cancelled"
        host.send(Reconfigure(replace(config, context_tokens=64)))
        (ready,) = (event for event in until(host, Ready, Failed) if isinstance(event, (Ready, Failed)))
        assert isinstance(ready, Ready)
        assert ready.effective.context_tokens == 64
        host.send(Generate((ChatMessage("user", "hello"),), sampling))
        until(host, Token, Failed)
    finally:
        host.stop()
    assert not host.alive
