"""What every layer did in the pass that is shown: a list for views and screen readers, and the scale of their bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QAbstractListModel, QModelIndex, QObject, QPersistentModelIndex, QSize, Qt

from app.language import tr, translated
from engine.experts.explain import explain_layer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.messages import LayerTrace

Index = QModelIndex | QPersistentModelIndex
_SNAP_BELOW = 0.25
_SHRINK = 0.94


def measured_s(trace: LayerTrace) -> float:
    """How long the layer's experts took: both sides run at the same time."""
    return max(trace.measured_cpu_s, trace.measured_gpu_s)


def longest_s(trace: LayerTrace) -> float:
    """The longest of all bars and ticks."""
    return max(measured_s(trace), trace.predicted_cpu_s, trace.predicted_gpu_s)


class LayerTable(QAbstractListModel):
    """One row per layer.

    Attributes:
        count: Layers.
        row_height: What a view that lists them gives each.
        has_gpu: Whether there is a GPU's side.
        traces: By layer.
        scale_s: Time of the longest bar.
    """

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.count = 0
        self.row_height = 14
        self.has_gpu = False
        self.traces: dict[int, LayerTrace] = {}
        self.scale_s = 0.0

    def rowCount(self, parent: Index | None = None) -> int:
        """Layers."""
        return 0 if parent is not None and parent.isValid() else self.count

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> str | QSize | None:
        """What the layer did and why."""
        roles = (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole, Qt.ItemDataRole.AccessibleTextRole)
        if role == Qt.ItemDataRole.SizeHintRole:
            return QSize(10, self.row_height)
        return self.describe(index.row()) if index.isValid() and role in roles else None

    def describe(self, layer: int) -> str:
        """What one layer did and why."""
        trace = self.traces.get(layer)
        if trace is None:
            return tr("Layer {layer}: not run yet.").format(layer=layer)
        return translated(explain_layer(trace, has_gpu=self.has_gpu))

    def set_layers(self, count: int, *, has_gpu: bool) -> None:
        """Take a newly loaded or re-planned model."""
        self.has_gpu, self.traces, self.scale_s = has_gpu, {}, 0.0
        if count != self.count:
            self.beginResetModel()
            self.count = count
            self.endResetModel()

    def set_traces(self, traces: Sequence[LayerTrace]) -> None:
        """Take a pass; the scale follows it slowly, so that bars can be compared from one pass to the next."""
        self.traces = {trace.layer: trace for trace in traces}
        peak_s = max((longest_s(trace) for trace in traces), default=0.0)
        snap = peak_s < self.scale_s * _SNAP_BELOW
        self.scale_s = peak_s if snap else max(peak_s, self.scale_s * _SHRINK)
