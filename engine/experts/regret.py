"""What uploads brought, held against what they cost: the account that stops a replacement that loses.

An upload earns for one horizon of tokens: every visit to the expert that came, from its arrival on, counts for it, and
every visit to the expert that left counts against it, in seconds by the cost model. Pure arithmetic.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from engine.config import ModelConfig
from engine.experts.explain import human_seconds
from engine.sentences import Sentence, say_count

SETTLED_HALF_LIFE = 16.0  # uploads
LEAST_SETTLED = 8  # uploads that a judgement needs, and that a new trial may have open
PAUSE_TOKENS = 64
LONGEST_PAUSE_TOKENS = 8192
UNLIMITED = 1 << 30

_KEPT = 0.5 ** (1.0 / SETTLED_HALF_LIFE)


@dataclass(slots=True)
class _Purchase:
    """One upload on account; visit counts as they were when each side began to count."""

    layer: int
    leaving: int
    coming: int
    due_tokens: int
    saving_s: float
    upload_s: float
    left_at_visits: int
    came_at_visits: int | None = None


class Ledger:
    """The account of one model's uploads.

    Args:
        model: Its shape.
        horizon_tokens: How long an upload earns.
    """

    def __init__(self, model: ModelConfig, horizon_tokens: int) -> None:
        """Nothing bought yet."""
        self._horizon_tokens = horizon_tokens
        self._visits = [[0] * model.experts for _ in range(model.layers)]
        self._open: deque[_Purchase] = deque()
        self._under_way: dict[tuple[int, int], _Purchase] = {}
        self._clock_tokens = self._settled = 0
        self._saved_s = self._spent_s = 0.0
        self._on_trial = False
        self._pause_tokens, self._paused_until = PAUSE_TOKENS, 0

    @property
    def allowance(self) -> int:
        """Uploads that may begin now."""
        if self._clock_tokens < self._paused_until:
            return 0
        return LEAST_SETTLED - len(self._open) if self._on_trial else UNLIMITED

    @property
    def pause_reason(self) -> Sentence:
        """A sentence: why uploads pause; "" where they do not."""
        left_tokens = self._paused_until - self._clock_tokens
        if left_tokens <= 0:
            return Sentence()
        return say_count(
            "The latest uploads saved {saved} and cost {cost}; the next trial is 1 token away.",
            "The latest uploads saved {saved} and cost {cost}; the next trial is %n tokens away.",
            left_tokens,
            saved=human_seconds(max(0.0, self._saved_s)),
            cost=human_seconds(self._spent_s),
        )

    def tick(self) -> None:
        """A token begins; uploads whose horizon is over are settled."""
        self._clock_tokens += 1
        if self._clock_tokens == self._paused_until:
            self._saved_s = self._spent_s = 0.0
        while self._open and self._open[0].due_tokens <= self._clock_tokens:
            self._settle(self._open.popleft())

    def visited(self, layer: int, experts: Sequence[int]) -> None:
        """Count one layer's active experts of a decoded token."""
        visits = self._visits[layer]
        for expert in experts:
            visits[expert] += 1

    def bought(self, layer: int, leaving: int, coming: int, saving_s: float, upload_s: float) -> None:
        """An upload begins.

        Args:
            layer: Whose experts.
            leaving: The expert that makes room.
            coming: The expert that is copied.
            saving_s: What a visit saves that finds its expert in VRAM.
            upload_s: What the copy costs.
        """
        due_tokens = self._clock_tokens + self._horizon_tokens
        left_at = self._visits[layer][leaving]
        purchase = _Purchase(layer, leaving, coming, due_tokens, saving_s, upload_s, left_at)
        self._open.append(purchase)
        self._under_way[layer, coming] = purchase

    def arrived(self, layer: int, coming: int) -> None:
        """An upload is done and begins to earn."""
        purchase = self._under_way.pop((layer, coming), None)
        if purchase is not None:
            purchase.came_at_visits = self._visits[layer][coming]

    def forget(self) -> None:
        """What is open is void: residents were placed anew."""
        self._open.clear()
        self._under_way.clear()

    def _settle(self, purchase: _Purchase) -> None:
        """Book what an upload brought, and judge the latest ones together."""
        if self._clock_tokens < self._paused_until:
            return
        visits = self._visits[purchase.layer]
        came_at = purchase.came_at_visits
        hits = visits[purchase.coming] - came_at if came_at is not None else 0
        lost = visits[purchase.leaving] - purchase.left_at_visits
        self._saved_s = self._saved_s * _KEPT + (hits - lost) * purchase.saving_s
        self._spent_s = self._spent_s * _KEPT + purchase.upload_s
        self._settled += 1
        if self._settled < LEAST_SETTLED:
            return
        if self._saved_s >= self._spent_s:
            self._on_trial, self._pause_tokens = False, PAUSE_TOKENS
        else:
            self._pause()

    def _pause(self) -> None:
        """Stop for a while; what comes after is a trial, judged by itself."""
        self._paused_until = self._clock_tokens + self._pause_tokens
        self._pause_tokens = min(2 * self._pause_tokens, LONGEST_PAUSE_TOKENS)
        self._settled, self._on_trial = 0, True
