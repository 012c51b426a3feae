import gc

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app import bench, bench_reading
from engine.messages import ErrorReport
from tests.app.fake_host import FakeHost


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "STOPS", 1)
    monkeypatch.setattr(bench, "STARTS", 1)
    monkeypatch.setattr(bench, "READING_S", 0.2)
    monkeypatch.setattr(bench_reading, "SCROLLS", 20)


def test_streaming_and_stopping_are_measured(qtbot: QtBot, qapp: QApplication) -> None:
    gc.unfreeze()
    times = bench.measure_window(lambda: FakeHost(reply="word " * 200), seconds=0.3)
    assert gc.get_freeze_count() > 0
    gc.unfreeze()
    assert times.problem == ""
    assert times.frames_per_s is not None
    assert times.frames_per_s > 0
    assert times.delay_p50_ms is not None
    assert times.stop_shown_ms is not None
    assert 0 < times.stop_shown_ms < 100
    assert "frames/s" in bench.words(times)
    assert times.reading is not None
    assert len(times.reading.frames_per_s) == 4
    assert times.reading.open_chat_ms > 0
    assert 0 < times.reading.most_built < 200
    assert "open a chat of 1,000 messages" in bench.words(times)


def test_a_missing_engine_is_a_sentence(qtbot: QtBot, qapp: QApplication) -> None:
    host = FakeHost(load_error=ErrorReport("checkpoint", "There is no model.", "Get one."))
    times = bench.measure_window(lambda: host, seconds=0.1)
    assert times.problem == "There is no model. Get one."
    assert times.frames_per_s is None


def test_the_window_is_visible_soon() -> None:
    assert 0 < bench.measure_start() < 5
