from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app import bench_models
from app.bench_models import Held, measure_page, page_words, verdict_words, write_models
from app.model_places import Place
from app.model_scan import candidates, inspect
from tests.engine.shapes import TINY


def test_the_page_is_measured_at_both_openings(
    qtbot: QtBot, qapp: QApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_models, "SHAPES", {"mixtral": TINY})
    times = measure_page(3)
    assert set(times) == {"first look", "later"}
    for one in times.values():
        assert 0 < one.painted_ms < one.listed_ms < one.judged_ms
    assert "all listed" in page_words(times)[0]


def test_the_models_have_real_shapes_and_take_no_room(tmp_path: Path) -> None:
    write_models(tmp_path, 3)
    found = [inspect(one) for one in candidates(Place("folder", tmp_path))]
    assert {model.family for model in found} == {"Mixtral", "Qwen3-MoE", "OLMoE"}
    assert all(model.runs and model.size_bytes > 1 << 33 for model in found)
    held = sum(file.stat().st_blocks * 512 for file in tmp_path.rglob("*") if file.is_file())
    assert held < 1 << 24


def test_a_verdict_is_told_beside_what_it_took() -> None:
    held = [
        Held("m", "cpu", 100 << 20, 110 << 20, 120 << 20, 0, 0, 10.0, 12.0, 11.0),
        Held("m", "simulated", 100 << 20, 100 << 20, 100 << 20, 50 << 20, 49 << 20, 10.0, 12.0, 1.0),
    ]
    cpu, simulated = verdict_words(held)
    assert "100.0 promised, 110.0 MiB taken (+10.0 %)" in cpu
    assert "at most 120.0 MiB (+20.0 %)" in cpu
    assert "12.0 (+9.1 %) after measuring" in cpu
    assert "11.0 tokens/s measured" in cpu
    assert "VRAM 50.0 promised, 49.0 MiB taken (-2.0 %)" in simulated
