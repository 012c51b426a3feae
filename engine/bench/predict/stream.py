"""Which experts tokens choose, without a model: the routers of `engine.bench.routing` on their own embeddings.

What attention and experts would add to the residual stream, a tenth of it in those models, is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.bench.models import Shape
from engine.bench.routing import Topics

WIDTH = 512  # of the embeddings: wide enough for all topics and plenty of noise

Chosen = NDArray[np.int64]


class Stream:
    """Routings of a shape's tokens.

    Args:
        shape: With a routing.
        parts: Parts that each expert is in (P).
    """

    def __init__(self, shape: Shape, parts: int = 1) -> None:
        """Make the routers."""
        assert shape.routing is not None, "a stream needs favourites"
        self._parts = parts
        self._shape, self._topics = shape, Topics(shape.routing, WIDTH)
        self._routers = np.concatenate([self._topics.router(layer, shape.experts) for layer in range(shape.layers)])

    def draw(self, tokens: int, seed: int) -> Chosen:
        """Experts, or all parts of each, [T, L, A * P] of tokens that follow each other as the model would have them.

        Args:
            tokens: How many (T).
            seed: Another one, other tokens.
        """
        shape = self._shape
        ids = np.array(self._topics.draw(tokens, shape.vocabulary, seed))
        rows = np.concatenate([self._topics.embedding(token, token + 1) for token in ids.tolist()])
        scores = (rows @ self._routers.T).reshape(tokens, shape.layers, shape.experts)
        chosen: Chosen = np.argsort(-scores, axis=2, kind="stable")[:, :, : shape.experts_per_token]
        each = chosen[..., None] * self._parts + np.arange(self._parts)
        return each.reshape(tokens, shape.layers, -1)


@dataclass(frozen=True, slots=True)
class Counts:
    """Visits of one pass: per layer (expert, tokens) of the active experts, and how many tokens."""

    tokens: int
    by_layer: tuple[tuple[tuple[int, int], ...], ...]

    @classmethod
    def of(cls, chosen: Chosen, experts: int) -> Counts:
        """Of a pass's choices [T, L, A]."""
        rows = []
        for layer in range(chosen.shape[1]):
            counted = np.bincount(chosen[:, layer].ravel(), minlength=experts)
            rows.append(tuple((expert, int(counted[expert])) for expert in np.flatnonzero(counted).tolist()))
        return cls(chosen.shape[0], tuple(rows))
