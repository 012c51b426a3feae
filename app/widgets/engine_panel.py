"""The live panel: which device, who holds the memory, where every expert lives, what each layer did and why.

Takes the engine's events and the machine's samples as they are and hands them to its parts. Everything is worked out at
paint time from the latest state, so that snapshots may come at any rate; a hidden panel costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QRect, Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFrame, QGridLayout, QScrollArea, QStyle, QVBoxLayout, QWidget

from app.engine_words import residents_text
from app.theme import SPACE_M, SPACE_S, SPACE_XL
from app.widgets.expert_map import ExpertMap
from app.widgets.layer_strip import LayerStrip, prediction_error
from app.widgets.map_legend import MapLegend
from app.widgets.memory_content import ram_content, vram_content
from app.widgets.memory_gauge import MemoryGauge
from app.widgets.panel_parts import DeviceLine, DimLabel, LoadingLine, NumberTile, SectionHeading
from engine.experts.explain import human_bytes

if TYPE_CHECKING:
    from app.telemetry import MachineSample
    from engine.messages import CostModel, Loading, Ready, Snapshot

MIN_WIDTH = 300
_WIDE_TILES_FROM_PX = 560
_LAYER_LINES = 3
_NO_MODEL = "No model is loaded. Load one, and this panel shows where every expert lives and why."
_POINT_AT_EXPERT = "Point at a cell, or move with the arrow keys, to see where that expert is and why."
_POINT_AT_CPU_LAYER = "Bar: measured. Tick: predicted. Point at a layer to see why."
_POINT_AT_LAYER = "Upper bar: CPU. Lower bar: GPU. Tick: predicted. Point at a layer to see why."


class EnginePanel(QWidget):
    """Where the model lives and why.

    Signals:
        simulate_requested(): The user wants to try the simulated GPU.
    """

    simulate_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._ready: Ready | None = None
        self._snapshot: Snapshot | None = None
        self._machine: MachineSample | None = None
        self.setAccessibleName("Live panel")
        self.setMinimumWidth(MIN_WIDTH)
        self._build_parts()
        self._build_scroll_area()
        self.clear()

    def _build_parts(self) -> None:
        self.device = DeviceLine()
        self.device.simulate.clicked.connect(self.simulate_requested)
        self.loading = LoadingLine()
        self.speed, self.hit_rate = NumberTile("Speed"), NumberTile("Hit rate")
        self.streamed, self.costs = NumberTile("Streamed experts"), NumberTile("Cost model")
        self.vram, self.ram = MemoryGauge("VRAM"), MemoryGauge("RAM")
        self.experts_heading = SectionHeading("Experts")
        self.map, self.legend = ExpertMap(), MapLegend()
        self.residents_words = DimLabel("", lines=2)
        self.residents_words.setAccessibleName("About the experts in VRAM")
        self.expert_words = DimLabel(_POINT_AT_EXPERT, lines=4)
        self.expert_words.setAccessibleName("About the expert")
        self.layers_heading = SectionHeading("Layers")
        self.strip = LayerStrip()
        self.layer_words = DimLabel(_POINT_AT_LAYER, lines=_LAYER_LINES)
        self.layer_words.setAccessibleName("About the layer")
        self.empty = DimLabel(_NO_MODEL)
        self.map.described.connect(self._tell_expert)
        self.map.cursor_moved.connect(self._follow_cursor)
        self.strip.described.connect(self._tell_layer)

    def _build_scroll_area(self) -> None:
        self._content = QWidget()
        self._content.setAccessibleName("Live panel's content")
        self._column = QVBoxLayout(self._content)
        self._column.setSpacing(SPACE_XL - 4)
        self._tiles = QGridLayout()
        self._tiles.setHorizontalSpacing(SPACE_M)
        self._tiles.setVerticalSpacing(SPACE_S)
        self._column.addWidget(self.device)
        self._column.addWidget(self.loading)
        self._column.addWidget(self.empty)
        self._column.addLayout(self._tiles)
        self._column.addWidget(self.vram)
        self._column.addWidget(self.ram)
        self._add_section(self.experts_heading, self.map, self.legend, self.residents_words, self.expert_words)
        self._add_section(self.layers_heading, self.strip, self.layer_words)
        self._column.addStretch(1)
        self._scroll = QScrollArea(self)
        self._scroll.setAccessibleName("Live panel, scrollable")
        self._scroll.setFrameShape(QFrame.Shape.NoFrame)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._scroll.setWidgetResizable(True)
        self._scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._scroll.setWidget(self._content)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self._scroll)
        self._place_tiles(2)

    def _add_section(self, *widgets: QWidget) -> None:
        section = QVBoxLayout()
        section.setSpacing(SPACE_S - 2)
        for widget in widgets:
            section.addWidget(widget)
        self._column.addLayout(section)

    def _place_tiles(self, columns: int) -> None:
        for index, tile in enumerate((self.speed, self.hit_rate, self.streamed, self.costs)):
            self._tiles.addWidget(tile, index // columns, index % columns, Qt.AlignmentFlag.AlignTop)
        for column in range(4):
            self._tiles.setColumnStretch(column, 1 if column < columns else 0)

    # ---- slots ----

    def show_ready(self, ready: Ready) -> None:
        """A model is loaded, or settings took effect."""
        self._ready, self._snapshot = ready, None
        self.loading.hide()
        self.map.show_ready(ready)
        self.strip.show_ready(ready)
        self._show_experts_count(ready.plan.resident_experts)
        self.costs.show_value(*_costs_words(ready.planning.costs, None))
        self._set_idle_numbers()
        self._tell_layer("")
        self._show_model_parts(shown=True)
        self._show_memory()

    def show_snapshot(self, snapshot: Snapshot) -> None:
        """The engine's full state; before `show_ready` there is nothing to show it in."""
        if self._ready is None:
            return
        self._snapshot = snapshot
        self.map.show_snapshot(snapshot)
        self.strip.show_snapshot(snapshot)
        self._show_experts_count(sum(len(layer) for layer in snapshot.resident_by_layer))
        self._show_numbers(snapshot)
        self._show_gauges()

    def show_machine(self, sample: MachineSample) -> None:
        """The machine's latest sample."""
        self._machine = sample
        self._show_memory()

    def show_loading(self, loading: Loading) -> None:
        """A load's progress; what is in memory is not known until it ends."""
        self.empty.hide()
        self.loading.show_loading(loading)

    def set_idle(self) -> None:
        """A reply or a load ended: nothing is running now; the reply's counts stay."""
        self.loading.hide()
        self.empty.setVisible(self._ready is None)
        self.speed.show_value("", "tokens/s")

    def clear(self) -> None:
        """No model is loaded."""
        self._ready = self._snapshot = None
        self.loading.hide()
        self.map.clear()
        self.strip.clear()
        self._show_model_parts(shown=False)
        self._show_memory()

    # ---- showing ----

    def _show_model_parts(self, *, shown: bool) -> None:
        self.empty.setVisible(not shown)
        parts = (self.speed, self.hit_rate, self.streamed, self.costs, self.experts_heading, self.map, self.legend)
        for part in (*parts, self.expert_words, self.layers_heading, self.strip, self.layer_words):
            part.setVisible(shown)
        self.residents_words.setVisible(shown and self._ready is not None and self._ready.plan.device != "cpu")

    def _show_memory(self) -> None:
        self.device.show_device(self._ready, self._machine)
        self._show_gauges()

    def _show_gauges(self) -> None:
        vram = vram_content(self._ready, self._snapshot, self._machine)
        self.vram.setVisible(vram is not None and not (self._ready and self._ready.plan.device == "cpu"))
        self.vram.set_content(vram)
        self.ram.set_content(ram_content(self._ready, self._snapshot, self._machine))

    def _show_experts_count(self, resident: int) -> None:
        if self._ready is not None:
            total = self._ready.model.total_experts
            where = "on the simulated GPU" if self._ready.simulated else "on the GPU"
            text = f"{resident} of {total} {where}" if self._ready.plan.device != "cpu" else f"all {total} on the CPU"
            self.experts_heading.set_value(text)

    def _set_idle_numbers(self) -> None:
        self.speed.show_value("", "tokens/s")
        self.hit_rate.show_value("", "hit rate, this reply")
        self.streamed.show_value("", "experts streamed")
        self.residents_words.setText("")

    def _show_numbers(self, snapshot: Snapshot) -> None:
        speed = f"{snapshot.tokens_per_s:.1f}" if snapshot.tokens_per_s > 0 else ""
        self.speed.show_value(speed, "tokens/s", "Decode speed over the last second, measured.")
        if snapshot.visits > 0 and self._ready is not None and self._ready.plan.device != "cpu":
            rate = f"{100 * snapshot.hits / snapshot.visits:.0f} %"
            tip = f"{snapshot.hits} of {snapshot.visits} visits found their expert in VRAM, measured in this reply."
            self.hit_rate.show_value(rate, "hit rate, this reply", tip)
            tip = "Experts whose weights were copied to the GPU in this reply, and their bytes."
            caption = (
                f"experts streamed, {human_bytes(snapshot.streamed_bytes)}" if snapshot.streamed else "experts streamed"
            )
            self.streamed.show_value(str(snapshot.streamed), caption, tip)
            self.residents_words.setText(residents_text(snapshot))
        else:
            self.hit_rate.show_value("", "hit rate, this reply")
            self.streamed.show_value("", "experts streamed")
        if self._ready is not None:
            error = prediction_error(snapshot.layers)
            self.costs.show_value(*_costs_words(self._ready.planning.costs, error))

    def _tell_expert(self, text: str) -> None:
        self.expert_words.setText(text or _POINT_AT_EXPERT)

    def _tell_layer(self, text: str) -> None:
        self.layer_words.setText("\n".join(text.splitlines()[:_LAYER_LINES]) or self._layer_hint())

    def _layer_hint(self) -> str:
        on_cpu = self._ready is not None and self._ready.plan.device == "cpu"
        return _POINT_AT_CPU_LAYER if on_cpu else _POINT_AT_LAYER

    def _follow_cursor(self, cell: QRect) -> None:
        middle = self.map.mapTo(self._content, cell.center())
        self._scroll.ensureVisible(middle.x(), middle.y(), 0, 60)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Four numbers in a row where there is room; the scroll bar never changes the content's width."""
        super().resizeEvent(event)
        self._place_tiles(4 if self.width() >= _WIDE_TILES_FROM_PX else 2)
        bar = self.style().pixelMetric(QStyle.PixelMetric.PM_ScrollBarExtent)
        self._content.setFixedWidth(max(1, self.width() - bar))
        self._column.setContentsMargins(SPACE_M + 4, SPACE_M, max(4, SPACE_M + 4 - bar), SPACE_M)


def _costs_words(costs: CostModel, error: float | None) -> tuple[str, str, str]:
    """Fit error, its caption and the tool tip of the cost model's tile."""
    curves = [curve for curve in (costs.cpu_expert, costs.gpu_expert, costs.weight_copy) if curve is not None]
    fit = max(curve.fit_error for curve in curves)
    known = costs.source != "assumed"
    value = f"{100 * fit:.0f} %" if known else ""
    tip = f"What an expert costs on each side: {costs.source}. "
    tip += f"The worst curve misses its measurements by {100 * fit:.0f} % (median). " if known else ""
    tip += f"Times predicted for the last pass were off by {100 * error:.0f} %." if error is not None else ""
    return value, f"fit error, costs {costs.source}" if known else f"costs {costs.source}", tip.strip()
