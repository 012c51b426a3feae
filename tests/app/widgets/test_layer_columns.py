"""Layers in columns: all of a large model in sight, by mouse and keys, and back to rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from PySide6.QtCore import QEvent, QPoint, Qt
from PySide6.QtGui import QAccessible, QColor
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from app.theme import LIGHT
from app.widgets.layer_strip import COMPACT_FROM_LAYERS, LayerStrip
from tests.app.snapshots import Device, Shape, Step, make_ready, make_snapshot

pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", extend=True)


@pytest.fixture
def strip(qtbot: QtBot) -> Iterator[LayerStrip]:
    window = QWidget()
    qtbot.addWidget(window)
    window.resize(400, 600)
    widget = LayerStrip(window)
    widget.resize(360, 400)
    with qtbot.waitActive(window):
        window.show()
        window.activateWindow()
    yield widget
    window.close()


def show(widget: LayerStrip, shape: Shape = "deep", device: Device = "cuda") -> None:
    ready = make_ready(shape, device)
    widget.show_ready(ready)
    widget.show_snapshot(make_snapshot(ready, Step(1)))
    QApplication.processEvents()


def test_models_of_many_layers_begin_in_columns_and_all_are_in_sight(strip: LayerStrip) -> None:
    show(strip, "guide", "simulated")
    assert strip.rows.isVisible()
    assert not strip.columns.isVisible()
    show(strip)
    assert strip.columns.isVisible()
    assert not strip.rows.isVisible()
    columns, table = strip.columns, strip.columns.table
    assert table.rowCount() == 94 >= COMPACT_FROM_LAYERS
    boxes = [columns.visualRect(table.index(row)) for row in range(94)]
    assert all(box.width() >= 3 for box in boxes)
    assert boxes[-1].right() <= columns.viewport().width()
    assert all(before.right() <= after.left() for before, after in pairwise(boxes))


def test_the_choice_stays_while_the_model_does(strip: LayerStrip) -> None:
    show(strip)
    QTest.mouseClick(strip.compact, Qt.MouseButton.LeftButton)
    assert strip.rows.isVisible()
    show(strip)
    assert strip.rows.isVisible()
    strip.rows.setFocus()
    strip.compact.setChecked(True)
    assert strip.columns.hasFocus(), "the keyboard goes along"


def test_hovering_tells_the_layer(qtbot: QtBot, strip: LayerStrip) -> None:
    show(strip)
    spot = strip.columns.visualRect(strip.columns.table.index(40)).center()
    with qtbot.waitSignal(strip.described) as heard:
        QTest.mouseMove(strip.columns.viewport(), spot)
    assert heard.args is not None
    assert heard.args[0].startswith("Layer 40, 1 token: ")
    with qtbot.waitSignal(strip.described) as heard:
        QApplication.sendEvent(strip.columns.viewport(), QEvent(QEvent.Type.Leave))
    assert heard.args == [""]
    assert strip.columns.indexAt(spot).row() == 40
    assert not strip.columns.indexAt(QPoint(2, 5)).isValid()


@pytest.mark.parametrize(
    ("keys", "row"),
    [
        ([Qt.Key.Key_Right, Qt.Key.Key_Right, Qt.Key.Key_Down], 3),
        ([Qt.Key.Key_Left], 0),
        ([Qt.Key.Key_PageDown, Qt.Key.Key_Up], 7),
        ([Qt.Key.Key_End, Qt.Key.Key_Right], 93),
        ([Qt.Key.Key_End, Qt.Key.Key_Home], 0),
    ],
)
def test_keys_move_from_layer_to_layer(qtbot: QtBot, strip: LayerStrip, keys: list[Qt.Key], row: int) -> None:
    show(strip)
    told: list[str] = []
    strip.described.connect(told.append)
    strip.columns.setFocus()
    strip.columns.setCurrentIndex(strip.columns.table.index(0))
    for key in keys:
        QTest.keyClick(strip.columns, key)
    assert strip.columns.currentIndex().row() == row
    assert told[-1].startswith(f"Layer {row}, ")
    strip.columns.clearFocus()
    assert told[-1] == ""


def test_the_cpu_goes_up_and_the_gpu_down(strip: LayerStrip) -> None:
    ready = make_ready("deep", "cuda")
    snapshot = make_snapshot(ready, Step(1))
    longer = tuple(trace._replace(measured_gpu_s=2 * trace.measured_cpu_s) for trace in snapshot.layers)
    strip.show_ready(ready)
    strip.show_snapshot(replace(snapshot, layers=longer))
    image = strip.columns.viewport().grab().toImage()
    table = strip.columns.table
    row = max(table.traces, key=lambda layer: table.traces[layer].measured_cpu_s)
    box = strip.columns.visualRect(table.index(row))
    middle = box.height() // 2
    column = [image.pixelColor(box.left() + 1, y) for y in range(box.height())]
    assert QColor(LIGHT.cpu) in column[:middle]
    assert QColor(LIGHT.cpu) not in column[middle + 1 :]
    assert QColor(LIGHT.gpu) in column[middle:]


def test_without_a_gpu_there_is_one_side(strip: LayerStrip) -> None:
    show(strip)
    both = strip.columns.height()
    show(strip, "guide", "cpu")
    strip.compact.setChecked(True)
    assert strip.columns.height() < both
    assert not strip.columns.grab().isNull()


def test_a_screen_reader_reaches_every_layer(strip: LayerStrip) -> None:
    show(strip)
    interface = QAccessible.queryAccessibleInterface(strip.columns)
    assert interface is not None
    assert strip.columns.accessibleName() == "Layer strip, in columns"
    assert strip.totals in strip.columns.accessibleDescription()
    texts = {strip.columns.table.data(strip.columns.table.index(row)) for row in range(94)}
    assert len(texts) == 94
