"""Which resident makes room for which expert while tokens are decoded: the policy alone, without tensors or streams.

Fiddler places experts once, by popularity (section 3.2). A conversation has favourites of its own, so here residents
follow it, where that pays by the cost model:

    expected uses  of every expert per token: a fading count of its uses, drawn towards its long-run popularity by as
                   much of the difference as chance alone would explain. On a stream without favourites nothing is
                   left of the difference, and nothing is swapped.
    a swap pays    when the hits it brings over the next HORIZON_TOKENS, less those that the leaving expert would have
                   had, save more seconds than MARGIN copies take. The whole copy counts as lost, though it runs beside
                   the work, and the newcomer earns nothing until it has arrived.
    a prompt       is a long look at the conversation: after it every layer may swap several experts at once.
    regret         each upload is held against what it really brought over its horizon. When the latest ones lost,
                   swapping pauses, for longer each time, and then begins again with a few.

Swaps stay within a layer: how many residents a layer has is the placement's decision. Called for every layer of every
decoded token: it must stay within some microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.config import ModelConfig, PolicyName
from engine.experts.cost_model import predict
from engine.experts.explain import human_seconds
from engine.experts.parts import part_worth
from engine.experts.planner import layer_seconds
from engine.experts.regret import Ledger
from engine.messages import CostModel
from engine.sentences import Sentence, say

HALF_LIFE_TOKENS = 48.0
HORIZON_TOKENS = 64  # what an upload must pay back in, and how long a newcomer stays at least
MARGIN = 1.5
SWAPS_PER_TOKEN = 16  # at most, and as many in flight; fewer where they would take more than LINK_SHARE of its time
LINK_SHARE = 0.5
WARM_SWAPS_PER_LAYER = 4
CHECK_EVERY_TOKENS = 4  # each layer looks for swaps, in turn
REPRICE_EVERY_TOKENS = 16
CAUTION = 1.5  # how much of what chance explains is taken for chance

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_DECAY = 0.5 ** (1.0 / HALF_LIFE_TOKENS)
_GROWTH = 1.0 / _DECAY
_LARGE = 1e30


@dataclass(frozen=True, slots=True)
class Swap:
    """One expert of a layer makes room for another."""

    layer: int
    leaving: int
    coming: int


@dataclass(frozen=True, slots=True)
class Prices:
    """What swaps are weighed with, in seconds.

    Attributes:
        saving_s: What a visit saves that finds its expert in VRAM; the mean over a layer's visits.
        upload_s: One expert's copy.
        token_s: One decoded token, with half of the visits in VRAM.
    """

    saving_s: float
    upload_s: float
    token_s: float

    @classmethod
    def of(cls, model: ModelConfig, costs: CostModel, policy: PolicyName) -> Prices | None:
        """By the planner's own arithmetic, so that every policy is judged by what it would do; None without a GPU."""
        if costs.weight_copy is None:
            return None
        active = model.experts_per_token
        counts = [(expert, 1) for expert in range(active)]
        missed_s = max(layer_seconds(counts, (), costs, policy, pass_tokens=1))
        hit_s = max(layer_seconds(counts, range(active), costs, policy, pass_tokens=1))
        return cls(
            saving_s=(missed_s - hit_s) / active,
            upload_s=predict(costs.weight_copy, 1) * costs.gpu_correction,
            token_s=costs.token_s + model.layers * (costs.dense_layer_s + (missed_s + hit_s) / 2),
        )

    @property
    def swaps_per_token(self) -> int:
        """How many uploads the link carries beside a token."""
        if self.upload_s <= 0.0:
            return SWAPS_PER_TOKEN
        return max(1, min(SWAPS_PER_TOKEN, int(LINK_SHARE * self.token_s / self.upload_s)))

    def gain_s(self, coming: float, leaving: float, in_flight: int) -> float:
        """What a swap is expected to save over the horizon, its copy paid.

        Args:
            coming: Expected uses per token of the expert that comes.
            leaving: Of the one that leaves.
            in_flight: Uploads that the link carries first.
        """
        waiting_tokens = (in_flight + 1) * self.upload_s / self.token_s
        hits = coming * (HORIZON_TOKENS - waiting_tokens) - leaving * HORIZON_TOKENS
        return hits * self.saving_s - MARGIN * self.upload_s


