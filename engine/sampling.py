"""Drawing the next token, and stopping at a text.

Tokens are drawn as transformers' logits processors would have it, in the order of its `generate` (penalty, temperature,
top-k, top-p, min-p), but without sorting the vocabulary, which can take as long as the model: `draw` needs to know of
the token drawn alone whether it is in the nucleus.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from engine.config import SamplingParams
from engine.errors import EngineFailure
from engine.sentences import say

_GREEDY_BELOW = 1e-5  # dividing by less makes the scores infinite
_BLOCK_TOKENS = 128  # that are looked at together: adding up one after the other takes several times as long

Floats = NDArray[np.float32]


class Sampler:
    """Draws the tokens of one reply; with a seed, the same ones each time.

    Args:
        params: How to draw.
        vocab_size: Ids that the tokenizer knows; larger ones, padding of the model's table, are never drawn.
    """

    def __init__(self, params: SamplingParams, vocab_size: int | None = None) -> None:
        """See the class."""
        self._params = params
        self._greedy = params.temperature < _GREEDY_BELOW
        self._vocab_size = vocab_size
        # Python promises its own generator to give the same numbers for good.
        self._random = random.Random(None if params.seed is None else params.seed % (1 << 64))
        self._weights: Floats = np.empty(0, np.float32)

    def sample(
        self, logits: torch.Tensor, previous_ids: Sequence[int] = (), allowed: torch.Tensor | None = None
    ) -> int:
        """Draw a token.

        Args:
            logits: Scores [V] or [1, V] of any float type on any device; left as they are.
            previous_ids: Prompt and reply so far, for the repetition penalty.
            allowed: The tokens to draw from: bool [V], padding left out; None for all.

        Returns:
            The token's id.

        Raises:
            EngineFailure: The scores are not numbers.
        """
        plain = logits if logits.is_cpu and logits.dtype is torch.float32 else logits.float().cpu()
        scores: Floats = plain.numpy().reshape(-1)[: self._vocab_size]
        if allowed is not None:
            scores = np.where(allowed.numpy()[: len(scores)], scores, np.float32(-np.inf))
        best = int(scores.argmax())  # NaN is larger than any
        if not math.isfinite(scores[best]):
            raise EngineFailure(
                say("The model's scores are not finite numbers."),
                say("Load the model again; if it happens again, its files are damaged: download them again."),
            )
        if self._params.repetition_penalty != 1.0:
            scores = penalised(scores, previous_ids, self._params.repetition_penalty)
            best = int(scores.argmax())
        if self._greedy:
            return best
        tokens = largest(scores, self._params.top_k) if 0 < self._params.top_k < len(scores) else None
        weights = self.weigh(scores if tokens is None else scores[tokens], scores[best])
        drawn = draw(weights, self._params.top_p, self._params.min_p, self._random.random)
        return drawn if tokens is None else int(tokens[drawn])

    def weigh(self, scores: Floats, best: np.float32) -> Floats:
        """How likely tokens are beside the best one, by temperature.

        Args:
            scores: Of some tokens [n], penalties applied.
            best: The largest.

        Returns:
            [n], the best one's 1; of use until the next call.
        """
        if len(self._weights) < len(scores):
            self._weights = np.empty_like(scores)
        weights = self._weights[: len(scores)]
        with np.errstate(over="ignore"):  # of what a model has masked with the least number
            np.subtract(scores, best, out=weights)
            np.divide(weights, self._params.temperature, out=weights)
        return np.exp(weights, out=weights)


def largest(scores: Floats, count: int) -> NDArray[np.intp]:
    """The tokens with the largest scores, in their own order, without parting the whole vocabulary.

    As many blocks' largest scores are a bound: nothing below the least of them is wanted.

    Args:
        scores: [V].
        count: How many, 1 to V; more where scores are equal to the last one's.
    """
    of_blocks = np.maximum.reduceat(scores, np.arange(0, len(scores), _BLOCK_TOKENS))
    bound = np.partition(of_blocks, -count)[-count] if count < len(of_blocks) else -np.inf
    tokens: NDArray[np.intp] = np.flatnonzero(scores >= bound)
    found = scores[tokens]
    kept: NDArray[np.intp] = tokens[found >= np.partition(found, -count)[-count]]
    return kept


def draw(weights: Floats, top_p: float, min_p: float, uniform: Callable[[], float]) -> int:
    """Draw a token from the nucleus: the likeliest ones, up to the one that brings their share to `top_p`.

    A token is in the nucleus if those before it, from the likeliest down, have less than that share. So one is drawn
    from all. If it is not in the nucleus, neither is any behind it, and the next is drawn from those before it: each
    draw is right among what it was drawn from, which always holds the nucleus, so the one that is taken is right, too.

    Args:
        weights: How likely tokens are [n], the best one 1; used up.
        top_p: The share, above 0; 1 for all.
        min_p: Only tokens that weigh at least this.
        uniform: Gives the next random number from 0 to below 1.

    Returns:
        Which of them.
    """
    sums = _running_sums(weights)
    most = top_p * sums[-1] if top_p < 1.0 else math.inf
    if min_p > 0.0:
        weights[weights < min_p] = 0.0
        sums = _running_sums(weights)
    while True:
        token = _at(weights, sums, uniform())
        if most == math.inf:
            return token
        before = weights > weights[token]
        before[:token] = weights[:token] >= weights[token]  # of equals the first comes first
        np.multiply(weights, before, out=weights)
        sums = _running_sums(weights)
        if sums[-1] < most:
            return token


def _running_sums(weights: Floats) -> NDArray[np.float64]:
    """The weights of all blocks up to each one, itself included."""
    blocks = np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK_TOKENS))
    sums: NDArray[np.float64] = np.cumsum(blocks, dtype=np.float64)
    return sums


def _at(weights: Floats, sums: NDArray[np.float64], share: float) -> int:
    """The token where some share of all weight is reached, 0 to below 1; one that weighs something."""
    target = min(share * sums[-1], math.nextafter(sums[-1], 0.0))
    block = int(np.searchsorted(sums, target, side="right"))
    first = block * _BLOCK_TOKENS
    inside = weights[first : first + _BLOCK_TOKENS]
    tokens = np.flatnonzero(inside)
    left = target - (sums[block - 1] if block else 0.0)
    turn = np.searchsorted(np.cumsum(inside[tokens], dtype=np.float64), left, side="right")
    return first + int(tokens[min(turn, len(tokens) - 1)])


def penalised(scores: Floats, ids: Sequence[int], penalty: float) -> Floats:
    """Scores where tokens that were there before are less likely, or with a penalty below 1 more so.

    Args:
        scores: [V]; left as they are.
        ids: Tokens that were there, as often as they were.
        penalty: What positive scores are divided by, and negative ones multiplied.

    Returns:
        [V].
    """
    seen = np.array(ids, dtype=np.intp)
    scores = scores.copy()
    told = scores[seen]
    scores[seen] = np.where(told < 0, told * np.float32(penalty), told / np.float32(penalty))
    return scores


class StopWatcher:
    """Looks for stop texts in a reply that comes in pieces, and holds back what may be the beginning of one.

    Args:
        stop: The texts; empty ones are ignored.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        """See the class."""
        self._stop = tuple(text for text in stop if text)
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """Take the next piece.

        Returns:
            The text that may be shown, and whether a stop text was met; what follows it is dropped.
        """
        held = self._held + text
        found = [index for stop in self._stop if (index := held.find(stop)) >= 0]
        if found:
            self._held = ""
            return held[: min(found)], True
        keep = max((_overlap(held, stop) for stop in self._stop), default=0)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep], False

    def flush(self) -> str:
        """What was held back, once the reply is over."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Characters at the end of a text that are the beginning of a stop text."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
