"""When to make way for other programs, and when to come back; what NVML says of them, also where it says little."""

from __future__ import annotations

import itertools
import os
import queue
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace

import pynvml
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine import vram_watch
from engine.vram_watch import (
    CHECK_PERIOD_S,
    HOLD_S,
    MOST_HOLD_S,
    MOST_OWN_BYTES,
    MOST_SILENT_READINGS,
    NOTICED_PARTS,
    RETURNED_PARTS,
    OtherPrograms,
    VramWatch,
    WatchPolicy,
)

GIB = 1 << 30
TOTAL = 8 * GIB
PATIENCE_S = 20.0


def observe(policy: WatchPolicy, readings: list[int], start_s: float = 0.0) -> list[tuple[float, int]]:
    """Readings half a second apart; the changes, with their times."""
    times = [start_s + CHECK_PERIOD_S * index for index in range(len(readings))]
    answers = [(now_s, policy.observe(now_s, reading)) for now_s, reading in zip(times, readings, strict=True)]
    return [(now_s, planned) for now_s, planned in answers if planned is not None]


# ---- the policy ----


def test_the_second_reading_makes_way() -> None:
    assert observe(WatchPolicy(TOTAL, GIB), [GIB, 4 * GIB, 4 * GIB]) == [(2 * CHECK_PERIOD_S, 4 * GIB)]


def test_a_single_reading_is_no_reason() -> None:
    assert observe(WatchPolicy(TOTAL, GIB), [GIB, 4 * GIB, GIB] * 20) == []


