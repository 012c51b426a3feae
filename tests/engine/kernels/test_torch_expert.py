"""One expert against its formula, written out in fp64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.config import ExpertFormats
from engine.kernels.torch_expert import (
    BF16_CPU_ROWS_STEP,
    FP16_CPU_MAX_TOKENS,
    ExpertWeights,
    add_expert,
    expert_forward,
)
from engine.quant.formats import ALIGNMENT_BYTES, FORMATS
from engine.quant.packing import pack_into
from engine.traits import ClampedGate
from tests.quantised import random_blocks

HIDDEN, INTERMEDIATE = 24, 40
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}
NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
MIXES: dict[str, ExpertFormats] = {
    "one format": ("Q4_K", "Q4_K", "Q4_K"),
    "a better down": ("Q4_K", "Q4_K", "Q6_K"),
    "three": ("Q8_0", "IQ4_XS", "MXFP4"),
    "floats beside blocks": ("F16", "F16", "Q5_0"),
    "floats of two types": ("F32", "BF16", "F16"),
    "odd floats": ("F16", "F16", "F16"),
}


def of_floats(values: torch.Tensor, hidden: int = HIDDEN, intermediate: int = INTERMEDIATE) -> ExpertWeights:
    """An expert of plain floats: gate, up and down one after the other."""
    name = NAMES[values.dtype]
    return ExpertWeights.view(values.view(torch.uint8), (name, name, name), hidden, intermediate)


def random_expert(formats: ExpertFormats, hidden: int, intermediate: int) -> ExpertWeights:
    """A random expert, packed."""
    generator = np.random.default_rng(5)
    shapes = ((intermediate, hidden), (intermediate, hidden), (hidden, intermediate))
    runs = []
    for name, (rows, columns) in zip(formats, shapes, strict=True):
        run = np.zeros(FORMATS[name].packed_bytes(rows, columns), dtype=np.uint8)
        pack_into(FORMATS[name], rows, columns, random_blocks(FORMATS[name], rows, columns, generator).ravel(), run)
        runs.append(run)
    return ExpertWeights.view(torch.from_numpy(np.concatenate(runs)), formats, hidden, intermediate)


def reference(hidden: torch.Tensor, weights: ExpertWeights) -> torch.Tensor:
    x = hidden.double()
    gate, up, down = (part.dense(torch.float32).double() for part in (weights.gate, weights.up, weights.down))
    gate, up = x @ gate.T, x @ up.T
    out: torch.Tensor = (gate * torch.sigmoid(gate) * up) @ down.T
    return out


@pytest.mark.parametrize("dtype", list(TOLERANCES))
@pytest.mark.parametrize("tokens", [1, FP16_CPU_MAX_TOKENS, FP16_CPU_MAX_TOKENS + 1, 17, BF16_CPU_ROWS_STEP + 1])
def test_an_expert_is_down_of_silu_gate_times_up(dtype: torch.dtype, tokens: int) -> None:
    generator = torch.Generator().manual_seed(0)
    flat = (torch.randn(3 * HIDDEN * INTERMEDIATE, generator=generator) / 5).to(dtype)
    hidden = torch.randn(tokens, HIDDEN, generator=generator).to(dtype)
    weights = of_floats(flat)
    out = expert_forward(hidden, weights)
    assert out.dtype == dtype
    expected = reference(hidden, weights)
    torch.testing.assert_close(out.double(), expected, atol=TOLERANCES[dtype] * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("dtype", list(TOLERANCES))
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("tokens", [1, 5])
def test_an_expert_of_any_formats(dtype: torch.dtype, mix: str, tokens: int) -> None:
    weights = random_expert(MIXES[mix], 256, 512)
    hidden = torch.randn(tokens, 256, generator=torch.Generator().manual_seed(1)).to(dtype)
    out, expected = expert_forward(hidden, weights), reference(hidden, weights)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), expected, atol=TOLERANCES[dtype] * float(expected.abs().max()), rtol=0)


CLAMPED = ClampedGate(slope=1.702, limit=0.8)


def biased(weights: ExpertWeights, seed: int = 2) -> ExpertWeights:
    """The same expert with random biases behind its matrices."""
    hidden, intermediate = weights.gate.columns, weights.gate.rows
    biases = torch.randn(2 * intermediate + hidden, generator=torch.Generator().manual_seed(seed))
    padding = torch.zeros(-biases.nbytes % ALIGNMENT_BYTES, dtype=torch.uint8)
    flat = torch.cat([weights.flat, biases.view(torch.uint8), padding])
    formats = weights.gate.format.name, weights.up.format.name, weights.down.format.name
    return ExpertWeights.view(flat, formats, hidden, intermediate, CLAMPED)


def biased_reference(hidden: torch.Tensor, weights: ExpertWeights) -> torch.Tensor:
    """gpt-oss's expert in fp64, as its published code has it."""
    assert weights.biases is not None
    x = hidden.double()
    gate, up, down = (part.dense(torch.float32).double() for part in (weights.gate, weights.up, weights.down))
    gate, up = x @ gate.T + weights.biases.gate, x @ up.T + weights.biases.up
    gate, up = gate.clamp(max=CLAMPED.limit), up.clamp(-CLAMPED.limit, CLAMPED.limit)
    out: torch.Tensor = ((up + 1) * gate * torch.sigmoid(CLAMPED.slope * gate)) @ down.T + weights.biases.down
    return out


