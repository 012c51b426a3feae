"""Slots in segments: who lives in one keeps its bytes, wherever it moves, and what is free goes back."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.bench.gpu.pcs import PCS
from engine.bench.models import SIZES, Shape
from engine.bench.predict.conversation import planning_inputs
from engine.bench.predict.stream import Stream
from engine.config import EngineConfig
from engine.devices import SimulatedDevice
from engine.experts.parts import placed_model
from engine.experts.placement import make_plan
from engine.experts.slots import (
    LEAST_SEGMENT_BYTES,
    MOST_SEGMENT_BYTES,
    MOST_SEGMENT_SLOTS,
    ROUNDED_TO_BYTES,
    TERM,
    SlotPool,
    segment_slots,
)
from tests.examples import examples

SIZE = 64
MIB = 1 << 20


def a_pool(slots: int) -> tuple[SimulatedDevice, SlotPool]:
    device = SimulatedDevice(EngineConfig(), slots * SIZE)
    return device, SlotPool(device, SIZE)


class Street:
    """Those who live in a pool, each with bytes of its own."""

    def __init__(self, pool: SlotPool) -> None:
        self.pool = pool
        self.homes: dict[int, torch.Tensor] = {}
        self.homeless: list[int] = []
        self.moved = 0

    def move_in(self, who: int) -> bool:
        slot = self.pool.take()
        if slot is None:
            return False
        self.homes[who] = slot.fill_(who % 251)
        return True

    def move(self, address: int, target: torch.Tensor | None) -> None:
        who = next(who for who, slot in self.homes.items() if slot.data_ptr() == address)
        old = self.homes.pop(who)
        if target is None:
            self.homeless.append(who)
            return
        self.homes[who] = target.copy_(old)
        self.moved += 1

    def check(self) -> None:
        assert len({slot.data_ptr() for slot in self.homes.values()}) == len(self.homes)
        for who, slot in self.homes.items():
            assert bool((slot == who % 251).all())
        assert self.pool.spare == self.pool.slots - len(self.homes)


@examples(200)
@given(data=st.data())
def test_whoever_stays_keeps_its_bytes_and_what_is_spare_goes_back(data: st.DataObject) -> None:
    device, pool = a_pool(300)
    street = Street(pool)
    who = 0
    for _ in range(data.draw(st.integers(1, 6))):
        assert pool.grow(data.draw(st.integers(0, 45)))
        while street.move_in(who):
            who += 1
        leaving = data.draw(st.lists(st.sampled_from(sorted(street.homes)), unique=True)) if street.homes else []
        for one in leaving:
            pool.give(street.homes.pop(one))
        kept = data.draw(st.integers(0, 20))
        before, spare, living = pool.slots, pool.spare, len(street.homes)
        street.homeless.clear()
        pool.free(kept, street.move)
        street.check()
        assert pool.spare <= max(kept, 0)
        assert len(street.homes) + len(street.homeless) == living
        if street.homeless:
            assert pool.spare == 0, "nobody is without a home while one is free"
        assert before - pool.slots < max(0, spare - kept) + MOST_SEGMENT_SLOTS, "no more than one segment too many"
        assert device.allocated.get(TERM, 0) == pool.slots * SIZE


def test_a_segment_that_empties_goes_without_moving_anybody() -> None:
    device, pool = a_pool(64)
    street = Street(pool)
    pool.grow(64)
    for who in range(64):
        street.move_in(who)
    last = list(street.homes)[48:]
    for who in last:
        pool.give(street.homes.pop(who))
    pool.free(0, street.move)
    assert (street.moved, street.homeless, device.allocated[TERM]) == (0, [], 48 * SIZE)


def test_holes_all_over_become_a_segment_that_is_free() -> None:
    device, pool = a_pool(160)
    street = Street(pool)
    pool.grow(160)
    for who in range(160):
        street.move_in(who)
    for who in range(0, 160, 10):
        pool.give(street.homes.pop(who))
    pool.free(0, street.move)
    street.check()
    assert street.homeless == []
    assert 0 < street.moved < MOST_SEGMENT_SLOTS
    assert device.allocated[TERM] == 144 * SIZE


def test_the_fullest_segment_is_filled_first() -> None:
    _, pool = a_pool(48)
    pool.grow(48)
    slots = [slot for _ in range(48) if (slot := pool.take()) is not None]
    first, second = slots[:16], slots[16:32]
    for slot in (*first[:5], *second[:2]):
        pool.give(slot)
    taken = [slot for _ in range(2) if (slot := pool.take()) is not None]
    assert {slot.data_ptr() for slot in taken} == {slot.data_ptr() for slot in second[:2]}


def test_where_memory_is_short_segments_are_still_few() -> None:
    _, pool = a_pool(31)
    pool.grow(48)
    assert pool.slots == 31
    assert len(pool._segments) <= 5


@pytest.mark.parametrize("room", range(40))
def test_as_many_slots_as_there_is_memory_for(room: int) -> None:
    device, pool = a_pool(room)
    assert pool.grow(30) == (room >= 30)
    assert pool.slots == pool.spare == min(room, 30)
    assert device.allocated_bytes == pool.slots * SIZE


def rounded(size: int, slots: int) -> int:
    """What torch's allocator takes for so many slots, each by itself (`c10/core/AllocatorConfig.h`)."""
    if size < 10 * MIB:
        return -(-slots // (20 * MIB // size)) * 20 * MIB
    return slots * -(-size // (2 * MIB)) * 2 * MIB


def in_segments(size: int, slots: int) -> int:
    """The same in segments."""
    each = segment_slots(size)
    whole, rest = divmod(slots, each)
    return sum(number * rounded(held * size, 1) for number, held in ((whole, each), (1, rest)) if held)


# Rounded down to MiB: what the allocator takes besides, of Q4_K_M on 8, 12 and 24 GB.
BESIDES = {
    "mixtral-8x7b": [(175, 77), (300, 148), (679, 317)],
    "qwen3-30b-a3b": [(808, 10), (1355, 15), (2280, 24)],
}


@pytest.mark.parametrize("shape", SIZES["full"], ids=lambda shape: shape.name)
def test_what_the_allocator_takes_besides_is_within_the_margin(shape: Shape) -> None:
    model = placed_model(replace(shape, routing=None).config("Q4_K_M"), "cuda")
    profile = Stream(shape, model.expert_parts).draw(256, 0)
    for pc, (alone, together) in zip(PCS.values(), BESIDES[shape.name], strict=True):
        plan = make_plan(planning_inputs(model, pc, profile), EngineConfig(device="cuda", context_tokens=8192))
        slots = Counter[int]()
        for layer, experts in enumerate(plan.resident_by_layer):
            slots[model.layer_expert_bytes(layer)] += len(experts)
        planned = plan.vram_bytes["experts"]
        assert sum(rounded(*each) for each in slots.items()) - planned == pytest.approx(alone * MIB, rel=0.02)
        besides = sum(in_segments(*each) for each in slots.items()) - planned
        assert besides == pytest.approx(together * MIB, abs=20 * MIB)
        assert besides < plan.vram_bytes["margin"] / 3


@examples(300)
@given(size=st.integers(1, 200 << 20))
def test_a_segment_is_neither_large_nor_much_rounded_up(size: int) -> None:
    slots = segment_slots(size)
    assert 1 <= slots <= MOST_SEGMENT_SLOTS
    assert slots == 1 or slots * size <= MOST_SEGMENT_BYTES
    if size * MOST_SEGMENT_SLOTS >= LEAST_SEGMENT_BYTES:
        assert slots * size >= min(LEAST_SEGMENT_BYTES, size)
        rounded = -(-slots * size // ROUNDED_TO_BYTES) * ROUNDED_TO_BYTES
        assert rounded < slots * size + ROUNDED_TO_BYTES
        alone = -(-size // ROUNDED_TO_BYTES) * ROUNDED_TO_BYTES
        assert rounded / (slots * size) <= alone / size, "never worse than alone"
