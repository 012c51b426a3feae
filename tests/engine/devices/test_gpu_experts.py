"""Experts by our own kernels are torch's, with few tokens and with many; the kernels are emulated on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.config import EngineConfig, ExpertFormats
from engine.devices import SimulatedDevice, gpu_products
from engine.devices.gpu_experts import GpuExperts
from engine.experts.footprint import grouping_bytes, unpacking_bytes
from engine.experts.memory import Needs
from engine.kernels.gpu_grouped_plans import Visits
from engine.kernels.gpu_kernels import GpuKernels
from engine.kernels.gpu_plans import LayerTable
from engine.kernels.gpu_self_test import random_weights
from engine.kernels.packed import GPU_SLICE_WEIGHTS, slice_rows
from engine.kernels.torch_expert import ExpertWeights, expert_forward
from engine.quant.formats import FORMATS
from tests.engine.experts.shapes import MIXTRAL
from tests.engine.kernels.cuda_emulation.launcher import EmulatedLauncher
from tests.engine.kernels.test_torch_expert import biased, biased_reference

HIDDEN, INTERMEDIATE = 256, 256
Q4_K, MIXED, PLAIN = ("Q4_K",) * 3, ("Q4_0", "Q4_0", "BF16"), ("F32",) * 3
INT8 = 3e-2  # what int8 activations lose of an expert's output


@pytest.fixture
def experts(launcher: EmulatedLauncher) -> GpuExperts:
    torch.manual_seed(0)  # what rounding loses has a long tail
    return GpuExperts(GpuKernels(launcher))


def an_expert(formats: ExpertFormats, seed: int = 0) -> ExpertWeights:
    random = np.random.default_rng(seed)
    shapes = ((INTERMEDIATE, HIDDEN), (INTERMEDIATE, HIDDEN), (HIDDEN, INTERMEDIATE))
    parts = [random_weights(FORMATS[name], *shape, random) for name, shape in zip(formats, shapes, strict=True)]
    return ExpertWeights.view(torch.cat(parts), formats, HIDDEN, INTERMEDIATE)


def loss(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("formats", [Q4_K, MIXED, PLAIN])
def test_few_tokens_multiply_packed_weights(
    experts: GpuExperts, launcher: EmulatedLauncher, formats: ExpertFormats
) -> None:
    weights, hidden = an_expert(formats), torch.randn(3, HIDDEN)
    assert loss(experts.run(hidden, weights), expert_forward(hidden, weights)) < INT8
    assert launcher.launched[-2:] == ["gate_up_8", "down_8"]


def visits_of(hidden: torch.Tensor, chosen: torch.Tensor, experts: Sequence[int]) -> Visits:
    """Those of some experts, in that order, with weights of their own."""
    flat, spans, parts, first = chosen.flatten(), {}, [], 0
    for expert in experts:
        parts.append((flat == expert).nonzero().flatten())
        spans[expert] = (first, first := first + len(parts[-1]))
    order, places = torch.cat(parts), torch.full(chosen.shape, -1)
    places.view(-1)[order] = torch.arange(len(order))
    weights = torch.rand(chosen.shape, generator=torch.Generator().manual_seed(1))
    return Visits(spans, order, places, hidden, weights, torch.zeros(hidden.shape))


def test_many_tokens_of_one_expert_multiply_packed_weights_too(experts: GpuExperts, launcher: EmulatedLauncher) -> None:
    weights, hidden = an_expert(Q4_K), torch.randn(40, HIDDEN)
    assert loss(experts.run(hidden, weights), expert_forward(hidden, weights)) < INT8
    assert launcher.launched == ["prepare", "group_gate_up", "group_down", "group_add"]


def test_groups_add_what_each_expert_says_by_itself(launcher: EmulatedLauncher) -> None:
    """The plain reference is what a device does that knows nothing of groups."""
    device, kernels = SimulatedDevice(EngineConfig(), 1 << 30), GpuExperts(GpuKernels(launcher))
    held = {expert: an_expert(Q4_K, expert) for expert in range(4)}
    chosen = torch.stack([torch.randperm(5)[:3] for _ in range(24)])
    visits = visits_of(torch.randn(24, HIDDEN), chosen, (2, 0, 3, 1))
    expected = replace(visits, out=torch.zeros(24, HIDDEN))
    for group in ((2, 0), (3,), (1,)):
        kernels.add_group(visits, [(expert, held[expert]) for expert in group])
        device.run_group(expected, [(expert, held[expert]) for expert in group])
    assert loss(visits.out, expected.out) < INT8
    assert launcher.launched == ["prepare", *["group_gate_up", "group_down", "group_add"] * 3], "prepared once"


def test_a_group_works_in_what_the_plan_has_counted(experts: GpuExperts) -> None:
    model = replace(
        MIXTRAL, expert_formats=(Q4_K,) * MIXTRAL.layers, hidden_size=HIDDEN, intermediate_size=INTERMEDIATE,
        experts=4, experts_per_token=2,
    )  # fmt: skip
    hidden = torch.randn(30, HIDDEN).to({2: torch.bfloat16, 4: torch.float32}[model.dtype_bytes])
    chosen = torch.stack([torch.randperm(4)[:2] for _ in range(30)])
    experts.add_group(visits_of(hidden, chosen, range(4)), [(expert, an_expert(Q4_K, expert)) for expert in range(4)])
    assert experts.products._buffer.nbytes == grouping_bytes(model, "cuda", 30)
    assert Needs.of(model, EngineConfig(prefill_chunk_tokens=30)).workspace >= grouping_bytes(model, "cuda", 30)


def test_one_matrix_of_floats_is_multiplied_by_torch_and_the_others_are_unpacked(
    experts: GpuExperts, launcher: EmulatedLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, hidden = an_expert(MIXED), torch.randn(40, HIDDEN)
    expected = expert_forward(hidden, weights)
    torch.testing.assert_close(experts.run(hidden, weights), expected)
    assert launcher.launched == ["unpack_tiles"] * 2
    monkeypatch.setattr(gpu_products, "GPU_SLICE_WEIGHTS", 64 * HIDDEN)
    torch.testing.assert_close(experts.run(hidden, weights), expected, atol=1e-4, rtol=1e-4)
    assert launcher.launched[2:] == ["unpack_tiles"] * 8


def test_the_type_of_the_activations_is_that_of_the_result(experts: GpuExperts) -> None:
    for tokens in (2, 20):
        hidden, weights = torch.randn(tokens, HIDDEN).bfloat16(), an_expert(MIXED)
        out = experts.run(hidden, weights)
        assert out.dtype == torch.bfloat16
        assert loss(out.float(), expert_forward(hidden.float(), weights)) < INT8


def test_plain_floats_are_multiplied_as_they_lie(experts: GpuExperts, launcher: EmulatedLauncher) -> None:
    hidden, weights = torch.randn(20, HIDDEN), an_expert(PLAIN)
    assert torch.equal(experts.run(hidden, weights), expert_forward(hidden, weights))
    assert launcher.launched == []


@pytest.mark.parametrize("tokens", [1, 20])
@pytest.mark.parametrize("formats", [Q4_K, PLAIN])
def test_torch_runs_experts_with_biases(
    experts: GpuExperts, launcher: EmulatedLauncher, formats: ExpertFormats, tokens: int
) -> None:
    """The kernels of whole experts do not know them, and must not leave them out; those of single matrices may help."""
    weights, hidden = biased(an_expert(formats)), torch.randn(tokens, HIDDEN)
    expected, found = biased_reference(hidden, weights).float(), experts.run(hidden, weights)
    if formats == Q4_K and tokens == 1:
        assert loss(found, expected) < INT8
        assert launcher.launched == ["prepare", "linear_8"] * 3
    else:
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    assert not {"gate_up_8", "down_8"} & set(launcher.launched)
    table = LayerTable(torch.zeros(4, dtype=torch.long), formats, HIDDEN, INTERMEDIATE, biased=True)
    assert not experts.runs_at_once(table, 1, 2)


def test_unpacking_takes_no_more_than_the_plan_has_counted(experts: GpuExperts) -> None:
    experts.run(torch.randn(20, HIDDEN).bfloat16(), an_expert(MIXED))
    assert experts.products._buffer.nbytes == HIDDEN * INTERMEDIATE * 2
    large = slice_rows(MIXTRAL.hidden_size, GPU_SLICE_WEIGHTS) * MIXTRAL.hidden_size
    packed = replace(MIXTRAL, expert_formats=(Q4_K,) * MIXTRAL.layers)
    assert 2 * large <= unpacking_bytes(packed, "cuda", "torch")


@pytest.mark.parametrize("tokens", [1, 9])
def test_residents_are_those_of_the_table_and_no_others(experts: GpuExperts, tokens: int) -> None:
    there = {0: an_expert(Q4_K, 0), 2: an_expert(Q4_K, 2)}
    addresses = torch.tensor([there[expert].flat.data_ptr() if expert in there else 0 for expert in range(4)])
    table = LayerTable(addresses, Q4_K, HIDDEN, INTERMEDIATE)
    hidden, weights = torch.randn(tokens, HIDDEN), torch.rand(tokens, 3)
    chosen = torch.stack([torch.randperm(4)[:3] for _ in range(tokens)])
    out, expected = torch.zeros(tokens, HIDDEN), torch.zeros(tokens, HIDDEN)
    for expert, held in there.items():
        rows, choices = (chosen == expert).nonzero(as_tuple=True)
        expected.index_add_(0, rows, expert_forward(hidden[rows], held) * weights[rows, choices, None])
    assert experts.runs_at_once(table, tokens, 3)
    experts.add_residents(table, hidden, chosen, weights, out)
    assert loss(out, expected) < INT8
    assert not experts.runs_at_once(table, 17, 3)
