"""The engine thread: requests in, events out, whatever goes wrong."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import BinaryIO, cast

import pytest

from engine.config import EngineConfig, ModelConfig, SamplingParams
from engine.experts.assumed_costs import assumed_costs
from engine.experts.placement import make_plan
from engine.hardware import HardwareProfile
from engine.messages import (
    Cancel,
    ChatMessage,
    CountTokens,
    Event,
    Failed,
    Finished,
    Generate,
    LeftOut,
    Load,
    Loading,
    PlanningInputs,
    PromptProgress,
    Ready,
    Recalibrate,
    Reconfigure,
    Shutdown,
    Snapshot,
    Token,
    TokensCounted,
)
from engine.pipe import BrokenFrameError, read_message, write_message
from engine.traits import ClampedGate, Compatibility, DenseBlocks, LongRope, Traits
from engine.worker import EngineWorker
from tests.engine.fake_engine import LOAD_FAKE, FakeEngine

FAKE_COMMAND = [sys.executable, "-m", "tests.engine.fake_engine"]
PATIENCE_S = 20.0
LOAD = Load("fake", EngineConfig())


def ask(prompt: str) -> Generate:
    return Generate((ChatMessage("user", prompt),), SamplingParams())


class Worker:
    """A worker whose events can be waited for."""

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.worker = EngineWorker(self.events.put, LOAD_FAKE)
        self.worker.start()

    def until(self, *kinds: type) -> list[Event]:
        """Events up to the first of these kinds."""
        seen: list[Event] = []
        while not seen or not isinstance(seen[-1], kinds):
            seen.append(self.events.get(timeout=PATIENCE_S))
        return seen


@pytest.fixture
def worker() -> Iterator[Worker]:
    FakeEngine.open_engines = 0
    worker = Worker()
    yield worker
    worker.worker.submit(Shutdown())
    assert worker.worker.join(PATIENCE_S)
    assert FakeEngine.open_engines == 0


@pytest.fixture
def loaded(worker: Worker) -> Worker:
    worker.worker.submit(LOAD)
    kinds = [type(event) for event in worker.until(Snapshot)]
    assert kinds == [Loading, Loading, Ready, Snapshot]
    return worker


def _error(event: Event) -> str:
    assert isinstance(event, Failed)
    assert event.error.message.endswith(".")
    assert event.error.remedy.endswith(".")
    assert "\n" not in event.error.message
    return event.error.code


def _outcome(event: Event) -> str:
    return event.reason if isinstance(event, Finished) else _error(event)


def test_reply_is_passed_on(loaded: Worker) -> None:
    loaded.worker.submit(ask("one two"))
    events = loaded.until(Finished, Failed)
    assert isinstance(events[0], PromptProgress)
    assert [event.text for event in events if isinstance(event, Token)] == ["one ", "two "]


def test_generate_without_a_model_fails(worker: Worker) -> None:
    worker.worker.submit(ask("hello"))
    assert _error(worker.until(Finished, Failed)[-1]) == "configuration"


@pytest.mark.parametrize(("prompt", "code"), [("fail", "out-of-memory"), ("bug", "internal")])
def test_failure_is_reported_and_the_engine_goes_on(
    loaded: Worker, caplog: pytest.LogCaptureFixture, prompt: str, code: str
) -> None:
    with caplog.at_level(logging.ERROR):
        loaded.worker.submit(ask(prompt))
        assert _error(loaded.until(Finished, Failed)[-1]) == code
    assert ("Traceback" in caplog.text) == (code == "internal")
    loaded.worker.submit(ask("hello"))
    assert isinstance(loaded.until(Finished, Failed)[-1], Finished)


def test_failed_load_leaves_no_model(loaded: Worker) -> None:
    loaded.worker.submit(Load("missing", EngineConfig()))
    assert _error(loaded.until(Ready, Failed)[-1]) == "checkpoint"
    assert FakeEngine.open_engines == 0
    loaded.worker.submit(ask("hello"))
    assert _error(loaded.until(Finished, Failed)[-1]) == "configuration"


def test_new_model_replaces_the_old(loaded: Worker) -> None:
    loaded.worker.submit(LOAD)
    loaded.until(Snapshot)
    assert FakeEngine.open_engines == 1


def test_settings_take_effect_or_fail(loaded: Worker) -> None:
    loaded.worker.submit(Reconfigure(EngineConfig(context_tokens=64)))
    ready = loaded.until(Ready, Failed)[-1]
    assert isinstance(ready, Ready)
    assert ready.effective.context_tokens == 64
    loaded.until(Snapshot)
    loaded.worker.submit(Reconfigure(EngineConfig(context_tokens=17)))
    assert _error(loaded.until(Ready, Failed)[-1]) == "checkpoint"


def test_recalibration_is_announced(loaded: Worker) -> None:
    loaded.worker.submit(Recalibrate())
    assert [type(event) for event in loaded.until(Snapshot)] == [Loading, Ready, Snapshot]


@pytest.mark.parametrize("prompt", ["short of memory", "short of memory, then fail"])
def test_memory_that_ran_out_in_a_reply_is_told_once(loaded: Worker, prompt: str) -> None:
    loaded.worker.submit(ask(prompt))
    loaded.worker.submit(ask("hello"))
    events = [*loaded.until(Finished, Failed), *loaded.until(Finished, Failed)]
    told = [event for event in events if isinstance(event, Ready)]
    assert [ready.because for ready in told] == ["The GPU ran out of memory."]
    assert isinstance(events[events.index(told[0]) + 1], Snapshot)


# ---- cancel ----


def test_cancel_stops_a_reply_again_and_again(loaded: Worker) -> None:
    for _ in range(20):
        loaded.worker.submit(ask("busy"))
        loaded.until(Token)
        loaded.worker.submit(Cancel())
        assert _outcome(loaded.until(Finished, Failed)[-1]) == "cancelled"


def test_cancel_stops_a_load(worker: Worker) -> None:
    worker.worker.submit(Load("slow", EngineConfig()))
    worker.until(Loading)
    worker.worker.submit(Cancel())
    assert _error(worker.until(Ready, Failed)[-1]) == "cancelled"


def test_cancel_concerns_queued_work_but_not_what_comes_after(loaded: Worker) -> None:
    for request in (ask("busy"), ask("busy"), LOAD, Recalibrate(), Cancel(), ask("hello")):
        loaded.worker.submit(request)
    told = [loaded.until(Finished, Failed) for _ in range(5)]
    assert [_outcome(events[-1]) for events in told] == ["cancelled"] * 4 + ["stop"]
    assert [len(events) for events in told[1:4]] == [1, 1, 1], "answered without being started"


def test_cancel_of_nothing_is_ignored(loaded: Worker) -> None:
    loaded.worker.submit(Cancel())
    loaded.worker.submit(ask("hello"))
    end = loaded.until(Finished, Failed)[-1]
    assert isinstance(end, Finished)
    assert end.reason == "stop"


def test_tokens_are_counted_while_a_reply_is_written(loaded: Worker) -> None:
    loaded.worker.submit(ask(" ".join(["word"] * 50_000)))
    loaded.until(Token)
    loaded.worker.submit(CountTokens(3, (ChatMessage("user", "one two"),), ("a b c",)))
    assert loaded.until(TokensCounted, Finished)[-1] == TokensCounted(3, (2,), (3,), 2, 512)
    loaded.until(Finished)


def test_without_a_model_a_count_says_so_and_of_several_the_last_is_answered(worker: Worker) -> None:
    worker.worker.submit(CountTokens(1, ()))
    assert worker.until(TokensCounted)[-1] == TokensCounted(1, (), (), 0, 0)


def test_what_was_left_out_is_passed_on(loaded: Worker) -> None:
    question = ChatMessage("user", "hello")
    loaded.worker.submit(Generate((question, question), SamplingParams(), "drop_oldest"))
    assert LeftOut(1, 10) in loaded.until(Finished)


def test_settings_are_not_cancelled(loaded: Worker) -> None:
    loaded.worker.submit(ask("busy"))
    loaded.worker.submit(Reconfigure(EngineConfig(context_tokens=64)))
    loaded.worker.submit(Cancel())
    loaded.until(Finished)
    assert isinstance(loaded.until(Ready, Failed)[-1], Ready)


def test_shutdown_cancels_and_closes(loaded: Worker) -> None:
    loaded.worker.submit(ask("busy"))
    loaded.until(Token)
    loaded.worker.submit(Shutdown())
    assert loaded.worker.join(PATIENCE_S)
    assert not loaded.worker.alive
    assert FakeEngine.open_engines == 0


# ---- the process ----


class Child:
    """The worker process, spoken to by hand."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin = cast("BinaryIO", self.process.stdin)
        self.stdout = cast("BinaryIO", self.process.stdout)

    def until(self, *kinds: type) -> Event:
        while True:
            event = read_message(self.stdout)
            assert event is not None
            if isinstance(event, kinds):
                return cast("Event", event)

    def errors(self) -> str:
        """What it wrote on stderr, once it has ended for want of requests."""
        self.stdin.close()
        assert self.process.stderr is not None
        errors = self.process.stderr.read().decode()
        self.process.wait(PATIENCE_S)
        return errors


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child(FAKE_COMMAND)
    yield child
    child.process.kill()
    child.process.wait()
    for stream in (child.process.stdin, child.process.stdout, child.process.stderr):
        assert stream is not None
        with contextlib.suppress(BrokenPipeError):
            stream.close()


