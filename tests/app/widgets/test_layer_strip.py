"""The layer strip: shares, rows, words and keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QAccessible, QColor
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from app.theme import LIGHT
from app.widgets.layer_strip import LayerStrip, prediction_error, side_of, totals_text
from engine.experts.explain import explain_layer
from engine.messages import ExpertRun, LayerTrace
from tests.app.snapshots import Device, Shape, Step, make_ready, make_snapshot

pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", extend=True)
CPU_RUN = ExpertRun(0, 1, "cpu", 3e-3, 1e-3, 9e-3)
GPU_RUN = ExpertRun(1, 1, "gpu", 3e-3, 1e-3, 0.0)
BOTH = LayerTrace(0, 1, (CPU_RUN, GPU_RUN), 3e-3, 1e-3, 3e-3, 1e-3)


@pytest.fixture
def strip(qtbot: QtBot) -> Iterator[LayerStrip]:
    window = QWidget()
    qtbot.addWidget(window)
    window.resize(340, 600)
    widget = LayerStrip(window)
    widget.resize(340, 400)
    with qtbot.waitActive(window):
        window.show()
        window.activateWindow()
    yield widget
    window.close()


def show(widget: LayerStrip, shape: Shape = "guide", device: Device = "simulated", tokens: int = 1) -> None:
    ready = make_ready(shape, device)
    widget.show_ready(ready)
    widget.show_snapshot(make_snapshot(ready, Step(1, tokens)))
    QApplication.processEvents()


def test_totals_are_shares_of_the_measured_time() -> None:
    assert totals_text((BOTH,), "GPU") == "CPU 75\N{NO-BREAK SPACE}%, GPU 25\N{NO-BREAK SPACE}% of this pass: 1 token"
    assert totals_text((BOTH._replace(tokens=9),), "simulated GPU").endswith(
        "simulated GPU 25\N{NO-BREAK SPACE}% of this pass: 9 tokens"
    )
    assert totals_text((BOTH._replace(measured_gpu_s=0.0),), "") == "CPU 100\N{NO-BREAK SPACE}% of this pass: 1 token"
    assert totals_text((), "GPU") == "No pass has been measured yet."
    assert totals_text((BOTH._replace(measured_cpu_s=0.0, measured_gpu_s=0.0),), "GPU").startswith("No pass")


def test_prediction_error() -> None:
    assert prediction_error(()) is None
    assert prediction_error((BOTH,)) == 0.0
    assert prediction_error((BOTH._replace(predicted_cpu_s=1e-3),)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("runs", "side"), [((CPU_RUN, GPU_RUN), "both"), ((CPU_RUN,), "CPU"), ((GPU_RUN,), "GPU"), ((), "\N{EN DASH}")]
)
def test_the_side_follows_the_runs(runs: tuple[ExpertRun, ...], side: str) -> None:
    assert side_of(BOTH._replace(runs=runs, measured_cpu_s=0.0, measured_gpu_s=0.0)) == side


@pytest.mark.parametrize("shape", ["guide", "mixtral", "qwen"])
@pytest.mark.parametrize("device", ["cuda", "simulated", "cpu"])
def test_every_shape_and_device_paints(strip: LayerStrip, shape: Shape, device: Device) -> None:
    show(strip, shape, device)
    image = strip.rows.viewport().grab().toImage()
    colours = {image.pixelColor(x, y).name() for x in range(0, 300, 2) for y in range(image.height())}
    assert (LIGHT.cpu in colours) == ((shape, device) != ("guide", "cuda")), "the guide fits a GPU whole"
    assert (LIGHT.gpu in colours) == (device != "cpu")
    assert ("GPU" in strip.totals) == (device != "cpu")


def test_many_layers_scroll_and_few_do_not(strip: LayerStrip) -> None:
    show(strip, "guide")
    assert strip.rows.verticalScrollBar().maximum() == 0
    show(strip, "qwen")
    strip.compact.setChecked(False)
    QApplication.processEvents()
    assert strip.rows.verticalScrollBar().maximum() > 0
    assert strip.rows.height() < 260


def test_both_sides_start_together(strip: LayerStrip) -> None:
    ready = make_ready("guide", "simulated")
    strip.show_ready(ready)
    slow = BOTH._replace(measured_cpu_s=4e-3, measured_gpu_s=4e-3, predicted_cpu_s=0.0, predicted_gpu_s=0.0)
    strip.show_snapshot(replace(make_snapshot(ready), layers=(slow,)))
    image = strip.rows.viewport().grab().toImage()
    box = strip.rows.visualRect(strip.rows.table.index(0))
    column = [image.pixelColor(60, y) for y in range(box.top(), box.bottom())]
    assert QColor(LIGHT.cpu) in column
    assert QColor(LIGHT.gpu) in column


def test_words_are_the_engines_own(qtbot: QtBot, strip: LayerStrip) -> None:
    show(strip)
    snapshot = make_snapshot(make_ready("guide", "simulated"), Step(1))
    point = strip.rows.visualRect(strip.rows.table.index(2)).center()
    with qtbot.waitSignal(strip.described) as heard:
        QTest.mouseMove(strip.rows.viewport(), point)
    assert heard.args == [explain_layer(snapshot.layers[2], has_gpu=True)]
    with qtbot.waitSignal(strip.described) as heard:
        QApplication.sendEvent(strip.rows.viewport(), QEvent(QEvent.Type.Leave))
    assert heard.args == [""]


def test_before_the_first_pass(strip: LayerStrip) -> None:
    strip.show_ready(make_ready("guide", "simulated"))
    assert strip.totals == "No pass has been measured yet."
    assert strip.rows.table.describe(3) == "Layer 3: not run yet."
    assert not strip.rows.viewport().grab().isNull()
    strip.clear()
    assert strip.rows.table.rowCount() == 0


def test_keys_move_and_tell(strip: LayerStrip) -> None:
    show(strip)
    told: list[str] = []
    strip.described.connect(told.append)
    strip.rows.setFocus()
    strip.rows.setCurrentIndex(strip.rows.table.index(0))
    for _ in range(3):
        QTest.keyClick(strip.rows, Qt.Key.Key_Down)
    assert strip.rows.currentIndex().row() == 3
    assert told[-1].startswith("Layer 3, 1 token")
    strip.rows.clearFocus()
    assert told[-1] == ""


def test_screen_readers_get_a_list_of_layers(strip: LayerStrip) -> None:
    show(strip)
    interface = QAccessible.queryAccessibleInterface(strip.rows)
    assert interface.text(QAccessible.Text.Name) == "Layer strip"
    assert interface.childCount() == 6
    assert interface.child(4).text(QAccessible.Text.Name).startswith("Layer 4, 1 token")
    assert strip.totals in strip.rows.accessibleDescription()


def test_the_scale_falls_at_once_from_prefill_to_decode_and_otherwise_calmly(strip: LayerStrip) -> None:
    rows = strip.rows
    rows.set_layers(1, has_gpu=True)
    for measured_s, scale_s in ((1.0, 1.0), (0.9, 0.94), (0.01, 0.01), (0.02, 0.02)):
        rows.set_traces((BOTH._replace(measured_cpu_s=measured_s),))
        assert rows.table.scale_s == pytest.approx(scale_s)
