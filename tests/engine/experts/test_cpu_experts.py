"""The CPU's part of a layer: each expert on its own tokens, scaled and summed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.config import EngineConfig
from engine.devices import SimulatedDevice
from engine.experts.cpu_experts import Routing, TorchCpuExperts
from engine.experts.store import ExpertStore
from engine.kernels.torch_expert import expert_forward
from engine.quant.packing import pack_into
from tests.engine.shapes import TINY
from tests.quantised import random_blocks

FORMATS_BY_LAYER = (("Q4_K", "Q4_K", "Q6_K"), ("Q8_0", "IQ4_NL", "F16"), ("BF16", "BF16", "BF16"))
MIXED = replace(TINY, hidden_size=256, intermediate_size=256, expert_formats=FORMATS_BY_LAYER)


@pytest.fixture(scope="module")
def store() -> ExpertStore:
    """Random weights in every format."""
    store, generator = ExpertStore(MIXED, SimulatedDevice(EngineConfig(), 0)), np.random.default_rng(0)
    for layer in range(MIXED.layers):
        for expert in range(MIXED.experts):
            weights = store.weights(layer, expert)
            for part in (weights.gate, weights.up, weights.down):
                source = random_blocks(part.format, part.rows, part.columns, generator)
                pack_into(part.format, part.rows, part.columns, source.ravel(), part.data.numpy())
    return store


def run_some(store: ExpertStore, layer: int, experts: Sequence[int], hidden: torch.Tensor) -> torch.Tensor:
    """Tokens 0 and 2 to the first of four experts, 1 to the second, all to the third, none to the fourth."""
    spans = {0: (0, 2), 1: (2, 3), 2: (3, 6)}
    routing = Routing(spans, torch.tensor([0, 2, 1, 0, 1, 2]), torch.arange(1.0, 7.0)[:, None] / 4)
    return TorchCpuExperts(store).run(layer, experts, hidden, routing, lambda: None)


@pytest.mark.parametrize("layer", range(3))
def test_the_cpus_experts_are_summed_by_token(store: ExpertStore, layer: int) -> None:
    hidden = torch.randn(3, MIXED.hidden_size)
    y = [expert_forward(hidden, store.weights(layer, expert)) for expert in range(3)]
    expected = torch.stack([
        y[0][0] * 1 / 4 + y[2][0] * 4 / 4,
        y[1][1] * 3 / 4 + y[2][1] * 5 / 4,
        y[0][2] * 2 / 4 + y[2][2] * 6 / 4,
    ])  # fmt: skip
    torch.testing.assert_close(run_some(store, layer, [2, 0, 1], hidden), expected, atol=1e-5, rtol=1e-5)
    only_one = torch.zeros(3, MIXED.hidden_size)
    only_one[1] = y[1][1] * 3 / 4
    torch.testing.assert_close(run_some(store, layer, [1], hidden), only_one, atol=1e-5, rtol=1e-5)


def test_every_expert_asks_whether_to_go_on(store: ExpertStore) -> None:
    asked: list[int] = []
    routing = Routing({0: (0, 1), 3: (1, 2)}, torch.zeros(2, dtype=torch.long), torch.ones(2, 1))
    TorchCpuExperts(store).run(2, [3, 0], torch.zeros(1, MIXED.hidden_size), routing, lambda: asked.append(1))
    assert len(asked) == 2
