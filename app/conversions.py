"""Conversions of models for the window: what runs, what waits, what an earlier run has left unfinished.

    window: start, pause, resume --> `python -m engine convert` as a child --(JSON lines)--> changed, finished, failed

The child is killed rather than asked: what it has told its journal counts, and the same command goes on there.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from PySide6.QtCore import QObject, QProcess, QProcessEnvironment, Signal

import engine
from app.language import tr
from app.model_scan import name_of
from app.removal import remove, remove_leftovers
from app.window_thread import WindowThread
from engine.convert.conversion import find_unfinished
from engine.convert.recipe import ConversionFormat
from engine.convert.source import open_source
from engine.convert.workplace import SPARE_BYTES, unfinished_folder, unfinished_targets
from engine.errors import RooftopError
from engine.messages import ErrorReport
from engine.sentences import from_json

Phase = Literal["waiting", "running", "checking", "paused", "done", "failed"]
SmallerFormat = Literal["q4", "q8"]

SMALLER_FORMATS: tuple[SmallerFormat, ...] = get_args(SmallerFormat)
ENGINE = (sys.executable, "-P", "-m", "engine")
END_TIMEOUT_MS = 2000
MAX_LINE_BYTES = 1 << 20
_UNUSUAL = re.compile(r"[^\w.-]+")
_ABOUT_THE_SOURCE = ("checkpoint", "unsupported-model")  # trying again would not help

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConversionState:
    """How one conversion stands.

    Attributes:
        key: What tells it from all others: the name of the new model.
        source: The model that it is made from.
        format: What it becomes.
        target: The folder of the new model.
        phase: What it does now.
        done_bytes: Of the weights that were read, and of the new ones that were checked; 0 before the first is known.
        total_bytes: Of all this; 0 before it is known.
        seconds_left: None when nobody can tell.
        error: Why it failed.
    """

    key: str
    source: Path
    format: ConversionFormat
    target: Path
    phase: Phase
    done_bytes: int = 0
    total_bytes: int = 0
    seconds_left: float | None = None
    error: ErrorReport | None = None

    @property
    def source_name(self) -> str:
        """What the model is called that it is made from."""
        return name_of(self.source)


class Conversions(QObject):
    """All conversions of the window; one runs at a time, since each takes the whole processor.

    Signals:
        changed(str): The key of a conversion whose state is another one.
        finished(str, object): Its key, and the folder of the new model.
        failed(str, ErrorReport): Its key, and why.
        sized(str, object, object): A model's path, bytes on disk by format, and the ErrorReport where it failed.

    Args:
        models_folder: Where new models go.
        parent: The owner.
        command: The engine's command line.
    """

    changed = Signal(str)
    finished = Signal(str, object)
    failed = Signal(str, object)
    sized = Signal(str, object, object)

    def __init__(self, models_folder: Path, parent: QObject | None = None, command: tuple[str, ...] = ENGINE) -> None:
        super().__init__(parent)
        self._models, self._command = models_folder, command
        self._states = {state.key: state for state in unfinished(models_folder)}
        self._child: _Child | None = None
        self._window_thread = WindowThread(self)
        remove_leftovers(models_folder)

    @property
    def models_folder(self) -> Path:
        """Where new models go."""
        return self._models

    def states(self) -> tuple[ConversionState, ...]:
        """Every conversion, the oldest first."""
        return tuple(self._states.values())

    def state(self, key: str) -> ConversionState | None:
        """One of them; None where it has left the list."""
        return self._states.get(key)

    def ask_sizes(self, source: Path) -> None:
        """Ask what a model would take in each format; `sized` brings the answer."""

        def work() -> None:
            sizes: dict[str, int] = {}
            report = None
            try:
                for name in SMALLER_FORMATS:
                    laid_out = open_source(source, name)
                    sizes[name] = laid_out.target_bytes + sum(path.stat().st_size for path in laid_out.copied)
            except RooftopError as error:
                report = ErrorReport.of(error)
            except OSError as error:
                report = ErrorReport("conversion-source", tr("The model cannot be read."), error.strerror or "")
            self._window_thread.do(partial(self.sized.emit, str(source), sizes, report))

        threading.Thread(target=work, name="sizes", daemon=True).start()

    def start(self, source: Path, conversion: ConversionFormat) -> str:
        """Convert a model, or go on with that where it was begun before.

        Returns:
            Its key.
        """
        same = (one for one in self._states.values() if (one.source, one.format) == (source, conversion))
        begun = next((one for one in same if one.phase != "done"), None)
        if begun is None:
            target = free_target(self._models, source, conversion)
            begun = self._states[target.name] = ConversionState(target.name, source, conversion, target, "paused")
        self.resume(begun.key)
        return begun.key

    def pause(self, key: str) -> None:
        """Stop a conversion for now; what is done stays."""
        if self._states[key].phase in ("waiting", "running", "checking"):
            self._end_child(key)
            self._set(key, phase="paused", seconds_left=None)
            self._start_next()

    def resume(self, key: str) -> None:
        """Go on with a conversion that is paused or failed."""
        if self._states[key].phase in ("paused", "failed"):
            self._set(key, phase="waiting", error=None)
            self._start_next()

    def cancel(self, key: str) -> None:
        """Give up a conversion and remove what is there of it; one that is done only leaves the list."""
        self._end_child(key)
        state = self._states.pop(key)
        if state.phase != "done":
            remove(unfinished_folder(state.target))
        self.changed.emit(key)
        self._start_next()

    def shutdown(self) -> None:
        """Stop everything; what is unfinished is offered again at the next start."""
        self._window_thread.end()
        if self._child is not None:
            self._end_child(self._child.key)

    # ---- the child ------------------------------------------------------------------------------------------------

    def _start_next(self) -> None:
        if self._child is not None or self._window_thread.has_ended:
            return
        waiting = next((state for state in self._states.values() if state.phase == "waiting"), None)
        if waiting is not None:
            child = self._child = _Child(waiting, self._command, self)
            child.progressed.connect(self._on_progress)
            child.ended.connect(self._on_ended)
            self._set(waiting.key, phase="running")
            child.start()

    def _end_child(self, key: str) -> None:
        if self._child is not None and self._child.key == key:
            child, self._child = self._child, None
            child.end()

    def _on_progress(self, progress: dict[str, Any]) -> None:
        if self._child is not None and self.sender() is self._child:
            self._set(
                self._child.key,
                phase="checking" if progress["phase"] == "verifying" else "running",
                done_bytes=int(progress["done_bytes"]),
                total_bytes=int(progress["total_bytes"]),
                seconds_left=progress["seconds_left"],
            )

    def _on_ended(self, error: ErrorReport | None) -> None:
        if self._child is None or self.sender() is not self._child:
            return
        child, self._child = self._child, None
        child.deleteLater()
        state = self._states[child.key]
        if error is None:
            self._set(child.key, phase="done", done_bytes=state.total_bytes, seconds_left=None)
            self.finished.emit(child.key, state.target)
        else:
            log.warning("conversion of %s: %s %s", state.source, error.message, error.remedy)
            self._set(child.key, phase="failed", error=error, seconds_left=None)
            self.failed.emit(child.key, error)
        self._start_next()

    # ---- within ---------------------------------------------------------------------------------------------------

    def _set(self, key: str, **changes: Any) -> None:  # noqa: ANN401 - fields of a state
        self._states[key] = replace(self._states[key], **changes)
        self.changed.emit(key)


class _Child(QObject):
    """The process of one conversion.

    Signals:
        progressed(dict): A line of progress.
        ended(ErrorReport | None): It has ended by itself, None where all is done.
    """

    progressed = Signal(object)
    ended = Signal(object)

    def __init__(self, state: ConversionState, command: tuple[str, ...], parent: QObject) -> None:
        super().__init__(parent)
        self.key = state.key
        self._rest = b""
        self._error: ErrorReport | None = None
        self._process = QProcess(self)
        program, *before = command
        what = ("--model", str(state.source), "--to", str(state.target), "--format", state.format)
        self._process.setProgram(program)
        self._process.setArguments([*before, "convert", "--json", *what])
        self._process.setProcessEnvironment(_environment())
        self._process.setStandardOutputFile(QProcess.nullDevice())
        self._process.readyReadStandardError.connect(self._read)
        self._process.finished.connect(self._on_finished)
        self._process.errorOccurred.connect(self._on_error)

    def start(self) -> None:
        """Run it."""
        self._process.start()

    def end(self) -> None:
        """End it now; nothing is told of it any more."""
        for signal in (self._process.readyReadStandardError, self._process.finished, self._process.errorOccurred):
            signal.disconnect()
        self._process.kill()
        self._process.waitForFinished(END_TIMEOUT_MS)
        self.deleteLater()

    def _read(self) -> None:
        lines = (self._rest + self._process.readAllStandardError().data()).split(b"\n")
        self._rest = lines.pop()[-MAX_LINE_BYTES:]
        for line in lines:
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            content = json.loads(line)
        except ValueError:  # a line for people
            log.info("conversion: %s", line.decode(errors="replace"))
            return
        if "error" in content:
            self._error = _report(content)
        else:
            self.progressed.emit(content)

    def _on_finished(self, code: int, status: QProcess.ExitStatus) -> None:
        self._read()
        if status is QProcess.ExitStatus.NormalExit and code == 0:
            self.ended.emit(None)
        else:
            self.ended.emit(self._error or _broke_off())

    def _on_error(self, error: QProcess.ProcessError) -> None:
        if error is QProcess.ProcessError.FailedToStart:  # all others end it too
            self.ended.emit(_broke_off())


def unfinished(models_folder: Path) -> list[ConversionState]:
    """The conversions into a folder that were begun and not completed."""
    states = []
    for target in unfinished_targets(models_folder):
        found = find_unfinished(target)
        if found is not None and found.format in get_args(ConversionFormat):
            states.append(ConversionState(target.name, found.source, found.format, target, "paused"))  # type: ignore[arg-type]
    return states


def free_target(models_folder: Path, source: Path, conversion: ConversionFormat) -> Path:
    """A folder for the new model where nothing is yet, named after the model."""
    stem = _UNUSUAL.sub("-", name_of(source)).strip("-.") or "model"
    number = 1
    while True:
        target = models_folder / (f"{stem}-{conversion}" + (f"-{number}" if number > 1 else ""))
        if not target.exists() and not unfinished_folder(target).exists():
            return target
        number += 1


def needed_bytes(size_bytes: int) -> int:
    """What the drive must have free for a new model of some size."""
    return size_bytes + SPARE_BYTES


def _environment() -> QProcessEnvironment:
    """This process's, with the engine where this one has it."""
    environment = QProcessEnvironment.systemEnvironment()
    assert engine.__file__ is not None
    paths = [str(Path(engine.__file__).resolve().parents[1]), environment.value("PYTHONPATH")]
    environment.insert("PYTHONPATH", (";" if sys.platform == "win32" else ":").join(filter(None, paths)))
    return environment


def _report(content: dict[str, Any]) -> ErrorReport:
    """An error that the child has told of; its code says whether trying again may help."""
    message, remedy = str(content["error"]), ""
    try:
        message, remedy = (_said(content[name]) for name in ("message", "remedy"))
    except (TypeError, ValueError, KeyError):
        log.warning("conversion: an error that cannot be read")
    code = "conversion-source" if content["error"] in _ABOUT_THE_SOURCE else "conversion"
    return ErrorReport(code, message, remedy)


def _said(kept: Any) -> str:  # noqa: ANN401 - as JSON is
    """A sentence that the child has sent, ready to be translated."""
    said = from_json(kept)
    return said if isinstance(said, str) else str(said)


def _broke_off() -> ErrorReport:
    return ErrorReport(
        "conversion",
        tr("The conversion ended unexpectedly."),
        tr("Try again: it goes on where it stopped."),
    )
