"""What limits the speed, on the screen: at once where it matters, else once a second."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pytestqt.qtbot import QtBot

from app.widgets.limit_line import PERIOD_S, LimitLine
from tests.app.snapshots import Step, make_ready, make_snapshot

pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", extend=True)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    time = [100.0]
    monkeypatch.setattr("app.widgets.limit_line.time.monotonic", lambda: time[0])
    return time


def test_it_tells_at_most_once_a_second(qtbot: QtBot, now: list[float]) -> None:
    line = LimitLine()
    qtbot.addWidget(line)
    ready = make_ready("mixtral", "cuda")
    line.show_ready(ready)
    assert line.text == "Nothing has run yet."
    snapshot = make_snapshot(ready, Step(1))
    line.show_pass(snapshot)
    first = line.text
    assert first.startswith("RAM bandwidth: ")
    assert "more VRAM would" in first
    assert line.accessibleDescription() == first
    doubled = tuple(trace._replace(measured_cpu_s=2 * trace.measured_cpu_s) for trace in snapshot.layers)
    slower = replace(snapshot, layers=doubled, tokens_per_s=0.0)
    line.show_pass(slower)
    assert line.text == first
    now[0] += PERIOD_S
    line.show_pass(slower)
    assert line.text != first
    line.show_pass(snapshot, at_once=True)
    assert line.text == first


def test_a_tokens_time_outlives_the_reply_but_not_the_next_prompt(qtbot: QtBot, now: list[float]) -> None:
    line = LimitLine()
    qtbot.addWidget(line)
    ready = make_ready("mixtral", "cuda")
    line.show_ready(ready)
    snapshot = make_snapshot(ready, Step(1))
    line.show_pass(replace(snapshot, tokens_per_s=0.1), at_once=True)
    kinds = [line.limit.kind]
    line.show_pass(replace(snapshot, tokens_per_s=0.0), at_once=True)
    kinds.append(line.limit.kind)
    line.show_pass(replace(make_snapshot(ready, Step(1, 64)), tokens_per_s=0.0), at_once=True)
    line.show_pass(replace(snapshot, tokens_per_s=0.0), at_once=True)
    kinds.append(line.limit.kind)
    assert kinds == ["dense", "dense", "ram"]


def test_without_a_model_it_is_silent(qtbot: QtBot) -> None:
    line = LimitLine()
    qtbot.addWidget(line)
    line.show_pass(make_snapshot(make_ready(), Step(1)), at_once=True)
    assert line.text == ""
