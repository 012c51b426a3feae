"""The live panel: every event shown, empty values as dashes, the simulated GPU labelled, updates cheap."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QScrollArea, QWidget
from pytestqt.qtbot import QtBot

from app.telemetry import MachineSample
from app.theme import ThemeManager
from app.widgets.engine_panel import EnginePanel
from app.widgets.panel_parts import NO_VALUE, no_gpu_text
from engine.messages import Loading, Timings
from tests.app.snapshots import GIB, GPU_NAME, Device, Shape, Step, make_passes, make_ready, make_snapshot
from tests.app.wheel import wheel

pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", extend=True)
NO_GPU = MachineSample(64 * GIB, 20 * GIB, 2 * GIB, 12.0)
WITH_GPU = MachineSample(128 * GIB, 100 * GIB, 86 * GIB, 61.0, GPU_NAME, 24 * GIB, 23 * GIB, None, 43.0)
UPDATE_LIMIT_S = {
    "mixtral": 0.030,
    "qwen": 0.060,
    "wide": 0.120,
    "deep": 0.120,
}  # ten times the target: machines that run tests are busy


@pytest.fixture
def panel(qtbot: QtBot) -> Iterator[EnginePanel]:
    widget = EnginePanel()
    qtbot.addWidget(widget)
    widget.resize(360, 900)
    with qtbot.waitActive(widget):
        widget.show()
        widget.activateWindow()
    yield widget
    widget.close()


def load(panel: EnginePanel, shape: Shape = "mixtral", device: Device = "cuda") -> None:
    ready = make_ready(shape, device)
    panel.show_ready(ready)
    panel.show_machine(WITH_GPU if device == "cuda" else NO_GPU)
    panel.show_snapshot(make_snapshot(ready, Step(2)))


def all_words(panel: EnginePanel) -> str:
    return " ".join(label.text() for label in panel.findChildren(QLabel) if label.isVisibleTo(panel))


def test_a_real_gpu(panel: EnginePanel) -> None:
    load(panel)
    assert panel.device.text == f"{GPU_NAME} GPU 43\N{NO-BREAK SPACE}%, CPU 61\N{NO-BREAK SPACE}%"
    assert not panel.device.badge_shown
    assert panel.experts_heading.value == f"{make_ready().plan.resident_experts} of 256 on the GPU"
    assert panel.vram.isVisibleTo(panel)
    assert "GPU" in panel.strip.totals


def test_what_moves_between_the_memories_is_told(panel: EnginePanel) -> None:
    load(panel)
    assert panel.residents_words.text() == "The experts in VRAM follow the conversation where that pays."
    ready = make_ready()
    panel.show_snapshot(replace(make_snapshot(ready, Step(2)), uploads=3, uploaded_bytes=3 << 30))
    assert panel.residents_words.text() == "3 experts were exchanged in this reply, 3.0 GiB."
    load(panel, "guide", "cpu")
    assert not panel.residents_words.isVisibleTo(panel)


def test_a_simulated_gpu_is_always_labelled(panel: EnginePanel) -> None:
    load(panel, "guide", "simulated")
    assert panel.device.badge_shown
    assert "speeds are not a real GPU's" in panel.device.text
    assert "simulated" in panel.experts_heading.value
    assert "simulated GPU" in panel.strip.totals
    load(panel, "mixtral", "cuda")
    assert not panel.device.badge_shown


def test_no_gpu_says_so_and_offers_the_simulated_one(qtbot: QtBot, panel: EnginePanel) -> None:
    load(panel, "guide", "cpu")
    assert panel.device.text.startswith(no_gpu_text())
    assert not panel.vram.isVisibleTo(panel)
    assert panel.experts_heading.value == "all 48 on the CPU"
    assert (panel.hit_rate.value, panel.streamed.value) == (NO_VALUE, NO_VALUE)
    with qtbot.waitSignal(panel.simulate_requested):
        QTest.mouseClick(panel.device.simulate, Qt.MouseButton.LeftButton)


def test_how_the_model_is_stored_and_computed(panel: EnginePanel) -> None:
    assert panel.device.facts == ("", "")
    load(panel, "gguf", "cpu")
    assert panel.device.facts[0] == "Q4_K_M, 4.9 bits · CPU: AVX2 kernels"
    panel.show_ready(make_ready("gguf", "cpu", kernels="torch", on_disk=True))
    line, tip = panel.device.facts
    assert "CPU: portable kernels (slower)" in line
    assert line.endswith("experts on disk")
    assert "make" in tip
    assert "an estimate for an SSD" in tip
    panel.clear()
    assert panel.device.facts == ("", "")


def test_a_gpu_that_is_not_used_is_not_called_missing(panel: EnginePanel) -> None:
    panel.show_ready(make_ready("guide", "cpu"))
    panel.show_machine(WITH_GPU)
    assert "is not used" in panel.device.text
    assert not panel.device.simulate.isVisibleTo(panel)


def test_the_numbers_of_a_reply(panel: EnginePanel) -> None:
    ready = make_ready("mixtral", "cuda")
    panel.show_ready(ready)
    snapshot = replace(
        make_snapshot(ready, Step(0)), hits=31, visits=100, streamed=7, streamed_bytes=2 * GIB, tokens_per_s=9.84
    )
    panel.show_snapshot(snapshot)
    assert (panel.speed.value, panel.speed.caption) == ("9.8", "tokens/s")
    assert (panel.hit_rate.value, panel.hit_rate.caption) == ("31\N{NO-BREAK SPACE}%", "hit rate, this reply")
    assert "31 of 100 visits" in panel.hit_rate.toolTip()
    assert (panel.streamed.value, panel.streamed.caption) == ("7", "experts streamed, 2.0 GiB")
    assert (panel.costs.value, panel.costs.caption) == ("6\N{NO-BREAK SPACE}%", "uncertainty of predictions")
    assert "were off by" in panel.costs.toolTip()
    panel.set_idle()
    assert panel.speed.value == NO_VALUE, "no reply is complete"
    assert panel.hit_rate.value == "31\N{NO-BREAK SPACE}%", "the reply's counts stay"


def test_the_speed_of_the_last_reply_stays_until_another_model(panel: EnginePanel) -> None:
    load(panel)
    panel.show_finished(Timings(0.2, 100.0, 20.0))
    assert (panel.speed.value, panel.speed.caption) == ("20.0", "tokens/s, last reply")
    panel.show_snapshot(replace(make_snapshot(make_ready(), Step(3)), tokens_per_s=8.0))
    assert (panel.speed.value, panel.speed.caption) == ("8.0", "tokens/s")
    panel.show_ready(make_ready("guide", "simulated"))
    assert (panel.speed.value, panel.speed.caption) == (NO_VALUE, "tokens/s")


def test_without_a_gpu_there_are_no_numbers_about_one(panel: EnginePanel, qtbot: QtBot) -> None:
    load(panel, "guide", "cpu")
    assert not panel.hit_rate.isVisibleTo(panel)
    assert not panel.streamed.isVisibleTo(panel)
    qtbot.waitUntil(lambda: panel.costs.y() == panel.speed.y())  # the two that are left stand side by side
    load(panel, "guide", "simulated")
    assert panel.hit_rate.isVisibleTo(panel)
    assert panel.streamed.isVisibleTo(panel)


def test_where_the_experts_are_is_the_first_sentence(panel: EnginePanel) -> None:
    load(panel)
    assert panel.device.where.startswith(f"{make_ready().plan.resident_experts} of 256 experts fit in VRAM")
    assert panel.device.where in all_words(panel)
    load(panel, "guide", "cpu")
    assert panel.device.where == "", "the device's own words say it"


def test_scrolling_over_the_scrubber_scrolls_the_panel(panel: EnginePanel, qtbot: QtBot) -> None:
    load(panel)
    panel.show_passes(make_passes(make_ready(), 30))
    panel.resize(360, 400)
    slider, area = panel.scrubber.slider, panel.findChildren(QScrollArea)[0]
    bar = area.verticalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() > 0)
    area.ensureWidgetVisible(slider, 0, 150)
    at_the_end, before = slider.value(), bar.value()
    wheel(slider)
    assert slider.value() == at_the_end
    assert bar.value() > before


def test_assumed_costs_claim_no_precision(panel: EnginePanel) -> None:
    ready = make_ready("guide", "cpu")
    costs = replace(ready.planning.costs, source="assumed")
    panel.show_ready(replace(ready, planning=replace(ready.planning, costs=costs)))
    assert (panel.costs.value, panel.costs.caption) == (NO_VALUE, "costs assumed")


@pytest.mark.parametrize("device", ["cuda", "simulated", "cpu"])
def test_empty_values_are_dashes_and_never_nan(panel: EnginePanel, device: Device) -> None:
    ready = make_ready("mixtral", device)
    panel.show_ready(ready)
    panel.show_snapshot(make_snapshot(ready))
    assert {panel.speed.value, panel.hit_rate.value, panel.streamed.value} == {NO_VALUE}
    words = all_words(panel) + panel.vram.accessibleDescription() + panel.ram.accessibleDescription()
    assert "nan" not in words.lower().split()
    assert panel.ram.headline == NO_VALUE


def test_without_a_model_it_says_what_it_is_for(panel: EnginePanel) -> None:
    assert "No model is loaded." in all_words(panel)
    panel.show_machine(NO_GPU)
    assert panel.device.text.startswith("No NVIDIA GPU found. ")
    load(panel)
    assert "No model is loaded." not in all_words(panel)
    panel.clear()
    assert "No model is loaded." in all_words(panel)
    assert not panel.map.isVisibleTo(panel)


def test_a_snapshot_without_a_model_is_ignored(panel: EnginePanel) -> None:
    panel.show_snapshot(make_snapshot(make_ready("guide", "simulated"), Step(0)))
    assert panel.map.model().rowCount() == 0


def test_loading_shows_phase_and_bytes(panel: EnginePanel) -> None:
    panel.show_loading(Loading("experts", 3 * GIB, 12 * GIB))
    assert panel.loading.text == "Loading the experts: 3.0 GiB of 12.0 GiB"
    panel.show_loading(Loading("checking", 0, 0))
    assert panel.loading.text == "Checking the model"
    panel.show_loading(Loading("something-new", 0, 0))
    assert panel.loading.text == "Something-new"
    assert panel.loading.isVisibleTo(panel)
    panel.show_ready(make_ready("guide", "simulated"))
    assert not panel.loading.isVisibleTo(panel)


def test_a_load_that_ends_without_a_model_leaves_no_progress(panel: EnginePanel) -> None:
    panel.show_loading(Loading("dense", 1, 2))
    panel.set_idle()
    assert not panel.loading.isVisibleTo(panel)
    assert panel.empty.isVisibleTo(panel)


def test_pointing_tells_why_and_the_hint_returns(panel: EnginePanel) -> None:
    load(panel, "guide", "simulated")
    panel.map.described.emit("Layer 1, expert 2 lives on the GPU.")
    assert panel.expert_words.text() == "Layer 1, expert 2 lives on the GPU."
    panel.map.described.emit("")
    assert panel.expert_words.text().startswith("Point at a cell")
    panel.strip.described.emit("one\ntwo\nthree\nfour")
    assert panel.layer_words.text() == "one\ntwo\nthree"
    panel.strip.described.emit("")
    assert "Lower bar: GPU" in panel.layer_words.text()


def test_the_keyboard_cursor_scrolls_into_sight(qtbot: QtBot, panel: EnginePanel) -> None:
    load(panel, "qwen", "cuda")
    panel.resize(360, 420)
    panel.map.setFocus()
    panel.map.setCurrentIndex(panel.map.model().index(0, 0))
    QApplication.processEvents()
    top = panel._scroll.verticalScrollBar().value()
    QTest.keyClick(panel.map, Qt.Key.Key_End, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: panel._scroll.verticalScrollBar().value() > top)


@pytest.mark.parametrize("width", [300, 360, 620, 1200])
@pytest.mark.parametrize("height", [200, 2000])
def test_it_is_resizable_and_scrolls_when_short(panel: EnginePanel, width: int, height: int) -> None:
    load(panel, "mixtral", "simulated")
    panel.resize(width, height)
    QApplication.processEvents()
    content = panel._content
    assert content.width() <= width
    assert (panel._scroll.verticalScrollBar().maximum() > 0) == (height == 200)
    assert panel.map.mapTo(content, panel.map.rect().topRight()).x() <= content.width()


def test_everything_has_an_accessible_name(panel: EnginePanel) -> None:
    load(panel, "mixtral", "simulated")
    for widget in (
        panel, panel.device, panel.vram, panel.ram, panel.map, panel.legend, panel.strip, panel.strip.rows,
        panel.speed, panel.hit_rate, panel.streamed, panel.costs, panel.expert_words, panel.layer_words,
        panel.limit, panel.scrubber, panel.scrubber.slider, panel.lens, panel.strip.columns, panel.timeline,
        panel.rates, panel.menu.button, *(section.button for section in panel.sections),
    ):  # fmt: skip
        assert widget.accessibleName(), widget
    assert "hit rate" in panel.hit_rate.accessibleName()


def test_themes_change_every_colour(panel: EnginePanel, qapp: QApplication) -> None:
    before = qapp.styleSheet(), qapp.palette(), qapp.font(), qapp.style().objectName()
    manager = ThemeManager(qapp, "light")
    try:
        load(panel, "mixtral", "simulated")
        light = panel.map.viewport().grab().toImage()
        manager.set_mode("dark")
        QApplication.processEvents()
        assert panel.map.viewport().grab().toImage() != light
    finally:
        manager.setParent(None)
        qapp.styleHints().unsetColorScheme()
        qapp.setStyleSheet(before[0])
        qapp.setPalette(before[1])
        qapp.setFont(before[2])
        qapp.setStyle(before[3])


@pytest.mark.parametrize("shape", ["mixtral", "qwen", "wide", "deep"])
def test_updates_are_cheap(panel: EnginePanel, shape: Shape) -> None:
    ready = make_ready(shape, "simulated")
    snapshots = [make_snapshot(ready, Step(step)) for step in range(4)]
    panel.show_ready(ready)
    panel.show_snapshot(snapshots[0])
    QApplication.processEvents()
    times = []
    for step in range(12):
        began = time.thread_time()
        panel.show_snapshot(snapshots[step % 4])
        QApplication.processEvents()
        times.append(time.thread_time() - began)
    assert sorted(times)[len(times) // 2] < UPDATE_LIMIT_S[shape]


def reply(panel: EnginePanel, shape: Shape = "guide", device: Device = "simulated", tokens: int = 6) -> None:
    ready = make_ready(shape, device)
    panel.show_ready(ready)
    panel.show_passes(make_passes(ready, tokens))
    panel.show_snapshot(make_snapshot(ready, Step(tokens - 1)))


@pytest.mark.parametrize(
    ("shape", "device"), [("guide", "simulated"), ("guide", "cpu"), ("wide", "cuda"), ("deep", "cuda")]
)
def test_a_token_of_the_reply_is_shown_with_its_pass(panel: EnginePanel, shape: Shape, device: Device) -> None:
    reply(panel, shape, device)
    ready = make_ready(shape, device)
    live = panel.strip.rows.table.describe(2)
    panel.scrubber.slider.setFocus()
    for _ in range(3):
        QTest.keyClick(panel.scrubber.slider, Qt.Key.Key_Left)
    expected = make_snapshot(ready, Step(2))
    runs = [run for trace in expected.layers for run in trace.runs]
    assert panel.scrubber.text.startswith("Token 3 of 6 ")
    shown = {run.expert for run in panel.strip.rows.table.traces[2].runs}
    assert shown == {run.expert for run in expected.layers[2].runs}
    used = panel.map.shown.use[2] == 1.0
    assert {expert for expert in range(ready.model.experts) if used[expert]} == shown
    assert panel.speed.caption == "tokens/s, this token"
    assert panel.speed.value == f"{1 / 0.12:.1f}"
    if device != "cpu":
        hits = sum(run.place == "gpu" for run in runs)
        assert panel.hit_rate.value == f"{100 * hits / len(runs):.0f}\N{NO-BREAK SPACE}%"
        assert panel.hit_rate.caption == "hit rate, this token"
    assert panel.state.token is not None
    QTest.mouseClick(panel.scrubber.live_button, Qt.MouseButton.LeftButton)
    assert panel.strip.rows.table.describe(2) == live
    assert panel.speed.caption == "tokens/s"
    assert panel.state.token is None


def test_while_a_token_is_chosen_the_present_waits_and_a_new_reply_brings_it_back(panel: EnginePanel) -> None:
    reply(panel)
    ready = make_ready("guide", "simulated")
    panel.scrubber.slider.setValue(1)
    chosen = panel.strip.rows.table.describe(0)
    panel.show_snapshot(make_snapshot(ready, Step(9)))
    assert panel.strip.rows.table.describe(0) == chosen
    panel.show_finished(Timings(0.1, 100.0, 8.0))
    assert panel.speed.caption == "tokens/s, this token"
    panel.show_passes(make_passes(ready, 2))
    assert panel.scrubber.live
    assert panel.speed.caption == "tokens/s"
    assert panel.scrubber.slider.maximum() == 1


def test_memory_that_changes_amid_a_reply_keeps_its_tokens(panel: EnginePanel) -> None:
    reply(panel)
    ready = make_ready("guide", "simulated")
    panel.show_ready(replace(ready, because="Another program took 1.0 GiB of VRAM: 3 experts moved to RAM."))
    assert panel.scrubber.slider.isEnabled()
    assert panel.timeline.speed.points
    panel.show_ready(ready)
    assert not panel.scrubber.slider.isEnabled()


def test_a_token_can_be_chosen_right_after_memory_changed(panel: EnginePanel) -> None:
    reply(panel)
    panel.scrubber.slider.setValue(1)
    panel.show_ready(replace(make_ready("guide", "simulated"), because="Memory changed."))
    assert panel.scrubber.live
    assert panel.state.token is None
    panel.scrubber.slider.setValue(2)
    assert panel.scrubber.live, "nothing is known yet that a token could be shown in"
    panel.show_snapshot(make_snapshot(make_ready("guide", "simulated"), Step(3)))
    panel.scrubber.slider.setValue(3)
    assert panel.scrubber.text.startswith("Token 4 ")


def test_passes_without_a_model_are_ignored(panel: EnginePanel) -> None:
    panel.show_passes(make_passes(make_ready("guide", "cpu"), 2))
    assert not panel.scrubber.slider.isEnabled()


def test_a_short_replys_speed_counts(panel: EnginePanel) -> None:
    ready = make_ready("guide", "cpu")
    panel.show_ready(ready)
    panel.show_snapshot(replace(make_snapshot(ready, Step(2)), tokens_per_s=0.0))
    assert not panel.timeline.speed.points
    panel.show_finished(Timings(0.01, 1000.0, 1780.0))
    assert panel.timeline.speed.points[-1][1] == 1780.0


def test_the_limit_and_the_rates_of_a_reply(panel: EnginePanel) -> None:
    load(panel)
    assert panel.limit.text.startswith("RAM bandwidth: ")
    assert panel.rates.rows[0].measured is not None
    load(panel, "guide", "cpu")
    assert panel.limit.text.endswith("There is no GPU that could take experts.")
    assert len(panel.rates.rows) == 1


def test_sections_fold_and_their_state_can_be_kept(panel: EnginePanel) -> None:
    load(panel)
    panel.fold("memory,past,unheard-of")
    assert panel.folded == "memory,past"
    assert not panel.vram.isVisibleTo(panel)
    assert panel.map.isVisibleTo(panel)
    panel.fold("")
    assert panel.vram.isVisibleTo(panel)


@pytest.mark.parametrize(("shape", "small"), [("guide", False), ("qwen", True), ("wide", True)])
def test_maps_of_many_experts_have_a_lens(panel: EnginePanel, shape: Shape, small: bool) -> None:
    load(panel, shape)
    assert panel.lens.isVisibleTo(panel) == small


@pytest.mark.parametrize("width", [300, 400, 800])
@pytest.mark.parametrize("shape", ["wide", "deep"])
def test_the_largest_models_fit_every_width(panel: EnginePanel, shape: Shape, width: int) -> None:
    load(panel, shape)
    panel.resize(width, 900)
    QApplication.processEvents()
    model = panel.map.model()
    last = panel.map.visualRect(model.index(model.rowCount() - 1, model.columnCount() - 1))
    assert last.right() <= panel.map.width()
    assert last.bottom() <= panel.map.height()
    assert panel.map.mapTo(panel.content, panel.map.rect().topRight()).x() <= panel.content.width()
    assert panel.map.height() < 1100


def test_parts_can_live_in_another_window(qtbot: QtBot) -> None:
    window = QWidget()
    qtbot.addWidget(window)
    EnginePanel(window).show_machine(NO_GPU)
    window.show()
