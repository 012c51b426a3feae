"""The expert map: state in, cells, words, keyboard and a real table for screen readers out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QAccessible, QHelpEvent, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QToolTip, QWidget
from pytestqt.qtbot import QtBot

from app.widgets.expert_map import ExpertMap
from app.widgets.map_legend import MapLegend
from tests.app.snapshots import Shape, Step, make_ready, make_snapshot

pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", extend=True)


@pytest.fixture
def expert_map(qtbot: QtBot) -> Iterator[ExpertMap]:
    window = QWidget()
    qtbot.addWidget(window)
    window.resize(340, 700)
    widget = ExpertMap(window)
    widget.resize(340, 0)
    with qtbot.waitActive(window):
        window.show()
        window.activateWindow()
    yield widget
    window.close()


def show_shape(widget: ExpertMap, shape: Shape = "guide", tokens: int = 1) -> None:
    ready = make_ready(shape, "simulated")
    widget.show_ready(ready)
    widget.show_snapshot(make_snapshot(ready, Step(3, tokens)))


def cell_center(widget: ExpertMap, layer: int, expert: int) -> QPoint:
    return widget.visualRect(widget.model().index(layer, expert)).center()


def hover(widget: ExpertMap, point: QPoint) -> None:
    QTest.mouseMove(widget.viewport(), point)
    QApplication.processEvents()


def test_parts_of_experts_have_cells_of_their_own_and_are_called_by_their_experts(expert_map: ExpertMap) -> None:
    show_shape(expert_map, "parts")
    assert expert_map.model().columnCount() == 8 * 7
    words = expert_map.describe_cell(4, 3 * 7 + 1)
    assert words.startswith("Layer 4, expert 3 (part 2 of 7) lives ")
    share = float(words.split("It gets ")[1].split(" %")[0])
    assert 0.5 <= share <= 60, "of the whole expert, one of eight"
    assert expert_map.model().headerData(8, Qt.Orientation.Horizontal) == "Expert 1 (part 2 of 7)"
    described = expert_map.accessibleDescription()
    assert described.startswith("32 layers with 8 experts each; ")
    assert "of 256 experts live on the GPU" in described


@pytest.mark.parametrize("shape", ["guide", "mixtral", "qwen", "parts"])
def test_it_takes_the_height_it_needs_and_paints(expert_map: ExpertMap, shape: Shape) -> None:
    show_shape(expert_map, shape)
    layers, experts = expert_map.model().rowCount(), expert_map.model().columnCount()
    last = expert_map.visualRect(expert_map.model().index(layers - 1, experts - 1))
    assert 100 < last.bottom() <= expert_map.height() < 700
    image = expert_map.grab().toImage()
    colours = {image.pixel(x, y) for x in range(30, 300, 3) for y in range(25, 140, 3)}
    assert len(colours) >= 5


def test_without_a_model_it_is_empty(expert_map: ExpertMap) -> None:
    assert expert_map.height() == 0
    assert expert_map.accessibleDescription() == "No model is loaded."
    show_shape(expert_map)
    expert_map.clear()
    assert expert_map.model().rowCount() == 0
    assert expert_map.accessibleDescription() == "No model is loaded."


def test_words_before_the_first_pass(expert_map: ExpertMap) -> None:
    ready = make_ready("guide", "simulated")
    expert_map.show_ready(ready)
    layer = next(layer for layer, residents in enumerate(ready.plan.resident_by_layer) if residents)
    text = expert_map.describe_cell(layer, ready.plan.resident_by_layer[layer][0])
    assert "lives on the GPU." in text
    assert "has not run yet" in text


@pytest.mark.parametrize("place", ["gpu", "stream", "cpu"])
def test_words_tell_place_share_and_reason(expert_map: ExpertMap, place: str) -> None:
    ready = make_ready("mixtral", "simulated")
    snapshot = make_snapshot(ready, Step(3, 512))
    expert_map.show_ready(ready)
    expert_map.show_snapshot(snapshot)
    layer, expert = next((t.layer, run.expert) for t in snapshot.layers for run in t.runs if run.place == place)
    where = {"gpu": "lives on the GPU", "stream": "just streamed to the GPU", "cpu": "runs on the CPU"}
    first, second, third = expert_map.describe_cell(layer, expert).splitlines()
    assert first.startswith(f"Layer {layer}, expert {expert} ")
    assert where[place] in first
    assert "of its layer's visits; used just now." in second
    assert third.startswith(f"In this pass: Expert {expert} ")


def test_words_of_an_expert_that_was_not_used(expert_map: ExpertMap) -> None:
    ready = make_ready("guide", "cpu")
    snapshot = make_snapshot(ready, Step(0))
    expert_map.show_ready(ready)
    expert_map.show_snapshot(snapshot)
    idle = next(expert for expert in range(8) if expert not in {run.expert for run in snapshot.layers[0].runs})
    text = expert_map.describe_cell(0, idle)
    assert "not used lately" in text
    assert "No token of this pass went to it." in text


def test_the_full_state_of_every_snapshot_counts(expert_map: ExpertMap) -> None:
    ready = make_ready("guide", "simulated")
    expert_map.show_ready(ready)
    empty = make_ready("guide", "cpu")
    expert_map.show_snapshot(make_snapshot(empty))
    assert "0 of 48 experts live on the GPU" in expert_map.accessibleDescription()
    expert_map.show_snapshot(make_snapshot(ready))
    assert f"{ready.plan.resident_experts} of 48 experts live on the GPU" in expert_map.accessibleDescription()
    resident = ready.plan.resident_by_layer[0][0]
    assert "lives on the GPU" in expert_map.describe_cell(0, resident)


def test_hovering_tells_the_cell_and_leaving_stops(qtbot: QtBot, expert_map: ExpertMap) -> None:
    show_shape(expert_map)
    with qtbot.waitSignal(expert_map.described) as heard:
        hover(expert_map, cell_center(expert_map, 2, 3))
    assert heard.args is not None
    assert heard.args[0].startswith("Layer 2, expert 3 ")
    with qtbot.waitSignal(expert_map.described) as heard:
        hover(expert_map, QPoint(2, 2))
    assert heard.args == [""]


def test_the_tool_tip_says_the_same(expert_map: ExpertMap, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(QToolTip, "showText", lambda _position, text, *_: shown.append(text))
    show_shape(expert_map)
    for point in (cell_center(expert_map, 1, 1), QPoint(2, 2)):
        event = QHelpEvent(QHelpEvent.Type.ToolTip, point, expert_map.viewport().mapToGlobal(point))
        QApplication.sendEvent(expert_map.viewport(), event)
    assert shown == [expert_map.describe_cell(1, 1), ""]


@pytest.mark.parametrize(
    ("keys", "cell"),
    [
        ([Qt.Key.Key_Right, Qt.Key.Key_Right, Qt.Key.Key_Down], (1, 2)),
        ([Qt.Key.Key_Left, Qt.Key.Key_Up], (0, 0)),
        ([Qt.Key.Key_End, Qt.Key.Key_Right], (0, 7)),
        ([Qt.Key.Key_End, Qt.Key.Key_Home], (0, 0)),
        ([Qt.Key.Key_PageDown], (5, 0)),
        ([Qt.Key.Key_PageDown, Qt.Key.Key_PageUp], (0, 0)),
    ],
)
def test_keys_move_the_cursor(qtbot: QtBot, expert_map: ExpertMap, keys: list[Qt.Key], cell: tuple[int, int]) -> None:
    show_shape(expert_map)
    expert_map.setFocus()
    expert_map.setCurrentIndex(expert_map.model().index(0, 0))
    told: list[str] = []
    expert_map.described.connect(told.append)
    for key in keys:
        QTest.keyClick(expert_map, key)
    index = expert_map.currentIndex()
    assert (index.row(), index.column()) == cell
    if cell != (0, 0):
        assert told[-1] == expert_map.describe_cell(*cell)


def test_control_home_and_end_reach_the_corners(expert_map: ExpertMap) -> None:
    show_shape(expert_map)
    expert_map.setFocus()
    expert_map.setCurrentIndex(expert_map.model().index(2, 2))
    QTest.keyClick(expert_map, Qt.Key.Key_End, Qt.KeyboardModifier.ControlModifier)
    assert (expert_map.currentIndex().row(), expert_map.currentIndex().column()) == (5, 7)
    QTest.keyClick(expert_map, Qt.Key.Key_Home, Qt.KeyboardModifier.ControlModifier)
    assert (expert_map.currentIndex().row(), expert_map.currentIndex().column()) == (0, 0)


def test_the_cursor_can_be_followed_and_told_again(qtbot: QtBot, expert_map: ExpertMap) -> None:
    show_shape(expert_map)
    expert_map.setFocus()
    with qtbot.waitSignal(expert_map.cursor_moved):
        expert_map.setCurrentIndex(expert_map.model().index(4, 4))
    told: list[str] = []
    expert_map.described.connect(told.append)
    expert_map.show_snapshot(make_snapshot(make_ready("guide", "simulated")))
    assert told == [expert_map.describe_cell(4, 4)], "a snapshot renews the words of the cursor's cell"


def test_clicking_moves_the_cursor(expert_map: ExpertMap) -> None:
    show_shape(expert_map)
    QTest.mouseClick(expert_map.viewport(), Qt.MouseButton.LeftButton, pos=cell_center(expert_map, 3, 5))
    assert (expert_map.currentIndex().row(), expert_map.currentIndex().column()) == (3, 5)


def test_screen_readers_get_a_table_of_sentences(expert_map: ExpertMap) -> None:
    show_shape(expert_map)
    interface = QAccessible.queryAccessibleInterface(expert_map)
    assert interface.role() == QAccessible.Role.Table
    assert interface.text(QAccessible.Text.Name) == "Expert map"
    names = [interface.child(i).text(QAccessible.Text.Name) for i in range(interface.childCount())]
    assert expert_map.describe_cell(0, 0) in names
    assert expert_map.describe_cell(5, 7) in names


def test_it_fits_again_when_resized(qtbot: QtBot, expert_map: ExpertMap) -> None:
    show_shape(expert_map, "qwen")
    narrow = expert_map.visualRect(expert_map.model().index(0, 0)).width()
    expert_map.resize(900, expert_map.height())
    qtbot.waitUntil(lambda: expert_map.visualRect(expert_map.model().index(0, 0)).width() > narrow)


def test_the_wheel_is_left_to_the_scroll_area(expert_map: ExpertMap) -> None:
    show_shape(expert_map)
    event = QWheelEvent(
        QPointF(50, 50), QPointF(50, 50), QPoint(0, 0), QPoint(0, -120), Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,  # noqa: FBT003 - Qt takes it by position only
    )  # fmt: skip
    expert_map.wheelEvent(event)
    assert not event.isAccepted()


def test_the_legend_names_every_place(qtbot: QtBot) -> None:
    legend = MapLegend()
    qtbot.addWidget(legend)
    legend.resize(320, legend.sizeHint().height())
    legend.show()
    assert not legend.grab().isNull()
    for word in ("on the GPU", "streamed", "on the CPU", "recently"):
        assert word in legend.accessibleDescription()
