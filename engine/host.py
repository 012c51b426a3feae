"""Starts, watches and stops an engine worker: as a child process, or as a thread of the caller's own process.

Free of torch: the worker is named, never imported, until an in-process host starts it. Whoever holds a host sends
requests and polls for events; nothing here blocks a window or raises because an engine died. The protocol:

- The thread that drains the child's events also starts the child, because Linux's "kill me when my parent dies" means
  the parent's *thread*: it lives exactly as long as the child's stdout is open.
- A child that ends unasked leaves exactly one `Failed` with code "engine-stopped". It answers all that was under way.
  What is sent to a dead engine is answered by a `Failed` each, `Cancel`, `CountTokens` and `Shutdown` excepted.
- The child's stderr goes to a log of bounded size.
- A child that is given a GPU component and ends before its first event could not import it. Then the component is noted
  as refused, another child is started without it, gets all requests so far, and a `TorchBuild` says why.
"""

from __future__ import annotations

import importlib
import os
import queue
import signal
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from engine.errors import EngineStoppedError
from engine.gpu_packages import refuse, usable_packages
from engine.messages import Cancel, CountTokens, ErrorReport, Event, Failed, Request, Shutdown, Snapshot, TorchBuild
from engine.pipe import BrokenFrameError, read_message, write_message
from engine.sentences import Sentence, join, say

if TYPE_CHECKING:
    from engine.worker import EngineWorker

MAX_LOG_BYTES = 1 << 20
STOP_TIMEOUT_S = 3.0
LOOK_S = 0.1

_TERMINATE_S = 0.5
_SIGKILL = 9  # which Windows' signal module lacks


class EngineHost(ABC):
    """One engine worker, wherever it runs. Made and started by `start_host`."""

    def __init__(self) -> None:
        """Start with an empty inbox."""
        self._inbox = _Inbox()

    @abstractmethod
    def start(self) -> None:
        """Start the worker; a failure to do so arrives as an event."""

    @abstractmethod
    def send(self, request: Request) -> None:
        """Hand a request to the worker; never waits for it and never raises for a dead one."""

    @abstractmethod
    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End the worker, by force after the timeout; may be called again."""

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether the worker runs."""

    @property
    def pid(self) -> int | None:
        """The child's process id, None without a child."""
        return None

    def poll(self) -> list[Event]:
        """All events since the last call, in order; of several snapshots only the latest."""
        return self._inbox.drain()

    def wait(self, timeout_s: float) -> bool:
        """Block until an event has arrived; returns whether one has."""
        return self._inbox.wait(timeout_s)

    def _answer_for_the_dead(self, request: Request) -> None:
        if not isinstance(request, (Cancel, CountTokens, Shutdown)):
            self._inbox.add(_stopped(say("The engine is not running.")))


def start_host(*, in_process: bool = False, log_path: Path | None = None) -> EngineHost:
    """Start an engine worker.

    Args:
        in_process: Run it as a thread of this process, instead of in one of its own.
        log_path: Where the child's stderr goes; None keeps only the last line, for error messages.

    A process of its own takes the GPU component where one is installed; this process never does.
    """
    host: EngineHost = InProcessHost() if in_process else ProcessHost(log_path=log_path, packages=usable_packages)
    host.start()
    return host


