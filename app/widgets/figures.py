"""The live panel's large numbers: speed, hit rate, streamed experts, and how far the cost model can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QWidget

from app.engine_words import source_text
from app.language import tr
from app.theme import SPACE_M, SPACE_S
from app.units import bytes_text, number_text, share_text
from app.widgets.layer_strip import prediction_error
from app.widgets.panel_parts import NumberTile

if TYPE_CHECKING:
    from engine.messages import CostModel, Ready, Snapshot

_WIDE_FROM_PX = 540


class Figures(QWidget):
    """Four tiles, two in a row or all four where there is room; two where no GPU is used, which nothing hits."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.speed, self.hit_rate = NumberTile(tr("Speed")), NumberTile(tr("Hit rate"))
        self.streamed, self.costs = NumberTile(tr("Streamed experts")), NumberTile(tr("Cost model"))
        self._last_speed = ""
        self._width, self._has_gpu = 0, True
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(SPACE_M)
        self._grid.setVerticalSpacing(SPACE_S)
        self.fit(0)

    def fit(self, width: int) -> None:
        """Place the tiles for a width."""
        self._width = width
        columns = 4 if width >= _WIDE_FROM_PX else 2
        tiles = (self.speed, self.hit_rate, self.streamed, self.costs) if self._has_gpu else (self.speed, self.costs)
        for index, tile in enumerate(tiles):
            self._grid.addWidget(tile, index // columns, index % columns, Qt.AlignmentFlag.AlignTop)
        for column in range(4):
            self._grid.setColumnStretch(column, 1 if column < columns else 0)

    def show_ready(self, ready: Ready) -> None:
        """A model is loaded and has not run."""
        self._last_speed = ""
        self._has_gpu = ready.plan.device != "cpu"
        for tile in (self.hit_rate, self.streamed):
            tile.setVisible(self._has_gpu)
        self.fit(self._width)
        self.show_idle()
        self.hit_rate.show_value("", tr("hit rate, this reply"))
        self.streamed.show_value("", _streamed_words(ready))
        self.costs.show_value(*_costs_words(ready.planning.costs, None))

    def show_idle(self) -> None:
        """Nothing is being written; the last reply's speed and counts stay."""
        caption = tr("tokens/s, last reply") if self._last_speed else tr("tokens/s")
        self.speed.show_value(self._last_speed, caption, tr("Decode speed of the whole reply, measured."))

    def keep_speed(self, tokens_per_s: float) -> None:
        """A reply is complete; its speed is shown until the next one."""
        self._last_speed = _speed_text(tokens_per_s)

    def show_reply(self, ready: Ready, snapshot: Snapshot) -> None:
        """What the engine says about this reply so far."""
        speed = _speed_text(snapshot.tokens_per_s)
        self.speed.show_value(speed, tr("tokens/s"), tr("Decode speed over the last second, measured."))
        names = tr("hit rate, this reply"), _streamed_words(ready), tr("in this reply")
        self._show_traffic(ready, snapshot, *names)
        self.costs.show_value(*_costs_words(ready.planning.costs, prediction_error(snapshot.layers)))

    def show_token(self, ready: Ready, snapshot: Snapshot) -> None:
        """What one token's pass did."""
        tip = tr("One token over the time since the token before, measured.")
        self.speed.show_value(_speed_text(snapshot.tokens_per_s), tr("tokens/s, this token"), tip)
        names = tr("hit rate, this token"), tr("streamed, this token"), tr("for this token")
        self._show_traffic(ready, snapshot, *names)
        self.costs.show_value(*_costs_words(ready.planning.costs, prediction_error(snapshot.layers)))

    def _show_traffic(self, ready: Ready, snapshot: Snapshot, hits: str, streams: str, when: str) -> None:
        if snapshot.visits <= 0 or ready.plan.device == "cpu":
            self.hit_rate.show_value("", hits)
            self.streamed.show_value("", streams)
            return
        tip = tr("{hits} of {visits} visits found their expert in VRAM, measured {when}.")
        tip = tip.format(hits=number_text(snapshot.hits), visits=number_text(snapshot.visits), when=when)
        self.hit_rate.show_value(share_text(snapshot.hits / snapshot.visits), hits, tip)
        size = f", {bytes_text(snapshot.streamed_bytes)}" if snapshot.streamed else ""
        tip = tr("Experts whose weights were copied to the GPU {when}, and their bytes.").format(when=when)
        self.streamed.show_value(number_text(snapshot.streamed), f"{streams}{size}", tip)


def _streamed_words(ready: Ready) -> str:
    return tr("expert parts streamed") if ready.model.expert_parts > 1 else tr("experts streamed")


def _speed_text(tokens_per_s: float) -> str:
    return number_text(tokens_per_s, 0 if tokens_per_s >= 100 else 1) if tokens_per_s > 0 else ""


def _costs_words(costs: CostModel, error: float | None) -> tuple[str, str, str]:
    """Fit error, its caption and the tool tip of the cost model's tile."""
    curves = [curve for curve in (costs.cpu_expert, costs.gpu_expert, costs.weight_copy) if curve is not None]
    fit = max(curve.fit_error for curve in curves)
    known = costs.source != "assumed"
    source = source_text(costs.source)
    tips = [tr("What an expert costs on each side: {source}.").format(source=source)]
    if known:
        worst = tr("The worst curve misses its measurements by {share} (median).")
        tips.append(worst.format(share=share_text(fit)))
    if error is not None:
        tips.append(tr("Times predicted for the last pass were off by {share}.").format(share=share_text(error)))
    caption = tr("uncertainty of predictions") if known else tr("costs {source}")
    return share_text(fit) if known else "", caption.format(source=source), " ".join(tips)
