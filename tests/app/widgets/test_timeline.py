"""The timelines: bounded, silent while hidden, interrupted where nothing was measured, readable without eyes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QColor
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from app.theme import LIGHT
from app.widgets.timeline import LEAST_STEP_S, MOST_POINTS, SPANS_S, Timeline
from tests.app.snapshots import GIB

pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", extend=True)


@pytest.fixture
def timeline(qtbot: QtBot) -> Iterator[Timeline]:
    widget = Timeline()
    qtbot.addWidget(widget)
    widget.resize(300, 200)
    with qtbot.waitActive(widget):
        widget.show()
        widget.activateWindow()
    widget.start(has_gpu=True)
    yield widget
    widget.close()


def fill(widget: Timeline, seconds: int, first: int = 0) -> None:
    for second in range(first, first + seconds):
        widget.add_reply(float(second), 10.0 + second % 3, 0.5)
        widget.add_memory(float(second), 5 * GIB, 12 * GIB)


def test_points_are_bounded_and_not_too_dense(timeline: Timeline) -> None:
    for tick in range(5000):
        timeline.add_reply(tick * 0.1, 8.0, 0.25)
    assert len(timeline.speed.points) <= MOST_POINTS
    steps = [
        after[0] - before[0]
        for before, after in zip(timeline.speed.points, list(timeline.speed.points)[1:], strict=False)
    ]
    assert min(steps) >= LEAST_STEP_S - 1e-9


def test_the_span_grows_with_what_there_is(timeline: Timeline) -> None:
    assert timeline.span_s == SPANS_S[0]
    fill(timeline, 100)
    assert timeline.span_s == SPANS_S[1]
    fill(timeline, 500, first=100)
    assert timeline.span_s == SPANS_S[2]


def test_what_is_no_number_is_left_out(timeline: Timeline) -> None:
    timeline.add_reply(1.0, math.nan, math.inf)
    timeline.add_reply(1.0, 0.0, None)
    assert not timeline.speed.points
    assert not timeline.hits.points
    assert timeline.words() == "now: nothing was measured"


def test_the_latest_values_in_words(timeline: Timeline) -> None:
    fill(timeline, 30)
    assert timeline.accessibleDescription() == "now: speed 12.0 tokens/s, hit rate 50\N{NO-BREAK SPACE}%, VRAM 5.0 GiB"
    timeline.start(has_gpu=False)
    timeline.add_reply(1.0, 3.0, None)
    timeline.add_memory(1.0, 2 * GIB, 8 * GIB)
    assert timeline.words() == "now: speed 3.0 tokens/s, RAM 2.0 GiB"


def test_keys_and_mouse_move_the_cursor(timeline: Timeline) -> None:
    fill(timeline, 30)
    timeline.setFocus()
    for _ in range(10):
        QTest.keyClick(timeline, Qt.Key.Key_Left)
    assert timeline.accessibleDescription().startswith("10 s ago: speed ")
    QTest.keyClick(timeline, Qt.Key.Key_Home)
    assert timeline.accessibleDescription() == "60 s ago: nothing was measured"
    QTest.keyClick(timeline, Qt.Key.Key_End)
    assert timeline.accessibleDescription().startswith("now: ")
    QTest.mouseMove(timeline, QPoint(150, 50))
    assert timeline.accessibleDescription().startswith("30 s ago: ")


def test_a_silence_interrupts_the_line(timeline: Timeline) -> None:
    fill(timeline, 10)
    fill(timeline, 10, first=50)
    image = timeline.grab().toImage()
    paper = QColor(LIGHT.surface_alt).rgb()
    scale = image.width() / timeline.width()
    line = timeline._line()
    row = [image.pixel(int(x * scale), int((line + 33) * scale)) for x in range(1, 300)]
    x_of = [round(300 - (59 - second) / 60 * 300) for second in (5, 30, 55)]
    assert [row[x] == paper for x in x_of] == [False, True, False]


def test_a_hidden_timeline_is_not_drawn_nor_put_into_words(timeline: Timeline, monkeypatch: pytest.MonkeyPatch) -> None:
    timeline.hide()
    told: list[str] = []
    monkeypatch.setattr(timeline, "setAccessibleDescription", told.append)
    fill(timeline, 30)
    assert told == []
    assert len(timeline.speed.points) == 30


def test_a_repaint_is_cheap(timeline: Timeline) -> None:
    fill(timeline, 600)
    times = []
    for _ in range(9):
        began = time.thread_time()
        timeline.grab()
        times.append(time.thread_time() - began)
    assert sorted(times)[4] < 0.05, "ten times the target: machines that run tests are busy"


def test_values_for_a_file(timeline: Timeline) -> None:
    fill(timeline, 3)
    assert timeline.values()["vram"] == [(2.0, 5 * GIB), (1.0, 5 * GIB), (0.0, 5 * GIB)]
    assert set(timeline.values()) == {"speed", "hits", "vram"}
