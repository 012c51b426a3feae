"""The lens: there where the map's cells are too small, showing the layer that is pointed at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtCore import QPoint
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from app.widgets.expert_map import ExpertMap
from app.widgets.layer_lens import LayerLens
from app.widgets.map_image import TEXTURE_FROM_PX
from tests.app.snapshots import Device, Shape, Step, make_ready, make_snapshot

pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", extend=True)
Parts = tuple[ExpertMap, LayerLens]


@pytest.fixture
def parts(qtbot: QtBot) -> Iterator[Parts]:
    window = QWidget()
    qtbot.addWidget(window)
    window.resize(380, 900)
    expert_map = ExpertMap()
    lens = LayerLens(expert_map)
    column = QVBoxLayout(window)
    column.addWidget(expert_map)
    column.addWidget(lens)
    with qtbot.waitActive(window):
        window.show()
        window.activateWindow()
    yield expert_map, lens
    window.close()


def show(parts: Parts, shape: Shape, device: Device = "cuda") -> None:
    ready = make_ready(shape, device)
    parts[0].show_ready(ready)
    parts[0].show_snapshot(make_snapshot(ready, Step(2)))
    parts[1].updateGeometry()
    QApplication.processEvents()


@pytest.mark.parametrize(("shape", "small"), [("guide", False), ("mixtral", False), ("qwen", True), ("wide", True)])
def test_small_cells_are_known(parts: Parts, shape: Shape, small: bool) -> None:
    show(parts, shape)
    assert parts[0].small_cells == small


@pytest.mark.parametrize("shape", ["qwen", "wide", "deep"])
def test_its_own_cells_have_textures_and_all_fit(parts: Parts, shape: Shape) -> None:
    show(parts, shape)
    lens = parts[1]
    geometry = lens._geometry()
    assert geometry is not None
    assert min(geometry.cell_width, geometry.cell_height) >= TEXTURE_FROM_PX
    last = geometry.cell_rect(0, make_ready(shape).model.experts - 1)
    assert last.right() <= lens.width()
    assert last.bottom() <= lens.height()
    assert not lens.grab().isNull()


def test_it_follows_what_is_pointed_at(parts: Parts) -> None:
    show(parts, "wide")
    expert_map, lens = parts
    assert lens.layer == 0
    expert_map.point_at(17, 300)
    assert lens.layer == 17
    expert_map.point_at(17, -1)
    assert lens.layer == 17, "the layer stays"
    expert_map.setFocus()
    expert_map.setCurrentIndex(expert_map.model().index(30, 2))
    assert lens.layer == 30
    show(parts, "guide", "simulated")
    assert lens.layer < 6, "a smaller model has no such layer"


def test_pointing_at_a_cell_tells_the_expert(qtbot: QtBot, parts: Parts) -> None:
    show(parts, "wide")
    expert_map, lens = parts
    expert_map.point_at(3, 0)
    geometry = lens._geometry()
    assert geometry is not None
    with qtbot.waitSignal(expert_map.described) as heard:
        QTest.mouseMove(lens, geometry.cell_rect(0, 200).center().toPoint())
    assert heard.args is not None
    assert heard.args[0].startswith("Layer 3, expert 200 ")
    with qtbot.waitSignal(expert_map.described) as heard:
        QTest.mouseMove(lens, QPoint(5, 2))
    assert heard.args == [""]


def test_without_a_model_it_is_empty(parts: Parts) -> None:
    lens = parts[1]
    assert lens.sizeHint().height() == 0
    lens.resize(200, 40)
    assert not lens.grab().isNull()
