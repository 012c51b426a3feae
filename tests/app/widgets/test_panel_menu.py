"""Saving the panel: a picture of all of it at twice its size, its values, and one sentence where that fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtGui import QColor, QImage
from PySide6.QtWidgets import QApplication, QFileDialog
from pytestqt.qtbot import QtBot

from app.theme import LIGHT
from app.widgets.engine_panel import EnginePanel
from app.widgets.panel_menu import PICTURE_SCALE, Kind
from tests.app.snapshots import Step, make_passes, make_ready, make_snapshot

pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", extend=True)


@pytest.fixture
def panel(qtbot: QtBot) -> Iterator[EnginePanel]:
    widget = EnginePanel()
    qtbot.addWidget(widget)
    widget.resize(400, 600)
    widget.show()
    ready = make_ready("guide", "simulated")
    widget.show_ready(ready)
    widget.show_passes(make_passes(ready, 3))
    widget.show_snapshot(make_snapshot(ready, Step(2)))
    QApplication.processEvents()
    yield widget
    widget.close()


def test_the_picture_is_all_of_it_at_twice_its_size(qtbot: QtBot, panel: EnginePanel, tmp_path: Path) -> None:
    with qtbot.waitSignal(panel.saved) as heard:
        panel.menu.save("png", tmp_path / "panel.png")
    assert heard.args == [f"Saved as {tmp_path / 'panel.png'}"]
    image = QImage(str(tmp_path / "panel.png"))
    assert panel.content.height() > panel.height(), "some of it is scrolled away"
    assert image.width() > PICTURE_SCALE * panel.content.width()
    assert image.height() > PICTURE_SCALE * panel.content.height()
    cell = panel.map.mapTo(panel.content, panel.map.visualRect(panel.map.model().index(5, 7)).center())
    head = image.height() - PICTURE_SCALE * panel.content.height()
    assert image.pixelColor(PICTURE_SCALE * cell.x(), head + PICTURE_SCALE * cell.y()) != QColor(LIGHT.window)
    title = {image.pixel(x, y) for x in range(30, 300, 2) for y in range(10, head, 2)}
    assert len(title) > 5


def test_the_values(panel: EnginePanel, tmp_path: Path) -> None:
    panel.scrubber.slider.setValue(1)
    panel.menu.save("json", tmp_path / "panel.json")
    values = json.loads((tmp_path / "panel.json").read_text(encoding="utf-8"))
    assert values["token"]["index"] == 1
    assert len(values["reply"]) == 3
    assert values["snapshot"]["visits"] == 12


@pytest.mark.parametrize("kind", ["png", "json"])
def test_what_cannot_be_written_is_one_sentence(qtbot: QtBot, panel: EnginePanel, tmp_path: Path, kind: Kind) -> None:
    with qtbot.waitSignal(panel.problem) as heard:
        panel.menu.save(kind, tmp_path / "missing" / "panel")
    assert heard.args == [
        f"{tmp_path / 'missing' / 'panel'} could not be saved: No such file or directory. Choose another folder."
    ]


def test_the_menu_asks_for_a_file(panel: EnginePanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    menu = panel.menu.button.menu()
    assert menu is not None
    names: list[str] = []

    def answer(_parent: object, _title: str, name: str, _filter: str) -> tuple[str, str]:
        names.append(name)
        return (str(tmp_path / name) if len(names) == 1 else "", "")

    monkeypatch.setattr(QFileDialog, "getSaveFileName", answer)
    for action in menu.actions()[:2]:
        action.trigger()
    assert [name.rpartition(".")[2] for name in names] == ["png", "json"]
    assert [path.name for path in tmp_path.iterdir()] == names[:1], "the second was given up"


def test_fold_all_and_unfold_all(panel: EnginePanel) -> None:
    menu = panel.menu.button.menu()
    assert menu is not None
    unfold, fold = menu.actions()[3:5]
    fold.trigger()
    assert panel.folded == "memory,experts,layers,rates,past"
    assert not panel.map.isVisible()
    unfold.trigger()
    assert panel.folded == ""
    assert panel.map.isVisible()


def test_without_a_model_too(qtbot: QtBot, tmp_path: Path) -> None:
    panel = EnginePanel()
    qtbot.addWidget(panel)
    panel.resize(400, 600)
    panel.menu.save("png", tmp_path / "panel.png")
    panel.menu.save("json", tmp_path / "panel.json")
    assert len(list(tmp_path.iterdir())) == 2
