"""Which experts the router likes: counts while running, blended with what earlier sessions saw.

Fiddler ranks experts by popularity profiled once on chat data (section 3.2); here the user's own chats are the
profile. Knows nothing of placement. Belongs to the engine's thread; `shares` and `recent` hand out plain tuples.
What is observed waits until somebody asks, so that between two passes of a reply it costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from engine.config import ModelConfig
from engine.experts.saved_file import read_saved, write_saved

HISTORY_HALF_LIFE_TOKENS = 50_000
RECENT_HALF_LIFE_TOKENS = 4.0

Floats = NDArray[np.float64]
Shares = tuple[tuple[float, ...], ...]

_NEVER = -(10**9)
_MOST_WAITING = 1024  # observations that nobody has asked for yet


class Popularity:
    """Visits per layer and expert, of this session and, fading, of earlier ones.

    Parts of an expert are visited together, so it is experts that are counted, however many parts they are in.

    Args:
        model: Its shape; E experts in each of L layers.
    """

    def __init__(self, model: ModelConfig) -> None:
        """Start uniform: nothing seen."""
        self._model, self._parts = model.whole, model.expert_parts
        shape = (model.layers, model.routed_experts)
        self._earlier: Floats = np.zeros(shape)
        self._visits = np.zeros(shape, np.int64)
        self._clock_tokens = np.zeros(model.layers, np.int64)
        self._used_at_tokens = np.full(shape, _NEVER, np.int64)
        self._layers_waiting: list[tuple[int, Sequence[tuple[int, int]]]] = []
        self._tokens_waiting: list[NDArray[np.int32]] = []

    def observe(self, layer: int, counts: Sequence[tuple[int, int]]) -> None:
        """Count one layer's routing.

        Args:
            layer: Its index.
            counts: (expert, tokens) of the active experts, as the planner takes them; not changed afterwards.
        """
        if self._tokens_waiting or len(self._layers_waiting) == _MOST_WAITING:
            self._count()
        self._layers_waiting.append((layer, counts))

    def observe_token(self, experts: NDArray[np.int32]) -> None:
        """Count one token's routing in all layers.

        Args:
            experts: Chosen experts [L, A], which are in one part; not changed afterwards.
        """
        if self._layers_waiting or len(self._tokens_waiting) == _MOST_WAITING:
            self._count()
        self._tokens_waiting.append(experts)

    def _count(self) -> None:
        """Count what waits: only layers or only tokens, in the order in which they came."""
        if self._tokens_waiting:
            self._count_tokens(np.array(self._tokens_waiting))
        layers, experts, visits, used_at = [], [], [], []
        for layer, in_parts in self._layers_waiting:
            counts = self._of_experts(in_parts)
            seen = sum(tokens for _, tokens in counts)
            self._clock_tokens[layer] += max(1, seen // self._model.experts_per_token)
            layers += [layer] * len(counts)
            experts += [expert for expert, _ in counts]
            visits += [tokens for _, tokens in counts]
            used_at += [self._clock_tokens[layer]] * len(counts)
        if layers:
            np.add.at(self._visits, (layers, experts), visits)
            np.maximum.at(self._used_at_tokens, (layers, experts), used_at)
        self._layers_waiting.clear()
        self._tokens_waiting.clear()

    def _of_experts(self, counts: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
        """Counts of experts from those of their parts."""
        if self._parts == 1:
            return counts
        return [(part // self._parts, tokens) for part, tokens in counts if part % self._parts == 0]

    def _of_parts(self, by_expert: Floats) -> Shares:
        """Rows [L, E] with each number once for every part."""
        return tuple(map(tuple, np.repeat(by_expert, self._parts, axis=1).tolist()))

    def _count_tokens(self, experts: NDArray[np.int32]) -> None:
        """Count tokens [N, L, A]."""
        tokens, layers, _ = experts.shape
        flat = experts + (np.arange(layers) * self._model.experts)[:, None]
        self._visits += np.bincount(flat.ravel(), minlength=self._visits.size).reshape(self._visits.shape)
        now = self._clock_tokens[:, None] + np.arange(1, tokens + 1)[:, None, None]
        np.maximum.at(self._used_at_tokens.reshape(-1), flat, now)
        self._clock_tokens += tokens

    def shares(self) -> Shares:
        """Per layer [L] and expert [E] the share of visits.

        Rows sum to 1; every expert counts one visit to begin with, so that a model never seen is uniform.
        """
        visits = self._blended() + 1.0
        return self._of_parts(visits / (self._parts * visits.sum(axis=1, keepdims=True)))

    def recent(self) -> Shares:
        """Per layer [L] and expert [E] 0..1: 1 for the latest pass, halved every few tokens, 0 for never."""
        self._count()
        age_tokens = self._clock_tokens[:, None] - self._used_at_tokens
        return self._of_parts(np.exp2(-age_tokens / RECENT_HALF_LIFE_TOKENS))

    @classmethod
    def load(cls, path: Path, model: ModelConfig) -> Self:
        """What earlier sessions saw of a model; uniform where the file is missing, damaged or of another model.

        Args:
            path: Written by `save`.
            model: Its shape.
        """
        popularity = cls(model)
        saved = read_saved(path)
        if isinstance(saved, dict) and saved.get("model") == _identity(popularity._model):
            earlier = _visits_from(saved.get("visits"), (model.layers, model.routed_experts))
            if earlier is not None:
                popularity._earlier = earlier
        return popularity

    def save(self, path: Path) -> None:
        """Keep everything seen so far; a full disk is logged, not raised.

        Args:
            path: The file of this model; replaced at once.
        """
        visits = np.round(self._blended(), 3).tolist()
        write_saved(path, {"model": _identity(self._model), "visits": visits})

    def _blended(self) -> Floats:
        """Visits [L, E]: earlier ones halved for every half-life of tokens seen since, plus this session's."""
        self._count()
        age_tokens = self._clock_tokens[:, None]
        blended: Floats = self._earlier * np.exp2(-age_tokens / HISTORY_HALF_LIFE_TOKENS) + self._visits
        return blended


def _identity(model: ModelConfig) -> str:
    """What must match for counts to mean the same."""
    return f"{model.name} | {model.fingerprint} | {model.layers} layers, {model.experts_per_token} active"


def _visits_from(saved: object, shape: tuple[int, int]) -> Floats | None:
    """Visits [L, E] from their JSON form; None for anything else."""
    try:
        visits = np.array(saved, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    sound = visits.shape == shape and bool(np.all(np.isfinite(visits)) and np.all(visits >= 0))
    return visits if sound else None
