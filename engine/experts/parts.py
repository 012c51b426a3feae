"""Large experts are cut into parts, so that CPU, GPU and link can share one.

An expert is y = down(act(gate(x)) * up(x)), a sum over the numbers inside. Cut along them, each part is an expert of
its own, with rows of gate and up and columns of down. The parts' sum is the whole; only the order of the sum differs.
A router that chooses an expert chooses all of its parts, with the same weight.

Where two experts of 100 MB run for a token, as in Mixtral, one that is not in VRAM is too large to be copied while the
CPU computes the other. A seventh is not: so parts keep link and GPU busy beside the CPU, and fill VRAM to the last
slot. Fine-grained models have small experts already. Without a GPU there is nobody to share with.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine.config import ModelConfig
from engine.experts.footprint import PlannedDevice
from engine.quant.formats import FORMATS, TILE_ROWS

PART_BYTES = 16 << 20  # parts are to be no larger, as far as
MOST_VISITS = 16  # of a token to parts, which our GPU kernels choose, let them
# What the last part of an expert is worth in VRAM: with it the GPU computes all of the expert while the CPU has nothing
# to do. Mixtral's decode on 24 GB is predicted 1 to 4 % slower with 0.6, 0.7 or 0.9, 9 % without it.
LAST_PART_WORTH = 0.8


def placed_model(model: ModelConfig, device: PlannedDevice) -> ModelConfig:
    """A model as its experts are placed and run: in parts where they are large and a GPU takes part.

    Args:
        model: Its shape as published.
        device: Where the dense part will live.
    """
    if device == "cpu" or model.expert_bytes <= PART_BYTES or model.traits.clamped_gate is not None:
        return model
    possible = [parts for parts in range(2, MOST_VISITS // model.experts_per_token + 1) if _divides(model, parts)]
    small_enough = (parts for parts in possible if model.expert_bytes <= parts * PART_BYTES)
    return in_parts(model, next(small_enough, possible[-1] if possible else 1))


def in_parts(model: ModelConfig, parts: int) -> ModelConfig:
    """A model with each expert cut into equal parts.

    Args:
        model: In one part, without biases in its experts; its width inside must be a multiple of `parts` times what a
            block of any of its formats spans, and a tile.
        parts: How many (P).
    """
    assert parts == 1 or _divides(model, parts), f"{model.intermediate_size} columns are not {parts} parts"
    return replace(
        model,
        experts=model.experts * parts,
        experts_per_token=model.experts_per_token * parts,
        intermediate_size=model.intermediate_size // parts,
        expert_parts=parts,
    )


def part_worth(model: ModelConfig) -> NDArray[np.float64]:
    """What a visit that finds its part in VRAM is worth, beside the other parts of that expert [E]."""
    worth = np.ones(model.experts)
    if model.expert_parts > 1:
        worth[model.expert_parts - 1 :: model.expert_parts] = LAST_PART_WORTH
    return worth


def _divides(model: ModelConfig, parts: int) -> bool:
    """Whether parts end where rows of tiles and columns of blocks end."""
    formats = {name for layer in range(model.layers if model.expert_formats else 1) for name in model.formats(layer)}
    steps = (TILE_ROWS, *(FORMATS[name].block_columns for name in formats))
    return all(model.intermediate_size % (parts * step) == 0 for step in steps)
