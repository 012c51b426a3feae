"""Measures reading: huge replies as they stream into a real window, and opening a chat of a thousand messages.

Part of `python -m app.bench`. Text is handed to the transcript as the engine client would, 30 times a second; no engine
takes part, so that the figures are the window's own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QObject, Qt, QTimer
from PySide6.QtWidgets import QApplication

from app.conversation import Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.widgets.transcript import Transcript

FEED_MS = 33
PROBE_MS = 10
MESSAGES = 1000
SCROLLS = 200
SENTENCE = "Some *words* with `code`, **bold** ones and a [link](https://example.com), again and again. "


@dataclass
class ReadingTimes:
    """What was measured.

    Attributes:
        frames_per_s: Painted frames while a reply streams, by what it consists of.
        delay_p99_ms: 99th percentile of the event loop's delay meanwhile.
        delay_max_ms: Its maximum.
        open_chat_ms: From 1,000 messages to the painted end of the chat.
        scroll_max_ms: Longest event-loop delay while the whole chat is scrolled through.
        most_built: Most messages with widgets meanwhile.
    """

    frames_per_s: dict[str, float] = field(default_factory=dict)
    delay_p99_ms: dict[str, float] = field(default_factory=dict)
    delay_max_ms: dict[str, float] = field(default_factory=dict)
    open_chat_ms: float = 0.0
    scroll_max_ms: float = 0.0
    most_built: int = 0


class _Probe(QObject):
    """Counts a window's frames, and how late a timer is."""

    def __init__(self, window: QObject) -> None:
        super().__init__()
        self.frames = 0
        self.delays_ms: list[float] = []
        self._last_s = time.perf_counter()
        self._timer = QTimer(self, interval=PROBE_MS)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._timer.start()
        self._window = window
        window.installEventFilter(self)

    def eventFilter(self, _watched: QObject, event: QEvent) -> bool:
        """A frame is about to be painted."""
        self.frames += event.type() == QEvent.Type.UpdateRequest
        return False

    def stop(self) -> None:
        """Count no more."""
        self._timer.stop()
        self._window.removeEventFilter(self)

    def _tick(self) -> None:
        now_s = time.perf_counter()
        self.delays_ms.append(max(0.0, (now_s - self._last_s) * 1000 - PROBE_MS))
        self._last_s = now_s


def replies() -> dict[str, str]:
    """Huge replies, by what they consist of."""
    row = "| {0} | some words | **{0}** | `x` |\n"
    return {
        "prose, 100,000 characters": (SENTENCE * 6 + "\n\n") * 180,
        "one paragraph, 100,000 characters": SENTENCE * 1090,
        "table, 400 rows": "| a | b | c | d |\n|---|---|---|---|\n" + "".join(row.format(n) for n in range(400)),
        "code, 5,000 lines": "```python\n" + "".join(f"value_{n} = compute({n})\n" for n in range(5000)) + "```\n",
    }


def measure_reading(window: QObject, transcript: Transcript, seconds: float) -> ReadingTimes:
    """Stream every reply, then open and scroll through a long chat.

    Args:
        window: What paints the frames.
        transcript: Its transcript.
        seconds: How long each reply streams.
    """
    times = ReadingTimes()
    for name, text in replies().items():
        probe = _stream(window, transcript, text, seconds)
        delays = sorted(probe.delays_ms) or [0.0]
        times.frames_per_s[name] = probe.frames / seconds
        times.delay_p99_ms[name] = delays[int(0.99 * (len(delays) - 1))]
        times.delay_max_ms[name] = delays[-1]
    _open_and_scroll(window, transcript, times)
    transcript.show_messages([])
    return times


def words(times: ReadingTimes) -> list[str]:
    """The measurements as lines of text."""
    lines = []
    for name, frames in times.frames_per_s.items():
        delays = f"{times.delay_p99_ms[name]:.0f} / {times.delay_max_ms[name]:.0f} ms"
        lines.append(f"{name:<34}{frames:.0f} frames/s, event loop delay {delays} (p99 / max)")
    lines.append(f"{f'open a chat of {MESSAGES:,} messages':<34}{times.open_chat_ms:.0f} ms")
    scrolled = f"{times.scroll_max_ms:.0f} ms at most, {times.most_built} messages built at most"
    lines.append(f"{'scroll through it':<34}{scrolled}")
    return lines


def _stream(window: QObject, transcript: Transcript, text: str, seconds: float) -> _Probe:
    transcript.show_messages([Message("user", "Go on.")])
    message = Message("assistant", state="partial")
    view = transcript.add_message(message)
    step = max(1, round(len(text) * FEED_MS / 1000 / seconds))

    def feed() -> None:
        piece = text[len(message.text) : len(message.text) + step]
        if piece:
            message.text += piece
            view.append(piece)

    timer = QTimer(interval=FEED_MS)
    timer.timeout.connect(feed)
    probe = _Probe(window)
    timer.start()
    _run(lambda: False, seconds)
    timer.stop()
    probe.stop()
    message.state = "complete"
    return probe


def _open_and_scroll(window: QObject, transcript: Transcript, times: ReadingTimes) -> None:
    messages: list[Message] = []
    for number in range(MESSAGES // 2):
        messages.append(Message("user", f"Question {number}: what is an expert?"))
        messages.append(Message("assistant", SENTENCE * 3 + "\n\n```python\nx = 1\n```\n\n- a\n- b\n"))
    transcript.show_messages([])
    _run(lambda: False, 0.2)
    probe = _Probe(window)
    started_s = time.perf_counter()
    transcript.show_messages(messages)
    _run(lambda: transcript.views[-1].built, 30.0)
    before = probe.frames
    _run(lambda: probe.frames > before, 30.0)
    times.open_chat_ms = (time.perf_counter() - started_s) * 1000
    probe.delays_ms.clear()
    for _ in range(SCROLLS):
        transcript.scroll_by_page(-3)
        _run(lambda: False, FEED_MS / 1000)
        times.most_built = max(times.most_built, sum(view.built for view in transcript.views))
    probe.stop()
    times.scroll_max_ms = max(probe.delays_ms, default=0.0)


def _run(condition: Callable[[], bool], timeout_s: float) -> None:
    """Run the event loop until something holds, or the time is up."""
    end_s = time.perf_counter() + timeout_s
    while not condition() and time.perf_counter() < end_s:
        QApplication.processEvents()
        time.sleep(0.0005)
