"""The layer strip: for every layer what CPU and GPU did in the latest pass, how long it took, and why.

Both sides start at the left because they start together: where both bars are long the work overlapped. A tick marks the
time that was predicted. It is a list view that paints itself, so that keyboard, scrolling and screen readers just work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QRectF, Qt
from PySide6.QtCore import Signal as QtSignal
from PySide6.QtGui import QColor, QFocusEvent, QFont, QFontMetricsF, QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QLabel,
    QListView,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from app.language import tr
from app.theme import FONT_SMALL, SPACE_XS, current_theme
from app.units import brief_text, share_text
from app.widgets.layer_columns import LayerColumns
from app.widgets.layer_table import Index, LayerTable, measured_s

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.theme import Theme
    from engine.messages import LayerTrace, Ready, Snapshot

NO_VALUE = "\N{EN DASH}"
_ROWS_SHOWN = 12
_LANE = 4
COMPACT_FROM_LAYERS = 25


def side_of(trace: LayerTrace) -> str:
    """Which side worked: "CPU", "GPU", "both", or a dash for none."""
    cpu = trace.measured_cpu_s > 0.0 or any(run.place == "cpu" for run in trace.runs)
    gpu = trace.measured_gpu_s > 0.0 or any(run.place != "cpu" for run in trace.runs)
    return {(True, True): tr("both"), (True, False): "CPU", (False, True): "GPU"}.get((cpu, gpu), NO_VALUE)


def totals_text(traces: Sequence[LayerTrace], gpu_name: str) -> str:
    """The shares of both sides in the measured time of the latest pass.

    Args:
        traces: Of all layers.
        gpu_name: What to call the GPU's side, "" where there is none.
    """
    cpu_s = sum(trace.measured_cpu_s for trace in traces)
    gpu_s = sum(trace.measured_gpu_s for trace in traces)
    if cpu_s + gpu_s <= 0.0:
        return tr("No pass has been measured yet.")
    gpu = round(100 * gpu_s / (cpu_s + gpu_s)) / 100
    sides = f"CPU {share_text(1.0 - gpu)}, {gpu_name} {share_text(gpu)}" if gpu_name else f"CPU {share_text(1.0)}"
    return tr("{sides} of this pass: %n tokens", max(trace.tokens for trace in traces)).format(sides=sides)


def prediction_error(traces: Sequence[LayerTrace]) -> float | None:
    """How far the predicted times of both sides were off in the latest pass, 0.1 = 10 %; None before one."""
    measured = sum(trace.measured_cpu_s + trace.measured_gpu_s for trace in traces)
    if measured <= 0.0:
        return None
    off = sum(
        abs(trace.measured_cpu_s - trace.predicted_cpu_s) + abs(trace.measured_gpu_s - trace.predicted_gpu_s)
        for trace in traces
    )
    return off / measured


class LayerList(QListView):
    """The rows of the strip.

    Signals:
        described(str): The lines of the layer under the mouse or the cursor, "" for none.
    """

    described = QtSignal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.table = LayerTable(self)
        self._hovered = -1
        self._described = ""
        self.setModel(self.table)
        self.setAccessibleName(tr("Layer strip"))
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setUniformItemSizes(True)
        self.setMouseTracking(True)
        self.viewport().setAutoFillBackground(False)
        self._fit_height()

    # ---- state ----

    def set_layers(self, count: int, *, has_gpu: bool) -> None:
        """Take a newly loaded or re-planned model."""
        self.table.set_layers(count, has_gpu=has_gpu)
        self._fit_height()
        self.viewport().update()

    def set_traces(self, traces: Sequence[LayerTrace]) -> None:
        """Take a pass."""
        self.table.set_traces(traces)
        self.refresh()

    def refresh(self) -> None:
        """Show what the table holds now."""
        self._describe()
        self.viewport().update()

    def _describe(self) -> None:
        row = self._hovered if self._hovered >= 0 else self.currentIndex().row() if self.hasFocus() else -1
        text = self.table.describe(row) if 0 <= row < self.table.count else ""
        if text != self._described:
            self._described = text
            self.described.emit(text)

    # ---- geometry, mouse and keyboard ----

    def row_height(self) -> int:
        """Pixels of one layer: two lanes and air, or a line of text."""
        return max(round(QFontMetricsF(_small(self.font())).height()) + 1, 2 * _LANE + 5)

    def _fit_height(self) -> None:
        self.table.row_height = self.row_height()
        rows = min(max(1, self.table.count), _ROWS_SHOWN)
        self.setFixedHeight(rows * self.row_height() + (self.row_height() // 2 if self.table.count > rows else 0))
        self.scheduleDelayedItemsLayout()

    def changeEvent(self, event: QEvent) -> None:
        """Take another theme or font."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self._fit_height()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Tell the layer under the mouse."""
        self._hover(self.indexAt(event.position().toPoint()).row())

    def viewportEvent(self, event: QEvent) -> bool:
        """Notice the mouse leaving."""
        if event.type() == QEvent.Type.Leave:
            self._hover(-1)
        return super().viewportEvent(event)

    def currentChanged(self, current: Index, previous: Index) -> None:
        """Tell the new cursor row."""
        super().currentChanged(current, previous)
        self._hover(-1)
        self._describe()

    def focusInEvent(self, event: QFocusEvent) -> None:
        """The cursor shows while the list has the keyboard."""
        super().focusInEvent(event)
        self._describe()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Hide the cursor."""
        super().focusOutEvent(event)
        self._describe()
        self.viewport().update()

    def _hover(self, row: int) -> None:
        if row != self._hovered:
            self._hovered = row
            self._describe()
            self.viewport().update()

    # ---- painting ----

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the rows in sight."""
        theme = current_theme()
        painter = QPainter(self.viewport())
        font = _small(self.font())
        painter.setFont(font)
        metrics = QFontMetricsF(font)
        gutter = metrics.horizontalAdvance("00") + 8
        right = metrics.horizontalAdvance(f"{tr('both')} {brief_text(0.0999)}") + 8
        bars = QRectF(gutter, 0, max(20.0, self.viewport().width() - gutter - right), self.row_height())
        cursor = self.currentIndex().row() if self.hasFocus() else -1
        for row in range(self.table.count):
            box = self.visualRect(self.table.index(row))
            if box.intersects(event.rect()):
                marked = row in (cursor, self._hovered)
                self._paint_row(painter, row, bars.translated(0, box.top()), theme, marked=marked)
        painter.end()

    def _paint_row(self, painter: QPainter, row: int, bars: QRectF, theme: Theme, *, marked: bool) -> None:
        trace = self.table.traces.get(row)
        if marked:
            whole = QRectF(0, bars.top(), self.viewport().width(), bars.height())
            painter.fillRect(whole, QColor(theme.surface_alt))
        if row == self.currentIndex().row() and self.hasFocus():
            painter.fillRect(QRectF(0, bars.top() + 1, 2, bars.height() - 2), QColor(theme.accent))
        painter.setPen(QColor(theme.text_dim))
        gutter = QRectF(0, bars.top(), bars.left() - 5, bars.height())
        painter.drawText(gutter, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, str(row))
        lanes = self._lanes(bars)
        sides = ((0.0, 0.0, theme.cpu), (0.0, 0.0, theme.gpu))
        if trace is not None and self.table.scale_s > 0.0:
            sides = (
                (trace.measured_cpu_s, trace.predicted_cpu_s, theme.cpu),
                (trace.measured_gpu_s, trace.predicted_gpu_s, theme.gpu),
            )
        for lane, (took_s, predicted_s, colour) in zip(lanes, sides, strict=False):
            painter.fillRect(lane, QColor(theme.free))
            self._paint_lane(painter, lane, took_s, predicted_s, colour)
        painter.setPen(QColor(theme.text_dim))
        self._paint_words(painter, bars, trace)

    def _lanes(self, bars: QRectF) -> tuple[QRectF, ...]:
        """Where the CPU's bar goes and, below it, the GPU's."""
        middle = bars.center().y()
        if not self.table.has_gpu:
            return (QRectF(bars.left(), middle - _LANE, bars.width(), 2 * _LANE),)
        upper = QRectF(bars.left(), middle - _LANE - 0.5, bars.width(), _LANE)
        return (upper, upper.translated(0, _LANE + 1))

    def _paint_words(self, painter: QPainter, bars: QRectF, trace: LayerTrace | None) -> None:
        """Which side, and how long the longer one took."""
        words = QRectF(bars.right() + 8, bars.top(), self.viewport().width() - bars.right() - 8, bars.height())
        side = side_of(trace) if trace is not None else NO_VALUE
        painter.drawText(words, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, side)
        if trace is not None and measured_s(trace) > 0.0:
            time = brief_text(measured_s(trace))
            painter.drawText(words, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, time)

    def _paint_lane(self, painter: QPainter, lane: QRectF, took_s: float, predicted_s: float, colour: str) -> None:
        """One side's bar with the tick of its prediction."""
        per_s = lane.width() / self.table.scale_s if self.table.scale_s > 0.0 else 0.0
        if took_s > 0.0:
            bar = QRectF(lane.left(), lane.top(), min(lane.width(), max(2.0, took_s * per_s)), lane.height())
            painter.fillRect(bar, QColor(colour))
        if predicted_s > 0.0:
            theme = current_theme()
            x = lane.left() + min(lane.width() - 2, predicted_s * per_s)
            painter.fillRect(QRectF(x - 1, lane.top() - 1, 4, lane.height() + 2), QColor(theme.window))
            painter.fillRect(QRectF(x, lane.top() - 1, 2, lane.height() + 2), QColor(theme.text))


