"""Advanced: a simulated GPU, who decides where an expert runs, and which instructions compute on the CPU."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast, get_args

from PySide6.QtWidgets import QComboBox

from app.engine_words import kernels_text
from app.in_force import in_force, policy_words
from app.language import tr
from app.widgets.form_parts import GIB, CheckBox, SizeSpin
from app.widgets.panel_parts import DimLabel
from app.widgets.settings.page import SettingsPage, choose, fill_choices, in_a_row, reload_mark, show_line
from engine.config import IsaName, PolicyName

if TYPE_CHECKING:
    from app.settings import Settings
    from engine.messages import Ready

_SIMULATED_BYTES = 8 * GIB
_LEAST_SIMULATED_BYTES = 1 << 20


class AdvancedPage(SettingsPage):
    """What few need."""

    def __init__(self) -> None:
        super().__init__(tr("Advanced"))
        self.simulate = CheckBox(tr("&Use a simulated GPU with"))
        self.simulated_size = SizeSpin()
        self.simulated_size.setAccessibleName(tr("Memory of the simulated GPU"))
        self.policy = QComboBox()
        fill_choices(self.policy, tuple((policy_words(name), name) for name in get_args(PolicyName)), tr("Policy"))
        self.isa = QComboBox()
        kernels = tuple((kernels_text(name), name) for name in get_args(IsaName) if name != "auto")
        fill_choices(self.isa, ((tr("Automatic: the best that the CPU has"), "auto"), *kernels), tr("CPU kernels"))
        self.simulated_in_force, self.policy_in_force, self.isa_in_force = DimLabel(), DimLabel(), DimLabel()
        self._arrange()
        self.simulate.toggled.connect(self.edited)
        self.simulated_size.size_changed.connect(self.edited)
        self.policy.currentIndexChanged.connect(self.edited)
        self.isa.currentIndexChanged.connect(self.edited)

    def _arrange(self) -> None:
        note = DimLabel(tr("Shows placement and streaming without a graphics card; its speeds are not a real GPU's."))
        simulated = in_a_row(self.simulate, self.simulated_size, reload_mark())
        self._add_row(tr("Simulated GPU"), self.simulate, simulated, note, self.simulated_in_force)
        policy_note = DimLabel(tr("The other two are for comparison: they are what Fiddler improves on."))
        self._add_row(
            tr("&Where an expert runs"), self.policy, in_a_row(self.policy), policy_note, self.policy_in_force
        )
        self._add_row(tr("CPU &kernels"), self.isa, in_a_row(self.isa, reload_mark()), self.isa_in_force)
        self._finish()

    def show_settings(self, settings: Settings) -> None:
        """Fill the fields."""
        self.simulate.setChecked(settings.simulate_gpu_bytes is not None)
        self.simulated_size.set_size(settings.simulate_gpu_bytes or _SIMULATED_BYTES)
        choose(self.policy, settings.policy)
        choose(self.isa, settings.isa)

    def merge(self, settings: Settings) -> Settings:
        """The settings with these fields."""
        simulated = max(_LEAST_SIMULATED_BYTES, self.simulated_size.size_bytes)
        return replace(
            settings,
            simulate_gpu_bytes=simulated if self.simulate.isChecked() else None,
            policy=cast("PolicyName", self.policy.currentData()),
            isa=cast("IsaName", self.isa.currentData()),
        )

    def refresh(self, pending: Settings, ready: Ready | None) -> None:
        """Show what is in force."""
        lines = in_force(ready)
        show_line(self.simulated_in_force, lines["simulated"])
        show_line(self.policy_in_force, lines["policy"])
        show_line(self.isa_in_force, lines["isa"])
        self.simulated_size.setEnabled(pending.simulate_gpu_bytes is not None)
        if ready is not None:
            everything = ready.model.experts_bytes + ready.model.dense_bytes
            self.simulated_size.set_scale(max(everything, self.simulated_size.size_bytes))
