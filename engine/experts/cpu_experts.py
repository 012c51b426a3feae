"""The CPU's experts of one layer, in one call: the interface, and the portable implementation with torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from engine.experts.store import ExpertStore
from engine.kernels.torch_expert import add_expert

Check = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Routing:
    """One layer's visits, sorted by expert.

    Attributes:
        spans: Expert -> (first, end) in the sorted visits, only experts with tokens.
        rows: Token of each sorted visit [T * A].
        scales: Router weight of each sorted visit [T * A, 1], fp32.
    """

    spans: dict[int, tuple[int, int]]
    rows: torch.Tensor
    scales: torch.Tensor

    def visits(self, expert: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows [s] and scales [s, 1] of one expert."""
        first, end = self.spans[expert]
        return self.rows[first:end], self.scales[first:end]


class CpuExperts(Protocol):
    """Runs experts beside their weights in RAM."""

    def run(
        self, layer: int, experts: Sequence[int], hidden: torch.Tensor, routing: Routing, check: Check
    ) -> torch.Tensor:
        """Some experts of one layer.

        Args:
            layer: Its index.
            experts: Those that run here, each in `routing.spans`.
            hidden: Normed hidden states of all tokens [T, H], on the host.
            routing: All visits of the layer, on the host.
            check: Called now and then, at least once; raises to stop.

        Returns:
            Their part of the layer's weighted sum [T, H], in the type of `hidden`.
        """


class TorchCpuExperts:
    """One expert after the other, with torch.

    Args:
        store: Their weights.
    """

    def __init__(self, store: ExpertStore) -> None:
        """See the class."""
        self._store = store

    def run(
        self, layer: int, experts: Sequence[int], hidden: torch.Tensor, routing: Routing, check: Check
    ) -> torch.Tensor:
        """See `CpuExperts`."""
        out = torch.zeros_like(hidden)
        for expert in experts:
            check()
            rows, scales = routing.visits(expert)
            add_expert(out, hidden, rows, scales, self._store.weights(layer, expert))
        return out
