"""Slots in VRAM: what is placed is what is wanted, within the budget, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.config import SIMULATED_LAUNCH_S, EngineConfig, ModelConfig
from engine.devices import SimulatedDevice
from engine.experts.planner import STAGING_SLOTS
from engine.experts.residency import Residency
from engine.experts.store import ExpertStore
from engine.uploads import Upload
from tests.engine.shapes import TINY

PLACEMENTS = st.lists(
    st.lists(st.sets(st.integers(0, TINY.experts - 1)), min_size=TINY.layers, max_size=TINY.layers),
    min_size=1,
    max_size=5,
)


Q4, Q6, Q8 = ("Q4_K", "Q4_K", "Q4_K"), ("Q4_K", "Q4_K", "Q6_K"), ("Q8_0", "Q8_0", "F16")


def check_tables(residency: Residency) -> None:
    """The tables say where every resident is, and of nobody else."""
    for layer, resident in enumerate(residency.resident):
        table = residency.table(layer)
        expected = [
            residency.weights(layer, expert).flat.data_ptr() if expert in resident else 0
            for expert in range(table.addresses.numel())
        ]
        assert table.addresses.tolist() == expected


MIXED = replace(TINY, hidden_size=256, intermediate_size=256, expert_formats=(Q4, Q6, Q8))


def a_residency(slots: int, model: ModelConfig = TINY) -> tuple[SimulatedDevice, ExpertStore, Residency]:
    device = SimulatedDevice(EngineConfig(), slots * model.expert_bytes)
    store = ExpertStore(model, device)
    for layer in range(model.layers):
        for expert in range(model.experts):
            store.weights(layer, expert).flat.fill_(layer * 60 + expert)
    return device, store, Residency(model, device, store)


@given(PLACEMENTS)
def test_any_row_of_placements_ends_in_the_last(placements: list[list[set[int]]]) -> None:
    device, _, residency = a_residency(TINY.total_experts + STAGING_SLOTS)
    for wanted in placements:
        residency.place([sorted(layer) for layer in wanted], staging=True)
        assert residency.by_layer() == tuple(tuple(sorted(layer)) for layer in wanted)
        assert device.allocated.get("experts", 0) == sum(map(len, wanted)) * TINY.expert_bytes
        for layer, experts in enumerate(wanted):
            for expert in experts:
                assert bool((residency.weights(layer, expert).flat == layer * 60 + expert).all())
        check_tables(residency)
    residency.close()
    check_tables(residency)
    assert device.allocated_bytes == 0


def test_what_does_not_fit_stays_out_the_least_popular_first() -> None:
    device, _, residency = a_residency(3)
    shares = [[0.25] * 4, [0.1, 0.1, 0.1, 0.7], [0.25] * 4]
    assert not residency.fill([(0, 1), (2, 3), ()], staging=False, shares=shares)
    assert residency.by_layer() == ((0, 1), (3,), ())
    assert device.allocated_bytes == 3 * TINY.expert_bytes
    residency.place([(), (2,), (0,)], staging=False)
    assert residency.by_layer() == ((), (2,), (0,))


def test_the_slot_lent_for_measuring_harms_no_resident() -> None:
    _, _, residency = a_residency(TINY.total_experts)
    residency.place([range(TINY.experts)] * TINY.layers, staging=False)
    borrowed = residency.borrow(1)
    assert borrowed
    slot, source = borrowed
    slot.flat.copy_(source.flat)
    for layer in range(TINY.layers):
        for expert in range(TINY.experts):
            assert bool((residency.weights(layer, expert).flat == layer * 60 + expert).all())


@given(PLACEMENTS)
def test_every_resident_takes_exactly_its_own_bytes(placements: list[list[set[int]]]) -> None:
    device, store, residency = a_residency(MIXED.total_experts + STAGING_SLOTS, MIXED)
    for wanted in placements:
        residency.place([sorted(layer) for layer in wanted], staging=True)
        taken = sum(len(experts) * MIXED.layer_expert_bytes(layer) for layer, experts in enumerate(wanted))
        assert device.allocated.get("experts", 0) == taken
        for layer, experts in enumerate(wanted):
            for expert in experts:
                resident = residency.weights(layer, expert)
                assert resident.nbytes == MIXED.layer_expert_bytes(layer)
                assert resident.down.format.name == MIXED.formats(layer)[2]
                assert torch.equal(resident.flat, store.weights(layer, expert).flat)


def test_a_slot_for_streaming_is_seen_as_the_layer_that_uses_it() -> None:
    device, _, residency = a_residency(STAGING_SLOTS, MIXED)
    residency.place([()] * MIXED.layers, staging=True)
    assert residency.staging_slots == STAGING_SLOTS
    assert device.allocated == {"staging": STAGING_SLOTS * MIXED.expert_bytes}
    for layer in range(MIXED.layers):
        staged = [residency.staged(slot, layer) for slot in range(STAGING_SLOTS)]
        assert all(weights.nbytes == MIXED.layer_expert_bytes(layer) for weights in staged)
        assert all(
            (weights.gate.format.name, weights.down.format.name) == MIXED.formats(layer)[1:] for weights in staged
        )
        assert staged[0].flat.data_ptr() != staged[1].flat.data_ptr()
    assert residency.staged(0, 0).flat.data_ptr() == residency.staged(0, 2).flat.data_ptr()


# ---- swaps ----------------------------------------------------------------------------------------------------------


def test_a_swap_leaves_at_once_and_arrives_when_its_upload_is_done() -> None:
    device, store, residency = a_residency(4)
    residency.place([(0, 1), (2,), ()], staging=False)
    assert residency.begin_swap(0, leaving=1, coming=3) == TINY.expert_bytes
    residency.begin_swap(1, leaving=2, coming=0)
    assert residency.by_layer() == ((0,), (), ())
    check_tables(residency)
    assert residency.uploading
    assert residency.land() == []
    device.elapse(1.0)
    assert residency.land() == [(0, 3), (1, 0)]
    assert residency.by_layer() == ((0, 3), (0,), ())
    check_tables(residency)
    assert not residency.uploading
    assert device.allocated == {"experts": 3 * TINY.expert_bytes}
    for layer, expert in ((0, 0), (0, 3), (1, 0)):
        assert torch.equal(residency.weights(layer, expert).flat, store.weights(layer, expert).flat)


def test_a_table_forgets_the_leaving_expert_before_its_slot_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU both happen in the order they were asked for."""
    device, _, residency = a_residency(1)
    residency.place([(1,), (), ()], staging=False)
    seen = []
    begin = device.begin_upload

    def begin_upload(target: torch.Tensor, source: torch.Tensor) -> Upload:
        seen.append(residency.table(0).addresses.tolist())
        return begin(target, source)

    monkeypatch.setattr(device, "begin_upload", begin_upload)
    residency.begin_swap(0, 1, 2)
    assert seen == [[0, 0, 0, 0]]


