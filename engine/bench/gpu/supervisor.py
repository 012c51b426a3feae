"""The suite in a process of its own, and in another one where that ends before its time.

A step may crash, stand still, or break the GPU for its whole process. What is done is in the journal, which also leaves
out what took two processes with it.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from engine.bench.gpu.suite import Options
from engine.errors import EngineFailure, GpuLostError, RooftopError

PATIENCE_S = 1200.0  # without a step that begins or ends; writing and loading a large model are parts of one
LEAST_MINUTES = 1e-9  # to begin nothing and write the report

Report = dict[str, Any]

_LOOK_S = 0.2
_DUMP_S = 10.0


def supervise(
    work: Callable[[Options], Report], options: Options, journal: Path, patience_s: float = PATIENCE_S
) -> Report:
    """Run a suite to its end, in as many processes as it takes.

    Args:
        work: Runs what is not done yet; found by its name in the other process.
        options: For it.
        journal: Its journal, which grows with each step that begins or ends.
        patience_s: A process whose journal does not grow for so long is ended, and says where it stood.

    Returns:
        What `work` returned.

    Raises:
        RooftopError: What `work` raised, unless the GPU was lost.
        EngineFailure: A process ended before it began a step.
    """
    context, started_s = multiprocessing.get_context("spawn"), time.monotonic()
    while True:
        before = _size(journal)
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_run, args=(work, _what_is_left(options, started_s), sender))
        process.start()
        sender.close()
        try:
            outcome = _outcome(process, receiver, journal, patience_s)
        finally:
            process.join()  # Ctrl+C is for both
            receiver.close()
        if isinstance(outcome, dict):
            return outcome
        if outcome is not None and not isinstance(outcome, GpuLostError):
            raise outcome
        if _size(journal) == before:
            raise outcome or EngineFailure(
                f"The suite's process ended with {process.exitcode} before it began a step.",
                "Look at what it wrote above.",
            )
        options.on_note(f"{outcome or f'The process ended with {process.exitcode}.'} Going on in another process.")


def _run(work: Callable[[Options], Report], options: Options, sender: Connection) -> None:
    """In the other process, which ends with this one."""
    faulthandler.enable()
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    with suppress(KeyboardInterrupt):
        try:
            sender.send(work(options))
        except RooftopError as error:
            sender.send(error)


def _end_with(parent: BaseProcess | None) -> None:
    """Wait for the end of the process that asked."""
    if parent is not None:
        parent.join()
        os._exit(1)


def _outcome(
    process: BaseProcess, receiver: Connection, journal: Path, patience_s: float
) -> Report | RooftopError | None:
    """What a process has to say at its end; None where it has nothing to say any more."""
    size, since_s = _size(journal), time.monotonic()
    while not receiver.poll(_LOOK_S):
        if _size(journal) != size:
            size, since_s = _size(journal), time.monotonic()
        elif time.monotonic() - since_s > patience_s:
            _end(process)
            return None
    try:
        outcome: Report | RooftopError = receiver.recv()
    except EOFError:
        return None
    return outcome


def _end(process: BaseProcess) -> None:
    """End a process that stands still; where signals can be had, it says where."""
    if hasattr(signal, "SIGKILL") and process.pid is not None:
        os.kill(process.pid, signal.SIGABRT)
        process.join(_DUMP_S)
    process.kill()


def _what_is_left(options: Options, started_s: float) -> Options:
    """The same with the time that is left."""
    if options.minutes is None:
        return options
    left = options.minutes - (time.monotonic() - started_s) / 60
    return replace(options, minutes=max(left, LEAST_MINUTES))


def _size(journal: Path) -> int:
    """Its bytes."""
    return journal.stat().st_size if journal.exists() else 0
