"""The background engine thread: requests in, `Engine`, events out.

Run as `python -m engine.worker` it is the engine's own process. Its protocol:

- stdin and stdout carry frames of `engine.pipe`. The real stdout is set aside first and file descriptor 1 points at
  stderr, so that a stray print never lands between two frames.
- The main thread does nothing but read requests, so that `Cancel` is heard while the engine thread computes.
- The end of stdin means that the window is gone: as with `Shutdown`, all work is cancelled and the process ends, by
  force after `GRACE_S`. On Linux the kernel kills it too when the thread that started it dies.

`Cancel` concerns what was submitted before it, and never what comes after. A queued reply or load that it meets is
answered without being started. `Reconfigure` is never cancelled.

`CountTokens` needs the tokenizer alone: it is answered between two events of a reply too, and of several the last.

With `--packages FOLDER` torch is imported from there first of all. If that fails, the process ends before its first
event, by which the host knows what to do.

While a model is loaded, a watch asks what other programs take of its GPU. Between any two events of a reply, and at
once where there is none, the engine makes way; a `Ready` with `because` tells of it, as of memory that ran out.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import itertools
import logging
import os
import queue
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from engine.config import EngineConfig
from engine.errors import ConfigurationError, OperationCancelledError, RooftopError
from engine.gpu_packages import import_torch
from engine.log_lines import LogFormatter, describe
from engine.messages import (
    Cancel,
    CountTokens,
    ErrorReport,
    Event,
    Failed,
    Finished,
    Generate,
    Load,
    Ready,
    Recalibrate,
    Reconfigure,
    Request,
    Shutdown,
    Timings,
    TokensCounted,
    TorchBuild,
    Usage,
)
from engine.pipe import BrokenFrameError, read_message, write_message
from engine.sentences import say
from engine.vram_watch import VramWatch, WatchPolicy

if TYPE_CHECKING:
    from engine.engine import Engine

GRACE_S = 2.0
PACKAGES_FAILED = 3

_PR_SET_PDEATHSIG = 1
_log = logging.getLogger(__name__)

Emit = Callable[[Event], None]
Loader = Callable[[str, EngineConfig, Emit, Callable[[], bool]], "Engine"]


def load_engine(model: str, config: EngineConfig, emit: Emit, cancelled: Callable[[], bool]) -> Engine:
    """Load a model to chat with; imports torch on first use."""
    from engine.engine import Engine

    return Engine.load(model, config, emit, cancelled, require_tokenizer=True)


def take_packages(folder: Path) -> TorchBuild:
    """Import torch from a GPU component; a process that cannot is of no use any more and ends.

    Args:
        folder: The component's.
    """
    build, reason = import_torch(folder)
    if reason:
        print(reason, file=sys.stderr, flush=True)  # noqa: T201 - stderr is the log, its last line the reason
        os._exit(PACKAGES_FAILED)
    return TorchBuild(build.version, build.cuda)


class _MakeWay:
    """The watch's own request: it wakes the engine thread, which looks for itself how much to leave to others."""


class _Count:
    """A count waits: wakes the engine thread."""