def test_stray_prints_do_not_reach_the_frames(child: Child) -> None:
    write_message(child.stdin, LOAD)
    write_message(child.stdin, ask("print"))
    child.until(Ready)
    assert child.until(Token) == Token(1, "fine")
    child.until(Finished)
    assert "stray output" in child.errors()
    assert child.process.returncode == 0


@pytest.mark.parametrize("prompt", ["busy", "stuck"])
def test_end_of_stdin_ends_a_busy_process(child: Child, prompt: str) -> None:
    write_message(child.stdin, LOAD)
    write_message(child.stdin, ask(prompt))
    child.until(Token)
    child.stdin.close()
    assert child.process.wait(PATIENCE_S) == 0


def test_interrupt_is_left_to_the_parent(child: Child) -> None:
    write_message(child.stdin, LOAD)
    child.until(Ready)
    os.kill(child.process.pid, signal.SIGINT)
    write_message(child.stdin, ask("hello"))
    assert isinstance(child.until(Finished, Failed), Finished)


@pytest.mark.parametrize("garbage", [b"garbage on the pipe", b"\x05\0\0\0hello", b"\x04\0\0\0\x80\x04N.", b"\xff" * 64])
def test_garbage_on_stdin_ends_it_without_a_traceback(child: Child, garbage: bytes) -> None:
    child.stdin.write(garbage)
    errors = child.errors()
    assert child.process.returncode == 0
    assert "Traceback" not in errors
    assert len(errors.splitlines()) <= 1


