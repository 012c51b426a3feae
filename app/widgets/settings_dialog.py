"""The settings dialog: what was asked for, beside what the engine says is in force.

Hands out a new `Settings` by signal and changes nothing itself; whoever listens applies it and answers with
`show_ready`, so that every value shown as "in force" has been read back from the engine.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, cast

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QIcon, QShowEvent
from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSpinBox,
    QStyle,
    QVBoxLayout,
    QWidget,
)

from app.engine_words import in_force_texts
from app.settings import Settings
from app.theme import SPACE_L, SPACE_S, SPACE_XS
from app.widgets.budget_editor import AFTER_RELOAD, NO_GPU, NO_MODEL, BudgetEditor, PreviewContext
from app.widgets.form_parts import GIB, CheckBox, SizeSpin, plain_spin
from app.widgets.panel_parts import DimLabel
from engine.config import MAX_CONTEXT_TOKENS, MIN_CONTEXT_TOKENS, KvPrecision

if TYPE_CHECKING:
    from engine.messages import ErrorReport, Ready

ThemeName = Literal["system", "light", "dark"]
_THEMES: tuple[tuple[str, ThemeName], ...] = (("As the system", "system"), ("Light", "light"), ("Dark", "dark"))
_PRECISIONS: tuple[tuple[str, KvPrecision], ...] = (
    ("Automatic: as the model", "auto"),
    ("16 bits", "f16"),
    ("8 bits: half the memory", "q8"),
)
_TITLE_BAR_PX = 48
_RELOADING = ("experts_on_disk", "simulate_gpu_bytes")
_SIMULATED_BYTES = 8 * GIB
_LEAST_SIMULATED_BYTES = 1 << 20
_DISK_NOTE = (
    "Slow: what memory cannot hold is read from the drive at every token. "
    "Needs as much free space there as the experts take."
)
_SIMULATED_NOTE = "Shows placement and streaming without a graphics card; its speeds are not a real GPU's."


class SettingsDialog(QDialog):
    """Edits a copy of the settings.

    Signals:
        applied(Settings): The user accepted changes; Apply leaves the dialog open.
        measure_requested(): The user wants this machine's costs measured again.

    Args:
        settings: What is set now.
        ready: What the engine runs with; None while no model is loaded.
        parent: The window.
    """

    applied = Signal(object)
    measure_requested = Signal()

    def __init__(self, settings: Settings, ready: Ready | None = None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._settings = settings
        self._ready = ready
        self._waiting = False
        self.setWindowTitle("Settings")
        self.setAccessibleName("Settings")
        self.setMinimumWidth(560)
        self._build_fields()
        self._build_layout()
        self._show_settings(settings)
        self._connect()
        self._refresh_in_force()
        self._edited()

    # ---- building ----

    def _build_fields(self) -> None:
        self.budget = BudgetEditor()
        self.context = QSpinBox()
        self.context.setRange(MIN_CONTEXT_TOKENS, MAX_CONTEXT_TOKENS)
        self.context.setSingleStep(1024)
        self.context.setSuffix(" tokens")
        self.context.setGroupSeparatorShown(True)
        plain_spin(self.context)
        self.precision = QComboBox()
        for text, precision in _PRECISIONS:
            self.precision.addItem(text, precision)
        self.automatic_threads = CheckBox("A&utomatic: by cores and size of the experts")
        self.threads = QSpinBox()
        plain_spin(self.threads)
        self.threads.setRange(1, max(os.cpu_count() or 1, self._settings.cpu_threads or 1))
        self.on_disk = CheckBox("&Keep experts on disk (for models larger than memory)")
        self.simulate = CheckBox("&Use a simulated GPU with")
        self.simulated_size = SizeSpin()
        self.measure = QPushButton("&Measure again")
        self.theme = QComboBox()
        for label, theme in _THEMES:
            self.theme.addItem(label, theme)
        names = {
            self.context: "Context length",
            self.precision: "KV cache precision",
            self.automatic_threads: "Automatic CPU threads",
            self.threads: "CPU threads",
            self.on_disk: "Keep experts on disk",
            self.simulate: "Use a simulated GPU",
            self.simulated_size: "Memory of the simulated GPU",
            self.measure: "Measure this machine's costs again",
            self.theme: "Theme",
        }
        for widget, name in names.items():
            widget.setAccessibleName(name)
        self.budget_in_force, self.context_in_force, self.precision_in_force = DimLabel(), DimLabel(), DimLabel()
        self.threads_in_force, self.simulated_in_force = DimLabel(), DimLabel()
        self.disk_in_force, self.costs_in_force = DimLabel(), DimLabel()
        self.status = DimLabel(lines=2)
        self.status.setAccessibleName("Status")

    def _build_layout(self) -> None:
        content = QWidget()
        form = self._form = QFormLayout(content)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.DontWrapRows)
        form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        form.setHorizontalSpacing(SPACE_L)
        form.setVerticalSpacing(SPACE_L)
        _add_row(form, "&VRAM budget", self.budget.slider, self.budget, self.budget_in_force)
        _add_row(form, "&Context length", self.context, _in_a_row(self.context), self.context_in_force)
        _add_row(form, "KV cac&he", self.precision, _in_a_row(self.precision), self.precision_in_force)
        threads = _in_a_row(self.automatic_threads, self.threads)
        _add_row(form, "CPU &threads", self.automatic_threads, threads, self.threads_in_force)
        on_disk = _in_a_row(self.on_disk, _reload_mark())
        _add_row(form, "Large models", self.on_disk, on_disk, DimLabel(_DISK_NOTE), self.disk_in_force)
        simulated = _in_a_row(self.simulate, self.simulated_size, _reload_mark())
        note = DimLabel(_SIMULATED_NOTE)
        _add_row(form, "Simulated GPU", self.simulate, simulated, note, self.simulated_in_force)
        _add_row(form, "Machine", self.measure, _in_a_row(self.measure), self.costs_in_force)
        _add_row(form, "Th&eme", self.theme, _in_a_row(self.theme))
        self._buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok
            | QDialogButtonBox.StandardButton.Cancel
            | QDialogButtonBox.StandardButton.Apply
            | QDialogButtonBox.StandardButton.RestoreDefaults
        )
        for button in self._buttons.buttons():
            button.setIcon(QIcon())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE_L, SPACE_L, SPACE_L, SPACE_L)
        layout.setSpacing(SPACE_L)
        layout.addWidget(self._scrolling(content), 1)
        layout.addWidget(self.status)
        layout.addWidget(self._buttons)

    def _scrolling(self, content: QWidget) -> QScrollArea:
        """A form that scrolls on screens that are too low for it."""
        self._scroll = QScrollArea()
        self._scroll.setFrameShape(QFrame.Shape.NoFrame)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._scroll.setWidgetResizable(True)
        self._scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._scroll.setWidget(content)
        bar = self.style().pixelMetric(QStyle.PixelMetric.PM_ScrollBarExtent)
        self._scroll.setMinimumWidth(content.sizeHint().width() + bar)
        return self._scroll

    def showEvent(self, event: QShowEvent) -> None:
        """Open as tall as the form, or as the screen allows."""
        super().showEvent(event)
        if event.spontaneous():
            return
        hint = self.sizeHint()
        width = max(self.minimumWidth(), hint.width())
        form_height = self._form.totalHeightForWidth(width - 2 * SPACE_L)
        height = hint.height() - self._scroll.sizeHint().height() + form_height
        self.resize(width, min(height, self.screen().availableGeometry().height() - _TITLE_BAR_PX))

    def _connect(self) -> None:
        self.budget.changed.connect(self._edited)
        self.context.valueChanged.connect(self._edited_with_preview)
        self.precision.currentIndexChanged.connect(self._edited_with_preview)
        self.automatic_threads.toggled.connect(self._edited_with_preview)
        self.threads.valueChanged.connect(self._edited_with_preview)
        self.on_disk.toggled.connect(self._edited_with_preview)
        self.simulate.toggled.connect(self._edited_with_preview)
        self.simulated_size.size_changed.connect(self._edited_with_preview)
        self.measure.clicked.connect(self._measure)
        self.theme.currentIndexChanged.connect(self._edited)
        self._buttons.accepted.connect(self._accept)
        self._buttons.rejected.connect(self.reject)
        self.button("Apply").clicked.connect(self._apply)
        self.button("RestoreDefaults").clicked.connect(self._restore_defaults)

    def button(self, name: Literal["Ok", "Cancel", "Apply", "RestoreDefaults"]) -> QPushButton:
        """One of the dialog's buttons."""
        return self._buttons.button(QDialogButtonBox.StandardButton[name])

    # ---- values ----

    @property
    def pending(self) -> Settings:
        """The settings as edited."""
        theme = cast("ThemeName", self.theme.currentData())
        simulated = max(_LEAST_SIMULATED_BYTES, self.simulated_size.size_bytes)
        return replace(
            self._settings,
            vram_budget_bytes=self.budget.budget_bytes,
            context_tokens=self.context.value(),
            kv_precision=cast("KvPrecision", self.precision.currentData()),
            cpu_threads=None if self.automatic_threads.isChecked() else self.threads.value(),
            experts_on_disk=self.on_disk.isChecked(),
            simulate_gpu_bytes=simulated if self.simulate.isChecked() else None,
            theme=theme,
        )

    def _show_settings(self, settings: Settings) -> None:
        """Fill the fields."""
        self.budget.set_budget(settings.vram_budget_bytes)
        self.context.setValue(settings.context_tokens)
        self.precision.setCurrentIndex(self.precision.findData(settings.kv_precision))
        self.automatic_threads.setChecked(settings.cpu_threads is None)
        self.threads.setValue(settings.cpu_threads or self._threads_in_force())
        self.on_disk.setChecked(settings.experts_on_disk)
        self.simulate.setChecked(settings.simulate_gpu_bytes is not None)
        self.simulated_size.set_size(settings.simulate_gpu_bytes or _SIMULATED_BYTES)
        self.theme.setCurrentIndex(self.theme.findData(settings.theme))

    def _threads_in_force(self) -> int:
        effective = self._ready.effective.cpu_threads if self._ready is not None else None
        return effective or os.cpu_count() or 1

    # ---- what the engine says ----

    def show_ready(self, ready: Ready | None) -> None:
        """Read the values in force back from the engine; None when the model was unloaded."""
        self._ready = ready
        self._refresh_in_force()
        if self._waiting and ready is not None and not ready.because:
            self._waiting = False
            self.status.setText("Applied; the values in force are up to date.")

    def show_refused(self, error: ErrorReport, settings: Settings) -> None:
        """The engine kept what it had.

        Args:
            error: Why.
            settings: The settings that stay.
        """
        self._waiting = False
        self._settings = settings
        self.measure.setEnabled(self._ready is not None)
        self._edited()
        self.status.setText(f"Not applied. {error.message}")

    def _refresh_in_force(self) -> None:
        ready = self._ready
        labels = (
            self.budget_in_force,
            self.context_in_force,
            self.precision_in_force,
            self.threads_in_force,
            self.disk_in_force,
            self.simulated_in_force,
            self.costs_in_force,
        )
        texts = in_force_texts(ready) if ready is not None else ("",) * len(labels)
        self.measure.setEnabled(ready is not None)
        for label, text in zip(labels, texts, strict=True):
            label.setText(text)
            label.setVisible(bool(text))
        if ready is not None:
            everything = ready.model.experts_bytes + ready.model.dense_bytes
            self.simulated_size.set_scale(max(everything, self.simulated_size.size_bytes))
        self._refresh_preview()

    def _refresh_preview(self) -> None:
        """Give the budget's preview the other fields as edited."""
        ready, pending = self._ready, self.pending
        if ready is None:
            self.budget.set_context(None, NO_MODEL)
        elif self.simulate.isChecked() != ready.simulated:
            no_gpu = not self.simulate.isChecked() and ready.planning.hardware.gpu is None
            self.budget.set_context(None, NO_GPU if no_gpu else AFTER_RELOAD)
        elif ready.plan.device == "cpu":
            self.budget.set_context(None, NO_GPU)
        else:
            config = replace(
                ready.effective,
                context_tokens=pending.context_tokens,
                kv_precision=pending.kv_precision,
                cpu_threads=pending.cpu_threads or ready.effective.cpu_threads,
                experts_on_disk=pending.experts_on_disk,
                simulated_vram_bytes=pending.simulate_gpu_bytes or ready.effective.simulated_vram_bytes,
            )
            self.budget.set_context(PreviewContext(ready.planning, config, ready.plan))

    # ---- editing ----

    def _edited_with_preview(self) -> None:
        self._refresh_preview()
        self._edited()

    def _edited(self) -> None:
        pending = self.pending
        self.threads.setEnabled(not self.automatic_threads.isChecked())
        self.simulated_size.setEnabled(self.simulate.isChecked())
        self.button("Apply").setEnabled(pending != self._settings)
        self.status.setText(self._consequence(pending))

    def _consequence(self, pending: Settings) -> str:
        if pending == self._settings or self._ready is None:
            return ""
        if any(getattr(pending, name) != getattr(self._settings, name) for name in _RELOADING):
            return "Applying reloads the model."
        before = self._settings
        if (pending.context_tokens, pending.kv_precision) != (before.context_tokens, before.kv_precision):
            return "Applying keeps the model loaded; the next reply reads the whole chat again."
        return "Applying keeps the model loaded."

    def _restore_defaults(self) -> None:
        defaults = Settings()
        self._show_settings(defaults)
        self._edited_with_preview()

    def _apply(self) -> None:
        pending = self.pending
        if pending == self._settings:
            return
        self._settings = pending
        self._waiting = self._ready is not None
        self._edited()
        self.status.setText("Applied; waiting for the engine." if self._waiting else "Applied.")
        self.applied.emit(pending)

    def _measure(self) -> None:
        """Ask for new measurements; the next `Ready` brings them."""
        self._waiting = True
        self.measure.setEnabled(False)
        self.status.setText("Measuring what an expert costs on this machine.")
        self.measure_requested.emit()

    def _accept(self) -> None:
        self._apply()
        self.accept()


def _add_row(form: QFormLayout, name: str, buddy: QWidget, *fields: QWidget) -> None:
    """One setting: its name, what edits it, and the lines below."""
    label = QLabel(name)
    label.setBuddy(buddy)
    column = QVBoxLayout()
    column.setSpacing(SPACE_XS)
    for field in fields:
        column.addWidget(field)
    form.addRow(label, column)


def _in_a_row(*widgets: QWidget) -> QWidget:
    """Widgets beside each other, at the left."""
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(SPACE_S)
    for widget in widgets:
        layout.addWidget(widget)
    layout.addStretch(1)
    return row


def _reload_mark() -> QLabel:
    mark = QLabel("needs reload")
    mark.setObjectName("dim")
    mark.setToolTip("Applying a change reloads the model.")
    return mark
