"""The live panel: which device, who holds the memory, where every expert lives, what each layer did and why.

Takes the engine's events and the machine's samples as they are and hands them to its parts. Everything is worked out at
paint time from the latest state, so that snapshots may come at any rate; a hidden panel costs nothing.

While a token of the last reply is chosen, map, layers, figures and the limit show that token's pass; memory and
timelines go on. A new reply, or "Live", brings back the present.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from PySide6.QtCore import QRect, Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QStyle, QVBoxLayout, QWidget

from app.engine_words import residents_text
from app.language import tr
from app.panel_export import PanelState
from app.reply_history import ReplyHistory
from app.theme import SPACE_L, SPACE_M
from app.units import number_text
from app.widgets.expert_map import ExpertMap
from app.widgets.figures import Figures
from app.widgets.layer_lens import LayerLens
from app.widgets.layer_strip import LayerStrip
from app.widgets.limit_line import LimitLine
from app.widgets.map_legend import MapLegend
from app.widgets.memory_content import ram_content, vram_content
from app.widgets.memory_gauge import MemoryGauge
from app.widgets.panel_menu import PanelMenu
from app.widgets.panel_parts import DeviceLine, DimLabel, LoadingLine
from app.widgets.panel_section import PanelSection
from app.widgets.rate_bars import RateBars, rate_rows
from app.widgets.scrubber import LIVE, Scrubber
from app.widgets.timeline import Timeline
from engine.experts.limits import machine_rates, measured_rates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.reply_history import TokenView
    from app.telemetry import MachineSample
    from engine.messages import Loading, PassRecord, Ready, Snapshot, Timings

MIN_WIDTH = 300
_LAYER_LINES = 3


class EnginePanel(QWidget):
    """Where the model lives and why.

    Signals:
        simulate_requested(): The user wants to try the simulated GPU.
        problem(str): A sentence: why the panel could not be saved.
        saved(str): A sentence: where it was saved.
    """

    simulate_requested = Signal()
    problem = Signal(str)
    saved = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._ready: Ready | None = None
        self._snapshot: Snapshot | None = None
        self._machine: MachineSample | None = None
        self._history = ReplyHistory()
        self._token: TokenView | None = None
        self.setAccessibleName(tr("Live panel"))
        self.setMinimumWidth(MIN_WIDTH)
        self._build_parts()
        self._build_sections()
        self._build_scroll_area()
        self.clear()

    def _build_parts(self) -> None:
        self.device = DeviceLine()
        self.device.simulate.clicked.connect(self.simulate_requested)
        self.menu = PanelMenu(self)
        self.loading = LoadingLine()
        self.limit = LimitLine()
        self.figures = Figures()
        self.speed, self.hit_rate = self.figures.speed, self.figures.hit_rate
        self.streamed, self.costs = self.figures.streamed, self.figures.costs
        self.vram, self.ram = MemoryGauge("VRAM"), MemoryGauge("RAM")
        self.map, self.legend = ExpertMap(), MapLegend()
        self.lens = LayerLens(self.map)
        self.residents_words = DimLabel("", lines=2)
        self.residents_words.setAccessibleName(tr("About the experts in VRAM"))
        self.expert_words = DimLabel(_point_at_expert(), lines=4)
        self.expert_words.setAccessibleName(tr("About the expert"))
        self.scrubber = Scrubber()
        self.strip = LayerStrip()
        self.layer_words = DimLabel(_point_at_layer(), lines=_LAYER_LINES)
        self.layer_words.setAccessibleName(tr("About the layer"))
        self.timeline, self.rates = Timeline(), RateBars()
        self.empty = DimLabel(
            tr("No model is loaded. Load one, and this panel shows where every expert lives and why.")
        )
        self.map.described.connect(self._tell_expert)
        self.map.cursor_moved.connect(self._follow_cursor)
        self.strip.described.connect(self._tell_layer)
        self.scrubber.chosen.connect(self._choose)

    def _build_sections(self) -> None:
        self.memory = PanelSection("memory", tr("Memory"), self.vram, self.ram)
        self.experts = PanelSection(
            "experts", tr("Experts"), self.map, self.legend, self.scrubber, self.lens, self.expert_words,
            self.residents_words,
        )  # fmt: skip
        self.layers = PanelSection("layers", tr("Layers"), self.strip, self.layer_words)
        self.rates_section = PanelSection("rates", tr("Moved per second"), self.rates)
        self.past = PanelSection("past", tr("The last minutes"), self.timeline)
        self.sections = (self.memory, self.experts, self.layers, self.rates_section, self.past)
        self.layers.heading.put_last(self.strip.compact)
        self.experts_heading, self.layers_heading = self.experts.heading, self.layers.heading
        self.rates_section.heading.set_value(tr("last pass / one expert alone"))

    def _build_scroll_area(self) -> None:
        self._content = QWidget()
        self._content.setAccessibleName(tr("Live panel's content"))
        self._column = QVBoxLayout(self._content)
        self._column.setSpacing(SPACE_L)
        top = QHBoxLayout()
        top.addWidget(self.device, 1)
        top.addWidget(self.menu.button, 0, Qt.AlignmentFlag.AlignTop)
        self._column.addLayout(top)
        for part in (self.loading, self.empty, self.limit, self.figures, *self.sections):
            self._column.addWidget(part)
        self._column.addStretch(1)
        self._scroll = QScrollArea(self)
        self._scroll.setAccessibleName(tr("Live panel, scrollable"))
        self._scroll.setFrameShape(QFrame.Shape.NoFrame)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._scroll.setWidgetResizable(True)
        self._scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._scroll.setWidget(self._content)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self._scroll)

    # ---- slots ----

    def show_ready(self, ready: Ready) -> None:
        """A model is loaded, settings took effect, or memory changed what is in force, perhaps amid a reply."""
        if not ready.because:
            self._forget_reply()
            self.timeline.start(has_gpu=ready.plan.device != "cpu")
        self._ready, self._snapshot = ready, None
        self.scrubber.go_live()
        self.loading.hide()
        self.map.show_ready(ready)
        self.strip.show_ready(ready)
        self.limit.show_ready(ready)
        self.figures.show_ready(ready)
        self.residents_words.setText("")
        self._show_rates(None)
        self._show_experts_count(ready.plan.resident_by_layer)
        self._tell_layer("")
        self._show_model_parts(shown=True)
        self._show_memory()

    def show_snapshot(self, snapshot: Snapshot) -> None:
        """The engine's full state; before `show_ready` there is nothing to show it in."""
        if self._ready is None:
            return
        self._snapshot = snapshot
        hit_rate = snapshot.hit_rate if snapshot.visits else None
        self.timeline.add_reply(time.monotonic(), snapshot.tokens_per_s, hit_rate if snapshot.tokens_per_s else None)
        if self.scrubber.live:
            self._show_live(self._ready, snapshot)
        self._show_gauges()

    def show_passes(self, records: Sequence[PassRecord]) -> None:
        """What the passes behind the latest tokens did."""
        if self._ready is None or not records:
            return
        begins = records[0].position <= self._history.last
        self._history.add(records)
        gone = self._token is not None and self._token.record.position < self._history.first
        if begins or gone:
            self.scrubber.go_live()
        self.scrubber.set_range(self._history.first, self._history.last)

    def show_machine(self, sample: MachineSample) -> None:
        """The machine's latest sample."""
        self._machine = sample
        self._show_memory()

    def show_loading(self, loading: Loading) -> None:
        """A load's progress; what is in memory is not known until it ends."""
        self.empty.hide()
        self.loading.show_loading(loading)

    def show_finished(self, timings: Timings) -> None:
        """A reply is complete: its speed as a whole counts, however short it was."""
        self.figures.keep_speed(timings.decode_tokens_per_s)
        snapshot = self._snapshot
        if snapshot is not None and self._ready is not None and timings.decode_tokens_per_s > 0:
            whole = replace(snapshot, tokens_per_s=timings.decode_tokens_per_s)
            self.timeline.add_reply(time.monotonic(), whole.tokens_per_s, whole.hit_rate if whole.visits else None)
            if self.scrubber.live:
                self.limit.show_pass(whole, at_once=True)
        self.set_idle()

    def set_idle(self) -> None:
        """A reply or a load ended: nothing is running now; the reply's counts stay."""
        self.loading.hide()
        self.empty.setVisible(self._ready is None)
        if self.scrubber.live:
            self.figures.show_idle()

    def clear(self) -> None:
        """No model is loaded."""
        self._ready = self._snapshot = None
        self.loading.hide()
        self._forget_reply()
        self.map.clear()
        self.strip.clear()
        self.limit.show_ready(None)
        self._show_model_parts(shown=False)
        self._show_memory()

    @property
    def content(self) -> QWidget:
        """Everything from top to bottom, as if nothing had to scroll."""
        return self._content

    @property
    def folded(self) -> str:
        """Keys of the sections that are folded, for the settings."""
        return ",".join(section.key for section in self.sections if not section.open)

    def fold(self, keys: str) -> None:
        """Fold the sections with these keys, and no others."""
        for section in self.sections:
            section.set_open(open_now=section.key not in keys.split(","))

    @property
    def state(self) -> PanelState:
        """All that is shown, for a file."""
        shown = self._token.snapshot if self._token is not None else self._snapshot
        return PanelState(
            self._ready, shown, self._machine, self.limit.limit, self._token, self.timeline.values(), self._history
        )

    # ---- the reply's tokens ----

    def _choose(self, index: int) -> None:
        """Show a token's pass, or what happens now."""
        self._token = None
        if self._ready is None or self._snapshot is None:
            self.scrubber.go_live()
            return
        if index == LIVE:
            self._show_live(self._ready, self._snapshot)
            return
        self._token = view = self._history.view(index, self._ready, self._snapshot)
        self.scrubber.show_token(view)
        self._show_pass(view.snapshot)
        self.figures.show_token(self._ready, view.snapshot)
        self.limit.show_pass(view.snapshot, at_once=True)

    def _forget_reply(self) -> None:
        self._history.clear()
        self._token = None
        self.scrubber.set_range(0, LIVE)

    # ---- showing ----

    def _show_live(self, ready: Ready, snapshot: Snapshot) -> None:
        self._show_pass(snapshot)
        self.figures.show_reply(ready, snapshot)
        words = residents_text(snapshot, ready.model.expert_parts) if ready.plan.device != "cpu" else ""
        self.residents_words.setText(words if snapshot.visits else "")
        self.limit.show_pass(snapshot)

    def _show_pass(self, snapshot: Snapshot) -> None:
        self.map.show_snapshot(snapshot)
        self.strip.show_snapshot(snapshot)
        self._show_experts_count(snapshot.resident_by_layer)
        self._show_rates(snapshot)

    def _show_rates(self, snapshot: Snapshot | None) -> None:
        ready = self._ready
        if ready is not None:
            measured = measured_rates(snapshot.layers if snapshot is not None else (), ready.model)
            best = machine_rates(ready.planning.costs, ready.model)
            has_gpu = ready.plan.device != "cpu"
            self.rates.show_rows(rate_rows(measured, best, has_gpu=has_gpu, simulated=ready.simulated))

    def _show_model_parts(self, *, shown: bool) -> None:
        self.empty.setVisible(not shown)
        for part in (self.limit, self.figures, self.experts, self.layers, self.rates_section, self.past):
            part.setVisible(shown)
        self.residents_words.setVisible(shown and self._ready is not None and self._ready.plan.device != "cpu")
        self._fit_lens()

    def _fit_lens(self) -> None:
        self.lens.setVisible(self.map.small_cells)
        self.lens.updateGeometry()

    def _show_memory(self) -> None:
        self.device.show_device(self._ready, self._machine)
        self._show_gauges()

    def _show_gauges(self) -> None:
        vram = vram_content(self._ready, self._snapshot, self._machine)
        ram = ram_content(self._ready, self._snapshot, self._machine)
        on_cpu = self._ready is not None and self._ready.plan.device == "cpu"
        self.vram.setVisible(vram is not None and not on_cpu)
        self.vram.set_content(vram)
        self.ram.set_content(ram)
        content = ram if on_cpu else vram
        if self._ready is not None and content is not None:
            used = sum(part.size_bytes for part in content.held)
            self.timeline.add_memory(time.monotonic(), used, content.total_bytes)

    def _show_experts_count(self, by_layer: Sequence[Sequence[int]]) -> None:
        if self._ready is not None:
            total = self._ready.model.total_experts
            resident = sum(map(len, by_layer)) // self._ready.model.expert_parts
            if self._ready.plan.device == "cpu":
                words = tr("all {total} on the CPU")
            elif self._ready.simulated:
                words = tr("{number} of {total} on the simulated GPU")
            else:
                words = tr("{number} of {total} on the GPU")
            self.experts_heading.set_value(words.format(number=number_text(resident), total=number_text(total)))

    def _tell_expert(self, text: str) -> None:
        self.expert_words.setText(text or _point_at_expert())

    def _tell_layer(self, text: str) -> None:
        self.layer_words.setText("\n".join(text.splitlines()[:_LAYER_LINES]) or self._layer_hint())

    def _layer_hint(self) -> str:
        on_cpu = self._ready is not None and self._ready.plan.device == "cpu"
        return _point_at_layer(on_cpu=on_cpu)

    def _follow_cursor(self, cell: QRect) -> None:
        middle = self.map.mapTo(self._content, cell.center())
        self._scroll.ensureVisible(middle.x(), middle.y(), 0, 60)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Four numbers in a row where there is room; the scroll bar never changes the content's width."""
        super().resizeEvent(event)
        self.figures.fit(self.width())
        bar = self.style().pixelMetric(QStyle.PixelMetric.PM_ScrollBarExtent)
        self._content.setFixedWidth(max(1, self.width() - bar))
        self._column.setContentsMargins(SPACE_M + 4, SPACE_M, max(4, SPACE_M + 4 - bar), SPACE_M)
        self._fit_lens()


def _point_at_expert() -> str:
    return tr("Point at a cell, or move with the arrow keys, to see where that expert is and why.")


def _point_at_layer(*, on_cpu: bool = False) -> str:
    if on_cpu:
        return tr("Bar: measured. Tick: predicted. Point at a layer to see why.")
    return tr("Upper bar: CPU. Lower bar: GPU. Tick: predicted. Point at a layer to see why.")
