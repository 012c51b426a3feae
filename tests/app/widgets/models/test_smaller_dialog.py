from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from app.conversions import Conversions
from app.model_scan import FoundModel, candidate_at, inspect
from app.theme import ThemeManager
from app.widgets.models import smaller_dialog
from app.widgets.models.smaller_dialog import SmallerDialog
from tests.checkpoints import write_mixtral


@pytest.fixture
def model(tmp_path: Path) -> FoundModel:
    candidate = candidate_at(write_mixtral(tmp_path / "Mix", layers=1, hidden=256, intermediate=64), "folder")
    assert candidate is not None
    return inspect(candidate)


def open_dialog(model: FoundModel, conversions: Conversions, qtbot: QtBot) -> SmallerDialog:
    with qtbot.waitSignal(conversions.sized):
        dialog = SmallerDialog(model, conversions)
        qtbot.addWidget(dialog)
        assert not dialog.go.isEnabled()
    return dialog


def test_both_formats_tell_their_size_and_what_the_drive_has(
    model: FoundModel, conversions: Conversions, qtbot: QtBot, themes: ThemeManager
) -> None:
    assert model.can_be_smaller
    dialog = open_dialog(model, conversions, qtbot)
    sizes = [dialog._sizes[name] for name in ("q4", "q8")]
    assert 0 < sizes[0] < sizes[1] < model.size_bytes
    assert dialog.formats["q4"].text().startswith("4 bits · ")
    assert dialog.formats["q4"].text() != dialog.formats["q8"].text()
    assert "are free" in dialog.space.text()
    dialog.formats["q8"].click()
    with qtbot.waitSignal(dialog.chosen) as chosen:
        dialog.go.click()
    assert chosen.args == [model.path, "q8"]


def test_a_full_drive_is_told_before_anything_begins(
    model: FoundModel, conversions: Conversions, qtbot: QtBot, themes: ThemeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smaller_dialog, "free_bytes", lambda _folder: 1000)
    dialog = open_dialog(model, conversions, qtbot)
    assert "make room there first" in dialog.space.text()
    assert not dialog.go.isEnabled()


def test_a_model_that_went_away_is_told(
    model: FoundModel, conversions: Conversions, qtbot: QtBot, themes: ThemeManager
) -> None:
    (Path(model.path) / "model.safetensors").unlink()
    dialog = open_dialog(model, conversions, qtbot)
    assert dialog.space.text().startswith("Neither model.safetensors nor ")
    assert not dialog.go.isEnabled()
