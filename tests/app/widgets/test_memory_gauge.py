"""The gauges: honest arithmetic, every part with a value, and nothing that says NaN."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PySide6.QtCore import QPointF
from PySide6.QtGui import QHelpEvent
from PySide6.QtWidgets import QApplication, QToolTip
from pytestqt.qtbot import QtBot

from app.telemetry import MachineSample
from app.widgets.memory_content import GaugeContent, GaugePart, ram_content, vram_content
from app.widgets.memory_gauge import MemoryGauge
from tests.app.snapshots import GIB, VRAM_BYTES, make_ready, make_snapshot

pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", extend=True)
MACHINE = MachineSample(128 * GIB, 100 * GIB, 86 * GIB, 50.0, "NVIDIA GeForce RTX 3060", 24 * GIB, 23 * GIB, None, 40.0)


def sizes(content: GaugeContent | None) -> dict[str, int]:
    assert content is not None
    return {part.label: part.size_bytes for part in content.parts}


def test_vram_adds_up_to_the_card() -> None:
    ready = make_ready("mixtral", "cuda")
    snapshot = make_snapshot(ready)
    content = vram_content(ready, snapshot, MACHINE)
    assert content is not None
    assert sum(sizes(content).values()) == 24 * GIB
    own = sum(snapshot.vram_bytes.values())
    assert sizes(content)["Other programs"] == 23 * GIB - own
    assert sizes(content)["Experts"] == snapshot.vram_bytes["experts"]
    assert content.budget_bytes == ready.plan.vram_budget_bytes


def test_the_drivers_share_is_workspace_where_others_are_known() -> None:
    ready = make_ready("mixtral", "cuda")
    snapshot = make_snapshot(ready)
    own = sum(snapshot.vram_bytes.values())
    machine = replace(MACHINE, vram_used_bytes=own + 2 * GIB, vram_others_bytes=GIB)
    parts = sizes(vram_content(ready, snapshot, machine))
    assert parts["Other programs"] == GIB
    assert parts["Workspace"] == snapshot.vram_bytes["workspace"] + snapshot.vram_bytes["staging"] + GIB


def test_a_simulated_gpu_has_no_other_programs() -> None:
    ready = make_ready("guide", "simulated")
    content = vram_content(ready, make_snapshot(ready), MACHINE)
    assert content is not None
    assert content.total_bytes == VRAM_BYTES["guide"]
    assert content.others is None
    assert sum(sizes(content).values()) == VRAM_BYTES["guide"]


def test_without_a_gpu_there_is_no_vram() -> None:
    no_gpu = replace(MACHINE, gpu_name=None, vram_total_bytes=None, vram_used_bytes=None)
    ready = make_ready("guide", "cpu")
    assert vram_content(ready, make_snapshot(ready), no_gpu) is None
    assert vram_content(None, None, None) is None


def test_before_nvml_answers_the_profile_knows_the_card() -> None:
    ready = make_ready("mixtral", "cuda")
    content = vram_content(ready, make_snapshot(ready), None)
    assert content is not None
    assert content.total_bytes == 24 * GIB


def test_without_a_model_only_others_hold_vram() -> None:
    content = vram_content(None, None, replace(MACHINE, vram_others_bytes=23 * GIB))
    assert sizes(content) == {"Free": GIB, "Other programs": 23 * GIB}


def test_nonsense_from_the_driver_never_passes_the_card() -> None:
    ready = make_ready("mixtral", "cuda")
    snapshot = make_snapshot(ready)
    for used, others in ((1 << 50, None), (0, None), (GIB, 1 << 50)):
        content = vram_content(ready, snapshot, replace(MACHINE, vram_used_bytes=used, vram_others_bytes=others))
        assert content is not None
        assert all(part.size_bytes >= 0 for part in content.parts)
        assert sum(sizes(content).values()) <= 24 * GIB


def test_ram_tells_experts_from_the_engine_and_others() -> None:
    ready = make_ready("mixtral", "cuda")
    snapshot = make_snapshot(ready)
    parts = sizes(ram_content(ready, snapshot, MACHINE))
    assert parts["Experts"] == snapshot.host_bytes["experts"]
    assert parts["Experts"] + parts["Engine"] == 86 * GIB
    assert parts["Other programs"] == 14 * GIB
    assert sum(parts.values()) == 128 * GIB
    assert ram_content(ready, snapshot, None) is None


def test_simulated_vram_is_shown_as_the_ram_it_is() -> None:
    ready = make_ready("guide", "simulated")
    assert sizes(ram_content(ready, make_snapshot(ready), MACHINE))["Simulated"] > 0


def test_experts_on_disk_are_told_and_not_counted_as_ram() -> None:
    ready = make_ready("gguf", "cpu", on_disk=True)
    snapshot = make_snapshot(ready)
    machine = replace(MACHINE, ram_used_bytes=10 * GIB, engine_rss_bytes=30 * GIB, engine_mapped_bytes=26 * GIB)
    content = ram_content(ready, snapshot, machine)
    assert content is not None
    assert content.elsewhere is not None
    on_disk = ready.plan.host_bytes["experts_on_disk"]
    assert (content.elsewhere.label, content.elsewhere.size_bytes) == ("Experts on disk", on_disk)
    assert content.elsewhere in content.legend
    parts = sizes(content)
    assert "Experts" not in parts
    assert parts["Engine"] == 4 * GIB, "pages of the file that the system keeps are free memory"
    assert sum(parts.values()) == 128 * GIB


def test_no_more_ram_is_told_than_there_is() -> None:
    ready = make_ready("mixtral", "simulated")
    small = replace(MACHINE, ram_total_bytes=16 * GIB, ram_used_bytes=9 * GIB, engine_rss_bytes=8 * GIB)
    parts = sizes(ram_content(ready, make_snapshot(ready), small))
    assert (parts["Experts"], parts["Free"], sum(parts.values())) == (16 * GIB, 0, 16 * GIB)


def test_ram_without_an_engine() -> None:
    parts = sizes(ram_content(None, None, replace(MACHINE, engine_rss_bytes=None)))
    assert parts == {"Free": 28 * GIB, "Other programs": 100 * GIB}


@pytest.fixture
def gauge(qtbot: QtBot) -> MemoryGauge:
    widget = MemoryGauge("VRAM")
    qtbot.addWidget(widget)
    widget.resize(340, 100)
    widget.show()
    return widget


def test_an_empty_gauge_shows_a_dash(gauge: MemoryGauge) -> None:
    assert gauge.headline == "\N{EN DASH}"
    assert gauge.accessibleDescription() == "VRAM: unknown."
    assert not gauge.grab().isNull()


def test_it_says_everything_in_words(gauge: MemoryGauge) -> None:
    ready = make_ready("mixtral", "cuda")
    gauge.set_content(vram_content(ready, make_snapshot(ready), MACHINE))
    text = gauge.accessibleDescription()
    for word in ("Dense", "KV cache", "Experts", "Workspace", "Free", "Other programs", "budget 22.0 GiB"):
        assert word in text
    assert gauge.headline.startswith("model ")
    assert gauge.accessibleName() == "VRAM gauge"


@pytest.mark.parametrize("width", [160, 340, 900])
def test_every_part_can_be_pointed_at(gauge: MemoryGauge, width: int) -> None:
    ready = make_ready("mixtral", "cuda")
    gauge.set_content(vram_content(ready, make_snapshot(ready), replace(MACHINE, vram_used_bytes=21 * GIB)))
    gauge.resize(width, gauge.heightForWidth(width))
    found = {
        part.key for x in range(0, width, 2) for y in range(gauge.height()) if (part := gauge.part_at(QPointF(x, y)))
    }
    assert found == {"dense", "kv", "gpu", "stream", "free", "others"}
    assert not gauge.grab().isNull()


def test_experts_on_disk_have_a_legend_entry_without_a_share(
    gauge: MemoryGauge, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(QToolTip, "showText", lambda _position, text, *_: shown.append(text))
    ready = make_ready("gguf", "cpu", on_disk=True)
    gauge.set_content(ram_content(ready, make_snapshot(ready), MACHINE))
    assert "Experts on disk 25.4 GiB" in gauge.accessibleDescription()
    spots = [box for box, part in gauge._spots if part.key == "disk"]
    assert len(spots) == 1, "in the legend alone"
    spot = spots[0].center().toPoint()
    QApplication.sendEvent(gauge, QHelpEvent(QHelpEvent.Type.ToolTip, spot, gauge.mapToGlobal(spot)))
    assert shown[0].startswith("Experts on disk: 25.4 GiB. Read from a file")
    assert not gauge.grab().isNull()


def test_the_legend_takes_fewer_lines_when_wide(gauge: MemoryGauge) -> None:
    ready = make_ready("mixtral", "cuda")
    gauge.set_content(vram_content(ready, make_snapshot(ready), MACHINE))
    assert gauge.heightForWidth(900) < gauge.heightForWidth(340) < gauge.heightForWidth(160)


def test_a_tool_tip_explains_the_part(gauge: MemoryGauge, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(QToolTip, "showText", lambda _position, text, *_: shown.append(text))
    gauge.set_content(GaugeContent(GIB, (GaugePart("dense", "Dense", GIB // 2, "Needed by all."),), None))
    spot = next(box for box, part in gauge._spots if part.key == "dense").center().toPoint()
    QApplication.sendEvent(gauge, QHelpEvent(QHelpEvent.Type.ToolTip, spot, gauge.mapToGlobal(spot)))
    assert shown == ["Dense: 512 MiB (50\N{NO-BREAK SPACE}% of 1.0 GiB). Needed by all."]


def test_numbers_stay_where_words_have_no_room(qtbot: QtBot) -> None:
    gauge = MemoryGauge("VRAM")
    qtbot.addWidget(gauge)
    gauge.set_content(vram_content(make_ready("mixtral", "cuda"), None, None))
    wide = gauge.fitting_headline(1000, lambda words: 10 * len(words))
    narrow = gauge.fitting_headline(200, lambda words: 10 * len(words))
    assert wide == gauge.headline
    assert wide.startswith("model ")
    assert [*wide.replace("model ", "").split(" of budget ")] == narrow.split(" / ")