def test_uploads_arrive_in_their_order() -> None:
    device, store, residency = a_residency(2)
    residency.place([(0, 1), (), ()], staging=False)
    residency.begin_swap(0, 0, 2)
    residency.begin_swap(0, 1, 3)
    copy_s = store.weights(0, 0).nbytes / EngineConfig().simulated_link_bytes_per_s + SIMULATED_LAUNCH_S
    device.elapse(1.5 * copy_s)
    assert residency.land() == [(0, 2)]
    device.elapse(copy_s)
    assert residency.land() == [(0, 3)]


@given(PLACEMENTS, st.data())
def test_a_plan_in_the_middle_of_swaps_loses_no_slot(placements: list[list[set[int]]], data: st.DataObject) -> None:
    device, store, residency = a_residency(MIXED.total_experts + STAGING_SLOTS, MIXED)
    for wanted in placements:
        residency.place([sorted(layer) for layer in wanted], staging=True)
        for layer, experts in enumerate(wanted):
            absent = set(range(MIXED.experts)) - experts
            swapping = data.draw(st.booleans())
            if experts and absent and swapping:
                residency.begin_swap(layer, min(experts), min(absent))
        check_tables(residency)
        if data.draw(st.booleans()):
            device.elapse(1.0)
            residency.land()
            check_tables(residency)
    last = placements[0]
    residency.place([sorted(layer) for layer in last], staging=True)
    assert residency.by_layer() == tuple(tuple(sorted(layer)) for layer in last)
    for layer, experts in enumerate(last):
        for expert in experts:
            assert torch.equal(residency.weights(layer, expert).flat, store.weights(layer, expert).flat)
    residency.close()
    assert device.allocated_bytes == 0


def test_a_layer_that_is_not_page_locked_swaps_nothing_where_that_matters() -> None:
    _, store, residency = a_residency(1)
    assert residency.can_swap(0)
    store.pageable[0].update(range(TINY.experts))
    assert not residency.can_swap(0)
    assert residency.locked_expert(0) is None
    store.pageable[0].discard(2)
    assert residency.can_swap(0)
    assert residency.locked_expert(0) == 2


def test_measuring_waits_for_uploads_and_they_are_still_told_of() -> None:
    device, _, residency = a_residency(4)
    residency.place([(0,), (), ()], staging=True)
    residency.begin_swap(0, 0, 1)
    assert residency.borrow(0)
    assert device.clock.now_s > 0.0
    assert residency.land() == [(0, 1)]


# ---- too little memory ----------------------------------------------------------------------------------------------


def test_shrinking_gives_up_the_least_popular_then_streaming_then_says_no() -> None:
    device, _, residency = a_residency(8)
    residency.place([(0, 1), (2, 3), ()], staging=True)
    shares = [[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4], [0.25] * 4]
    seen = []
    while residency.shrink(shares):
        check_tables(residency)
        seen.append((residency.by_layer(), residency.staging_slots))
    assert seen == [
        (((0,), (2, 3), ()), 2),
        (((0,), (3,), ()), 2),
        (((), (3,), ()), 2),
        (((), (), ()), 2),
        (((), (), ()), 1),
        (((), (), ()), 0),
    ]
    assert device.allocated_bytes == 0
    assert residency.borrow(0) is None


def test_a_little_is_given_up_at_a_time_and_in_the_end_everything() -> None:
    """A shortage is mostly small, and a pass that is begun anew is cheap beside residents that are gone."""
    model = replace(TINY, experts=50)
    _, _, residency = a_residency(100, model)
    residency.place([range(33), range(33), range(34)], staging=False)
    left = []
    while residency.shrink():
        left.append(sum(map(len, residency.by_layer())))
    assert left[:4] == [93, 86, 79, 72]
    assert left[-1] == 0
    assert len(left) <= 16


def test_slots_for_streaming_come_before_residents() -> None:
    _, _, residency = a_residency(3)
    residency.place([(0, 1, 2), (), ()], staging=False)
    assert not residency.fill([(0, 1, 2), (), ()], staging=True)
    assert (residency.by_layer(), residency.staging_slots) == (((2,), (), ()), 2)


def test_what_is_under_way_can_be_given_up_too() -> None:
    device, _, residency = a_residency(1)
    residency.place([(0,), (), ()], staging=False)
    residency.begin_swap(0, 0, 1)
    assert residency.shrink()
    assert device.allocated_bytes == 0
