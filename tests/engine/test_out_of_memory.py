"""Memory runs out, at whatever point: the conversation goes on, with the same tokens; every byte is accounted for."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import Engine, EngineConfig, SamplingParams
from engine.devices import SimulatedDevice
from engine.errors import DeviceOutOfMemoryError
from engine.messages import Snapshot, Token
from engine.model.kv_cache import KVCache
from tests.checkpoints import write_mixtral
from tests.engine.shapes import simulated_budget

GREEDY = SamplingParams(max_tokens=5, temperature=0.0, ignore_eos=True)
ROOMY = EngineConfig(
    device="simulated", context_tokens=96, cpu_threads=1, prefill_chunk_tokens=16, simulated_vram_bytes=64 << 20,
    policy="gpu_stream",
)  # fmt: skip
PROMPTS = ([5, 6, 7, 8] * 6, [9, 10, 11] * 5, [12, 13] * 9)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_mixtral(tmp_path_factory.mktemp("memory") / "m"))


class Shortage:
    """Memory that runs out at the calls that are named, counting from the first.

    Attributes:
        calls: Calls so far.
        devices: Those that were opened.
    """

    def __init__(self, fails: range) -> None:
        self.calls, self._fails = 0, fails
        self.devices: weakref.WeakSet[SimulatedDevice] = weakref.WeakSet()

    def count(self) -> bool:
        self.calls += 1
        return self.calls - 1 in self._fails


@contextmanager
def short_of_memory(fails: range, *, computing: bool) -> Iterator[Shortage]:
    """Have our own allocations fail, or torch's while it computes."""
    shortage = Shortage(fails)
    reserve, run_expert = SimulatedDevice.reserve, SimulatedDevice.run_expert

    def failing_reserve(self: SimulatedDevice, term: str, size_bytes: int) -> None:
        shortage.devices.add(self)
        if not computing and shortage.count():
            raise DeviceOutOfMemoryError(f"No memory for {term}.", "Buy more.")
        reserve(self, term, size_bytes)

    def failing_run(self: SimulatedDevice, *args: Any) -> torch.Tensor:
        if computing and shortage.count():
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run_expert(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SimulatedDevice, "reserve", failing_reserve)
        patch.setattr(SimulatedDevice, "run_expert", failing_run)
        yield shortage


def tokens_of(engine: Engine, prompt: list[int]) -> list[int]:
    return [event.id for event in engine.generate(prompt, GREEDY) if isinstance(event, Token)]


def live_a_life(model: str) -> tuple[list[list[int]], int]:
    """Load, reply, lower the budget, reply, raise it with another cache, reply; and how often memory ran out."""
    shortages = 0
    with Engine.load(model, ROOMY) as engine:
        replies = [tokens_of(engine, PROMPTS[0])]
        shortages += check_books(engine)
        small = simulated_budget(engine.model, ROOMY, residents=3)
        for config, prompt in (
            (replace(ROOMY, vram_budget_bytes=small), PROMPTS[1]),
            (replace(ROOMY, context_tokens=64, kv_precision="q8"), PROMPTS[2]),
        ):
            engine.reconfigure(config)
            check_books(engine)
            replies.append(tokens_of(engine, prompt))
            shortages += check_books(engine)
    return replies, shortages


def check_books(engine: Engine) -> int:
    """What the device counts is what is there, and what the engine says is in force; returns the shortages."""
    loaded, snapshot = engine._loaded, engine.snapshot()
    residency, device, cache = loaded.residency, loaded.device, loaded.decoder.cache
    assert isinstance(cache, KVCache)
    slots = [slot for layer in residency._slots for slot in layer.values()]
    slots += [arrival.slot for arrival in residency._arrivals]
    there = {
        "experts": sum(slot.nbytes for slot in slots),
        "staging": sum(slot.nbytes for slot in residency._staging),
        "kv": cache.keys.nbytes + cache.values.nbytes,
    }
    assert not any(pool.spare for pool in residency._pools.values())
    assert {term: device.allocated.get(term, 0) for term in there} == there
    assert device.allocated["dense"] == engine.plan.vram_bytes["dense"]
    assert device.allocated["workspace"] == engine.plan.vram_bytes["workspace"]
    assert device.allocated_bytes <= device.budget_bytes <= ROOMY.simulated_vram_bytes
    assert engine.plan.vram_bytes["experts"] == there["experts"]
    assert engine.plan.vram_bytes["staging"] == there["staging"]
    assert engine.plan.resident_experts == len(slots)
    assert engine.plan.context_tokens == engine.ready.effective.context_tokens == cache.capacity
    assert engine.plan.kv_precision == engine.ready.effective.kv_precision == cache.precision
    assert sum(engine.plan.vram_bytes.values()) == 2 * engine.plan.vram_bytes["total"]
    assert snapshot.vram_bytes == device.allocated
    short = any("ran out of memory" in reason for reason in engine.plan.reasons)
    assert short == bool(snapshot.memory_shortages)
    return snapshot.memory_shortages


