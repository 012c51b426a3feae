"""Model and memory: the VRAM budget with its preview, context, threads, where experts live, and what is in force."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QComboBox, QLabel, QPushButton, QSpinBox

from app.in_force import in_force, vram_total_bytes
from app.language import tr
from app.settings import to_engine_config
from app.units import bytes_text
from app.widgets.budget_editor import BudgetEditor, NoPreview, PreviewContext
from app.widgets.form_parts import CheckBox, SizeSpin, plain_spin
from app.widgets.panel_parts import DimLabel
from app.widgets.settings.page import SettingsPage, choose, fill_choices, in_a_row, reload_mark, show_line
from engine.config import MAX_CONTEXT_TOKENS, MIN_CONTEXT_TOKENS

if TYPE_CHECKING:
    from app.settings import Settings
    from engine.config import KvPrecision
    from engine.hardware import GpuProfile
    from engine.messages import Ready

_LINES = ("budget", "reserve", "context", "precision", "threads", "adaptive", "gpu", "disk", "costs")


class ModelPage(SettingsPage):
    """How a model is run.

    Signals:
        measure_requested(): The user wants this machine's costs measured again.

    Args:
        gpus: The NVIDIA GPUs of this machine.
        most_threads: The largest number of CPU threads that makes sense.
    """

    measure_requested = Signal()

    def __init__(self, gpus: tuple[GpuProfile, ...], most_threads: int = 1) -> None:
        super().__init__(tr("Model and memory"))
        self._threads_in_force = os.cpu_count() or 1
        self._lines = {name: DimLabel() for name in _LINES}
        self._build_memory_fields()
        self._build_cpu_fields(max(most_threads, self._threads_in_force))
        self._build_gpu_field(gpus)
        self._arrange()
        self._connect()

    def line(self, name: str) -> QLabel:
        """What is in force of a setting, by its name in `app.in_force`."""
        return self._lines[name]

    # ---- building ----

    def _build_memory_fields(self) -> None:
        self.budget = BudgetEditor()
        self.reserve = SizeSpin()
        self.reserve.setAccessibleName(tr("VRAM for other programs"))
        self.context = QSpinBox()
        self.context.setRange(MIN_CONTEXT_TOKENS, MAX_CONTEXT_TOKENS)
        self.context.setSingleStep(1024)
        self.context.setSuffix(tr(" tokens"))
        self.context.setGroupSeparatorShown(True)
        self.context.setAccessibleName(tr("Context length"))
        plain_spin(self.context)
        self.precision = QComboBox()
        precisions = (
            (tr("Automatic: as the model"), "auto"),
            (tr("16 bits"), "f16"),
            (tr("8 bits: half the memory"), "q8"),
        )
        fill_choices(self.precision, precisions, tr("KV cache precision"))

    def _build_cpu_fields(self, most_threads: int) -> None:
        self.automatic_threads = CheckBox(tr("A&utomatic: by cores and size of the experts"))
        self.threads = QSpinBox()
        plain_spin(self.threads)
        self.threads.setRange(1, most_threads)
        self.threads.setAccessibleName(tr("CPU threads"))
        self.adaptive = CheckBox(tr("The experts in VRAM &follow the conversation, where that pays"))
        self.on_disk = CheckBox(tr("&Keep experts on disk (for models larger than memory)"))
        self.measure = QPushButton(tr("&Measure again"))
        self.measure.setAccessibleName(tr("Measure this machine's costs again"))

    def _build_gpu_field(self, gpus: tuple[GpuProfile, ...]) -> None:
        self.gpu = QComboBox()
        each = tuple(
            (
                tr("{number}: {name}, {size}").format(number=index, name=gpu.name, size=bytes_text(gpu.total_bytes)),
                index,
            )
            for index, gpu in enumerate(gpus)
        )
        choices: tuple[tuple[str, object], ...] = ((tr("Automatic: the one with the most VRAM"), None), *each)
        fill_choices(self.gpu, choices, tr("Graphics card"))
        self._gpus = len(gpus)

    def _arrange(self) -> None:
        line = self._lines
        reserve = in_a_row(QLabel(tr("Leave to other programs")), self.reserve)
        reserve_note = DimLabel(tr("For games, for example: an automatic budget never grows into this part."))
        self._add_row(tr("&VRAM budget"), self.budget.slider, self.budget, line["budget"])
        self._add_row(tr("&Room for other programs"), self.reserve, reserve, reserve_note, line["reserve"])
        self._add_row(tr("&Context length"), self.context, in_a_row(self.context), line["context"])
        self._add_row(tr("KV cac&he"), self.precision, in_a_row(self.precision), line["precision"])
        threads = in_a_row(self.automatic_threads, self.threads)
        self._add_row(tr("CPU &threads"), self.automatic_threads, threads, line["threads"])
        self._add_row(tr("Experts in VRAM"), self.adaptive, self.adaptive, line["adaptive"])
        gpu_note = DimLabel(tr("No NVIDIA graphics card was found."))
        gpu_note.setVisible(not self._gpus)
        self._add_row(tr("&Graphics card"), self.gpu, in_a_row(self.gpu, reload_mark()), gpu_note, line["gpu"])
        disk_note = DimLabel(
            tr(
                "Slow: what memory cannot hold is read from the drive at every token. "
                "Needs as much free space there as the experts take."
            )
        )
        on_disk = in_a_row(self.on_disk, reload_mark())
        self._add_row(tr("Large models"), self.on_disk, on_disk, disk_note, line["disk"])
        self._add_row(tr("This machine's costs"), self.measure, in_a_row(self.measure), line["costs"])
        self._finish()

    def _connect(self) -> None:
        self.budget.changed.connect(self.edited)
        self.reserve.size_changed.connect(self.edited)
        for spin in (self.context, self.threads):
            spin.valueChanged.connect(self.edited)
        for box in (self.precision, self.gpu):
            box.currentIndexChanged.connect(self.edited)
        for check in (self.automatic_threads, self.adaptive, self.on_disk):
            check.toggled.connect(self.edited)
        self.measure.clicked.connect(self.measure_requested)

    # ---- values ----

    def show_settings(self, settings: Settings) -> None:
        """Fill the fields; a GPU that is not there any more stays what was asked for."""
        self.budget.set_budget(settings.vram_budget_bytes)
        self.reserve.set_size(settings.vram_reserve_bytes)
        self.context.setValue(settings.context_tokens)
        choose(self.precision, settings.kv_precision)
        self.automatic_threads.setChecked(settings.cpu_threads is None)
        self.threads.setValue(settings.cpu_threads or self._threads_in_force)
        self.adaptive.setChecked(settings.adaptive)
        self.on_disk.setChecked(settings.experts_on_disk)
        if settings.gpu_index is not None and self.gpu.findData(settings.gpu_index) < 0:
            self.gpu.addItem(tr("{number}: not found").format(number=settings.gpu_index), settings.gpu_index)
        choose(self.gpu, settings.gpu_index)

    def merge(self, settings: Settings) -> Settings:
        """The settings with these fields."""
        return replace(
            settings,
            vram_budget_bytes=self.budget.budget_bytes,
            vram_reserve_bytes=self.reserve.size_bytes,
            context_tokens=self.context.value(),
            kv_precision=cast("KvPrecision", self.precision.currentData()),
            cpu_threads=None if self.automatic_threads.isChecked() else self.threads.value(),
            adaptive=self.adaptive.isChecked(),
            experts_on_disk=self.on_disk.isChecked(),
            gpu_index=self.gpu.currentData(),
        )

    # ---- what the engine says ----

    def refresh(self, pending: Settings, ready: Ready | None) -> None:
        """Preview the settings as edited, and show those in force."""
        texts = in_force(ready)
        for name, line in self._lines.items():
            show_line(line, texts[name])
        self.measure.setEnabled(ready is not None)
        if ready is not None:
            self._threads_in_force = ready.effective.cpu_threads or self._threads_in_force
            if pending.cpu_threads is None:
                self._show_threads()
            self.reserve.set_scale(max(vram_total_bytes(ready), self.reserve.size_bytes))
        self.threads.setEnabled(not self.automatic_threads.isChecked())
        self.reserve.setEnabled(self.budget.automatic.isChecked() and self.budget.isEnabled())
        self._preview(pending, ready)

    def _show_threads(self) -> None:
        self.threads.blockSignals(True)  # noqa: FBT003 - Qt's argument has no name
        self.threads.setValue(self._threads_in_force)
        self.threads.blockSignals(False)  # noqa: FBT003

    def _preview(self, pending: Settings, ready: Ready | None) -> None:
        """Give the budget's preview the other fields as edited."""
        simulates = pending.simulate_gpu_bytes is not None
        if ready is None:
            self.budget.set_context(None, NoPreview.NO_MODEL)
        elif simulates != ready.simulated:
            no_gpu = not simulates and ready.planning.hardware.gpu is None
            self.budget.set_context(None, NoPreview.NO_GPU if no_gpu else NoPreview.AFTER_RELOAD)
        elif ready.plan.device == "cpu":
            self.budget.set_context(None, NoPreview.NO_GPU)
        else:
            asked = to_engine_config(pending)
            config = replace(
                ready.effective,
                context_tokens=asked.context_tokens,
                kv_precision=asked.kv_precision,
                cpu_threads=asked.cpu_threads or ready.effective.cpu_threads,
                experts_on_disk=asked.experts_on_disk,
                policy=asked.policy,
                vram_reserve_bytes=asked.vram_reserve_bytes,
                simulated_vram_bytes=pending.simulate_gpu_bytes or ready.effective.simulated_vram_bytes,
            )
            self.budget.set_context(PreviewContext(ready.planning, config, ready.plan))
