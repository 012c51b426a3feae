"""Slots in VRAM: what is placed is what is wanted, within the budget, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.config import EngineConfig, ModelConfig
from engine.devices import SimulatedDevice
from engine.errors import DeviceOutOfMemoryError
from engine.experts.planner import STAGING_SLOTS
from engine.experts.residency import Residency
from engine.experts.store import ExpertStore
from tests.engine.shapes import TINY

PLACEMENTS = st.lists(
    st.lists(st.sets(st.integers(0, TINY.experts - 1)), min_size=TINY.layers, max_size=TINY.layers),
    min_size=1,
    max_size=5,
)


Q4, Q6, Q8 = ("Q4_K", "Q4_K", "Q4_K"), ("Q4_K", "Q4_K", "Q6_K"), ("Q8_0", "Q8_0", "F16")
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
    residency.close()
    assert device.allocated_bytes == 0


def test_past_the_budget_what_fitted_stays_usable() -> None:
    device, _, residency = a_residency(3)
    with pytest.raises(DeviceOutOfMemoryError):
        residency.place([(0, 1), (2, 3), ()], staging=False)
    assert residency.by_layer() == ((0, 1), (2,), ())
    assert device.allocated_bytes == 3 * TINY.expert_bytes
    residency.place([(), (3,), (0,)], staging=False)
    assert residency.by_layer() == ((), (3,), (0,))


def test_the_slot_lent_for_measuring_harms_no_resident() -> None:
    _, _, residency = a_residency(TINY.total_experts)
    residency.place([range(TINY.experts)] * TINY.layers, staging=False)
    slot, source = residency.borrow(1)
    slot.flat.copy_(source.flat)
    for layer in range(TINY.layers):
        for expert in range(TINY.experts):
            assert bool((residency.weights(layer, expert).flat == layer * 60 + expert).all())


@given(PLACEMENTS)
def test_layers_of_other_sizes_share_the_slots(placements: list[list[set[int]]]) -> None:
    device, store, residency = a_residency(MIXED.total_experts + STAGING_SLOTS, MIXED)
    for wanted in placements:
        residency.place([sorted(layer) for layer in wanted], staging=True)
        assert device.allocated.get("experts", 0) == sum(map(len, wanted)) * MIXED.expert_bytes
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