class InProcessHost(EngineHost):
    """The worker as a thread of this process; imports torch into it."""

    def __init__(self) -> None:
        """See the class."""
        super().__init__()
        self._worker: EngineWorker | None = None
        self._stopped = False

    def start(self) -> None:
        """Start the engine thread."""
        worker = cast("EngineWorker", importlib.import_module("engine.worker").EngineWorker(self._inbox.add))
        worker.start()
        self._worker = worker

    def send(self, request: Request) -> None:
        """Hand a request to the thread."""
        if self._worker is None or self._stopped:
            self._answer_for_the_dead(request)
        else:
            self._worker.submit(request)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End the thread; one that is stuck in a C call past the timeout ends with the process."""
        if self._worker is not None and not self._stopped:
            self._stopped = True
            self._worker.submit(Shutdown())
            self._worker.join(timeout_s)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._worker is not None and self._worker.alive


class ProcessHost(EngineHost):
    """The worker in a process of its own.

    Args:
        command: What to run; None for `engine.worker` under this interpreter.
        log_path: Where its stderr goes.
        packages: Finds the GPU component that the child is to take torch from; asked when the child is started.
    """

    def __init__(
        self,
        command: Sequence[str] | None = None,
        log_path: Path | None = None,
        packages: Callable[[], Path | None] = lambda: None,
    ) -> None:
        """See the class."""
        super().__init__()
        # -P: the working folder, which may be anybody's, must not lend its own "engine" package.
        self._command = list(command or (sys.executable, "-P", "-m", "engine.worker"))
        self._log = _BoundedLog(log_path)
        self._packages = packages
        self._outbox: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._unheard: list[Request] | None = []  # what a child would have to be told again; None once one has spoken
        self._process: subprocess.Popen[bytes] | None = None
        self._launched = threading.Event()
        self._lock = threading.Lock()
        self._stopping = False
        self._dead = False
        self._drainer = threading.Thread(target=self._drain, name="engine-events", daemon=True)

    def start(self) -> None:
        """Start the child; returns once it exists, not once it is ready, or while the look at a component goes on."""
        self._drainer.start()
        self._launched.wait(LOOK_S)

    def send(self, request: Request) -> None:
        """Queue a request for the child."""
        with self._lock:
            if not self._dead:
                self._outbox.put(request)
                unheard = self._unheard  # the child's first event may come at any moment, and takes it away
                if unheard is not None:
                    unheard.append(request)
                return
        self._answer_for_the_dead(request)

    @property
    def alive(self) -> bool:
        """Whether the child runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The child's process id."""
        return self._process.pid if self._process is not None else None

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """`Shutdown`, then terminate, then kill; returns when the child is gone."""
        with self._lock:
            self._stopping = True
            process = self._process
            self._dead = self._dead or process is None
        if process is None:
            if self._drainer.is_alive():  # it looks at a component, and launches nothing any more
                self._drainer.join(timeout_s)
            return
        self._outbox.put(Shutdown())
        self._outbox.put(None)
        for wait_s, force in ((timeout_s, process.terminate), (_TERMINATE_S, process.kill)):
            try:
                process.wait(wait_s)
                break
            except subprocess.TimeoutExpired:
                force()
        process.wait()
        self._drainer.join(STOP_TIMEOUT_S)

    # ---- the threads ----

    def _drain(self) -> None:
        """Start the child and move its events to the inbox until it ends; without the component if it ends by that."""
        packages = self._packages()
        if self._stopping:
            self._launched.set()
            return
        ended = self._live(packages)
        if packages is not None and self._begin_again():
            refuse(packages, ended)
            problem = join([say("GPU support could not be used, so the CPU computes alone."), ended])
            self._inbox.add(TorchBuild("", "", problem))
            ended = self._live(None)
        self._declare_dead(ended)

    def _live(self, packages: Path | None) -> str:
        """A child's whole life; returns how it ended."""
        try:
            process = self._launch(packages)
        except OSError as error:
            reason = error.strerror or str(error)
            return say("The engine process could not be started ({reason}).", reason=reason)
        finally:
            self._launched.set()
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        logger = threading.Thread(target=self._log.drain, args=(process.stderr,), name="engine-log", daemon=True)
        logger.start()
        outbox = self._outbox
        sent_by = threading.Thread(
            target=self._write, args=(process.stdin, outbox), name="engine-requests", daemon=True
        )
        sent_by.start()
        complaint = self._receive(cast("BinaryIO", process.stdout))
        if complaint:
            process.kill()
        code = _reap(process)
        outbox.put(None)
        for thread in (logger, sent_by):
            thread.join(STOP_TIMEOUT_S)
        process.stdout.close()
        return complaint or say("The engine process ended unexpectedly ({how}).", how=self._how(code))

    def _begin_again(self) -> bool:
        """Whether the child that ended never spoke and another may; what it was told is ready for that one."""
        with self._lock:
            if self._stopping or self._unheard is None:
                return False
            self._outbox = queue.SimpleQueue()
            for request in self._unheard:
                self._outbox.put(request)
            return True

    def _launch(self, packages: Path | None) -> subprocess.Popen[bytes]:
        source = str(Path(__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
        command = self._command if packages is None else [*self._command, "--packages", str(packages)]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        with self._lock:
            self._process = process
            if self._stopping:  # meanwhile, while the first one was gone
                process.kill()
        return process

    def _receive(self, stream: BinaryIO) -> Sentence | str:
        """Take events until the stream ends; returns what was wrong with it, "" for nothing."""
        try:
            while (event := read_message(stream)) is not None:
                self._unheard = None
                self._inbox.add(cast("Event", event))
        except BrokenFrameError as error:
            return error.message
        return ""

    def _write(self, stream: IO[bytes], outbox: queue.SimpleQueue[Request | None]) -> None:
        """Send what is queued; a dead child's broken pipe is noticed by the drain thread."""
        try:
            with stream:
                while (request := outbox.get()) is not None:
                    write_message(cast("BinaryIO", stream), request)
        except OSError:
            return

    def _declare_dead(self, message: str) -> None:
        with self._lock:
            self._dead = True
            if not self._stopping:
                self._inbox.add(_stopped(message))

    def _how(self, code: int) -> Sentence:
        """How the child ended, in words."""
        if code == -_SIGKILL:
            return say("killed; the system may have run out of memory")
        if code < 0:
            return say("signal {number}, {name}", number=-code, name=signal.strsignal(-code) or "")
        tail = self._log.tail()
        said = say("exit code {code}", code=code)
        return join([said, tail], ": ") if tail else said


def _reap(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a child that has closed its stdout, which only an ending one does."""
    try:
        return process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _stopped(message: str) -> Failed:
    error = EngineStoppedError(message, say("Load the model again to go on; your chats are safe."))
    return Failed(ErrorReport.of(error))


class _Inbox:
    """Events between the thread that receives them and the one that polls."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: list[Event | None] = []
        self._latest_snapshot: int | None = None

    def add(self, event: Event) -> None:
        """Append an event; a snapshot takes away the one before it."""
        with self._changed:
            if isinstance(event, Snapshot):
                if self._latest_snapshot is not None:
                    self._events[self._latest_snapshot] = None
                self._latest_snapshot = len(self._events)
            self._events.append(event)
            self._changed.notify_all()

    def drain(self) -> list[Event]:
        """Take all events."""
        with self._changed:
            events, self._events, self._latest_snapshot = self._events, [], None
        return [event for event in events if event is not None]

    def wait(self, timeout_s: float) -> bool:
        """Block until there is an event."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._events), timeout_s)


class _BoundedLog:
    """Takes a child's stderr so that its pipe never fills: to a file and one older file, each of bounded size.

    Args:
        path: The file; None keeps the last line only.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._last_line = b""

    def tail(self) -> str:
        """The last line, for an error message."""
        return " ".join(self._last_line.decode(errors="replace").split())[:200]

    def drain(self, stream: IO[bytes]) -> None:
        """Read to the end; a full disk loses the log, never the engine."""
        with stream:
            for line in iter(lambda: stream.readline(1 << 16), b""):
                self._last_line = line
                if self._path is not None:
                    self._append(self._path, line)

    def _append(self, path: Path, line: bytes) -> None:
        try:
            if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
                path.replace(path.with_suffix(path.suffix + ".1"))
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(line)
        except OSError:
            self._path = None
