"""Measures the window: `python -m app.bench [--json]`; the model page: `--models 50`, `--verdicts MODEL...`.

Three things that a user feels: the time from starting the process to a painted window; frames per second and the event
loop's delay while a reply streams from the real engine in its own process; and how long Stop takes. Runs offscreen
where there is no display.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from app.display import display_problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtWidgets import QApplication

    from app.application import Application
    from app.bench_reading import ReadingTimes
    from app.engine_client import Host

PROBE_MS = 10
STREAM_S = 10.0
READY_TIMEOUT_S = 120.0
READING_S = 8.0
STARTS = 5
STOPS = 5
TURNS_PER_CHAT = 8
QUESTION = "What is an expert, and why is it on the CPU?"
START_CLOCK = "ROOFTOP_BENCH_STARTED"


@dataclass
class WindowTimes:
    """What was measured; None where the engine gave no reply.

    Attributes:
        visible_s: Process start to the first painted frame, median.
        streamed_s: How long replies were written, one after the other.
        frames_per_s: Painted frames while streaming.
        delay_p50_ms: Median delay of a 10 ms timer while streaming.
        delay_p99_ms: Its 99th percentile.
        delay_max_ms: Its maximum.
        stop_shown_ms: Esc to the frame that says "Stopped", worst of several.
        stop_answered_ms: Esc to the engine's answer, worst of several.
        reading: Huge replies and a long chat.
        problem: Why something is missing.
    """

    visible_s: float | None = None
    streamed_s: float | None = None
    frames_per_s: float | None = None
    delay_p50_ms: float | None = None
    delay_p99_ms: float | None = None
    delay_max_ms: float | None = None
    stop_shown_ms: float | None = None
    stop_answered_ms: float | None = None
    reading: ReadingTimes | None = None
    problem: str = ""


@dataclass
class _Recorder:
    """Counts frames and timer delays while it is on."""

    on: bool = False
    frames: int = 0
    delays_ms: list[float] = field(default_factory=list)
    last_tick_s: float = 0.0

    def tick(self) -> None:
        """The probe timer fired."""
        now = time.perf_counter()
        if self.on and self.last_tick_s:
            self.delays_ms.append(max(0.0, (now - self.last_tick_s) * 1000 - PROBE_MS))
        self.last_tick_s = now if self.on else 0.0


def main(argv: list[str] | None = None) -> int:
    """Measure and print; exit code 0, or 1 when something could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m app.bench", description="Measure Rooftop's window.")
    parser.add_argument("--model", default="guide", help="model whose reply streams")
    parser.add_argument("--seconds", type=float, default=STREAM_S, help="how long replies stream")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--start-probe", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--models", type=int, help="measure the model page with so many models instead")
    parser.add_argument("--verdicts", nargs="+", metavar="MODEL", help="hold verdicts against what running takes")
    options = parser.parse_args(argv)
    if display_problem(os.environ):
        os.environ["QT_QPA_PLATFORM"] = "offscreen"
    if options.start_probe:
        return _probe_start()
    if options.models or options.verdicts:
        return _measure_models(options)
    from engine.host import start_host

    times = measure_window(start_host, options.model, options.seconds)
    times.visible_s = measure_start()
    print(json.dumps(dataclasses.asdict(times)) if options.json else words(times))
    return 1 if times.problem else 0


def _measure_models(options: argparse.Namespace) -> int:
    from app.bench_models import measure_page, measure_verdicts, page_words, verdict_words

    if options.models:
        times = measure_page(options.models)
        values = {name: dataclasses.asdict(one) for name, one in times.items()}
        print(json.dumps(values) if options.json else "\n".join(page_words(times)))
        return 0
    held = []
    for one in measure_verdicts(options.verdicts):
        held.append(dataclasses.asdict(one))
        if not options.json:  # each takes its time
            print(*verdict_words([one]), flush=True)
    if options.json:
        print(json.dumps({"verdicts": held}))
    return 0


def words(times: WindowTimes) -> str:
    """The measurements as lines of text."""
    lines = [f"window visible after      {_number(times.visible_s)} s"]
    lines.append(f"streamed for              {_number(times.streamed_s)} s at {_number(times.frames_per_s)} frames/s")
    delays = (times.delay_p50_ms, times.delay_p99_ms, times.delay_max_ms)
    lines.append(f"event loop delay          {' / '.join(_number(delay) for delay in delays)} ms (p50 / p99 / max)")
    lines.append(f"Stop shown / answered     {_number(times.stop_shown_ms)} / {_number(times.stop_answered_ms)} ms")
    if times.reading is not None:
        from app.bench_reading import words as reading_words

        lines += reading_words(times.reading)
    return "\n".join([*lines, times.problem]).strip()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


# ---- start ----------------------------------------------------------------------------------------------------------