def _small(font: QFont) -> QFont:
    small = QFont(font)
    small.setPointSizeF(font.pointSizeF() * FONT_SMALL)
    return small


class LayerStrip(QWidget):
    """The totals, and the layers as rows or, for models with many of them, as columns.

    Attributes:
        compact: The button that changes between them; belongs into the heading.

    Signals:
        described(str): See `LayerList`.
    """

    described = QtSignal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.rows = LayerList(self)
        self.rows.described.connect(self.described)
        self.columns = LayerColumns(self.rows.table, self)
        self.columns.described.connect(self.described)
        self.compact = QPushButton(self)
        self.compact.setObjectName("quiet")
        self.compact.setCheckable(True)
        self.compact.toggled.connect(self._set_compact)
        self._gpu_name = ""
        self._totals = QLabel(self)
        self._totals.setObjectName("dim")
        self._totals.setWordWrap(True)
        self._totals.setAccessibleName(tr("Share of CPU and GPU"))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SPACE_XS)
        layout.addWidget(self._totals)
        layout.addWidget(self.rows)
        layout.addWidget(self.columns)
        layout.addStretch(1)
        self.setAccessibleName(tr("Layers"))
        self._set_compact(compact=False)
        self.clear()

    @property
    def totals(self) -> str:
        """The header's words."""
        return self._totals.text()

    def show_ready(self, ready: Ready) -> None:
        """Take a newly loaded or re-planned model."""
        has_gpu = ready.plan.device != "cpu"
        self._gpu_name = (tr("simulated GPU") if ready.simulated else "GPU") if has_gpu else ""
        if ready.model.layers != self.rows.table.count:
            self.compact.setChecked(ready.model.layers >= COMPACT_FROM_LAYERS)
        self.rows.set_layers(ready.model.layers, has_gpu=has_gpu)
        self._tell(totals_text((), self._gpu_name))

    def show_snapshot(self, snapshot: Snapshot) -> None:
        """Take a pass."""
        self.rows.set_traces(snapshot.layers)
        self.columns.refresh()
        self._tell(totals_text(snapshot.layers, self._gpu_name))

    def clear(self) -> None:
        """Forget the model."""
        self.rows.set_layers(0, has_gpu=False)
        self._tell(totals_text((), ""))

    def _set_compact(self, compact: bool) -> None:
        focused = self.rows.hasFocus() or self.columns.hasFocus()
        self.rows.setVisible(not compact)
        self.columns.setVisible(compact)
        self.compact.setText(tr("Rows") if compact else tr("Columns"))
        self.compact.setAccessibleDescription(tr("Shows the layers the other way."))
        if focused:
            (self.columns if compact else self.rows).setFocus()

    def _tell(self, totals: str) -> None:
        if totals != self._totals.text():
            self._totals.setText(totals)
            for view in (self.rows, self.columns):
                view.setAccessibleDescription(
                    tr("{totals}. Arrow keys move from layer to layer.").format(totals=totals)
                )