class _FadingCounts:
    """Uses of one layer's experts, each token half as heavy as one HALF_LIFE_TOKENS later.

    Nothing is ever scaled down: a token weighs more than the one before it, until the numbers grow large.

    Args:
        experts: How many there are (E).
    """

    def __init__(self, experts: int) -> None:
        self._uses = [0.0] * experts
        self._weight = 1.0
        self._seen = self._seen_squares = 0.0

    def token(self, experts: Sequence[int]) -> None:
        """Count a decoded token's experts."""
        if self._weight > _LARGE:
            self._rescale(1.0 / self._weight)
            self._weight = 1.0
        weight = self._weight = self._weight * _GROWTH
        for expert in experts:
            self._uses[expert] += weight
        self._seen += weight
        self._seen_squares += weight * weight

    def prompt(self, counts: Sequence[tuple[int, int]], tokens: int) -> None:
        """Count a pass of a prompt, as if each of its tokens had used a part of every expert in `counts`."""
        faded = _DECAY**tokens
        self._rescale(faded / self._weight)
        self._weight = 1.0
        weight = (1.0 - faded) / ((1.0 - _DECAY) * tokens)
        for expert, visits in counts:
            self._uses[expert] += weight * visits
        self._seen += tokens * weight
        self._seen_squares += tokens * weight**2

    def rates(self) -> tuple[Floats, float]:
        """Uses per token [E], and the variance of such a mean for a variance of 1."""
        return np.array(self._uses) / self._seen, self._seen_squares / self._seen**2

    def _rescale(self, factor: float) -> None:
        """Multiply everything that was counted."""
        self._uses = [uses * factor for uses in self._uses]
        self._seen *= factor
        self._seen_squares *= factor * factor


