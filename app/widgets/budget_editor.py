"""The VRAM budget's editor: automatic, or a slider and a number, with what the choice would mean while it is moved.

The preview is the engine's own plan (`make_plan`: pure, torch-free), so it promises what a load would do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QHBoxLayout, QSlider, QVBoxLayout, QWidget

from app.engine_words import in_window
from app.language import tr, translated
from app.theme import SPACE_S, SPACE_XS
from app.units import bytes_text, number_text
from app.widgets.form_parts import GIB, CheckBox, SizeSpin, let_wheel_pass
from app.widgets.panel_parts import DimLabel
from engine.experts.placement import budget_range, make_plan

if TYPE_CHECKING:
    from engine.config import EngineConfig
    from engine.messages import PlacementPlan, PlanningInputs

_SLIDER_STEPS = 1000
_PREVIEW_DELAY_MS = 25
_UNKNOWN_GPU_BYTES = 24 * GIB


class NoPreview(Enum):
    """Why there is nothing to preview."""

    NO_GPU = "no GPU"
    NO_MODEL = "no model"
    AFTER_RELOAD = "after a reload"

    @property
    def words(self) -> str:
        """A sentence for the window."""
        return {
            NoPreview.NO_GPU: tr("No GPU is in use, so there is no VRAM to budget: every expert runs on the CPU."),
            NoPreview.NO_MODEL: tr("No model is loaded: the budget can be set, but its effect cannot be previewed."),
            NoPreview.AFTER_RELOAD: tr("Its effect can be previewed once the model is reloaded with this GPU."),
        }[self]


@dataclass(frozen=True, slots=True)
class PreviewContext:
    """What a preview is computed from.

    Attributes:
        inputs: From `Ready`.
        config: The settings in force with the dialog's other edits; its budget does not matter.
        now: The plan in force.
    """

    inputs: PlanningInputs
    config: EngineConfig
    now: PlacementPlan


def preview_text(plan: PlacementPlan, now: PlacementPlan, total_experts: int) -> str:
    """What a plan would mean, compared with the one in force."""
    if not plan.fits:
        sentences = [*map(translated, plan.reasons), in_window(translated(plan.remedy))]
        reasons = " ".join(filter(None, sentences))
        return tr("Does not fit. {reasons}").format(reasons=reasons)
    values = {
        "experts": plan.resident_experts,
        "total": total_experts,
        "rate": number_text(100 * plan.predicted_hit_rate),
        "speed": number_text(plan.predicted_decode_tokens_per_s, 1),
        "now": number_text(now.predicted_decode_tokens_per_s, 1),
    }
    if plan.resident_experts == now.resident_experts and values["speed"] == values["now"]:
        same = tr(
            "Keeps {experts} of {total} experts on the GPU (hit rate {rate} %), predicted {speed} tokens/s, as now."
        )
        return same.format(**values)
    other = tr(
        "Would keep {experts} of {total} experts on the GPU (hit rate {rate} %), "
        "predicted {speed} tokens/s (now {now})."
    )
    return f"{other.format(**values)} {moved_text(plan, now)}".strip()


def moved_text(plan: PlacementPlan, now: PlacementPlan) -> str:
    """How many experts a plan moves into VRAM and out of it."""
    wanted, there = (
        {(layer, expert) for layer, experts in enumerate(each.resident_by_layer) for expert in experts}
        for each in (plan, now)
    )
    came, went = (-(-len(moved) // plan.expert_parts) for moved in (wanted - there, there - wanted))
    moves = [tr("%n experts move in.", came) if came else "", tr("%n experts move out.", went) if went else ""]
    return " ".join(filter(None, moves))


class BudgetEditor(QWidget):
    """Automatic or so many GiB.

    Signals:
        changed(): The user changed the value.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context: PreviewContext | None = None
        self._why_not = NoPreview.NO_MODEL
        self._least_bytes, self._largest_bytes = 0, _UNKNOWN_GPU_BYTES
        self._moving = False
        self._build()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PREVIEW_DELAY_MS)
        self._timer.timeout.connect(self.update_preview)

    def _build(self) -> None:
        self.automatic = CheckBox(tr("&Automatic: what is free, less a reserve"))
        self.automatic.setAccessibleName(tr("Automatic VRAM budget"))
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, _SLIDER_STEPS)
        self.slider.setPageStep(_SLIDER_STEPS // 20)
        self.slider.setSingleStep(_SLIDER_STEPS // 100)
        self.slider.setAccessibleName(tr("VRAM budget slider"))
        let_wheel_pass(self.slider)
        self.spin = SizeSpin()
        self.spin.setAccessibleName(tr("VRAM budget"))
        self.limits, self.preview = DimLabel(), DimLabel(lines=3)
        self.preview.setObjectName("")
        self.preview.setAccessibleName(tr("Preview of the VRAM budget"))
        row = QHBoxLayout()
        row.setSpacing(SPACE_S)
        row.addWidget(self.slider, 1)
        row.addWidget(self.spin)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACE_XS)
        layout.addWidget(self.automatic)
        layout.addLayout(row)
        layout.addWidget(self.limits)
        layout.addWidget(self.preview)
        self.automatic.toggled.connect(self._automatic_toggled)
        self.slider.valueChanged.connect(self._slider_moved)
        self.spin.size_changed.connect(self._size_edited)

    # ---- value ----

    @property
    def budget_bytes(self) -> int | None:
        """The chosen budget; None for automatic."""
        return None if self.automatic.isChecked() else self.spin.size_bytes

    def set_budget(self, budget_bytes: int | None) -> None:
        """Show a budget."""
        self.automatic.setChecked(budget_bytes is None)
        if budget_bytes is not None:
            self.spin.set_size(budget_bytes)
        self._enable()

    def _automatic_toggled(self, automatic: bool) -> None:
        if not automatic and not self.spin.size_bytes:
            in_force = self._context.now.vram_budget_bytes if self._context is not None else 0
            self.spin.set_size(in_force or self._largest_bytes // 2)
        self._enable()
        self._announce()

    def _slider_moved(self, step: int) -> None:
        if not self._moving:
            self._moving = True
            span = self._largest_bytes - self._least_bytes
            self.spin.set_size(self._least_bytes + round(span * step / _SLIDER_STEPS))
            self._moving = False

    def _size_edited(self) -> None:
        self._place_slider(self.spin.size_bytes)
        self._announce()

    def _place_slider(self, size_bytes: int) -> None:
        if not self._moving:
            self._moving = True
            share = (size_bytes - self._least_bytes) / max(1, self._largest_bytes - self._least_bytes)
            self.slider.setValue(round(_SLIDER_STEPS * min(1.0, max(0.0, share))))
            self._moving = False

    def _announce(self) -> None:
        self._timer.start()
        self.changed.emit()

    # ---- preview ----

    def set_context(self, context: PreviewContext | None, why_not: NoPreview = NoPreview.NO_MODEL) -> None:
        """Preview by this from now on.

        Args:
            context: None for no preview.
            why_not: What to tell instead; with `NO_GPU` the budget cannot be set either.
        """
        self._context = context
        self._why_not = why_not
        self.setEnabled(context is not None or why_not is not NoPreview.NO_GPU)
        least, most = budget_range(context.inputs, context.config) if context is not None else (0, _UNKNOWN_GPU_BYTES)
        self._least_bytes, self._largest_bytes = least, max(1, most)
        self.spin.set_scale(self._largest_bytes)
        self.limits.setVisible(context is not None)
        limits = tr("From {least} without experts to {most}.")
        self.limits.setText(limits.format(least=bytes_text(least), most=bytes_text(most)) if most else "")
        self._place_slider(self.spin.size_bytes)
        self._enable()
        self.update_preview()

    def _enable(self) -> None:
        manual = not self.automatic.isChecked()
        self.slider.setEnabled(manual)
        self.spin.setEnabled(manual)

    def update_preview(self) -> None:
        """Plan the chosen budget and tell what it means."""
        if self._context is None:
            self.preview.setText(self._why_not.words)
            return
        config = replace(self._context.config, vram_budget_bytes=self.budget_bytes)
        plan = make_plan(self._context.inputs, config)
        if self.automatic.isChecked() and plan.fits:
            self.spin.set_size(plan.vram_budget_bytes)
        self.preview.setText(preview_text(plan, self._context.now, self._context.inputs.model.total_experts))