def test_each_shortage_is_told_against_the_plan_and_the_ones_before_are_not(model: str) -> None:
    with Engine.load(model, ROOMY) as engine:
        planned = engine.plan.resident_experts
        for _ in range(2):
            engine.loaded.make_room(DeviceOutOfMemoryError("none left", ""))
            engine.logits([1, 2])
            (told,) = (reason for reason in engine.plan.reasons if "ran out of memory" in reason)
            left = sum(map(len, engine.loaded.residency.resident))
            assert f"{left} of {planned} planned experts" in told
            assert engine.ready.because == told


def points(model: str, *, computing: bool) -> int:
    """At how many points memory can run out."""
    with short_of_memory(range(0), computing=computing) as shortage:
        live_a_life(model)
    return shortage.calls


@pytest.mark.parametrize("segment_slots", [1, 2, 16])
def test_any_allocation_may_fail_once(model: str, segment_slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.experts.slots.MOST_SEGMENT_SLOTS", segment_slots)
    expected, shortages = live_a_life(model)
    assert shortages == 0
    survived = 0
    for point in range(points(model, computing=False)):
        with short_of_memory(range(point, point + 1), computing=False) as shortage:
            replies: list[list[int]] = []
            with suppress(DeviceOutOfMemoryError):
                replies, _ = live_a_life(model)
        if replies:
            assert replies == expected
            survived += 1
        else:
            assert not survived, "only what a load begins with cannot do without its memory"
            gc.collect()
            assert not shortage.devices, "everything was given back"
    assert survived > {1: 17, 2: 10, 16: 7}[segment_slots]


def test_computing_may_run_out_of_memory_at_any_point(model: str) -> None:
    expected, _ = live_a_life(model)
    count = points(model, computing=True)
    for point in range(0, count, max(1, count // 40)):
        with short_of_memory(range(point, point + 1), computing=True):
            replies, _ = live_a_life(model)
        assert replies == expected


def test_a_gpu_that_can_compute_no_expert_any_more_leaves_them_all_to_the_cpu(model: str) -> None:
    with Engine.load(model, ROOMY) as engine:
        expected = tokens_of(engine, PROMPTS[0])
    with Engine.load(model, ROOMY) as engine:
        residents = engine.plan.resident_experts
        with short_of_memory(range(1 << 30), computing=True):
            assert tokens_of(engine, PROMPTS[0]) == expected
        assert engine.plan.resident_experts == 0 < residents
        assert engine.plan.reasons[-1].startswith(f"The GPU ran out of memory: 0 of {residents} planned experts")
        check_books(engine)
        engine.reconfigure(ROOMY)
        assert engine.plan.resident_experts == residents
        assert check_books(engine) == 0
        assert tokens_of(engine, PROMPTS[1])


def test_with_nothing_left_to_give_up_the_error_is_ours_and_the_engine_goes_on(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(ROOMY, policy="fiddler")

    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with Engine.load(model, config) as engine:
        expected = tokens_of(engine, PROMPTS[0])
        monkeypatch.setattr(type(engine._loaded.decoder), "attend", no_memory)
        with pytest.raises(DeviceOutOfMemoryError, match="no memory left to compute in"):
            tokens_of(engine, PROMPTS[1])
        monkeypatch.undo()
        assert engine.plan.resident_experts == 0
        assert tokens_of(engine, PROMPTS[0]) == expected


def test_a_shortage_in_a_reply_is_seen_in_its_snapshots_and_its_counts_are_whole(model: str) -> None:
    with Engine.load(model, ROOMY) as engine:
        plain = [event for event in engine.generate(PROMPTS[0], GREEDY) if isinstance(event, Snapshot)][-1]
    for point in range(16, 26):  # in every layer of a pass
        with Engine.load(model, ROOMY) as engine, short_of_memory(range(point, point + 1), computing=True):
            events = list(engine.generate(PROMPTS[0], GREEDY))
        last = [event for event in events if isinstance(event, Snapshot)][-1]
        assert last.memory_shortages == 1
        assert last.visits == plain.visits
        assert 0.0 < last.hit_rate <= plain.hit_rate == 1.0


def test_a_context_that_the_device_cannot_hold_leaves_the_one_from_before(model: str) -> None:
    reserve = SimulatedDevice.reserve

    def no_longer_cache(self: SimulatedDevice, term: str, size_bytes: int) -> None:
        if term == "kv" and size_bytes > 96 * kv_bytes:
            raise DeviceOutOfMemoryError("No memory for kv.", "Buy more.")
        reserve(self, term, size_bytes)

    with Engine.load(model, ROOMY) as engine, pytest.MonkeyPatch.context() as patch:
        kv_bytes = engine.model.kv_bytes_per_token("auto")
        expected = tokens_of(engine, PROMPTS[0])
        patch.setattr(SimulatedDevice, "reserve", no_longer_cache)
        engine.reconfigure(replace(ROOMY, context_tokens=128))
        assert engine.ready.effective.context_tokens == 96
        assert "the context holds 96 tokens" in engine.plan.reasons[-1]
        assert tokens_of(engine, PROMPTS[0]) == expected


def test_a_loaded_model_is_given_back_when_measuring_fails(model: str, tmp_path: Path) -> None:
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 60

    with short_of_memory(range(0), computing=False) as shortage:
        with pytest.raises(Exception, match="stopped"):
            Engine.load(model, ROOMY, cancelled=cancelled)
        gc.collect()
        assert not shortage.devices
