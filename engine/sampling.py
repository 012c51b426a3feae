"""Drawing the next token, and stopping at a text.

The filters are transformers' own logits processors, in the order of its `generate`: importing them after torch takes
0.4 s (transformers' package without its models), which is paid in the engine's process and beside a load of seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TopPLogitsWarper,
)

from engine.config import SamplingParams
from engine.errors import EngineFailure
from engine.sentences import say

_GREEDY_BELOW = 1e-5  # dividing by less makes the scores infinite
_NUCLEUS_TOKENS = 1024


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
        self._generator = torch.Generator()
        if params.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(params.seed % (1 << 63))

    def sample(
        self, logits: torch.Tensor, previous_ids: Sequence[int] = (), allowed: torch.Tensor | None = None
    ) -> int:
        """Draw a token.

        Args:
            logits: Scores [V] of any float type on any device; left as they are.
            previous_ids: Prompt and reply so far, for the repetition penalty.
            allowed: The tokens to draw from: bool [V], padding left out; None for all.

        Returns:
            The token's id.

        Raises:
            EngineFailure: The scores are not numbers.
        """
        scores = logits[: self._vocab_size].float().unsqueeze(0)
        if allowed is not None:
            scores = scores.masked_fill(~allowed[: scores.shape[-1]].to(scores.device), float("-inf"))
        best = int(scores.argmax())
        if not torch.isfinite(scores[0, best]):
            raise EngineFailure(
                say("The model's scores are not finite numbers."),
                say("Load the model again; if it happens again, its files are damaged: download them again."),
            )
        if self._params.repetition_penalty != 1.0:
            row = torch.tensor([list(previous_ids)], dtype=torch.long, device=scores.device)
            penalty = RepetitionPenaltyLogitsProcessor(float(self._params.repetition_penalty))
            scores = penalty(cast("torch.LongTensor", row), cast("torch.FloatTensor", scores))
            best = int(scores.argmax())
        if self._greedy:
            return best
        chances, ids = self.chances(scores)
        # Drawn on the CPU, so that a seed gives the same reply whatever device computed the scores.
        drawn = int(torch.multinomial(chances.cpu(), 1, generator=self._generator))
        return drawn if ids is None else int(ids[drawn])

    def chances(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What is left to draw from.

        Sorting a whole vocabulary, which top-p asks for, can take longer than the model. Where the likeliest few
        hold the nucleus, only they go through the filters, with the same result: top-p of the whole is top-p / m of
        those that hold a share m of it.

        Args:
            scores: [1, V], penalties applied.

        Returns:
            Probabilities [C] and the ids [C] that they belong to, None for all of V.
        """
        params = self._params
        scores, ids, top_p = scores / params.temperature, None, params.top_p
        size = params.top_k or _NUCLEUS_TOKENS
        if size < scores.shape[-1] and (params.top_k or top_p < 1.0):
            likely, likely_ids = torch.topk(scores, size)
            share = 1.0 if params.top_k else float(torch.exp(likely.logsumexp(-1) - scores.logsumexp(-1)))
            if share > top_p or params.top_k:
                scores, ids, top_p = likely, likely_ids[0], min(1.0, top_p / share)
        filters = LogitsProcessorList()
        if top_p < 1.0:
            filters.append(TopPLogitsWarper(top_p))
        if params.min_p > 0.0:
            filters.append(MinPLogitsWarper(params.min_p))
        none = cast("torch.LongTensor", torch.empty((1, 0), dtype=torch.long))
        return torch.softmax(filters(none, cast("torch.FloatTensor", scores))[0], dim=-1), ids


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