def measure_start() -> float:
    """Median seconds from starting a process to its painted window, after one start that warms the disk."""
    seconds = []
    for _ in range(STARTS + 1):
        environment = {**os.environ, START_CLOCK: repr(time.time())}
        command = [sys.executable, "-m", "app.bench", "--start-probe"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
        seconds.append(float(done.stdout.split()[-1]))
    return statistics.median(seconds[1:])


def _probe_start() -> int:
    """Show the window as `rooftop` does, without an engine, and print when its first frame is painted."""
    started_s = float(os.environ[START_CLOCK])
    from PySide6.QtCore import QEvent, QObject, QTimer
    from PySide6.QtWidgets import QApplication

    from app.application import Application

    class FirstFrame(QObject):
        def eventFilter(self, _watched: QObject, event: QEvent) -> bool:
            if event.type() == QEvent.Type.Paint:
                print(time.time() - started_s, flush=True)
                QTimer.singleShot(0, app.quit)
                rooftop.window.removeEventFilter(self)
            return False

    app = QApplication([])
    with tempfile.TemporaryDirectory() as folder:
        rooftop = Application(app, _no_engine, Path(folder) / "settings.json")
        watcher = FirstFrame()
        rooftop.window.installEventFilter(watcher)
        rooftop.show()
        app.exec()
        rooftop.shutdown()
    return 0


def _no_engine() -> Host:
    from engine.errors import EngineStoppedError

    raise EngineStoppedError("This measurement has no engine.", "Run the app.")


# ---- streaming and stopping -----------------------------------------------------------------------------------------


def measure_window(start_host: Callable[[], Host], model: str = "guide", seconds: float = STREAM_S) -> WindowTimes:
    """Stream replies through a real window, then stop some.

    Args:
        start_host: Starts the engine.
        model: What it loads.
        seconds: How long to stream.
    """
    from PySide6.QtWidgets import QApplication

    from app.application import Application

    existing = QApplication.instance()
    app = existing if isinstance(existing, QApplication) else QApplication([])
    with tempfile.TemporaryDirectory() as folder:
        rooftop = Application(app, start_host, Path(folder) / "settings.json", model)
        rooftop.panel_ready.connect(gc.freeze)  # as `rooftop` does
        try:
            return _measure(app, rooftop, seconds)
        finally:
            rooftop.window.close()


def _measure(app: QApplication, rooftop: Application, seconds: float) -> WindowTimes:
    from app.engine_client import EngineState

    problems: list[str] = []
    rooftop.client.failed.connect(lambda error, _what: problems.append(f"{error.message} {error.remedy}"))
    rooftop.show()
    done = _spin_until(app, lambda: rooftop.client.state is EngineState.READY or bool(problems), READY_TIMEOUT_S)
    if problems or not done:
        return WindowTimes(problem=problems[0] if problems else "The model was not ready in time.")
    times = _stream(app, rooftop, seconds)
    _stop(app, rooftop, times)
    from app.bench_reading import measure_reading

    rooftop.session.new_chat()
    times.reading = measure_reading(rooftop.window, rooftop.chat.transcript, READING_S)
    times.problem = problems[0] if problems else ""
    return times


def _stream(app: QApplication, rooftop: Application, seconds: float) -> WindowTimes:
    from PySide6.QtCore import QEvent, QObject, Qt, QTimer

    recorder = _Recorder()

    class FrameCounter(QObject):
        def eventFilter(self, _watched: QObject, event: QEvent) -> bool:
            if event.type() == QEvent.Type.UpdateRequest and recorder.on:
                recorder.frames += 1
            return False

    counter = FrameCounter()
    rooftop.window.installEventFilter(counter)
    timer = QTimer()
    timer.setTimerType(Qt.TimerType.PreciseTimer)
    timer.timeout.connect(recorder.tick)
    timer.start(PROBE_MS)
    started_s = time.perf_counter()
    turns = 0
    recorder.on = True
    while (left_s := started_s + seconds - time.perf_counter()) > 0:
        if turns % TURNS_PER_CHAT == 0:  # a short model answers often: no chat may outgrow its context
            rooftop.chats.new()
        rooftop.session.submit(QUESTION)
        turns += 1
        _spin_until(app, lambda: rooftop.client.state.value == "ready", left_s)
    recorder.on = False
    streamed_s = time.perf_counter() - started_s
    rooftop.session.stop()
    _spin_until(app, lambda: rooftop.client.state.value == "ready", READY_TIMEOUT_S)
    timer.stop()
    rooftop.window.removeEventFilter(counter)
    delays = sorted(recorder.delays_ms) or [0.0]
    return WindowTimes(
        streamed_s=streamed_s,
        frames_per_s=recorder.frames / streamed_s,
        delay_p50_ms=statistics.median(delays),
        delay_p99_ms=delays[int(0.99 * (len(delays) - 1))],
        delay_max_ms=delays[-1],
    )


def _stop(app: QApplication, rooftop: Application, times: WindowTimes) -> None:
    """Stop a few replies at their first words; keep the worst times."""
    shown, answered = [], []
    for _ in range(STOPS):
        rooftop.chats.new()
        rooftop.session.submit(QUESTION)
        _spin_until(app, lambda: _has_text(rooftop), READY_TIMEOUT_S)
        started_s = time.perf_counter()
        rooftop.chat.composer.escape()
        app.processEvents()
        rooftop.window.repaint()
        shown.append((time.perf_counter() - started_s) * 1000)
        _spin_until(app, lambda: rooftop.client.state.value == "ready", READY_TIMEOUT_S)
        answered.append((time.perf_counter() - started_s) * 1000)
    times.stop_shown_ms, times.stop_answered_ms = max(shown), max(answered)


def _has_text(rooftop: Application) -> bool:
    reply = rooftop.session.conversation.last_reply
    return not rooftop.session.busy or (reply is not None and bool(reply.text))


def _spin_until(app: QApplication, condition: Callable[[], bool], timeout_s: float) -> bool:
    """Run the event loop until the condition holds; returns whether it did in time."""
    from PySide6.QtCore import QEventLoop

    deadline_s = time.perf_counter() + timeout_s
    while not condition():
        if time.perf_counter() > deadline_s:
            return False
        app.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents, PROBE_MS)
    return True


if __name__ == "__main__":
    raise SystemExit(main())
