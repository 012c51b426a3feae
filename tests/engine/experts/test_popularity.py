from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.experts.popularity import HISTORY_HALF_LIFE_TOKENS, RECENT_HALF_LIFE_TOKENS, Popularity
from tests.engine.experts.shapes import QWEN, TINY, uniform
from tests.examples import examples

OBSERVATIONS = st.lists(
    st.tuples(
        st.integers(0, TINY.layers - 1),
        st.dictionaries(st.integers(0, TINY.experts - 1), st.integers(1, 600), min_size=1),
    ),
    max_size=30,
)


def observed(observations: list[tuple[int, dict[int, int]]]) -> Popularity:
    popularity = Popularity(TINY)
    for layer, counts in observations:
        popularity.observe(layer, list(counts.items()))
    return popularity


def test_what_waits_to_be_counted_is_bounded() -> None:
    popularity = Popularity(TINY)
    for _ in range(3000):
        popularity.observe(0, [(1, 1)])
    assert len(popularity._layers_waiting) <= 1024
    for _ in range(3000):
        popularity.observe_token(np.zeros((TINY.layers, 1), np.int32))
    assert len(popularity._tokens_waiting) <= 1024


def test_nothing_seen_is_uniform() -> None:
    popularity = Popularity(QWEN)
    assert popularity.shares() == uniform(QWEN)
    assert popularity.recent() == ((0.0,) * QWEN.experts,) * QWEN.layers


@given(OBSERVATIONS)
def test_rows_sum_to_one_and_follow_the_visits(observations: list[tuple[int, dict[int, int]]]) -> None:
    shares = np.array(observed(observations).shares())
    assert shares.shape == (TINY.layers, TINY.experts)
    assert shares.sum(axis=1) == pytest.approx(1.0)
    visits = np.ones_like(shares)
    for layer, counts in observations:
        for expert, tokens in counts.items():
            visits[layer, expert] += tokens
    assert shares == pytest.approx(visits / visits.sum(axis=1, keepdims=True))


@given(OBSERVATIONS)
def test_recent_use_is_between_zero_and_one(observations: list[tuple[int, dict[int, int]]]) -> None:
    recent = np.array(observed(observations).recent())
    assert recent.min() >= 0.0
    assert recent.max() <= 1.0
    if observations:
        layer, counts = observations[-1]
        assert all(recent[layer, expert] == 1.0 for expert in counts)


def test_recent_use_halves_with_the_tokens() -> None:
    popularity = Popularity(TINY)
    popularity.observe(0, [(2, 64), (3, 64)])
    assert popularity.recent()[0] == (0.0, 0.0, 1.0, 1.0, 0.0, 0.0)
    for _ in range(int(RECENT_HALF_LIFE_TOKENS)):
        popularity.observe(0, [(0, 1), (3, 1)])
    assert popularity.recent()[0] == (1.0, 0.0, 0.5, 1.0, 0.0, 0.0)
    popularity.observe(0, [(4, 512), (5, 512)])
    assert popularity.recent()[0][:4] == pytest.approx((0.0,) * 4, abs=1e-9)
    assert popularity.recent()[1] == (0.0,) * 6


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.integers(0, TINY.layers - 1), st.integers(1, 9)),
            st.lists(st.permutations(range(TINY.experts)), min_size=TINY.layers, max_size=TINY.layers),
        ),
        max_size=20,
    )
)
@examples(50)
def test_a_token_in_all_layers_counts_as_layer_by_layer(steps: list[tuple[int, int] | list[list[int]]]) -> None:
    at_once, by_layer = Popularity(TINY), Popularity(TINY)
    for step in steps:
        if isinstance(step, tuple):  # a layer of a prompt in between
            for popularity in (at_once, by_layer):
                popularity.observe(step[0], [(2, step[1]), (5, step[1])])
            continue
        experts = np.array(step, np.int32)[:, : TINY.experts_per_token]
        at_once.observe_token(experts)
        for layer, row in enumerate(experts.tolist()):
            by_layer.observe(layer, [(expert, 1) for expert in row])
            by_layer.recent()  # whoever asks in between changes nothing
    assert at_once.recent() == by_layer.recent()
    assert at_once.shares() == by_layer.shares()


@given(OBSERVATIONS)
@examples(25)
def test_saved_and_loaded_it_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, observations: list[tuple[int, dict[int, int]]]
) -> None:
    path = tmp_path_factory.mktemp("popularity") / "deeper" / "tiny.json"
    popularity = observed(observations)
    popularity.save(path)
    assert np.array(Popularity.load(path, TINY).shares()) == pytest.approx(np.array(popularity.shares()), abs=1e-4)


def test_earlier_sessions_fade_with_the_tokens_of_this_one(tmp_path: Path) -> None:
    path = tmp_path / "tiny.json"
    observed([(0, {1: 100_000})]).save(path)
    popularity = Popularity.load(path, TINY)
    tokens = HISTORY_HALF_LIFE_TOKENS
    popularity.observe(0, [(2, tokens), (3, tokens)])
    shares = popularity.shares()[0]
    assert shares[1] == pytest.approx(shares[2], rel=1e-3)
    assert popularity.shares()[1] == uniform(TINY)[1]


@pytest.mark.parametrize("content", ["", "{", "[]", "7", '{"visits": []}', "\x00\xff"])
def test_a_damaged_file_starts_uniform(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tiny.json"
    path.write_text(content, encoding="latin-1")
    assert Popularity.load(path, TINY).shares() == uniform(TINY)


@pytest.mark.parametrize(
    "visits",
    [
        None,
        [],
        [[1.0]],
        "x",
        [[1.0] * 6] * 2,
        [[-1.0] * 6] * 3,
        [[float("nan")] * 6] * 3,
        [["a"] * 6] * 3,
        [[1], [2, 3]],
    ],
)
def test_senseless_visits_start_uniform(tmp_path: Path, visits: object) -> None:
    path = tmp_path / "tiny.json"
    observed([(0, {1: 100})]).save(path)
    saved = json.loads(path.read_text())
    path.write_text(json.dumps(saved | {"visits": visits}))
    assert Popularity.load(path, TINY).shares() == uniform(TINY)


def test_another_models_counts_are_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "tiny.json"
    observed([(0, {1: 100})]).save(path)
    for other in (replace(TINY, layers=4), replace(TINY, experts=8), replace(TINY, name="fine-tune")):
        assert Popularity.load(path, other).shares() == uniform(other)
    assert Popularity.load(path, TINY).shares() != uniform(TINY)
    assert Popularity.load(tmp_path / "missing.json", TINY).shares() == uniform(TINY)
