"""Experts with many tokens, some at once: what the kernels add is what the reference says; emulated on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from engine.kernels.gpu_grouped_plans import Located, Visits, plan_group, plan_prepare_group, runs_groups
from engine.kernels.gpu_self_test import as_seen
from engine.kernels.grouping import GROUP_BYTES, group_bytes, group_visits
from engine.quant.formats import FORMATS
from tests.engine.kernels.cuda_emulation.launcher import EmulatedLauncher
from tests.engine.kernels.test_gpu_kernels import BLOCK_FORMATS, Layer


def visits_of(layer: Layer, experts: Sequence[int], out: torch.Tensor) -> Visits:
    """Those of some experts, in that order."""
    chosen = layer.ids.flatten()
    spans, parts, first = {}, [], 0
    for expert in experts:
        mine = (chosen == expert).nonzero().flatten()
        spans[expert] = (first, first := first + len(mine))
        parts.append(mine)
    order, places = torch.cat(parts), torch.full((chosen.numel(),), -1)
    places[order] = torch.arange(len(order))
    return Visits(spans, order, places.view_as(layer.ids), layer.hidden, layer.weights, out)


def run(layer: Layer, launcher: EmulatedLauncher, groups: Sequence[Sequence[int]]) -> torch.Tensor:
    """The layer's sum after some groups, in memory of exactly the size that they need."""
    table, out = layer.table, layer.out.clone()
    visits = visits_of(layer, [expert for group in groups for expert in group], out)
    largest = max(sum(visits.count(expert) for expert in group) for group in groups)
    sizes = (table.hidden_size, table.intermediate_size, layer.hidden.element_size())
    buffer = torch.full((group_bytes(len(layer.hidden), largest, *sizes),), 0xAB, dtype=torch.uint8)
    launcher.readable = [layer.hidden, layer.weights, visits.order, visits.places, *layer.slots]
    launcher.writable = [buffer, out]
    launcher.launch(plan_prepare_group(table.formats, layer.hidden, buffer))
    for group in groups:
        located = [Located(expert, layer.slots[expert].data_ptr()) for expert in group]
        for launch in plan_group(table.formats, visits, located, buffer, table.intermediate_size):
            launcher.launch(launch)
    return out


def only(layer: Layer, experts: Sequence[int]) -> None:
    """Have the reference know no other experts."""
    for expert in range(len(layer.slots)):
        if expert not in experts:
            layer.table.addresses[expert] = 0


@pytest.mark.parametrize("name", BLOCK_FORMATS)
def test_every_format(launcher: EmulatedLauncher, name: str) -> None:
    sizes = (256, 256) if FORMATS[name].block_columns == 256 else (96, 160)
    layer = Layer.random((name,) * 3, 19, 2, 3, sizes)
    layer.check(run(layer, launcher, [(2, 0, 1)]))


def test_formats_of_their_own_for_up_and_down(launcher: EmulatedLauncher) -> None:
    layer = Layer.random(("Q4_K", "Q6_K", "Q8_0"), 18, 2, 3, (256, 128))
    layer.check(run(layer, launcher, [(0, 1, 2)]))


@pytest.mark.parametrize("groups", [[(0, 1, 2, 3, 4)], [(3,), (0, 4), (1, 2)], [(4,)], [(1, 3)]])
def test_some_experts_now_and_others_later_and_others_never(
    launcher: EmulatedLauncher, groups: list[tuple[int, ...]]
) -> None:
    layer = Layer.random(("Q4_0",) * 3, 40, 3, 5, (64, 96))
    only(layer, [expert for group in groups for expert in group])
    layer.check(run(layer, launcher, groups))


@pytest.mark.parametrize("tokens", [1, 15, 16, 17, 33])
def test_tiles_that_are_full_and_tiles_that_are_not(launcher: EmulatedLauncher, tokens: int) -> None:
    layer = Layer.random(("Q5_1",) * 3, tokens, 1, 1, (32, 32))
    layer.check(run(layer, launcher, [(0,)]))


def test_states_of_16_bits(launcher: EmulatedLauncher) -> None:
    layer = Layer.random(("Q4_0",) * 3, 20, 2, 3, (64, 64))
    layer.hidden = layer.hidden.bfloat16()
    out = run(layer, launcher, [(0, 1, 2)])
    layer.hidden = layer.hidden.float()
    added, expected = out - layer.out, layer.expected(as_seen)
    assert float((added - expected).norm() / expected.norm()) < 1e-2, "what is said to each visit is rounded"


def test_equal_bits_in_any_order_of_threads_and_any_groups(launcher: EmulatedLauncher) -> None:
    layer = Layer.random(("Q4_0",) * 3, 24, 2, 4, (160, 64))
    first = run(layer, launcher, [(0, 1, 2, 3)])
    launcher.backwards = True
    assert torch.equal(run(layer, launcher, [(0, 1, 2, 3)]), first)
    torch.testing.assert_close(run(layer, launcher, [(3,), (2, 1), (0,)]), first)


def test_what_is_no_number_stays_so_and_goes_nowhere_else(launcher: EmulatedLauncher) -> None:
    layer = Layer.random(("Q4_0",) * 3, 20, 2, 3, (64, 64))
    layer.hidden[7, 5] = float("nan")
    out = run(layer, launcher, [(0, 1, 2)])
    assert out[7].isnan().all()
    assert torch.cat([out[:7], out[8:]]).isfinite().all()


def test_floats_are_left_to_others() -> None:
    assert runs_groups(("Q4_K", "Q4_K", "Q6_K"), 256, 256)
    assert not runs_groups(("Q4_0", "Q4_0", "F16"), 256, 256)
    assert not runs_groups(("BF16",) * 3, 256, 256)
    assert not runs_groups(("Q4_K",) * 3, 256, 96)


def test_a_group_has_room_for_a_whole_pass_and_as_much_as_its_buffer_holds() -> None:
    fine, coarse = (2048, 768, 2), (4096, 14336, 2)
    for tokens in (17, 512, 2048):
        for active, shape in ((8, fine), (2, coarse)):
            visits = group_visits(tokens, active, *shape)
            assert tokens <= visits <= tokens * active
            if tokens < visits < tokens * active:
                assert GROUP_BYTES * 0.99 < group_bytes(tokens, visits, *shape) <= GROUP_BYTES + 128
    assert group_visits(512, 8, *fine) == 8 * 512, "one group for all experts of a short prompt"
    assert group_visits(2048, 2, *coarse) == 2048
    assert group_visits(2048, 1, *fine) == 2048
