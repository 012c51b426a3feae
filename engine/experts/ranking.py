"""Which experts live in so many bytes of VRAM: as many of a ranking as fit, each as large as it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.config import ModelConfig, PlacementName
from engine.experts.parts import part_worth
from engine.messages import PlanningInputs

Mask = NDArray[np.bool_]


# The latest popularities as arrays: a plan asks for them many times, and to hash one takes as long as to make it.
_arrays: deque[tuple[tuple[tuple[float, ...], ...], NDArray[np.float64]]] = deque(maxlen=4)


def as_array(popularity: tuple[tuple[float, ...], ...]) -> NDArray[np.float64]:
    """Shares of visits [L, E], read only."""
    known = tuple(_arrays)
    for one, shares in known:
        if one is popularity:
            return shares
    for one, shares in known:
        if one == popularity:  # ends at the first share that differs
            return shares
    shares = np.array(popularity)
    shares.flags.writeable = False
    _arrays.append((popularity, shares))
    return shares


def layer_expert_bytes(model: ModelConfig) -> NDArray[np.int64]:
    """Bytes of one expert of each layer [L]."""
    if not model.expert_formats:
        return np.full(model.layers, model.expert_bytes)
    a_layer = {formats: layer for layer, formats in enumerate(model.expert_formats)}
    sizes = {formats: model.layer_expert_bytes(layer) for formats, layer in a_layer.items()}
    return np.array([sizes[formats] for formats in model.expert_formats])


def as_mask(model: ModelConfig, by_layer: Sequence[Sequence[int]]) -> Mask:
    """Experts by layer as a mask [L, E]."""
    mask = np.zeros((model.layers, model.experts), dtype=np.bool_)
    for layer, experts in enumerate(by_layer):
        mask[layer, list(experts)] = True
    return mask


def lent_for(lent_bytes: Mapping[int, int], tokens: int) -> int:
    """What residents lend the workspace of a prompt with so many new tokens, by a plan's `lent_bytes`."""
    return next(
        (size for longest, size in lent_bytes.items() if tokens <= longest), max(lent_bytes.values(), default=0)
    )


def staying_residents(
    model: ModelConfig,
    popularity: tuple[tuple[float, ...], ...],
    resident: Mask,
    lent_bytes: int,
    present: Mask | None = None,
) -> Mask:
    """Which residents stay where the least popular make way for so many bytes [L, E].

    Args:
        model: Their sizes.
        popularity: Per layer and expert the share of visits.
        resident: Those of a reply.
        lent_bytes: What a long prompt's workspace takes from them.
        present: Those that are in VRAM now, if not all are: others are the first that need not be there.
    """
    if lent_bytes <= 0:
        return resident
    leaving = np.argsort(-(as_array(popularity) * part_worth(model)).T.ravel(), kind="stable")[::-1]
    leaving = leaving[resident.T.ravel()[leaving]]
    if present is not None:
        leaving = leaving[np.argsort(present.T.ravel()[leaving], kind="stable")]
    freed = np.cumsum(np.tile(layer_expert_bytes(model), model.experts)[leaving])
    staying = resident.T.flatten()
    staying[leaving[: np.searchsorted(freed, lent_bytes) + 1]] = False
    return staying.reshape(model.experts, model.layers).T


def choose_residents(
    inputs: PlanningInputs, placement: PlacementName, room: int, held: Sequence[Sequence[int]]
) -> Mask:
    """Which experts live in so many bytes of VRAM [L, E].

    "popularity" ranks all (layer, expert) pairs together, ties by expert, then layer, so that before anything is known
    every layer gets its share; "uniform" knows nothing of popularity and gives every layer the same number. What a hit
    saves grows with the expert's bytes, so the share of visits is also what a byte of VRAM is worth, but for the last
    part of an expert in parts.

    Args:
        inputs: The model, and its experts' popularity.
        placement: How to rank.
        room: Bytes.
        held: Per layer experts that come before all others, in the same ranking: none is moved without need.
    """
    model = inputs.model
    if placement == "uniform":
        ranking = np.arange(model.layers * model.experts)
    else:
        ranking = np.argsort(-(as_array(inputs.popularity) * part_worth(model)).T.ravel(), kind="stable")
    if held:
        ranking = ranking[np.argsort(~as_mask(model, held).T.ravel()[ranking], kind="stable")]
    ends = np.cumsum(np.tile(layer_expert_bytes(model), model.experts)[ranking])
    chosen = np.zeros(model.layers * model.experts, dtype=np.bool_)
    chosen[ranking[: np.searchsorted(ends, room, side="right")]] = True
    return chosen.reshape(model.experts, model.layers).T
