"""The CPU's experts of one layer through our native library: all of them in one call, in the formats they have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from engine.experts.cpu_experts import Check, Routing
from engine.experts.store import ExpertStore
from engine.kernels.cpu_library import CpuPool, ExpertsRef, MatrixRef
from engine.kernels.packed import PackedMatrix


def experts_reference(store: ExpertStore, layer: int) -> ExpertsRef:
    """One layer's experts by address, as the library takes them; the store must outlive it."""
    run = store.layer(layer)
    first = store.weights(layer, 0)

    def inside(matrix: PackedMatrix) -> MatrixRef:
        """A matrix by its offset in an expert."""
        offset = matrix.data.data_ptr() - run.data_ptr()
        return MatrixRef.of(offset, matrix.format, matrix.rows, matrix.columns)

    matrices = inside(first.gate), inside(first.up), inside(first.down)
    biases = first.biases
    if biases is None:
        return ExpertsRef(run.data_ptr(), run.stride(0), *matrices)
    begin, clamped = biases.gate.data_ptr() - run.data_ptr(), biases.clamped
    return ExpertsRef(run.data_ptr(), run.stride(0), *matrices, begin, clamped.slope, clamped.limit)


class NativeCpuExperts:
    """See `CpuExperts`.

    Args:
        store: The experts' weights.
        layers: Layers of the model.
        pool: Threads of the native library.
    """

    def __init__(self, store: ExpertStore, layers: int, pool: CpuPool) -> None:
        """See the class."""
        self._references = [experts_reference(store, layer) for layer in range(layers)]
        self._pool = pool

    def run(
        self, layer: int, experts: Sequence[int], hidden: torch.Tensor, routing: Routing, check: Check
    ) -> torch.Tensor:
        """See `CpuExperts`; computes in fp32, block formats with int8 activations."""
        check()
        spans = [routing.spans[expert] for expert in experts]
        first = np.cumsum([0, *(end - begin for begin, end in spans)], dtype=np.int32)
        order = np.concatenate([np.arange(begin, end) for begin, end in spans])
        tokens = routing.rows.numpy()[order].astype(np.int32)
        weights = routing.scales.numpy().reshape(-1)[order].astype(np.float32)
        indices = np.array(experts, dtype=np.int32)
        x = hidden.float().contiguous()
        out = torch.zeros_like(x)
        visits = (len(experts), *(array.ctypes.data for array in (indices, first, tokens, weights)))
        self._pool.run_experts(self._references[layer], x.data_ptr(), x.shape[0], visits, out.data_ptr(), check)
        return out.to(hidden.dtype)
