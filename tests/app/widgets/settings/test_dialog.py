"""The settings dialog: previews that tell the truth, values read back, nothing applied before it is asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QDesktopServices
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLabel,
    QScrollArea,
    QSlider,
    QStackedWidget,
    QWidget,
)
from pytestqt.qtbot import QtBot

from app.settings import Settings
from app.stored import stored_places
from app.theme import ThemeManager
from app.widgets.budget_editor import NoPreview
from app.widgets.form_parts import CheckBox
from app.widgets.settings.dialog import SettingsDialog
from engine.experts.placement import budget_range, make_plan
from engine.messages import Ready
from tests.app.snapshots import GIB, MIB, make_ready
from tests.app.wheel import wheel

pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", extend=True)


def open_dialog(qtbot: QtBot, settings: Settings | None = None, ready: Ready | None = None) -> SettingsDialog:
    dialog = SettingsDialog(settings or Settings(), ready)
    qtbot.addWidget(dialog)
    dialog.show_page("model")
    dialog.show()
    return dialog


def preview(dialog: SettingsDialog) -> str:
    dialog.model.budget.update_preview()
    return dialog.model.budget.preview.text()


def test_dragging_previews_experts_hits_and_speed(qtbot: QtBot) -> None:
    ready = make_ready("mixtral", "cuda")
    dialog = open_dialog(qtbot, ready=ready)
    dialog.model.budget.automatic.setChecked(False)
    dialog.model.budget.slider.setValue(600)
    budget = dialog.model.budget.budget_bytes
    assert budget is not None
    plan = make_plan(ready.planning, replace(ready.effective, vram_budget_bytes=budget))
    assert plan.fits
    assert preview(dialog) == (
        f"Would keep {plan.resident_experts} of 256 experts on the GPU "
        f"(hit rate {100 * plan.predicted_hit_rate:.0f} %), "
        f"predicted {plan.predicted_decode_tokens_per_s:.1f} tokens/s "
        f"(now {ready.plan.predicted_decode_tokens_per_s:.1f}). "
        f"{ready.plan.resident_experts - plan.resident_experts} experts move out."
    )


def test_the_preview_follows_the_drag_by_itself(qtbot: QtBot) -> None:
    dialog = open_dialog(qtbot, ready=make_ready("mixtral", "cuda"))
    dialog.model.budget.automatic.setChecked(False)
    before = preview(dialog)
    dialog.model.budget.slider.setValue(500)
    qtbot.waitUntil(lambda: dialog.model.budget.preview.text() != before)


def test_too_small_a_budget_says_why_and_what_to_do(qtbot: QtBot) -> None:
    ready = make_ready("mixtral", "cuda")
    dialog = open_dialog(qtbot, Settings(vram_budget_bytes=GIB), ready)
    plan = make_plan(ready.planning, replace(ready.effective, vram_budget_bytes=GIB))
    assert not plan.fits
    assert preview(dialog).startswith("Does not fit. ")
    assert plan.reasons[0] in preview(dialog)
    assert plan.remedy in preview(dialog)


def test_automatic_shows_what_it_takes(qtbot: QtBot) -> None:
    ready = make_ready("mixtral", "cuda")
    dialog = open_dialog(qtbot, ready=ready)
    assert preview(dialog).endswith("as now.")
    assert dialog.model.budget.budget_bytes is None
    assert dialog.model.budget.spin.size_bytes == ready.plan.vram_budget_bytes
    assert not dialog.model.budget.slider.isEnabled()
    assert dialog.pending == Settings()


def test_a_longer_context_costs_experts_in_the_preview(qtbot: QtBot) -> None:
    dialog = open_dialog(qtbot, ready=make_ready("mixtral", "cuda"))
    before = preview(dialog)
    dialog.model.context.setValue(32768)
    assert preview(dialog) != before
    assert "keeps the model loaded; the next reply reads the whole chat" in dialog.status.text()


def test_the_kv_cache_in_8_bits_leaves_room_for_experts_in_the_preview(qtbot: QtBot) -> None:
    dialog = open_dialog(qtbot, ready=make_ready("mixtral", "cuda", context_tokens=32768))
    dialog.model.context.setValue(32768)
    assert dialog.model.line("precision").text() == "in force: 16 bits (bfloat16), 4.0 GiB of memory"
    before = preview(dialog)
    dialog.model.precision.setCurrentIndex(dialog.model.precision.findData("q8"))
    assert preview(dialog) != before
    assert dialog.pending.kv_precision == "q8"
    assert "keeps the model loaded; the next reply reads the whole chat" in dialog.status.text()


def test_a_ready_that_answers_nothing_does_not_count_as_applied(qtbot: QtBot) -> None:
    ready = make_ready("mixtral", "cuda")
    dialog = open_dialog(qtbot, ready=ready)
    dialog.model.context.setValue(4096)
    QTest.mouseClick(dialog.button("Apply"), Qt.MouseButton.LeftButton)
    dialog.show_ready(replace(ready, because="Another program took 3.1 GiB of VRAM: 21 experts moved to RAM."))
    assert "waiting for the engine" in dialog.status.text()


def test_without_a_model_there_is_no_preview(qtbot: QtBot) -> None:
    dialog = open_dialog(qtbot)
    assert preview(dialog) == NoPreview.NO_MODEL.words
    assert dialog.model.budget.isEnabled()
    dialog.model.budget.automatic.setChecked(False)
    dialog.model.budget.spin.set_size(6 * GIB)
    assert dialog.pending.vram_budget_bytes == 6 * GIB


def test_without_a_gpu_the_budget_is_disabled_with_a_reason(qtbot: QtBot) -> None:
    dialog = open_dialog(qtbot, ready=make_ready("mixtral", "cpu"))
    assert preview(dialog) == NoPreview.NO_GPU.words
    assert not dialog.model.budget.isEnabled()
    dialog.advanced.simulate.setChecked(True)
    assert preview(dialog) == NoPreview.AFTER_RELOAD.words
    assert dialog.model.budget.isEnabled()
    dialog.advanced.simulate.setChecked(False)
    assert not dialog.model.budget.isEnabled()


def test_giving_the_simulated_gpu_up_again(qtbot: QtBot) -> None:
    settings = Settings(simulate_gpu_bytes=44 * MIB)
    dialog = open_dialog(qtbot, settings, make_ready("guide", "simulated"))
    assert dialog.pending == settings, "small sizes survive exactly"
    assert dialog.advanced.simulated_size.suffix() == " MiB"
    dialog.advanced.simulate.setChecked(False)
    assert preview(dialog) == NoPreview.NO_GPU.words
    assert dialog.pending.simulate_gpu_bytes is None
    assert dialog.status.text() == "Applying reloads the model."


def test_values_in_force_are_read_back(qtbot: QtBot) -> None:
    ready = make_ready("mixtral", "cuda")
    dialog = open_dialog(qtbot, Settings(vram_budget_bytes=40 * GIB, cpu_threads=2), ready)
    assert dialog.model.line("budget").text() == "in force: 22.0 GiB"
    assert dialog.model.line("context").text() == "in force: 8,192 tokens"
    assert dialog.model.line("threads").text() == "in force: 8"
    assert dialog.advanced.simulated_in_force.text() == f"in force: {ready.device_name}"
    dialog.show_ready(make_ready("mixtral", "cuda", budget_bytes=12 * GIB))
    assert dialog.model.line("budget").text() == "in force: 12.0 GiB"
    dialog.show_ready(None)
    assert not dialog.model.line("budget").isVisibleTo(dialog)


def test_a_context_past_the_models_limit_is_told(qtbot: QtBot) -> None:
    dialog = open_dialog(qtbot, ready=make_ready("guide", "simulated"))
    assert dialog.model.context.value() == 8192
    assert dialog.model.line("context").text() == "in force: 2,048 tokens, all that this model can take"
    assert dialog.advanced.simulated_in_force.text() == "in force: 44.0 MiB, simulated"


def test_apply_hands_out_the_settings_once_and_waits_for_the_engine(qtbot: QtBot) -> None:
    dialog = open_dialog(qtbot, Settings(model="other", zoom=1.3), make_ready("mixtral", "cuda"))
    assert not dialog.button("Apply").isEnabled()
    dialog.model.context.setValue(4096)
    dialog.general.theme.setCurrentIndex(2)
    with qtbot.waitSignal(dialog.applied) as heard:
        QTest.mouseClick(dialog.button("Apply"), Qt.MouseButton.LeftButton)
    assert heard.args == [Settings(model="other", zoom=1.3, context_tokens=4096, theme="dark")]
    assert dialog.isVisible()
    assert not dialog.button("Apply").isEnabled()
    assert "waiting for the engine" in dialog.status.text()
    dialog.show_ready(make_ready("mixtral", "cuda", context_tokens=4096))
    assert dialog.model.line("context").text() == "in force: 4,096 tokens"
    assert "up to date" in dialog.status.text()


def test_ok_applies_and_closes_cancel_does_neither(qtbot: QtBot) -> None:
    for button, expected in (("Ok", 1), ("Cancel", 0)):
        dialog = open_dialog(qtbot)
        heard: list[Settings] = []
        dialog.applied.connect(heard.append)
        dialog.model.automatic_threads.setChecked(False)
        dialog.model.threads.setValue(1)
        QTest.mouseClick(dialog.button(button), Qt.MouseButton.LeftButton)  # type: ignore[arg-type]
        assert len(heard) == expected
        assert not dialog.isVisible()


def test_ok_without_changes_applies_nothing(qtbot: QtBot) -> None:
    dialog = open_dialog(qtbot, Settings(vram_budget_bytes=5 * GIB + 12345))
    with qtbot.assertNotEmitted(dialog.applied):
        QTest.mouseClick(dialog.button("Ok"), Qt.MouseButton.LeftButton)


def test_defaults_are_filled_in_but_not_applied(qtbot: QtBot) -> None:
    settings = Settings(
        model="mine", vram_budget_bytes=3 * GIB, context_tokens=2048, kv_precision="f16", cpu_threads=1,
        simulate_gpu_bytes=GIB, experts_on_disk=True, theme="dark",
    )  # fmt: skip
    dialog = open_dialog(qtbot, settings)
    assert dialog.pending == settings
    with qtbot.assertNotEmitted(dialog.applied):
        QTest.mouseClick(dialog.button("RestoreDefaults"), Qt.MouseButton.LeftButton)
    assert dialog.pending == Settings(model="mine")


def test_a_live_change_says_that_nothing_reloads(qtbot: QtBot) -> None:
    dialog = open_dialog(qtbot, ready=make_ready("mixtral", "cuda"))
    dialog.model.budget.automatic.setChecked(False)
    dialog.model.budget.spin.set_size(14 * GIB)
    assert dialog.status.text() == "Applying keeps the model loaded."


def test_experts_on_disk_are_honest_about_speed_and_reload(qtbot: QtBot) -> None:
    dialog = open_dialog(qtbot, ready=make_ready("gguf", "cpu"))
    words = " ".join(label.text() for label in dialog.findChildren(QLabel))
    assert "Slow: what memory cannot hold is read from the drive at every token." in words
    assert not dialog.model.line("disk").isVisibleTo(dialog)
    QTest.mouseClick(dialog.model.on_disk, Qt.MouseButton.LeftButton)
    assert dialog.pending.experts_on_disk
    assert dialog.status.text() == "Applying reloads the model."
    ready = make_ready("gguf", "cpu", on_disk=True)
    dialog.show_ready(ready)
    assert dialog.model.line("disk").text().startswith("in force: 25.4 GiB on disk, predicted ")
    assert dialog.model.line("disk").isVisibleTo(dialog)


def test_every_page_scrolls_where_the_screen_is_low_and_what_has_the_focus_is_seen(qtbot: QtBot) -> None:
    dialog = open_dialog(qtbot, ready=make_ready("mixtral", "cuda"))
    with qtbot.waitActive(dialog):
        dialog.activateWindow()
    assert dialog.height() <= dialog.screen().availableGeometry().height()
    dialog.resize(dialog.width(), 420)
    scroll = next(area for area in dialog.findChildren(QScrollArea) if area.widget() is dialog.model)
    bar = scroll.verticalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() > 0)
    assert dialog.model.width() <= scroll.viewport().width(), "the bar takes no room from the fields"
    dialog.model.on_disk.setFocus()
    QTest.keyClick(dialog.model.on_disk, Qt.Key.Key_Tab)
    assert dialog.model.measure.hasFocus()
    assert bar.value() > 0


@pytest.mark.parametrize("zoom", [1.0, 1.5])
def test_it_is_whole_at_480_pixels(qtbot: QtBot, themes: ThemeManager, zoom: float) -> None:
    whole_at_480_pixels(qtbot, themes, zoom)


@pytest.mark.usefixtures("german")
def test_it_is_whole_at_480_pixels_in_large_german(qtbot: QtBot, themes: ThemeManager) -> None:
    whole_at_480_pixels(qtbot, themes, 1.5)


def whole_at_480_pixels(qtbot: QtBot, themes: ThemeManager, zoom: float) -> None:
    themes.set_zoom(zoom)
    try:
        dialog = open_dialog(qtbot, ready=make_ready("mixtral", "cuda"))
        dialog.resize(480, 640)
        assert dialog.width() == 480
        for row in range(dialog.page_box.count()):
            dialog.page_box.setCurrentIndex(row)
            qtbot.waitUntil(lambda: nothing_is_cut(dialog))
    finally:
        themes.set_zoom(1.0)


def nothing_is_cut(dialog: SettingsDialog) -> None:
    area = dialog.findChildren(QStackedWidget)[0].currentWidget()
    assert isinstance(area, QScrollArea)
    page = area.widget()
    assert page is not None
    assert page.isVisible()
    assert page.width() == area.viewport().width()
    for child in (child for child in page.findChildren(QWidget) if child.isVisible()):
        assert child.mapTo(page, child.rect().topRight()).x() < page.width(), child
        if isinstance(child, CheckBox | QLabel) and child.hasHeightForWidth():
            assert child.height() >= child.heightForWidth(child.width()), child.text()


def test_pages_are_turned_in_the_box_where_it_is_narrow_and_at_the_left_where_it_is_wide(qtbot: QtBot) -> None:
    dialog = open_dialog(qtbot)
    assert dialog.list.isVisible()
    assert not dialog.page_box.isVisible()
    dialog.resize(480, 640)
    assert dialog.page_box.isVisible()
    assert not dialog.list.isVisible()
    assert dialog.page_box.currentText() == "Model and memory"
    QTest.keyClick(dialog.page_box, Qt.Key.Key_Up)
    assert dialog.general.isVisible()
    QTest.keyClicks(dialog.search, "chat")
    titles = {"Presets", "Chat", "Privacy"}
    for _ in range(20):
        QTest.keyClick(dialog.page_box, Qt.Key.Key_Down)
        assert dialog.page_box.currentText() in titles, "what has none of the words is passed over"
    dialog.resize(840, 640)
    assert dialog.list.isVisible()
    assert dialog.list.item(dialog.list.currentRow()).text() == "Privacy"


def test_numbers_are_explained_beside_them_or_below(qtbot: QtBot) -> None:
    dialog = open_dialog(qtbot)
    dialog.show_page("presets")
    note = next(label for label in dialog.presets.findChildren(QLabel) if label.text().startswith("0 always"))
    number = dialog.presets.editor.temperature
    dialog.resize(1000, 640)
    qtbot.waitUntil(lambda: note.x() > number.geometry().right() and note.y() < number.geometry().bottom())
    dialog.resize(480, 640)
    qtbot.waitUntil(lambda: note.x() < number.x() and note.y() > number.geometry().bottom())


def test_nothing_is_shown_outside_the_dialog(qtbot: QtBot) -> None:
    dialog = open_dialog(qtbot, ready=make_ready("mixtral", "cuda"))
    dialog.show_ready(make_ready("gguf", "cpu", on_disk=True))
    assert [widget for widget in QApplication.topLevelWidgets() if widget.isVisible()] == [dialog]


def test_a_tray_is_offered_only_where_there_is_one(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not open_dialog(qtbot).general.tray.isEnabled(), "offscreen has none"
    monkeypatch.setattr("app.widgets.settings.general_page.tray_problem", lambda: "")
    assert open_dialog(qtbot).general.tray.isEnabled()


def test_every_page_says_where_folders_are_or_what_they_do(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    dialog = open_dialog(qtbot)
    words = dialog.privacy.search_text
    assert all(str(place.folder).casefold() in words for place in stored_places())
    for button, place in zip(dialog.privacy.buttons, stored_places(), strict=True):
        button.setEnabled(True)
        button.click()
        assert Path(opened[-1]) == place.folder


def test_pages_are_turned_and_searched_by_keyboard(qtbot: QtBot) -> None:
    dialog = open_dialog(qtbot)
    dialog.show_page("general")
    QTest.keyClick(dialog.list, Qt.Key.Key_Down)
    assert dialog.model.isVisible()
    for words, page in (("theme", dialog.general), ("SEED", dialog.presets), ("8 bits", dialog.model)):
        dialog.search.clear()
        QTest.keyClicks(dialog.search, words)
        assert page.isVisible(), words
    QTest.keyClicks(dialog.search, " nowhere")
    assert all(dialog.list.item(row).isHidden() for row in range(dialog.list.count()))
    dialog.show_page("privacy")
    assert dialog.privacy.isVisible()
    assert not any(dialog.list.item(row).isHidden() for row in range(dialog.list.count()))


def test_every_setting_of_the_dialog_is_shown_handed_out_and_reset(qtbot: QtBot) -> None:
    settings = Settings(
        vram_reserve_bytes=3 * GIB, adaptive=False, gpu_index=7, policy="gpu_stream", isa="avx2",
        send_key="ctrl_enter", overflow="drop_middle", language="de", tray=True, zoom=1.25, theme="dark",
        reopen_last_chat=False,
    )  # fmt: skip
    dialog = open_dialog(qtbot, settings, make_ready("mixtral", "cuda"))
    assert dialog.pending == settings
    assert "7: not found" in dialog.model.gpu.currentText()
    dialog.button("RestoreDefaults").click()
    assert dialog.pending == Settings()


def test_room_for_others_shrinks_the_automatic_budget_in_the_preview(qtbot: QtBot) -> None:
    ready = make_ready("mixtral", "cuda")
    dialog = open_dialog(qtbot, ready=ready)
    dialog.model.reserve.set_size(8 * GIB)
    dialog.model.budget.update_preview()
    config = replace(ready.effective, vram_budget_bytes=None, vram_reserve_bytes=8 * GIB)
    plan = make_plan(ready.planning, config)
    assert dialog.model.budget.spin.size_bytes == plan.vram_budget_bytes == 16 * GIB
    assert f"Would keep {plan.resident_experts} of 256" in dialog.model.budget.preview.text()
    assert dialog.model.line("reserve").text() == "in force: 2.0 GiB of 24.0 GiB are left to others"
    dialog.model.budget.automatic.setChecked(False)
    assert not dialog.model.reserve.isEnabled()


def test_what_reloads_is_what_the_engine_cannot_change(qtbot: QtBot) -> None:
    dialog = open_dialog(qtbot, ready=make_ready("mixtral", "cuda"))
    dialog.model.adaptive.setChecked(False)
    assert dialog.status.text() == "Applying keeps the model loaded."
    dialog.advanced.isa.setCurrentIndex(dialog.advanced.isa.findData("scalar"))
    assert dialog.status.text() == "Applying reloads the model."
    dialog.button("RestoreDefaults").click()
    dialog.general.theme.setCurrentIndex(2)
    assert dialog.status.text() == ""
    assert dialog.button("Apply").isEnabled()


def test_slider_and_number_move_together(qtbot: QtBot) -> None:
    ready = make_ready("mixtral", "cuda")
    dialog = open_dialog(qtbot, ready=ready)
    dialog.model.budget.automatic.setChecked(False)
    dialog.model.budget.slider.setValue(500)
    least, most = budget_range(ready.planning, ready.effective)
    middle = pytest.approx((least + most) / 2, rel=0.01)
    assert dialog.model.budget.spin.size_bytes == middle, "the slider spans what fits"
    dialog.model.budget.spin.setValue(22.0)
    assert dialog.model.budget.slider.value() == 1000
    assert dialog.model.budget.budget_bytes == 22 * GIB


def test_everything_can_be_reached_and_has_a_name(qtbot: QtBot) -> None:
    dialog = open_dialog(qtbot, ready=make_ready("mixtral", "cuda"))
    kinds = (QAbstractButton, QAbstractSpinBox, QComboBox, QSlider)
    for widget in (child for kind in kinds for child in dialog.findChildren(kind)):
        if widget.parent() is dialog.search:
            continue  # Qt's own button that clears the field, which Escape and Delete do too
        assert widget.focusPolicy() & Qt.FocusPolicy.TabFocus, widget
        assert widget.accessibleName() or (isinstance(widget, QAbstractButton) and widget.text()), widget
    QTest.keyClick(dialog, Qt.Key.Key_Escape)
    assert not dialog.isVisible()


def test_the_space_bar_and_the_words_toggle_a_check_box(qtbot: QtBot) -> None:
    dialog = open_dialog(qtbot)
    box = dialog.advanced.simulate
    box.setFocus()
    QTest.keyClick(box, Qt.Key.Key_Space)
    assert box.isChecked()
    QTest.mouseClick(box, Qt.MouseButton.LeftButton, pos=box.rect().center())
    assert not box.isChecked()
    assert not dialog.grab().isNull()


def test_measuring_again_is_asked_for_and_its_result_is_shown(qtbot: QtBot) -> None:
    ready = make_ready("mixtral", "cuda")
    dialog = open_dialog(qtbot, ready=ready)
    with qtbot.waitSignal(dialog.measure_requested):
        dialog.model.measure.click()
    assert not dialog.model.measure.isEnabled()
    curve = replace(ready.planning.costs.cpu_expert, fit_error=0.5)
    costs = replace(ready.planning.costs, cpu_expert=curve, source="measured")
    dialog.show_ready(replace(ready, planning=replace(ready.planning, costs=costs)))
    assert dialog.model.measure.isEnabled()
    assert dialog.model.line("costs").text() == "costs measured, fit error 50% on the CPU"
    assert "up to date" in dialog.status.text()


def test_without_a_model_there_is_nothing_to_measure(qtbot: QtBot) -> None:
    assert not open_dialog(qtbot).model.measure.isEnabled()


def test_scrolling_past_a_field_changes_nothing(qtbot: QtBot) -> None:
    dialog = open_dialog(qtbot, Settings(vram_budget_bytes=6 * GIB), make_ready("mixtral", "cuda"))
    dialog.resize(840, 400)
    before, scrolled = dialog.pending, 0
    for row in range(dialog.list.count()):
        dialog.list.setCurrentRow(row)
        area = dialog.findChildren(QStackedWidget)[0].currentWidget()
        assert isinstance(area, QScrollArea)
        kinds: tuple[type[QWidget], ...] = (QAbstractSpinBox, QComboBox, QSlider)
        for field in (child for kind in kinds for child in area.findChildren(kind)):
            area.verticalScrollBar().setValue(0)
            area.ensureWidgetVisible(field, 0, 0)
            place = area.verticalScrollBar().value()
            wheel(field)
            assert not field.hasFocus(), field
            scrolled += area.verticalScrollBar().value() > place
    assert dialog.pending == before
    assert scrolled > 5, "the page takes the wheel"


def test_the_strip_above_the_buttons_is_there_when_it_has_words(qtbot: QtBot) -> None:
    dialog = open_dialog(qtbot, ready=make_ready("mixtral", "cuda"))
    assert not dialog.status.isVisible()
    dialog.model.context.setValue(4096)
    assert dialog.status.isVisible()
    dialog.model.context.setValue(8192)
    assert not dialog.status.isVisible()