class EngineWorker:
    """Owns the engine on a thread of its own.

    Args:
        emit: Takes events; called on the engine thread, and must not block for long.
        load: Makes an engine.
        prepare: Called first of all on the engine thread; what it returns is the first event.
    """

    def __init__(
        self, emit: Emit, load: Loader = load_engine, prepare: Callable[[], TorchBuild | None] = lambda: None
    ) -> None:
        """See the class."""
        self._prepare = prepare
        self._emit = emit
        self._load = load
        self._engine: Engine | None = None
        self._told: Ready | None = None
        self._watch: VramWatch | None = None
        self._others_bytes: deque[int] = deque(maxlen=1)  # what to leave to other programs, until that is done
        self._counts: deque[CountTokens] = deque(maxlen=1)
        self._requests: queue.SimpleQueue[tuple[int, Request | _MakeWay | _Count]] = queue.SimpleQueue()
        self._numbers = itertools.count(1)
        self._submitting = threading.Lock()
        self._last_submitted = 0
        self._cancelled_through = 0
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the engine thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the engine thread."""
        self._thread.start()

    def submit(self, request: Request) -> None:
        """Hand in a request, from any thread; returns at once."""
        if isinstance(request, CountTokens):
            self._counts.append(request)
            self._requests.put((0, _Count()))
            return
        with self._submitting:
            if isinstance(request, (Cancel, Shutdown)):
                self._cancelled_through = self._last_submitted
            if not isinstance(request, Cancel):
                self._last_submitted = next(self._numbers)
                self._requests.put((self._last_submitted, request))

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end, after a `Shutdown`; returns whether it has."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        """The engine thread: one request after the other."""
        build = self._prepare()
        if build is not None:
            self._emit(build)
        while True:
            number, request = self._requests.get()
            if isinstance(request, Shutdown):
                break
            self._answer(number, request)
        self._answer(0, request)

    def _answer(self, number: int, request: Request | _MakeWay | _Count) -> None:
        """Carry out one request; whatever goes wrong becomes a `Failed`."""
        try:
            self._carry_out(request, lambda: number <= self._cancelled_through)
        except RooftopError as error:
            self._emit(Failed(ErrorReport.of(error)))
        except BaseException as error:  # noqa: BLE001 - the engine thread outlives every fault, Rust panics included
            _log.exception("Unexpected error in the engine")
            self._emit(Failed(_internal(error)))

    def _carry_out(self, request: Request | _MakeWay | _Count, cancelled: Callable[[], bool]) -> None:
        match request:
            case _MakeWay():
                self._make_way()
            case _Count():
                self._count()
            case Load():
                self._load_model(request, cancelled)
            case Generate():
                self._generate(request, cancelled)
            case Reconfigure():
                self._loaded().reconfigure(request.config)
                self._tell_ready()
            case Recalibrate():
                _check(cancelled)
                self._loaded().recalibrate(self._emit, cancelled)
                self._tell_ready()
            case Shutdown():
                self._close()
            case Cancel() | CountTokens():
                raise AssertionError("submit sees to it")

    def _load_model(self, request: Load, cancelled: Callable[[], bool]) -> None:
        _check(cancelled)
        self._close()
        self._engine = engine = self._load(request.model, request.config, self._emit, cancelled)
        if engine.other_programs is not None:
            policy = WatchPolicy(engine.vram.total, engine.vram.used)
            self._watch = VramWatch(engine.other_programs, policy, self._others_changed)
        self._tell_ready()

    def _generate(self, request: Generate, cancelled: Callable[[], bool]) -> None:
        engine = self._loaded()
        if cancelled():
            self._emit(Finished("cancelled", Usage(0, 0, 0), Timings(0.0, 0.0, 0.0)))
            return
        finished = False
        try:
            for event in engine.generate(
                request.messages, request.sampling, cancelled, request.overflow, continue_reply=request.continue_reply
            ):
                self._emit(event)
                finished = isinstance(event, Finished)
                if not finished:
                    self._make_way()
                    self._count()
            assert finished, "a reply ends with Finished"
        finally:
            if engine.ready != self._told:
                self._tell_ready()

    def _others_changed(self, others_bytes: int) -> None:
        """On the watch's thread: other programs hold more VRAM, or less."""
        self._others_bytes.append(others_bytes)
        self._requests.put((0, _MakeWay()))

    def _make_way(self) -> None:
        """Leave to other programs what the watch asked for, if that was not done yet."""
        if self._others_bytes and self._loaded().make_way(self._others_bytes.popleft()):
            self._tell_ready()

    def _count(self) -> None:
        """Answer the latest count, if one waits."""
        if self._counts:
            request, engine = self._counts.popleft(), self._engine
            if engine is None:
                self._emit(TokensCounted(request.id, (), (), 0, 0))
            else:
                self._emit(engine.count_tokens(request.id, request.messages, request.texts))

    def _loaded(self) -> Engine:
        if self._engine is None:
            raise ConfigurationError(say("No model is loaded."), say("Choose a model first."))
        return self._engine

    def _tell_ready(self) -> None:
        engine = self._loaded()
        ready, snapshot = engine.ready, engine.snapshot()
        self._told = ready
        if self._watch is not None:
            self._watch.replanned(engine.vram.used)
        self._emit(ready)
        self._emit(snapshot)

    def _close(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.stop()
        self._others_bytes.clear()
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()


def _check(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise OperationCancelledError(
            say("The work was cancelled before it began."), say("Start it again when you want it.")
        )


def _internal(error: BaseException) -> ErrorReport:
    what = describe(error).rstrip(". ")
    return ErrorReport(
        "internal",
        say("Something unexpected went wrong in the engine ({what}).", what=what),
        say("Try again; if it happens again, load the model anew and report the log."),
    )


# ---- the child process ----------------------------------------------------------------------------------------------


def serve(load: Loader = load_engine, packages: Path | None = None) -> None:
    """Be the engine process: answer stdin's requests on stdout until told to stop; does not return.

    Args:
        load: Makes an engine.
        packages: The folder of a GPU component; None for the interpreter's own torch.
    """
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()
    requests, events = _take_pipes()
    prepare = (lambda: None) if packages is None else partial(take_packages, packages)
    worker = EngineWorker(_Sender(events).send, load, prepare)
    worker.start()
    try:
        _pump(requests, worker)
    except BrokenFrameError as error:
        print(f"rooftop engine: {error}", file=sys.stderr)  # noqa: T201 - stderr is the log
    worker.submit(Shutdown())
    worker.join(GRACE_S)
    sys.stderr.flush()
    os._exit(0)


def _pump(requests: BinaryIO, worker: EngineWorker) -> None:
    """Hand on requests until `Shutdown` or the end of the stream."""
    while True:
        request = read_message(requests)
        if request is None or isinstance(request, Shutdown):
            return
        if not isinstance(request, (Load, Generate, CountTokens, Reconfigure, Recalibrate, Cancel)):
            raise BrokenFrameError(
                say("A {name} is no request.", name=type(request).__name__), say("Start Rooftop again.")
            )
        worker.submit(request)


class _Sender:
    """Writes events; after the window is gone, drops them.

    Args:
        stream: Where to.
    """

    def __init__(self, stream: BinaryIO) -> None:
        """See the class."""
        self._stream = stream
        self._gone = False

    def send(self, event: Event) -> None:
        """Write one event; the end of stdin, not this, ends the process."""
        if self._gone:
            return
        try:
            write_message(self._stream, event)
        except OSError:
            self._gone = True


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The real stdin and stdout, whose places nothing and stderr then take."""
    requests = os.fdopen(os.dup(0), "rb")
    events = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, events


def _die_with_parent() -> None:
    """Ask Linux to kill this process when the thread that started it ends; elsewhere stdin's end must do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    _stderr = logging.StreamHandler(sys.stderr)
    _stderr.setFormatter(LogFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[_stderr])
    _parser = argparse.ArgumentParser(prog="python -m engine.worker")
    _parser.add_argument("--packages", type=Path, metavar="FOLDER", help="a GPU component to take torch from")
    serve(packages=_parser.parse_args().packages)
