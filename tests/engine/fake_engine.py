"""An engine without a model for tests of what surrounds it: the prompt says how it behaves.

`python -m tests.engine.fake_engine` is a worker process with it. Free of torch, so it starts at once.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import cast

from engine.config import EngineConfig, ModelConfig, SamplingParams
from engine.errors import CheckpointError, DeviceOutOfMemoryError, OperationCancelledError
from engine.experts.explain import human_bytes  # noqa: F401 - proves that the app's imports stay free of torch
from engine.hardware import HardwareProfile
from engine.messages import (
    ChatMessage,
    CostCurve,
    CostModel,
    Event,
    ExpertRun,
    Finished,
    LayerTrace,
    LeftOut,
    Loading,
    Overflow,
    PlacementPlan,
    PlanningInputs,
    PromptProgress,
    Ready,
    Snapshot,
    Timings,
    Token,
    TokensCounted,
    Usage,
)
from engine.worker import Emit, Loader, serve

MODEL = ModelConfig("fake", "mixtral", 8, 16, 2, 2, 1, 4, 4, 2, 32, 512)
_YES = True
PLAN = PlacementPlan(_YES, "cpu", ((0, 1), (2,)), {}, {"experts": 10, "total": 10}, 0, 512, 10.0, 100.0, 0.4, ("why",))
CURVE = CostCurve(1e-3, 1e-4, 1e-5)
HARDWARE = HardwareProfile("test", 2, 8 << 30, 4 << 30, None)
PLANNING = PlanningInputs(MODEL, HARDWARE, CostModel(CURVE, None, None, None, 1e-3), ((0.25,) * 4,) * 2)
TRACE = LayerTrace(
    0, 1, (ExpertRun(0, 1, "gpu", 2e-3, 1e-3, 0.0), ExpertRun(3, 1, "cpu", 2e-3, 1e-3, 5e-3)), *(1e-3,) * 4
)
SNAPSHOT = Snapshot(
    ((0, 1), (2,)), ((1.0, 0.0, 0.0, 0.5),) * 2, (TRACE,), {"total": 5}, 8, {"experts": 10}, 1, 2, 0, 0, 3.5
)


class FakeEngine:
    """Stands in for `engine.engine.Engine`."""

    open_engines = 0
    other_programs = None

    def __init__(self, config: EngineConfig) -> None:
        self.config, self.because = config, ""
        FakeEngine.open_engines += 1

    @property
    def ready(self) -> Ready:
        return Ready(MODEL, "Test processor", not _YES, PLAN, self.config, PLANNING, self.because)

    def snapshot(self) -> Snapshot:
        return SNAPSHOT

    def reconfigure(self, config: EngineConfig) -> None:
        if config.context_tokens == 17:
            raise CheckpointError("It does not fit.", "Choose less.")
        self.config = config

    def recalibrate(self, emit: Emit, _cancelled: Callable[[], bool]) -> None:
        emit(Loading("measuring", 0, 0))

    def count_tokens(self, number: int, messages: Sequence[ChatMessage], texts: Sequence[str]) -> TokensCounted:
        counts = tuple(len(message.content.split()) for message in messages)
        return TokensCounted(number, counts, tuple(len(text.split()) for text in texts), sum(counts), 512)

    def close(self) -> None:
        FakeEngine.open_engines -= 1

    def generate(
        self,
        messages: Sequence[ChatMessage],
        _sampling: SamplingParams,
        cancelled: Callable[[], bool],
        overflow: Overflow = "stop",
        *,
        continue_reply: bool = False,
    ) -> Iterator[Event]:
        prompt = messages[-1].content
        if overflow != "stop":
            yield LeftOut(len(messages) - 1, 10)
        yield PromptProgress(1, 1)
        if prompt.startswith("short of memory"):
            self.because = "The GPU ran out of memory."
        if continue_reply:
            yield Token(0, "onward ")
        yield from _BEHAVIOURS.get(prompt, _echo)(prompt, cancelled)
        reason = "cancelled" if cancelled() else "stop"
        yield Finished("stop" if reason == "stop" else "cancelled", Usage(1, 0, 3), Timings(0.1, 10.0, 20.0))


def _echo(prompt: str, cancelled: Callable[[], bool]) -> Iterator[Event]:
    for index, word in enumerate(prompt.split()):
        yield Token(index, f"{word} ")
        yield SNAPSHOT


def _busy(prompt: str, cancelled: Callable[[], bool]) -> Iterator[Event]:
    yield Token(1, "working")
    pause = threading.Event()
    while not cancelled():
        pause.wait(0.0005)


def _stuck(prompt: str, cancelled: Callable[[], bool]) -> Iterator[Event]:
    yield Token(1, "stuck")
    threading.Event().wait()


def _keep_gil(prompt: str, cancelled: Callable[[], bool]) -> Iterator[Event]:
    yield Token(1, "stuck")
    re.match("(a+)+$", "a" * 60 + "b")


def _flood(prompt: str, cancelled: Callable[[], bool]) -> Iterator[Event]:
    for index in range(20_000):
        yield Token(index, "x")
        yield dataclasses.replace(SNAPSHOT, hits=index)


def _die(prompt: str, cancelled: Callable[[], bool]) -> Iterator[Event]:
    yield Token(1, "last words")
    os.kill(os.getpid(), signal.SIGKILL)


def _crash(prompt: str, cancelled: Callable[[], bool]) -> Iterator[Event]:
    yield Token(1, "last words")
    faulthandler._sigsegv()  # type: ignore[attr-defined]


def _exit(prompt: str, cancelled: Callable[[], bool]) -> Iterator[Event]:
    yield Token(1, "last words")
    os.write(2, b"the reason\n")
    os._exit(3)


def _fail(prompt: str, cancelled: Callable[[], bool]) -> Iterator[Event]:
    yield Token(1, "a")
    raise DeviceOutOfMemoryError("The GPU is full.", "Lower the budget.")


def _bug(prompt: str, cancelled: Callable[[], bool]) -> Iterator[Event]:
    yield Token(1, "a")
    raise RuntimeError("a bug\nin two lines")


def _print(prompt: str, cancelled: Callable[[], bool]) -> Iterator[Event]:
    sys.stdout.write("stray output\n")
    sys.stdout.flush()
    os.write(1, b"more of it\n" * 100)
    yield Token(1, "fine")


def _not_plain(prompt: str, cancelled: Callable[[], bool]) -> Iterator[Event]:
    yield Token(1, cast("str", PurePath("x")))


_BEHAVIOURS: dict[str, Callable[[str, Callable[[], bool]], Iterator[Event]]] = {
    "busy": _busy,
    "stuck": _stuck,
    "keep gil": _keep_gil,
    "flood": _flood,
    "die": _die,
    "crash": _crash,
    "exit": _exit,
    "fail": _fail,
    "short of memory, then fail": _fail,
    "bug": _bug,
    "print": _print,
    "not plain": _not_plain,
}


def load_fake(model: str, config: EngineConfig, emit: Emit, cancelled: Callable[[], bool]) -> FakeEngine:
    """Load nothing; "missing" fails and "slow" waits to be cancelled."""
    emit(Loading("checking", 0, 0))
    if model == "missing":
        raise CheckpointError("There is no such model.", "Choose another.")
    pause = threading.Event()
    while model == "slow" and not cancelled():
        pause.wait(0.0005)
    if cancelled():
        raise OperationCancelledError("The load was cancelled.", "Load it again.")
    emit(Loading("experts", 10, 10))
    return FakeEngine(config)


LOAD_FAKE = cast("Loader", load_fake)

if __name__ == "__main__":
    serve(LOAD_FAKE, Path(sys.argv[2]) if "--packages" in sys.argv else None)
