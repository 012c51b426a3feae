"""What outlives a crash: that Rooftop was running, which model was being loaded, and reports. Nothing is ever sent.

In the state folder: `session.json` says what goes on and is written before it goes on; `trace.txt` takes
what `faulthandler` and the last handlers of exceptions write; `report-*.txt` came of earlier crashes and name nobody.

    begin() --- watch() --- loading(model) --- settled(): it has been ready for a while
       |                         |------------ survived(): it was refused or cancelled
       |                         '------------ engine_died(), or the next begin() finds it: a death of that model
       '-- end(): this run ended as it should

A model that died `DEATHS` times in a row is not loaded by itself any more. Knows no Qt.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TextIO

import psutil

from app.diagnostics import section
from app.engine_words import model_label
from app.json_file import read_object, write_object
from app.licences import versions
from app.logs import ENGINE_LOG, tail
from engine.log_lines import trace_text

if TYPE_CHECKING:
    from pathlib import Path

    from app.redaction import Redaction

log = logging.getLogger(__name__)

DEATHS = 2
MAX_FILE_BYTES = 1 << 16
MAX_TRACE_BYTES = 1 << 16
TAIL_BYTES = 16 << 10
KEPT_REPORTS = 5

Who = Literal["app", "engine"]


@dataclass(frozen=True, slots=True)
class Session:
    """The contents of `session.json`.

    Attributes:
        pid: The process that is running, 0 for none.
        started: When it was started, in words.
        started_s: The same by the system's clock, which tells two processes of the same number apart.
        loading: The model that is being loaded or has been ready for a short while, "" for none.
        deadly: The model that died last.
        deaths: How often in a row.
        unseen: File name of a report that nobody has looked at, "" for none.
        who: Whose report that is, "app" or "engine".
    """

    pid: int = 0
    started: str = ""
    started_s: float = 0.0
    loading: str = ""
    deadly: str = ""
    deaths: int = 0
    unseen: str = ""
    who: str = "app"


class CrashRecords:
    """The records of one state folder.

    Args:
        folder: The state folder; it is made.
        log_path: The window's log file, whose end goes into reports; None without one.
        redaction: Whom to leave out of them.
    """

    def __init__(self, folder: Path, log_path: Path | None, redaction: Redaction) -> None:
        self._folder, self._log, self._redaction = folder, log_path, redaction
        self._path, self._trace_path = folder / "session.json", folder / "trace.txt"
        self._trace: TextIO | None = None
        self._session = _read(self._path)

    @property
    def unseen(self) -> tuple[Who, str] | None:
        """Who ended unexpectedly and what is known of it, until `seen`."""
        name = self._session.unseen
        if not name:
            return None
        try:
            text = (self._folder / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        return ("engine" if self._session.who == "engine" else "app"), text

    def is_deadly(self, model: str) -> bool:
        """Whether this model ended the engine or the app so often that it must not be loaded unasked."""
        return self._session.deadly == model and self._session.deaths >= DEATHS

    def begin(self) -> None:
        """This run begins: account for the one before."""
        before = self._session
        if before.pid and not _is_running(before):
            self._report("app", [f"Started: {before.started}", *self._doing(before)])
            self._count_death()
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        self._save(pid=os.getpid(), started=now, started_s=psutil.Process().create_time(), loading="")

    def watch(self) -> None:
        """Catch what ends this process from below, where Python is no more; `end` stops it."""
        try:
            self._trace = self._trace_path.open("w", encoding="utf-8")
            faulthandler.enable(self._trace)
        except OSError as error:
            log.warning("A crash could not be recorded: %s", error.strerror)

    def end(self) -> None:
        """This run ended as it should."""
        self._save(pid=0, loading="")
        if self._trace is not None:
            faulthandler.disable()
            self._trace.close()
            self._trace = None
            self._trace_path.unlink(missing_ok=True)

    def loading(self, model: str) -> None:
        """A model is about to be loaded."""
        self._save(loading=model)

    def survived(self) -> None:
        """The load was refused or cancelled; whoever did that is alive."""
        self._save(loading="")

    def settled(self) -> None:
        """The model has been ready for a while: what happens from now on is not the load's fault."""
        self._save(loading="", deadly="", deaths=0)

    def engine_died(self, sentence: str) -> None:
        """The engine's process ended unasked."""
        self._report("engine", [sentence, *self._doing(self._session)])
        self._count_death()

    def note(self, error: BaseException) -> None:
        """An exception that nobody caught; the run may go on."""
        if self._trace is not None and self._trace.tell() < MAX_TRACE_BYTES:
            self._trace.write(f"{trace_text(error)}\n\n")
            self._trace.flush()

    def seen(self) -> None:
        """The report was looked at, or not wanted."""
        self._save(unseen="")

    # ---- inside -------------------------------------------------------------------------------------------------

    def _doing(self, session: Session) -> list[str]:
        return [f"While loading: {model_label(session.loading)}"] if session.loading else []

    def _count_death(self) -> None:
        model = self._session.loading
        if model:
            deaths = self._session.deaths + 1 if self._session.deadly == model else 1
            self._save(loading="", deadly=model, deaths=deaths)

    def _report(self, who: Who, lines: list[str]) -> None:
        """Write down what is known now."""
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        about = ["The engine ended unexpectedly." if who == "engine" else "The app ended unexpectedly."]
        known = [f"{name}: {version}" for name, version in versions()]
        parts = [section("Crash", [*about, *lines, f"Noticed: {now}"]), section("Versions", known)]
        if who == "app":
            parts.append(section("Trace", tail(self._trace_path, MAX_TRACE_BYTES).splitlines()))
        if self._log is not None:
            logs = (self._log, self._log.with_name(ENGINE_LOG))
            parts += [section(f"End of {path.name}", tail(path, TAIL_BYTES).splitlines()) for path in logs]
        name = f"report-{now.replace(':', '').replace(' ', '-')}.txt"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            text = self._redaction.clean("\n\n".join(parts)) + "\n"
            (self._folder / name).write_text(text, encoding="utf-8")
            for old in sorted(self._folder.glob("report-*.txt"))[:-KEPT_REPORTS]:
                old.unlink(missing_ok=True)
        except OSError as error:
            log.warning("The report of a crash could not be kept: %s", error.strerror)
            return
        self._save(unseen=name, who=who)

    def _save(self, **changes: Any) -> None:  # noqa: ANN401 - fields of the session
        after = dataclasses.replace(self._session, **changes)
        if after == self._session:
            return
        self._session = after
        try:
            write_object(self._path, dataclasses.asdict(after))
        except OSError as error:
            log.warning("What goes on could not be recorded: %s", error.strerror)


def _read(path: Path) -> Session:
    """What the last run left; nothing where that cannot be used."""
    session = Session()
    try:
        values = read_object(path, MAX_FILE_BYTES)
    except (OSError, ValueError):
        return session
    known = {field.name: type(getattr(session, field.name)) for field in dataclasses.fields(Session)}
    sound = {name: value for name, value in values.items() if name in known and type(value) is known[name]}
    if "/" in sound.get("unseen", "") or "\\" in sound.get("unseen", ""):
        sound.pop("unseen")
    return dataclasses.replace(session, **sound)


def _is_running(session: Session) -> bool:
    """Whether that run goes on, beside this one with settings of its own."""
    try:
        return abs(psutil.Process(session.pid).create_time() - session.started_s) < 1.0
    except (psutil.Error, ValueError, OverflowError):
        return False
