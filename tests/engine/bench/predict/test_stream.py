"""Synthetic routings: every token has its experts, and they have the favourites that the shape asks for."""

from __future__ import annotations

import numpy as np

from engine.bench.models import SIZES
from engine.bench.predict.stream import Counts, Stream

SMALL = SIZES["small"][1]


def test_every_token_has_its_experts_once_per_layer() -> None:
    chosen = Stream(SMALL).draw(20, seed=1)
    assert chosen.shape == (20, SMALL.layers, SMALL.experts_per_token)
    assert all(len(set(row)) == SMALL.experts_per_token for row in chosen.reshape(-1, SMALL.experts_per_token).tolist())
    assert np.array_equal(chosen, Stream(SMALL).draw(20, seed=1))


def test_successive_tokens_share_experts_more_than_chance_would() -> None:
    chosen = Stream(SMALL).draw(400, seed=2)[:, 0].tolist()
    shared = [len(set(now) & set(then)) / len(now) for now, then in zip(chosen[1:], chosen, strict=False)]
    assert float(np.mean(shared)) > 1.5 * SMALL.experts_per_token / SMALL.experts


def test_counts_are_all_visits() -> None:
    chosen = Stream(SMALL).draw(30, seed=3)
    counts = Counts.of(chosen, SMALL.experts)
    assert counts.tokens == 30
    for layer, row in enumerate(counts.by_layer):
        assert sum(tokens for _, tokens in row) == 30 * SMALL.experts_per_token
        assert {expert for expert, _ in row} == set(np.unique(chosen[:, layer]).tolist())
