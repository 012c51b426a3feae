"""Experts on a GPU with our own kernels: few tokens multiply packed weights, many share their unpacking.

Whatever has few tokens (`engine.kernels.gpu_plans.runs_tokens`) is one launch of `GpuKernels.experts`. With more, a
matrix is unpacked, a slice at a time, into a buffer that the plan's workspace has counted, and torch multiplies.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch.nn import functional as F

from engine.config import ExpertFormats
from engine.kernels.gpu_kernels import GpuKernels
from engine.kernels.gpu_plans import LayerTable, experts_workspace_bytes, runs_experts, runs_tokens
from engine.kernels.packed import GPU_SLICE_WEIGHTS, PackedMatrix, slice_rows
from engine.kernels.torch_expert import ExpertWeights, activate, expert_forward, finish


class GpuExperts:
    """Launches on torch's current stream, and nothing here waits.

    Args:
        kernels: For every format that comes, loaded and tested.
    """

    def __init__(self, kernels: GpuKernels) -> None:
        """See the class."""
        self._kernels = kernels
        self._buffer = torch.empty(0, dtype=torch.uint8)

    def runs_at_once(self, table: LayerTable, tokens: int, per_token: int) -> bool:
        """Whether `add_residents` takes such experts and so many tokens with so many experts each."""
        known = runs_experts(table.formats, table.hidden_size, table.intermediate_size) and not table.biased
        return known and runs_tokens(tokens, per_token)

    def add_residents(
        self,
        table: LayerTable,
        hidden: torch.Tensor,
        top_experts: torch.Tensor,
        top_weights: torch.Tensor,
        out: torch.Tensor,
    ) -> None:
        """Add the weighted outputs of those chosen experts that the table has.

        Args:
            table: Where they are.
            hidden: Normed hidden states [T, H].
            top_experts: Chosen experts [T, A].
            top_weights: Router weights fp32 [T, A].
            out: fp32 [T, H], changed in place.
        """
        tokens, per_token = top_experts.shape
        size = experts_workspace_bytes(tokens, per_token, table.hidden_size, table.intermediate_size)
        buffer = self._room(size, out.device)
        self._kernels.experts(
            table, hidden.contiguous(), top_experts.contiguous(), top_weights.contiguous(), buffer, out
        )

    def run(self, hidden: torch.Tensor, weights: ExpertWeights) -> torch.Tensor:
        """One expert on all of its tokens: [s, H] -> [s, H], in the type of `hidden`."""
        matrices = (weights.gate, weights.up, weights.down)
        gate, up, down = (matrix.format.name for matrix in matrices)
        table = _alone(weights, (gate, up, down))
        if self.runs_at_once(table, hidden.shape[0], 1):
            return self._run_few(hidden, table, weights.flat.data_ptr())
        if all(matrix.values is not None for matrix in matrices):
            return expert_forward(hidden, weights)
        inner = activate(self._product(hidden, weights.gate), self._product(hidden, weights.up), weights)
        return finish(self._product(inner, weights.down), weights)

    def _run_few(self, hidden: torch.Tensor, table: LayerTable, address: int) -> torch.Tensor:
        """An expert as the only one of a layer, chosen by every token with weight 1."""
        tokens, device = hidden.shape[0], hidden.device
        table.addresses.fill_(address)
        chosen = torch.zeros(tokens, 1, dtype=torch.long, device=device)
        out = torch.zeros(hidden.shape, dtype=torch.float32, device=device)
        self.add_residents(table, hidden, chosen, torch.ones(tokens, 1, device=device), out)
        return out.to(hidden.dtype)

    def _product(self, hidden: torch.Tensor, matrix: PackedMatrix) -> torch.Tensor:
        """Multiply: [s, columns] -> [s, rows]; the floats of a slice live until the next one's."""
        if matrix.values is not None:
            return matrix.linear(hidden)
        edges = (*range(0, matrix.rows, slice_rows(matrix.columns, GPU_SLICE_WEIGHTS)), matrix.rows)
        parts = []
        for first, end in pairwise(edges):
            size = (end - first) * matrix.columns * hidden.dtype.itemsize
            floats = self._room(size, hidden.device)[:size].view(hidden.dtype).view(end - first, matrix.columns)
            parts.append(F.linear(hidden, self._kernels.unpack(matrix.slice(first, end), floats)))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def _room(self, size_bytes: int, device: torch.device) -> torch.Tensor:
        """A buffer of at least so many bytes; it is reused in the order of the stream."""
        if self._buffer.nbytes < size_bytes:
            self._buffer = torch.empty(0, dtype=torch.uint8)  # given back before there is a larger one
            self._buffer = torch.empty(size_bytes, dtype=torch.uint8, device=device)
        return self._buffer


def _alone(weights: ExpertWeights, formats: ExpertFormats) -> LayerTable:
    """A layer of one expert, whose address is yet to be written."""
    address = torch.empty(1, dtype=torch.long, device=weights.flat.device)
    return LayerTable(address, formats, weights.gate.columns, weights.gate.rows, weights.biases is not None)
