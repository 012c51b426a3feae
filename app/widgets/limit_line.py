"""What limits the speed now, as one sentence and what would help; and the rates behind it.

The sentence is worked out at most once a second: what one pass waits for changes faster than anybody reads.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from app.language import tr, translated
from app.theme import SPACE_XS
from app.units import unbroken
from app.widgets.panel_parts import DimLabel
from engine.experts.limits import NOTHING_RAN, Limit, limit_now, more_vram
from engine.sentences import Sentence

if TYPE_CHECKING:
    from engine.experts.limits import Gain
    from engine.messages import Ready, Snapshot

PERIOD_S = 1.0


class LimitLine(QWidget):
    """The sentence."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._ready: Ready | None = None
        self._gain: Gain | None = None
        self._told_s = self._token_s = 0.0
        self.limit = Limit("unknown", Sentence())
        self._caption = DimLabel(tr("What limits the speed now"), self)
        self._words = QLabel(self)
        self._words.setWordWrap(True)
        self._words.setMinimumHeight(2 * self.fontMetrics().lineSpacing())
        self._advice = DimLabel("", self)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE_XS // 2)
        for label in (self._caption, self._words, self._advice):
            column.addWidget(label)
        self.setAccessibleName(tr("What limits the speed now"))
        self.show_ready(None)

    @property
    def text(self) -> str:
        """The sentence and the advice."""
        return f"{translated(self.limit.sentence)} {translated(self.limit.advice)}".strip()

    def show_ready(self, ready: Ready | None) -> None:
        """A model is loaded and has not run, or there is none."""
        self._ready, self._told_s, self._token_s = ready, 0.0, 0.0
        self._gain = more_vram(ready.planning, ready.effective, ready.plan) if ready is not None else None
        self._tell(Limit("unknown", NOTHING_RAN if ready is not None else Sentence()))

    def show_pass(self, snapshot: Snapshot, *, at_once: bool = False) -> None:
        """Say what the latest pass waited for.

        Args:
            snapshot: As of then.
            at_once: Do not wait for the next second, as at the end of a reply.
        """
        if snapshot.tokens_per_s > 0:
            self._token_s = 1.0 / snapshot.tokens_per_s
        elif any(trace.tokens > 1 for trace in snapshot.layers):
            self._token_s = 0.0
        now_s = time.monotonic()
        if self._ready is None or not snapshot.layers or not (at_once or now_s - self._told_s >= PERIOD_S):
            return
        self._told_s = now_s
        on_disk = self._ready.effective.experts_on_disk
        ready = self._ready
        self._tell(limit_now(ready.planning, ready.plan, snapshot.layers, self._token_s, self._gain, on_disk=on_disk))

    def _tell(self, limit: Limit) -> None:
        self.limit = limit
        self._words.setText(unbroken(translated(limit.sentence)))
        self._advice.setText(unbroken(translated(limit.advice)))
        self.setAccessibleDescription(self.text)
