"""Experts on a GPU with our own kernels: few tokens multiply packed weights, many share their unpacking.

Whatever has few tokens (`engine.kernels.gpu_plans.runs_tokens`) is one launch of `GpuKernels.experts`. With more, some
experts at once are a group (`engine.kernels.gpu_grouped_plans`); one of floats, or with biases, is three products
(`engine.devices.gpu_products`).
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch

from engine.config import ExpertFormats
from engine.devices.gpu_products import GpuProducts
from engine.kernels.gpu_grouped_plans import Located, Visits, plan_group, plan_prepare_group, runs_groups
from engine.kernels.gpu_kernels import GpuKernels
from engine.kernels.gpu_plans import LayerTable, experts_workspace_bytes, runs_experts, runs_tokens
from engine.kernels.grouping import group_bytes, group_visits
from engine.kernels.packed import PackedMatrix
from engine.kernels.torch_expert import ExpertWeights, activate, expert_forward, finish


class GpuExperts:
    """Launches on torch's current stream, and nothing here waits.

    Args:
        kernels: For every format that comes, loaded and tested.

    Attributes:
        products: With single matrices; they share a buffer.
    """

    def __init__(self, kernels: GpuKernels) -> None:
        """See the class."""
        self._kernels = kernels
        self.products = GpuProducts(kernels)
        self._prepared: weakref.ref[Visits] | None = None

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
        buffer = self.products.room(size, out.device)
        self._kernels.experts(
            table, hidden.contiguous(), top_experts.contiguous(), top_weights.contiguous(), buffer, out
        )

    def runs_group(self, weights: ExpertWeights) -> bool:
        """Whether `add_group` takes such experts."""
        return runs_groups(_formats(weights), weights.gate.columns, weights.gate.rows) and weights.biases is None

    def add_group(self, visits: Visits, experts: Sequence[tuple[int, ExpertWeights]]) -> None:
        """Add the weighted outputs of some experts, each for any number of tokens.

        Args:
            visits: Of the layer; what is made ready of them serves all of its groups, if nothing else runs between.
            experts: Of one layer, in the order of the visits, with no more of them than a group takes.
        """
        weights = experts[0][1]
        formats, intermediate_size = _formats(weights), weights.gate.rows
        shape = (weights.gate.columns, intermediate_size, visits.hidden.element_size())
        tokens = visits.hidden.shape[0]
        size = group_bytes(tokens, group_visits(tokens, visits.per_token, *shape), *shape)
        buffer = self.products.room(size, visits.hidden.device)
        if self._prepared is None or self._prepared() is not visits:
            self._kernels.launch(plan_prepare_group(formats, visits.hidden, buffer))
            self._prepared = weakref.ref(visits)
        located = [Located(expert, held.flat.data_ptr()) for expert, held in experts]
        for launch in plan_group(formats, visits, located, buffer, intermediate_size):
            self._kernels.launch(launch)

    def run(self, hidden: torch.Tensor, weights: ExpertWeights) -> torch.Tensor:
        """One expert on all of its tokens: [s, H] -> [s, H], in the type of `hidden`."""
        matrices = (weights.gate, weights.up, weights.down)
        table = _alone(weights)
        if self.runs_at_once(table, hidden.shape[0], 1):
            return self._run_few(hidden, table, weights.flat.data_ptr())
        if self.runs_group(weights):
            return self._run_group(hidden.contiguous(), weights)
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

    def _run_group(self, hidden: torch.Tensor, weights: ExpertWeights) -> torch.Tensor:
        """An expert as the only one of a layer, chosen by every token with weight 1."""
        tokens, device = hidden.shape[0], hidden.device
        order, ones = torch.arange(tokens, device=device), torch.ones(tokens, 1, device=device)
        out = torch.zeros(hidden.shape, dtype=torch.float32, device=device)
        self.add_group(Visits({0: (0, tokens)}, order, order[:, None], hidden, ones, out), [(0, weights)])
        return out.to(hidden.dtype)

    def _product(self, hidden: torch.Tensor, matrix: PackedMatrix) -> torch.Tensor:
        """Multiply: [s, columns] -> [s, rows]."""
        return matrix.linear(hidden) if matrix.values is not None else self.products.linear(hidden, (matrix,))


def _formats(weights: ExpertWeights) -> ExpertFormats:
    """Of gate, up and down."""
    return weights.gate.format.name, weights.up.format.name, weights.down.format.name


def _alone(weights: ExpertWeights) -> LayerTable:
    """A layer of one expert, whose address is yet to be written."""
    address = torch.empty(1, dtype=torch.long, device=weights.flat.device)
    return LayerTable(address, _formats(weights), weights.gate.columns, weights.gate.rows, weights.biases is not None)