def test_what_the_margin_is_for_is_no_reason() -> None:
    assert observe(WatchPolicy(TOTAL, GIB), [GIB + TOTAL // NOTICED_PARTS] * 20) == []


def test_free_memory_comes_back_late_and_in_steps() -> None:
    changes = observe(WatchPolicy(TOTAL, 6 * GIB), [GIB] * 100)
    assert [planned for _, planned in changes] == [3.5 * GIB, 2.25 * GIB, 1.25 * GIB], "the rest is not worth it"
    times = [0.0, *(now_s for now_s, _ in changes)]
    assert all(later - earlier >= HOLD_S for earlier, later in pairwise(times))


def test_the_most_that_others_held_meanwhile_is_left_to_them() -> None:
    readings = [2 * GIB, 3 * GIB, *[GIB] * 20]
    assert observe(WatchPolicy(TOTAL, 4 * GIB), readings)[0][1] == 3 * GIB


def test_a_program_that_comes_and_goes_is_left_alone_before_long() -> None:
    """Twenty seconds with 3 GiB, twenty without, for an hour."""
    readings = ([4 * GIB] * 40 + [GIB] * 40) * 90
    changes = observe(WatchPolicy(TOTAL, GIB), readings)
    assert changes[0] == (CHECK_PERIOD_S, 4 * GIB)
    assert len(changes) < 12
    assert changes[-1][0] < 240.0


READINGS = st.lists(st.tuples(st.integers(0, TOTAL), st.integers(1, 60)), min_size=1, max_size=40)


@example(0, [(TOTAL // NOTICED_PARTS + 1, 1), (2 * TOTAL // NOTICED_PARTS + 2, 1)])  # what is confirmed has grown since
@given(st.integers(0, TOTAL), READINGS)
def test_it_follows_in_time_never_too_high_and_never_flaps(planned: int, spells: list[tuple[int, int]]) -> None:
    policy = WatchPolicy(TOTAL, planned)
    now_s, above, returns = 0.0, 0, []
    for others, count in spells:
        for _ in range(count):
            before = policy.planned_bytes
            wanted = policy.observe(now_s, others)
            assert policy.planned_bytes == (before if wanted is None else wanted)
            unnoticed = wanted is None and others > policy.planned_bytes + TOTAL // NOTICED_PARTS
            above = above + 1 if unnoticed else 0
            assert above < 2, "two readings and no way was made"
            if wanted is not None and wanted < before:
                assert wanted >= others, "what others hold was taken"
                returns.append(now_s)
            now_s += CHECK_PERIOD_S
    assert all(later - earlier >= HOLD_S for earlier, later in pairwise(returns))


@given(st.integers(0, TOTAL), READINGS, st.integers(0, TOTAL))
def test_it_comes_to_rest_at_what_others_hold(planned: int, spells: list[tuple[int, int]], last: int) -> None:
    policy = WatchPolicy(TOTAL, planned)
    history = [others for others, count in spells for _ in range(count)]
    observe(policy, history)
    start_s = CHECK_PERIOD_S * len(history)
    observe(policy, [last] * int(10 * MOST_HOLD_S / CHECK_PERIOD_S), start_s)
    assert last - TOTAL // NOTICED_PARTS <= policy.planned_bytes <= last + TOTAL // RETURNED_PARTS
    later_s = start_s + 10 * MOST_HOLD_S
    assert observe(policy, [last] * 200, later_s) == []


def test_what_is_taken_back_again_and_again_is_waited_for_longer_up_to_a_limit() -> None:
    policy, now_s, waits = WatchPolicy(TOTAL, 6 * GIB), 0.0, []
    for _ in range(9):
        since_s = now_s
        while policy.observe(now_s, GIB) is None:
            now_s += CHECK_PERIOD_S
            assert now_s - since_s <= 2 * MOST_HOLD_S
        waits.append(now_s - since_s)
        for _ in range(3):
            now_s += CHECK_PERIOD_S
            policy.observe(now_s, 6 * GIB)
    assert waits == sorted(waits)
    assert (waits[0], waits[1]) == (HOLD_S, 2 * HOLD_S)
    assert waits[-2:] == [MOST_HOLD_S] * 2


def test_another_plan_begins_anew() -> None:
    policy = WatchPolicy(TOTAL, 6 * GIB)
    observe(policy, [GIB] * 9)
    policy.replanned(GIB)
    assert observe(policy, [GIB] * 40, 4.5) == []


# ---- the readings ----


@dataclass
class Nvml:
    """A GPU as NVML would tell of it; `used` may change with every question."""

    used: list[int]
    processes: list[tuple[int, int | None]] | None = field(default_factory=list)
    broken: bool = False

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pynvml, "nvmlInit", self._init)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", self._memory)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", self._processes)

    def _init(self) -> None:
        if self.broken:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    def _memory(self, handle: int) -> SimpleNamespace:
        self._init()
        return SimpleNamespace(used=self.used.pop(0) if len(self.used) > 1 else self.used[0])

    def _processes(self, handle: int) -> list[SimpleNamespace]:
        if self.processes is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in self.processes]


def test_the_processs_own_part_is_taken_from_nvml_where_it_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    Nvml([6 * GIB], [(1, GIB), (os.getpid(), 4 * GIB)]).install(monkeypatch)
    assert OtherPrograms(lambda: 0, 0)() == 2 * GIB


def test_the_card_is_found_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    Nvml([6 * GIB], [(os.getpid(), GIB)]).install(monkeypatch)
    asked: list[str] = []

    def by_uuid(uuid: str) -> str:
        asked.append(uuid)
        return "handle"

    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", by_uuid)
    assert OtherPrograms(lambda: 0, 0, "GPU-2")() == 5 * GIB
    assert asked == ["GPU-2"]


@pytest.mark.parametrize("processes", [None, [], [(os.getpid(), None)]])
def test_elsewhere_cudas_own_part_is_what_came_with_the_load(
    monkeypatch: pytest.MonkeyPatch, processes: list[tuple[int, int | None]] | None
) -> None:
    nvml = Nvml([5 * GIB + 300], processes)
    nvml.install(monkeypatch)
    held = 4 * GIB
    others = OtherPrograms(lambda: held, GIB)
    assert others() == GIB
    nvml.used, held = [7 * GIB + 300], 3 * GIB
    assert others() == 4 * GIB


def test_not_everything_that_came_with_the_load_can_be_cudas(monkeypatch: pytest.MonkeyPatch) -> None:
    Nvml([7 * GIB]).install(monkeypatch)
    assert OtherPrograms(lambda: 2 * GIB, GIB)() == 5 * GIB - MOST_OWN_BYTES


def test_a_reading_in_the_middle_of_an_allocation_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml([GIB, 3 * GIB], [(os.getpid(), GIB)])
    nvml.install(monkeypatch)
    others = OtherPrograms(lambda: 0, 0)
    assert others() is None
    assert others() == 2 * GIB


def test_an_nvml_that_fails_is_asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml([GIB], broken=True)
    nvml.install(monkeypatch)
    others = OtherPrograms(lambda: 0, GIB)
    assert others() is None
    nvml.broken = False
    assert others() == GIB


# ---- the thread ----


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vram_watch, "CHECK_PERIOD_S", 0.001)


def counting(reading: int | None) -> tuple[Callable[[], int | None], queue.SimpleQueue[int]]:
    """A reader that always says the same, and how often it was asked."""
    asked: queue.SimpleQueue[int] = queue.SimpleQueue()

    def read() -> int | None:
        asked.put(asked.qsize() + 1)
        return reading

    return read, asked


@pytest.mark.usefixtures("_at_once")
def test_the_watch_tells_what_the_policy_decides_until_it_is_stopped() -> None:
    heard: queue.SimpleQueue[int] = queue.SimpleQueue()
    read, _ = counting(4 * GIB)
    watch = VramWatch(read, WatchPolicy(TOTAL, GIB), heard.put)
    assert heard.get(timeout=PATIENCE_S) == 4 * GIB
    watch.replanned(GIB)
    assert heard.get(timeout=PATIENCE_S) == 4 * GIB
    watch.stop()
    watch.replanned(GIB)
    assert watch.join(PATIENCE_S)
    watch._decide(4 * GIB)  # of a reading that was being taken when it was stopped
    assert heard.empty()


@pytest.mark.usefixtures("_at_once")
def test_a_watch_without_readings_ends_silently() -> None:
    read, asked = counting(None)
    watch = VramWatch(read, WatchPolicy(TOTAL, GIB), lambda _bytes: pytest.fail("there was nothing to tell"))
    for _ in range(MOST_SILENT_READINGS):
        asked.get(timeout=PATIENCE_S)
    assert watch.join(PATIENCE_S)
    assert asked.empty()


@pytest.mark.usefixtures("_at_once")
def test_a_watch_with_a_reading_now_and_then_goes_on() -> None:
    asked: queue.SimpleQueue[int] = queue.SimpleQueue()
    readings = itertools.cycle([*[None] * (MOST_SILENT_READINGS - 1), GIB])

    def read() -> int | None:
        asked.put(0)
        return next(readings)

    watch = VramWatch(read, WatchPolicy(TOTAL, GIB), lambda _bytes: None)
    for _ in range(5 * MOST_SILENT_READINGS):
        asked.get(timeout=PATIENCE_S)
    watch.stop()
    assert watch.join(PATIENCE_S)
