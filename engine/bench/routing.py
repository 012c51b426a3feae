"""Weights that route as trained models do: experts with favourites, and runs of tokens that share them.

Random weights send tokens everywhere alike, which no cache of experts can profit from. Here every token belongs to a
topic (its id modulo the number of topics), and its embedding is the sum of three directions of equal length:

    topic[k]   read by the routers: expert e scores -zipf * log(rank of e), its rank partly its own in each topic
    next[j]    read by the head: the topic of the token that follows, j = k but for one token in `topic_tokens`
    noise[v]   read by the routers too, with weight `noise`: what a token has to say beside its topic

Expected sizes, for tokens of one topic: scores are -zipf * log(rank) + noise * N(0, 1), so that the chosen experts
fall off like Zipf's law and a lower noise makes successive tokens share more of them. What attention and experts add
to the residual stream is kept small, so that all layers still see this. Nothing but weights: every engine routes alike.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

BRANCH_GAIN = 0.2  # what all layers together add to the residual stream, of attention and of experts each

_TOPICS = 16
_NOISES = 4093  # a prime: tokens of a topic, whose ids lie evenly apart, meet different ones
_HEAD_GAIN = 10.0  # by how much the logits of the next topic's tokens are above all others
_WORDS_GAIN = 1.0  # how much tokens of a topic differ in their logits
_PARTS = 3**-0.5  # of an embedding's length


@dataclass(frozen=True, slots=True)
class Routing:
    """How a model shall route.

    Attributes:
        zipf: Exponent of the experts' popularity within a topic.
        common: Share of an expert's rank that is the same in all topics, 0..1.
        noise: Weight of what a token says beside its topic.
        topic_tokens: Mean length of a run of one topic.
    """

    zipf: float
    common: float
    noise: float
    topic_tokens: int

    @property
    def label(self) -> str:
        """For file names."""
        return f"zipf{self.zipf:g}-common{self.common:g}-noise{self.noise:g}-topic{self.topic_tokens}"


# Chosen so that a cache of the latest experts hits about as often as is published: fine-grained models 67 % with an
# eighth of the experts and 81 % with a quarter; Mixtral is hardly better than chance.
ROUTINGS: Mapping[str, Routing] = MappingProxyType(
    {"mixtral": Routing(0.4, 0.3, 1.0, 64), "qwen3": Routing(1.0, 0.3, 0.75, 64)}
)


class Topics:
    """The structured tensors of one model, and the tokens that suit it.

    Args:
        routing: How it shall route.
        hidden: Width of the residual stream, at least 64.
        seed: Fixes everything.
    """

    def __init__(self, routing: Routing, hidden: int, seed: int = 0) -> None:
        """See the class."""
        self._routing, self._hidden, self._seed = routing, hidden, seed

    def following(self, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """The topic that comes after each of some tokens."""
        leaves = tokens // _TOPICS % self._routing.topic_tokens == 0
        following: NDArray[np.int64] = (tokens + leaves) % _TOPICS
        return following

    def embedding(self, first: int, last: int) -> Floats:
        """Rows first..last of the embedding [tokens, H]; their root mean square is 1."""
        tokens = np.arange(first, last)
        topic, following = self._directions
        rows = topic[tokens % _TOPICS] + following[self.following(tokens)] + self._noise[tokens % _NOISES]
        return rows * np.float32(_PARTS)

    def head(self, first: int, last: int) -> Floats:
        """Rows first..last of the matrix that makes logits [tokens, H]."""
        tokens = np.arange(first, last)
        _, following = self._directions
        towards = following[tokens % _TOPICS] * np.float32(_HEAD_GAIN / _PARTS / self._hidden)
        # Of the noise in embeddings, a token would always ask for the one with the same.
        words = self._words[tokens % _NOISES] * np.float32(_WORDS_GAIN / _PARTS / self._hidden**0.5)
        return towards + words

    def router(self, layer: int, experts: int) -> Floats:
        """The router of a layer [E, H]."""
        generator = np.random.default_rng((self._seed, 2, layer))
        ranks = np.log(np.arange(1, experts + 1))
        shared, routing = generator.permutation(ranks), self._routing
        own = np.array([generator.permutation(ranks) for _ in range(_TOPICS)])
        scores = -routing.zipf * (routing.common * shared + (1 - routing.common) * own)  # [topics, E]
        topic, _ = self._directions
        by_topic = scores.T.astype(np.float32) @ topic / np.float32(_PARTS * self._hidden)
        by_token = self._across(generator.standard_normal((experts, self._hidden), dtype=np.float32))
        rows: Floats = by_topic + by_token * np.float32(routing.noise / _PARTS / self._hidden**0.5)
        return rows

    def draw(self, count: int, vocabulary: int, seed: int) -> list[int]:
        """Tokens that follow each other as the model itself would have them.

        Args:
            count: How many.
            vocabulary: Ids to draw from.
            seed: Another one, other tokens.
        """
        draw = random.Random(seed)
        topic, tokens = draw.randrange(_TOPICS), list[int]()
        for _ in range(count):
            token = topic + _TOPICS * draw.randrange(vocabulary // _TOPICS)
            topic = int(self.following(np.array([token]))[0])
            tokens.append(token)
        return tokens

    @cached_property
    def _directions(self) -> tuple[Floats, Floats]:
        """Orthogonal directions of the topics and of the topics to follow, each [topics, H] of root mean square 1."""
        generator = np.random.default_rng((self._seed, 0))
        basis, _ = np.linalg.qr(generator.standard_normal((self._hidden, 2 * _TOPICS)))
        rows = (basis.T * self._hidden**0.5).astype(np.float32)
        return rows[:_TOPICS], rows[_TOPICS:]

    @cached_property
    def _noise(self) -> Floats:
        """What tokens say beside their topics."""
        return self._random_rows(1)

    @cached_property
    def _words(self) -> Floats:
        """What the head tells tokens of a topic apart by."""
        return self._random_rows(3)

    def _random_rows(self, stream: int) -> Floats:
        """Noise [noises, H] of root mean square 1, across all directions."""
        generator = np.random.default_rng((self._seed, stream))
        rows = self._across(generator.standard_normal((_NOISES, self._hidden), dtype=np.float32))
        lengths = np.linalg.norm(rows, axis=1, keepdims=True).astype(np.float32)
        unit: Floats = rows / lengths * np.float32(self._hidden**0.5)
        return unit

    def _across(self, rows: Floats) -> Floats:
        """What is left of rows [n, H] across all directions."""
        both = np.concatenate(self._directions)
        along: Floats = (rows @ both.T).astype(np.float32) @ both / np.float32(self._hidden)
        return rows - along
