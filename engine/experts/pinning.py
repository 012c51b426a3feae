"""Which experts' host copies are page-locked: all, or as many as the system bears, the most used outside VRAM first.

Only page-locked memory is copied at the link's speed, and beside the host's work. What is not page-locked is computed
on the CPU, or streamed at a fraction of the speed where even that is quicker. Pure arithmetic.

An expert whose size is a whole number of pages is locked by itself, else its layer is, because two locked ranges may
not share a page.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from engine.config import EngineConfig, ModelConfig
from engine.experts.ranking import as_array, layer_expert_bytes
from engine.hardware import HardwareProfile

GIB = 1 << 30
KEPT_PARTS, KEPT_LEAST_BYTES = 8, 4 * GIB  # of RAM: what a system must be able to move

Mask = NDArray[np.bool_]


def pinned_budget(hardware: HardwareProfile, config: EngineConfig, platform: str = sys.platform) -> int:
    """Bytes that may be page-locked.

    Windows' driver locks half of RAM at most. Elsewhere nothing forbids more, but memory that cannot be moved leaves
    the system less to work with: an eighth of RAM, and at least 4 GiB, stay movable.

    Args:
        hardware: Its RAM.
        config: A lower limit, perhaps.
        platform: As in `sys.platform`.
    """
    total = hardware.ram_total_bytes
    most = total // 2 if platform == "win32" else max(total // 2, total - max(KEPT_LEAST_BYTES, total // KEPT_PARTS))
    return most if config.pinned_budget_bytes is None else min(most, config.pinned_budget_bytes)


def choose_pinned(
    model: ModelConfig, popularity: tuple[tuple[float, ...], ...], resident: Mask, budget_bytes: int
) -> Mask:
    """The experts to page-lock [L, E].

    Args:
        model: Their sizes.
        popularity: Per layer and expert the share of visits.
        resident: Those that live in VRAM, which are streamed only when they have left it: they come last.
        budget_bytes: Most bytes.
    """
    if model.experts_bytes <= budget_bytes:
        return np.ones((model.layers, model.experts), dtype=np.bool_)
    sizes = layer_expert_bytes(model)
    alone = (sizes % mmap.PAGESIZE == 0)[:, None]  # others share pages with their neighbours: a layer is locked whole
    worth = as_array(popularity) - resident  # a share is at most 1
    worth = np.where(alone, worth, worth.mean(axis=1, keepdims=True))
    unit_bytes = np.where(alone[:, 0], sizes, sizes * model.experts).tolist()
    layers, experts = np.nonzero(alone | (np.arange(model.experts) == 0))
    order = np.argsort(-worth[layers, experts], kind="stable")
    chosen: list[int] = []
    for unit, layer in zip(order.tolist(), layers[order].tolist(), strict=True):
        if unit_bytes[layer] <= budget_bytes:
            budget_bytes -= unit_bytes[layer]
            chosen.append(unit)
    pinned = np.zeros((model.layers, model.experts), dtype=np.bool_)
    pinned[layers[chosen], experts[chosen]] = True
    pinned |= ~alone & pinned[:, :1]
    return pinned


def runs_of(row: Sequence[bool]) -> list[tuple[int, int]]:
    """(first, end) of each row of experts beside each other: each is locked by one call.

    Args:
        row: Which experts of a layer.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(np.int8))).tolist()
    return list(pairwise(edges))[::2]