class Replacement:
    """The policy of one loaded model.

    Args:
        model: Its shape; E experts in each of L layers.
    """

    def __init__(self, model: ModelConfig) -> None:
        """Nothing seen, nothing in VRAM."""
        self._model = model
        shape = (model.layers, model.experts)
        self._counts = [_FadingCounts(model.experts) for _ in range(model.layers)]
        self._usual: Floats = np.full(shape, model.experts_per_token / model.experts)
        self._usual_noise: list[float] = []
        self._worth = part_worth(model)
        self._resident: Flags = np.zeros(shape, dtype=np.bool_)
        self._pageable: list[list[int]] = [[] for _ in range(model.layers)]
        self._kept_until: NDArray[np.int64] = np.zeros(shape, dtype=np.int64)
        self._arriving: set[tuple[int, int]] = set()
        self._ledger = Ledger(model, HORIZON_TOKENS)
        self._clock_tokens, self._begun, self._priced_tokens = 0, 0, -REPRICE_EVERY_TOKENS
        self._prompt_seen = self._warm = False
        self._prices: Prices | None = None
        self.expect(((1.0 / model.experts,) * model.experts,) * model.layers)

    # ---- what is so ---------------------------------------------------------------------------------------------

    def expect(self, shares: Sequence[Sequence[float]]) -> None:
        """Take the long-run popularity.

        Args:
            shares: Per layer [L] and expert [E] the share of the layer's visits.
        """
        self._usual = np.minimum(np.array(shares) * self._model.experts_per_token, 1.0)
        self._usual_noise = (self._usual * (1.0 - self._usual)).sum(axis=1).tolist()

    def place(
        self,
        resident_by_layer: Iterable[Iterable[int]],
        pageable_by_layer: Iterable[Iterable[int]] = (),
        arriving: Iterable[tuple[int, int]] = (),
    ) -> None:
        """Residents were placed by a plan: no swap is in flight, and earlier ones are of no account.

        Args:
            resident_by_layer: Per layer the experts in VRAM.
            pageable_by_layer: Per layer those that cannot be uploaded beside the work; () for none.
            arriving: (layer, expert) of those whose upload is under way nevertheless.
        """
        for layer, experts in enumerate(pageable_by_layer):
            self._pageable[layer] = sorted(experts)
        self._resident[:] = False
        for layer, experts in enumerate(resident_by_layer):
            self._resident[layer, list(experts)] = True
        self._kept_until[:] = 0
        self._arriving = set(arriving)
        self._ledger.forget()

    def arrived(self, layer: int, expert: int) -> None:
        """An upload is done: its expert counts as resident from now on."""
        self._arriving.discard((layer, expert))
        self._resident[layer, expert] = True
        self._ledger.arrived(layer, expert)

    @property
    def pause_reason(self) -> Sentence:
        """A sentence: why nothing is swapped at present; "" where swaps are looked for."""
        prices = self._prices
        if self._resident.all():
            return say("Every expert lives in VRAM.")
        if not self._swappable().any():
            return say("No layer has an expert in VRAM that could make room for another.")
        if prices is not None and prices.saving_s <= 0.0:
            return say("An expert in VRAM saves no time here, as things are.")
        if prices is not None and prices.gain_s(1.0, 0.0, 0) <= 0.0:
            return say(
                "Copying an expert takes {cost} and a visit that finds it in VRAM saves {saving}: "
                "on this link an upload does not pay.",
                cost=human_seconds(prices.upload_s),
                saving=human_seconds(prices.saving_s),
            )
        return self._ledger.pause_reason

    # ---- what is seen and done ----------------------------------------------------------------------------------

    def observe_prompt(self, layer: int, counts: Sequence[tuple[int, int]], tokens: int) -> None:
        """Count one layer's routing of a prompt, taken as spread evenly over its tokens.

        Args:
            layer: Its index.
            counts: (expert, tokens) of the active experts.
            tokens: Tokens of the pass (T).
        """
        self._counts[layer].prompt(counts, tokens)
        self._prompt_seen = True

    def step(self, layer: int, experts: list[int], costs: CostModel, policy: PolicyName) -> list[Swap]:
        """Count one layer's experts of a decoded token, and say what should be swapped now.

        Args:
            layer: Its index; a token begins with layer 0.
            experts: Its active experts.
            costs: The costs in force.
            policy: Who decides where experts run.

        Returns:
            Swaps of this layer, to be begun at once: the leaving expert counts as gone, the coming one as under way.
        """
        if layer == 0:
            self._tick(costs, policy)
        self._counts[layer].token(experts)
        self._ledger.visited(layer, experts)
        if not self._warm and (self._clock_tokens + layer) % CHECK_EVERY_TOKENS:
            return []
        if self._prices is None or self._prices.saving_s <= 0.0:
            return []
        most = self._allowance(self._prices)
        if most <= 0:
            return []
        swaps = self._paying_swaps(layer, most, self._prices)
        for swap in swaps:
            self._begin(swap, self._prices)
        return swaps

    def _tick(self, costs: CostModel, policy: PolicyName) -> None:
        """A token begins."""
        self._clock_tokens += 1
        self._begun = 0
        self._warm, self._prompt_seen = self._prompt_seen, False
        if self._warm or self._clock_tokens - self._priced_tokens >= REPRICE_EVERY_TOKENS:
            self._priced_tokens = self._clock_tokens
            self._prices = Prices.of(self._model, costs, policy)
        self._ledger.tick()

    def _allowance(self, prices: Prices) -> int:
        """How many swaps may begin in this layer now."""
        if self._warm:
            return min(WARM_SWAPS_PER_LAYER, self._ledger.allowance)
        return min(prices.swaps_per_token - max(self._begun, len(self._arriving)), self._ledger.allowance)

    def _paying_swaps(self, layer: int, most: int, prices: Prices) -> list[Swap]:
        """The swaps of one layer that pay, best first."""
        expected = self._expected(layer)
        resident = self._resident[layer]
        coming = np.where(resident, -1.0, expected)
        coming[self._pageable[layer]] = -1.0
        leaving = np.where(resident & (self._kept_until[layer] <= self._clock_tokens), expected, np.inf)
        for arriving_layer, expert in self._arriving:
            if arriving_layer == layer:
                coming[expert] = -1.0
        in_flight = len(self._arriving)
        best, worst = int(coming.argmax()), int(leaving.argmin())
        if prices.gain_s(float(coming[best]), float(leaving[worst]), in_flight) <= 0.0:  # nearly always
            return []
        ins, outs = np.argsort(-coming)[:most].tolist(), np.argsort(leaving)[:most].tolist()
        swaps: list[Swap] = []
        for best, worst in zip(ins, outs, strict=True):
            if prices.gain_s(float(coming[best]), float(leaving[worst]), in_flight + len(swaps)) <= 0.0:
                break
            swaps.append(Swap(layer, worst, best))
        return swaps

    def _expected(self, layer: int) -> Floats:
        """Uses per token [E] to be expected of a layer's experts, by what each is worth."""
        usual = self._usual[layer]
        rates, noise = self._counts[layer].rates()
        unusual = rates - usual
        spread = float(unusual @ unusual)
        chance = CAUTION * noise * max(float(rates.sum() - rates @ rates), self._usual_noise[layer])
        expected: Floats = usual + unusual * (1.0 - chance / spread if spread > chance else 0.0)
        return expected * self._worth

    def _begin(self, swap: Swap, prices: Prices) -> None:
        """Take note of a swap."""
        self._resident[swap.layer, swap.leaving] = False
        self._kept_until[swap.layer, swap.coming] = self._clock_tokens + HORIZON_TOKENS
        self._arriving.add((swap.layer, swap.coming))
        self._begun += 1
        self._ledger.bought(swap.layer, swap.leaving, swap.coming, prices.saving_s, prices.upload_s)

    def _swappable(self) -> Flags:
        """Layers with some residents, but not all."""
        residents = self._resident.sum(axis=1)
        layers: Flags = (residents > 0) & (residents < self._model.experts)
        return layers