def test_an_event_is_no_request(child: Child) -> None:
    write_message(child.stdin, Token(1, "a"))
    assert "A Token is no request" in child.errors()
    assert child.process.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_kernel_ends_it_with_its_parent_even_while_the_gil_is_held() -> None:
    source = (
        "import subprocess, sys, os\n"
        "from engine.pipe import write_message, read_message\n"
        "from engine.messages import Token\n"
        "from tests.engine.test_worker import FAKE_COMMAND, LOAD, ask\n"
        "p = subprocess.Popen(FAKE_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "write_message(p.stdin, LOAD); write_message(p.stdin, ask('keep gil'))\n"
        "while not isinstance(read_message(p.stdout), Token): pass\n"
        "print(p.pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    import psutil

    parent = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.communicate(timeout=PATIENCE_S)
    try:
        gone, _alive = psutil.wait_procs([psutil.Process(pid)], timeout=PATIENCE_S)
        assert gone
    except psutil.NoSuchProcess:
        pass


# ---- frames ----


def test_only_plain_messages_are_read() -> None:
    import io
    import pickle

    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("echo hacked",)

    for value in (Harmful(), EngineConfig(), {"a": 1}, sys.exit):
        try:
            body = pickle.dumps(value)
        except (pickle.PicklingError, AttributeError):
            body = b"cos\nsystem\n(S'echo hacked'\ntR."
        with pytest.raises(BrokenFrameError):
            read_message(io.BytesIO(len(body).to_bytes(4, "little") + body))


def test_all_that_a_shape_may_hold_can_be_sent() -> None:
    import io

    traits = Traits(long_rope=LongRope(64, (1.0,), (2.0,), 1.0, 1.0), clamped_gate=ClampedGate(1.702, 7.0))
    shape = ModelConfig(
        "all", "gpt_oss", 32, 32, 1, 1, 1, 32, 1, 1, 32, 64, dense_blocks=(DenseBlocks("Q4_0", 32, 18),), traits=traits,
        compatibility=Compatibility((0,), 1, 1, 1),
    )  # fmt: skip
    hardware = HardwareProfile("CPU", 1, 1 << 34, 1 << 34, None)
    config = EngineConfig(device="cpu")
    inputs = PlanningInputs(shape, hardware, assumed_costs(shape, hardware, config), ((1.0,),))
    ready = Ready(shape, "CPU", False, make_plan(inputs, config), config, inputs)  # noqa: FBT003
    whole = io.BytesIO()
    write_message(whole, ready)
    assert read_message(io.BytesIO(whole.getvalue())) == ready


def test_torn_frame_is_the_end() -> None:
    import io

    whole = io.BytesIO()
    write_message(whole, LOAD)
    for cut in range(len(whole.getvalue())):
        assert read_message(io.BytesIO(whole.getvalue()[:cut])) is None
    assert read_message(io.BytesIO(whole.getvalue())) == LOAD
