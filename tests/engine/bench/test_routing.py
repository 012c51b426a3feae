"""Weights that route: favourites, topics that hold, and tokens that follow each other as they are drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.bench.routing import ROUTINGS, Routing, Topics

TOPICS, HIDDEN, VOCABULARY, EXPERTS, ACTIVE = 16, 256, 4096, 64, 8
FINE = ROUTINGS["qwen3"]


def _chosen(routing: Routing, tokens: list[int], layer: int = 0) -> NDArray[np.int64]:
    """Experts [T, A] of some tokens, as a decoder without attention would choose them."""
    topics = Topics(routing, HIDDEN)
    scores = topics.embedding(0, VOCABULARY)[tokens] @ topics.router(layer, EXPERTS).T
    return np.argsort(-scores, axis=1)[:, :ACTIVE]


def _overlap(chosen: NDArray[np.int64]) -> float:
    pairs = zip(chosen.tolist(), chosen[1:].tolist(), strict=False)
    return float(np.mean([len(set(now) & set(then)) / ACTIVE for now, then in pairs]))


def test_an_embedding_has_the_size_of_a_normed_state() -> None:
    rows = Topics(FINE, HIDDEN).embedding(0, 300)
    assert np.sqrt(np.mean(rows**2, axis=1)) == pytest.approx(np.ones(300), rel=0.01)


def test_parts_of_a_matrix_are_rows_of_the_whole() -> None:
    topics = Topics(FINE, HIDDEN)
    assert (topics.embedding(100, 200) == topics.embedding(0, 300)[100:200]).all()
    assert (topics.head(100, 200) == topics.head(0, 300)[100:200]).all()


def test_the_head_asks_for_a_token_of_the_following_topic() -> None:
    topics = Topics(FINE, HIDDEN)
    tokens = np.arange(VOCABULARY)
    best = (topics.embedding(0, VOCABULARY) @ topics.head(0, VOCABULARY).T).argmax(axis=1)
    assert (best % TOPICS == topics.following(tokens)).all()
    assert len(np.unique(best)) > 500  # and not always for the same


def test_topics_last_as_long_as_is_said() -> None:
    tokens = Topics(FINE, HIDDEN).draw(20_000, 1 << 16, seed=1)
    changes = int(np.count_nonzero(np.diff(np.array(tokens) % TOPICS)))
    assert 20_000 / changes == pytest.approx(FINE.topic_tokens, rel=0.2)


def test_drawn_tokens_follow_each_other_and_depend_on_the_seed() -> None:
    topics = Topics(FINE, HIDDEN)
    tokens = np.array(topics.draw(500, VOCABULARY, seed=1))
    assert (topics.following(tokens)[:-1] == tokens[1:] % TOPICS).all()
    assert topics.draw(500, VOCABULARY, seed=1) == tokens.tolist() != topics.draw(500, VOCABULARY, seed=2)


def test_experts_of_a_topic_fall_off_like_zipf() -> None:
    visits = np.bincount(_chosen(FINE, list(range(0, VOCABULARY, TOPICS))).ravel(), minlength=EXPERTS)
    shares = np.sort(visits / visits.sum())[::-1]
    assert shares[0] > 3 / EXPERTS
    assert shares[:16].sum() > 0.6
    even = np.bincount(_chosen(replace(FINE, zipf=0.0), list(range(0, VOCABULARY, TOPICS))).ravel(), minlength=EXPERTS)
    assert np.sort(even / even.sum())[::-1][:16].sum() < 0.4


def test_tokens_of_a_topic_share_experts_and_those_of_others_share_fewer() -> None:
    within = _overlap(_chosen(FINE, list(range(0, VOCABULARY, TOPICS))))
    between = _overlap(_chosen(FINE, list(range(400))))
    assert within > between + 0.1
    assert within > 2 * ACTIVE / EXPERTS


def test_more_noise_shares_fewer_and_common_ranks_share_more() -> None:
    one_topic, many = list(range(0, VOCABULARY, TOPICS)), list(range(400))
    calm, loud = (_overlap(_chosen(replace(FINE, noise=noise), one_topic)) for noise in (0.3, 2.0))
    assert calm > loud + 0.2
    alike, apart = (_overlap(_chosen(replace(FINE, common=common), many)) for common in (1.0, 0.0))
    assert alike > apart + 0.1


def test_layers_have_favourites_of_their_own() -> None:
    tokens = list(range(0, VOCABULARY, TOPICS))
    favourites = [np.bincount(_chosen(FINE, tokens, layer).ravel(), minlength=EXPERTS).argmax() for layer in range(4)]
    assert len(set(favourites)) > 1


def test_the_name_of_a_file_tells_every_parameter() -> None:
    others = replace(FINE, zipf=0.5), replace(FINE, common=0.5), replace(FINE, noise=0.5), replace(FINE, topic_tokens=7)
    assert len({FINE.label, *(other.label for other in others)}) == 5
