"""The simulated GPU keeps its budget and its clocks, and finds its experts through the table."""

from __future__ import annotations

import pytest
import torch

from engine.config import SIMULATED_LAUNCH_S, EngineConfig
from engine.devices import SimulatedDevice
from engine.errors import DeviceOutOfMemoryError
from engine.kernels.gpu_grouped_plans import Visits
from engine.kernels.torch_expert import expert_forward
from tests.engine.devices.experts import HIDDEN, a_table, an_expert

CONFIG = EngineConfig(
    simulated_vram_bytes=10_000,
    simulated_link_bytes_per_s=1e6,
    simulated_memory_bytes_per_s=1e7,
    simulated_flops=1e9,
)


def test_an_allocation_past_the_budget_raises_and_counts_nothing() -> None:
    device = SimulatedDevice(CONFIG, budget_bytes=4_000)
    device.allocate((500,), torch.float32, "dense")
    with pytest.raises(DeviceOutOfMemoryError, match="kv needs 2,004"):
        device.allocate((501,), torch.float32, "kv")
    assert device.allocated == {"dense": 2_000}
    device.allocate((500,), torch.float32, "kv")
    assert device.allocated_bytes == 4_000


def test_the_budget_is_never_more_than_the_simulated_vram() -> None:
    assert SimulatedDevice(CONFIG, budget_bytes=1 << 40).budget_bytes == 10_000


def test_two_copies_follow_each_other_and_computing_waits_for_its_copy() -> None:
    device, source = SimulatedDevice(CONFIG, 10_000), an_expert()
    slots = [an_expert(1), an_expert(2)]
    copy_s = source.nbytes / 1e6 + SIMULATED_LAUNCH_S
    run_s = max(source.nbytes / 1e7, 2 * source.parameters * 3 / 1e9) + SIMULATED_LAUNCH_S
    device.begin_layer()
    for slot, target in enumerate(slots):
        device.copy_in(slot, target.flat, source.flat)
    for slot, target in enumerate(slots):
        device.wait_copy(slot)
        device.run_expert(torch.zeros(3, HIDDEN), target, slot)
    assert device.end_layer().seconds() == pytest.approx(2 * copy_s + run_s)
    assert torch.equal(slots[0].flat, source.flat)


def test_a_group_is_one_launch_and_adds_what_each_expert_says() -> None:
    device, held = SimulatedDevice(CONFIG, 10_000), [an_expert(seed) for seed in range(3)]
    chosen = torch.tensor([0, 1, 2, 0, 1, 1, 2, 0])
    order = chosen.argsort(stable=True)
    places = torch.empty(8, dtype=torch.long).scatter_(0, order, torch.arange(8))
    hidden, weights = torch.randn(8, HIDDEN), torch.rand(8, 1)
    visits = Visits({0: (0, 3), 1: (3, 6), 2: (6, 8)}, order, places[:, None], hidden, weights, torch.zeros(8, HIDDEN))
    device.begin_layer()
    device.run_group(visits, list(enumerate(held)))
    each_s = held[0].nbytes / 1e7
    assert device.end_layer().seconds() == pytest.approx(3 * each_s + SIMULATED_LAUNCH_S)
    expected = torch.stack([expert_forward(hidden[row][None], held[chosen[row]])[0] * weights[row] for row in range(8)])
    torch.testing.assert_close(visits.out, expected)


def test_a_copy_waits_until_its_slot_is_vacated() -> None:
    device, source, target = SimulatedDevice(CONFIG, 10_000), an_expert(), an_expert(1)
    copy_s = source.nbytes / 1e6 + SIMULATED_LAUNCH_S
    run_s = source.nbytes / 1e7 + SIMULATED_LAUNCH_S
    device.begin_layer()
    for _ in range(2):
        device.copy_in(0, target.flat, source.flat)
        device.wait_copy(0)
        device.run_expert(torch.zeros(1, HIDDEN), target, 0)
    span = device.end_layer()
    device.begin_layer()
    assert device.end_layer().wait() == 0.0
    assert span.wait() == pytest.approx(2 * (copy_s + run_s)), "a time that was read late is still the layer's own"


def test_an_upload_arrives_when_the_virtual_time_says_so() -> None:
    device, source = SimulatedDevice(CONFIG, 10_000), an_expert()
    first, second = torch.zeros(2, source.nbytes, dtype=torch.uint8)
    copy_s = source.nbytes / 1e6 + SIMULATED_LAUNCH_S
    uploads = [device.begin_upload(target, source.flat) for target in (first, second)]
    for arrived in (0, 1, 2):
        assert [upload.done() for upload in uploads] == [arrived > 0, arrived > 1]
        assert [bool(target.any()) for target in (first, second)] == [arrived > 0, arrived > 1]
        device.elapse(1.001 * copy_s)
    assert torch.equal(second, source.flat)


def test_streamed_experts_wait_for_the_upload_that_is_on_the_link() -> None:
    device, source, slot = SimulatedDevice(CONFIG, 10_000), an_expert(), an_expert(1)
    copy_s, run_s = (source.nbytes / speed + SIMULATED_LAUNCH_S for speed in (1e6, 1e7))
    device.begin_upload(torch.zeros_like(source.flat), source.flat)
    device.elapse(copy_s / 4)
    device.begin_layer()
    device.run_expert(torch.zeros(1, HIDDEN), source)
    assert device.end_layer().seconds() == pytest.approx(run_s), "what needs no link is not held up"
    device.begin_layer()
    device.copy_in(0, slot.flat, source.flat)
    device.wait_copy(0)
    device.run_expert(torch.zeros(1, HIDDEN), slot, 0)
    assert device.end_layer().seconds() == pytest.approx(0.75 * copy_s + copy_s + run_s)


def test_it_computes_what_the_cpu_does() -> None:
    hidden, weights = torch.randn(5, HIDDEN), an_expert()
    assert torch.equal(SimulatedDevice(CONFIG, 0).run_expert(hidden, weights), expert_forward(hidden, weights))


@pytest.mark.parametrize("tokens", [1, 5])
def test_residents_are_those_of_the_table_and_no_others(tokens: int) -> None:
    device, experts, hidden = (
        SimulatedDevice(CONFIG, 0),
        (an_expert(0), None, an_expert(2)),
        torch.randn(tokens, HIDDEN),
    )
    chosen = torch.tensor([[2, 1], [0, 2], [1, 0], [2, 0], [1, 2]])[:tokens]
    weights, out = torch.rand(tokens, 2), torch.randn(tokens, HIDDEN)
    expected, visited = out.clone(), {expert for expert in chosen.flatten().tolist() if experts[expert]}
    for token, choice in torch.cartesian_prod(torch.arange(tokens), torch.arange(2)).tolist():
        expert = experts[int(chosen[token, choice])]
        if expert:
            expected[token] += weights[token, choice] * expert_forward(hidden[token : token + 1], expert)[0]
    table = a_table(*experts)
    assert device.runs_at_once(table, tokens, 2)
    device.begin_layer()
    device.resident_experts(table, hidden, chosen, weights, out)
    torch.testing.assert_close(out, expected)
    launch_s = SIMULATED_LAUNCH_S if visited else 0.0
    assert device.end_layer().seconds() == pytest.approx(len(visited) * experts[0].nbytes / 1e7 + launch_s)


def test_many_tokens_are_not_launched_at_once() -> None:
    assert not SimulatedDevice(CONFIG, 0).runs_at_once(a_table(None), 17, 1)
