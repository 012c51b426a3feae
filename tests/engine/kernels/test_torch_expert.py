"""One expert against its formula, written out in fp64."""

from __future__ import annotations

import pytest
import torch

from engine.kernels.torch_expert import FP16_CPU_MAX_TOKENS, ExpertWeights, expert_forward

HIDDEN, INTERMEDIATE = 24, 40
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}


def reference(hidden: torch.Tensor, weights: ExpertWeights) -> torch.Tensor:
    x, gate_up, down = hidden.double(), weights.gate_up.double(), weights.down.double()
    gate, up = (x @ gate_up.T).split(INTERMEDIATE, dim=-1)
    out: torch.Tensor = (gate * torch.sigmoid(gate) * up) @ down.T
    return out


@pytest.mark.parametrize("dtype", list(TOLERANCES))
@pytest.mark.parametrize("tokens", [1, FP16_CPU_MAX_TOKENS, FP16_CPU_MAX_TOKENS + 1, 17])
def test_an_expert_is_down_of_silu_gate_times_up(dtype: torch.dtype, tokens: int) -> None:
    generator = torch.Generator().manual_seed(0)
    flat = (torch.randn(3 * HIDDEN * INTERMEDIATE, generator=generator) / 5).to(dtype)
    hidden = torch.randn(tokens, HIDDEN, generator=generator).to(dtype)
    weights = ExpertWeights.view(flat, HIDDEN, INTERMEDIATE)
    out = expert_forward(hidden, weights)
    assert out.dtype == dtype
    expected = reference(hidden, weights)
    torch.testing.assert_close(out.double(), expected, atol=TOLERANCES[dtype] * float(expected.abs().max()), rtol=0)


def test_views_share_the_run() -> None:
    flat = torch.arange(3.0 * HIDDEN * INTERMEDIATE)
    weights = ExpertWeights.view(flat, HIDDEN, INTERMEDIATE)
    assert weights.gate_up.data_ptr() == flat.data_ptr()
    assert weights.down[0, 0] == 2 * HIDDEN * INTERMEDIATE
    assert (weights.nbytes, weights.parameters) == (flat.nbytes, flat.numel())
