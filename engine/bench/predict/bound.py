"""What bytes and arithmetic allow a pass of a prompt: no launch, no waiting, every side busy all the time.

For the best share f of the experts outside VRAM that is streamed, those with the most tokens first, f alike in all
layers:  max(bytes over the link, arithmetic and bytes of the GPU with the dense part, the same of the CPU).
"""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.bench.gpu.pcs import Pc
from engine.bench.predict.stream import Counts
from engine.config import ModelConfig

Floats = NDArray[np.float64]

_SHARES = np.linspace(0.0, 1.0, 201)


def prompt_bound_seconds(
    model: ModelConfig, pc: Pc, counts: Counts, resident: Sequence[Container[int]], dense_layer_s: float
) -> float:
    """Least seconds of one pass of a prompt.

    Args:
        model: Its shape.
        pc: Whose speeds.
        counts: The visits of the pass.
        resident: Per layer the experts in VRAM.
        dense_layer_s: What surrounds the experts of a layer takes on the GPU.
    """
    operations = 2 * model.expert_parameters
    sides = np.zeros((3, len(_SHARES)))
    for layer, row in enumerate(counts.by_layer):
        size = model.layer_expert_bytes(layer)
        here = np.array([tokens for expert, tokens in row if expert in resident[layer]], dtype=np.float64)
        others = np.sort(np.array([tokens for expert, tokens in row if expert not in resident[layer]], dtype=float))
        on_gpu_s = np.maximum(size / pc.vram_bytes_per_s, others[::-1] * operations / pc.gpu_flops)
        on_cpu_s = np.maximum(size / pc.ram_bytes_per_s, others[::-1] * operations / pc.cpu_operations_per_s)
        here_s = np.maximum(size / pc.vram_bytes_per_s, here * operations / pc.gpu_flops).sum()
        streamed = _SHARES * len(others)
        sides[0] += streamed * size / pc.link_bytes_per_s
        sides[1] += dense_layer_s + here_s + _first(on_gpu_s, streamed)
        sides[2] += on_cpu_s.sum() - _first(on_cpu_s, streamed)
    return float(sides.max(axis=0).min())


def _first(seconds: Floats, counts: Floats) -> Floats:
    """Sums of the first so many, parts of one included."""
    sums = np.concatenate([[0.0], np.cumsum(seconds)])
    partly: Floats = np.interp(counts, np.arange(len(sums)), sums)
    return partly