@pytest.mark.parametrize("dtype", list(TOLERANCES))
@pytest.mark.parametrize("mix", ["one format", "odd floats"])
def test_an_expert_with_biases(dtype: torch.dtype, mix: str) -> None:
    weights = biased(random_expert(MIXES[mix], 256, 512))
    hidden = torch.randn(5, 256, generator=torch.Generator().manual_seed(1)).to(dtype)
    out, expected = expert_forward(hidden, weights), biased_reference(hidden, weights)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), expected, atol=TOLERANCES[dtype] * float(expected.abs().max()), rtol=0)


def test_biases_lie_behind_the_matrices() -> None:
    plain = random_expert(("F16", "F16", "F16"), 3, 5)
    weights = biased(plain)
    assert weights.biases is not None
    assert weights.nbytes == plain.nbytes + ALIGNMENT_BYTES
    assert [part.data_ptr() - weights.flat.data_ptr() - plain.nbytes for part in weights.biases.parts] == [0, 20, 40]


def test_widths_that_fill_no_64_bytes() -> None:
    weights = random_expert(("F16", "F16", "F16"), 3, 5)
    assert weights.gate_up is None
    assert weights.flat.nbytes % ALIGNMENT_BYTES == 0
    hidden = torch.randn(4, 3)
    torch.testing.assert_close(expert_forward(hidden, weights).double(), reference(hidden, weights), atol=1e-5, rtol=0)


def test_views_share_the_run() -> None:
    flat = torch.arange(3.0 * HIDDEN * INTERMEDIATE)
    weights = of_floats(flat)
    assert weights.gate_up is not None
    assert weights.gate_up.data_ptr() == weights.flat.data_ptr() == flat.data_ptr()
    assert weights.down.values is not None
    assert weights.down.values[0, 0] == 2 * HIDDEN * INTERMEDIATE
    assert (weights.nbytes, weights.parameters) == (flat.nbytes, flat.numel())


def test_a_run_may_lie_in_a_larger_slot() -> None:
    small = random_expert(MIXES["one format"], 256, 256)
    slot = torch.zeros(small.nbytes + 640, dtype=torch.uint8)
    weights = ExpertWeights.view(slot, MIXES["one format"], 256, 256)
    weights.flat.copy_(small.flat)
    hidden = torch.randn(2, 256)
    assert torch.equal(expert_forward(hidden, weights), expert_forward(hidden, small))
    assert not slot[small.nbytes :].any()


def test_adding_an_expert_scales_and_scatters() -> None:
    weights = random_expert(MIXES["a better down"], 256, 256)
    hidden, out = torch.randn(6, 256), torch.ones(6, 256)
    rows, scales = torch.tensor([4, 1]), torch.tensor([[0.25], [2.0]])
    add_expert(out, hidden, rows, scales, weights)
    expected = torch.ones(6, 256)
    expected[rows] += expert_forward(hidden[rows], weights) * scales
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize(("dtype", "few"), [(torch.bfloat16, True), (torch.float32, False)])
def test_bfloat16_is_multiplied_in_few_numbers_of_rows(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, few: bool
) -> None:
    """oneDNN keeps what it compiled for each."""
    multiply, seen = torch.nn.functional.linear, set[int]()

    def watched(states: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        seen.add(states.shape[0])
        return multiply(states, weights)

    monkeypatch.setattr(torch.nn.functional, "linear", watched)
    weights = of_floats((torch.ones(3 * HIDDEN * INTERMEDIATE) / 64).to(dtype))
    tokens = range(BF16_CPU_ROWS_STEP, 4 * BF16_CPU_ROWS_STEP + 1, 3)
    for count in tokens:
        hidden = torch.ones(count, HIDDEN, dtype=dtype)
        assert expert_forward(hidden, weights).shape == hidden.shape
    steps = {-(-count // BF16_CPU_ROWS_STEP) * BF16_CPU_ROWS_STEP for count in tokens}
    assert seen == (steps if few else set(tokens))
