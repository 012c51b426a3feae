"""What the engine last said about every expert: as arrays to draw, as sentences, as a Qt table. No painting here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from app.language import tr, translated
from app.units import number_text
from app.widgets.map_image import CPU, GPU, STREAM, find_places, find_use
from engine.experts.explain import expert_name, explain_run

if TYPE_CHECKING:
    from engine.messages import ExpertRun, LayerTrace, Ready, Snapshot

Index = QModelIndex | QPersistentModelIndex


class ExpertState:
    """What the engine last said about every expert.

    Attributes:
        layers: Rows of the map.
        experts: Cells per row.
        places: GPU, STREAM or CPU, uint8 [L, E].
        use: Recent use, 0..1, float32 [L, E].
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget the model."""
        self.layers = 0
        self.experts = 0
        self.parts = 1
        self.places = np.zeros((0, 0), np.uint8)
        self.use = np.zeros((0, 0), np.float32)
        self._popularity: tuple[tuple[float, ...], ...] = ()
        self._snapshot: Snapshot | None = None
        self._traces: dict[int, LayerTrace] = {}
        self._has_gpu = False
        self._fresh = True

    def set_ready(self, ready: Ready) -> None:
        """Take the shape of a loaded model."""
        self.layers, self.experts, self.parts = ready.model.layers, ready.model.experts, ready.model.expert_parts
        self._popularity = ready.planning.popularity
        self._has_gpu = ready.plan.device != "cpu"
        self._snapshot, self._traces = None, {}
        self.places = np.full((self.layers, self.experts), CPU, np.uint8)
        for layer, residents in enumerate(ready.plan.resident_by_layer):
            self.places[layer, list(residents)] = GPU
        self.use = np.zeros((self.layers, self.experts), np.float32)
        self._fresh = True

    def set_snapshot(self, snapshot: Snapshot) -> None:
        """Take the engine's full state; worked out only when somebody looks."""
        self._snapshot, self._fresh = snapshot, False

    def refresh(self) -> None:
        """Work out the latest snapshot, once."""
        if not self._fresh and self._snapshot is not None:
            self.places = find_places(self._snapshot, self.layers, self.experts)
            self.use = find_use(self._snapshot, self.layers, self.experts)
            self._traces = {trace.layer: trace for trace in self._snapshot.layers}
            self._fresh = True

    def describe(self, layer: int, expert: int) -> str:
        """One expert in a few sentences, one per line: where, how much used, and why it last ran where it did."""
        self.refresh()
        lines = (self._where(layer, expert), self._used(layer, expert), self._why(layer, expert))
        return "\n".join(line for line in lines if line)

    def _where(self, layer: int, expert: int) -> str:
        place = int(self.places[layer, expert])
        if place == GPU:
            words = tr("Layer {layer}, expert {expert} lives on the GPU.")
        elif place == STREAM:
            words = tr("Layer {layer}, expert {expert} lives in RAM; its weights were just streamed to the GPU.")
        else:
            words = tr("Layer {layer}, expert {expert} lives in RAM and runs on the CPU.")
        return words.format(layer=layer, expert=self.name(expert))

    def name(self, expert: int) -> str:
        """What to call an expert, or a part of one."""
        return translated(expert_name(expert, self.parts))

    def _used(self, layer: int, expert: int) -> str:
        if layer >= len(self._popularity) or expert >= len(self._popularity[layer]):
            return ""
        percent = 100 * self.parts * self._popularity[layer][expert]
        use = float(self.use[layer, expert])
        if not self._traces:
            words = tr("It gets {share} % of its layer's visits; the model has not run yet.")
        elif use >= 0.95:
            words = tr("It gets {share} % of its layer's visits; used just now.")
        elif use >= 0.05:
            words = tr("It gets {share} % of its layer's visits; used a few tokens ago.")
        else:
            words = tr("It gets {share} % of its layer's visits; not used lately.")
        return words.format(share=number_text(percent, 0 if percent >= 10 else 1))

    def _why(self, layer: int, expert: int) -> str:
        trace = self._traces.get(layer)
        run = self._run(trace, expert)
        if trace is None:
            return ""
        if run is None:
            return tr("No token of this pass went to it.")
        return tr("In this pass: {why}").format(why=translated(explain_run(run, trace, has_gpu=self._has_gpu)))

    @staticmethod
    def _run(trace: LayerTrace | None, expert: int) -> ExpertRun | None:
        return next((run for run in trace.runs if run.expert == expert), None) if trace is not None else None


class ExpertTable(QAbstractTableModel):
    """The state as a table for the view's cursor and for screen readers."""

    def __init__(self, state: ExpertState, parent: QObject) -> None:
        super().__init__(parent)
        self._state = state

    def rowCount(self, parent: Index | None = None) -> int:
        """Layers."""
        return 0 if parent is not None and parent.isValid() else self._state.layers

    def columnCount(self, parent: Index | None = None) -> int:
        """Experts per layer."""
        return 0 if parent is not None and parent.isValid() else self._state.experts

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> str | None:
        """The cell's sentences."""
        texts = (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole)
        return self._state.describe(index.row(), index.column()) if role in texts and index.isValid() else None

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> str | None:
        """Names of layers and experts."""
        if role != Qt.ItemDataRole.DisplayRole:
            return None
        if orientation == Qt.Orientation.Vertical:
            return tr("Layer {number}").format(number=section)
        return tr("Expert {number}").format(number=self._state.name(section))

    def reset(self) -> None:
        """The shape changed."""
        self.beginResetModel()
        self.endResetModel()
