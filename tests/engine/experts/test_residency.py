"""Slots in VRAM: what is placed is what is wanted, within the budget, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.config import EngineConfig
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


def a_residency(slots: int) -> tuple[SimulatedDevice, ExpertStore, Residency]:
    device = SimulatedDevice(EngineConfig(), slots * TINY.expert_bytes)
    store = ExpertStore(TINY, device, torch.float32)
    for layer in range(TINY.layers):
        for expert in range(TINY.experts):
            store.weights(layer, expert).flat.fill_(layer * 100 + expert)
    return device, store, Residency(TINY, device, store, torch.float32)


@given(PLACEMENTS)
def test_any_row_of_placements_ends_in_the_last(placements: list[list[set[int]]]) -> None:
    device, _, residency = a_residency(TINY.total_experts + STAGING_SLOTS)
    for wanted in placements:
        residency.place([sorted(layer) for layer in wanted], staging=True)
        assert residency.by_layer() == tuple(tuple(sorted(layer)) for layer in wanted)
        assert device.allocated.get("experts", 0) == sum(map(len, wanted)) * TINY.expert_bytes
        for layer, experts in enumerate(wanted):
            for expert in experts:
                assert bool((residency.weights(layer, expert).flat == layer * 100 + expert).all())
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


def test_experts_in_ram_are_aligned_and_page_locked_only_where_it_helps() -> None:
    _, store, _ = a_residency(1)
    assert all(store.weights(0, expert).flat.data_ptr() % 64 == 0 for expert in range(TINY.experts))
    store.pin()
    assert store.pinned_layers == 0


def test_the_slot_lent_for_measuring_harms_no_resident() -> None:
    _, _, residency = a_residency(TINY.total_experts)
    residency.place([range(TINY.experts)] * TINY.layers, staging=False)
    slot, source = residency.borrow()
    slot.flat.copy_(source.flat)
    assert bool((residency.weights(0, 0).flat == 0).all())
    assert bool((residency.weights(0, 1).flat == 1).all())
