"""Signals between a stream and the host: none is taken for another or waited for in vain, and what is held goes on."""

from __future__ import annotations

import ctypes
import itertools
import time
from collections.abc import Callable, Iterator

import pytest
import torch

from engine.devices import device_faults, hand_off
from engine.devices.hand_off import (
    CallbackHandOff,
    EventHandOff,
    FlagHandOff,
    HandOff,
    HandOffError,
    choose_hand_off,
    hand_offs,
    round_trip_s,
    working,
)
from engine.errors import GpuLostError
from engine.kernels.cuda_driver import CudaDriver, CudaDriverError
from tests.engine.devices.fake_cuda import FakeCuda, install


class QueueDriver(CudaDriver):
    """A driver whose stream does what it was asked when it is run, as far as it may.

    Attributes:
        by_itself: Whether it runs at once.
        deaf: Whether nothing that it does is seen.
    """

    def __init__(self) -> None:
        self.queue: list[Callable[[], bool]] = []
        self.by_itself, self.deaf = True, False

    def run(self) -> None:
        while self.queue and self.queue[0]():
            self.queue.pop(0)

    def write_value(self, stream: int, address: int, value: int) -> None:
        assert stream == 5

        def write() -> bool:
            if not self.deaf:
                ctypes.c_uint32.from_address(address).value = value
            return True

        self._put(write)

    def wait_value(self, stream: int, address: int, value: int) -> None:
        assert stream == 5
        self._put(lambda: (ctypes.c_uint32.from_address(address).value - value) % (1 << 32) < 1 << 31)

    def call_host(self, stream: int, function: int, argument: int) -> None:
        assert stream == 5

        def call() -> bool:
            if not self.deaf:
                ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(function)(argument)
            return True

        self._put(call)

    def _put(self, work: Callable[[], bool]) -> None:
        self.queue.append(work)
        if self.by_itself:
            self.run()


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    monkeypatch.setattr(hand_off, "PATIENCE_S", 0.01)
    monkeypatch.setattr(hand_off, "TRIAL_S", 0.01)
    return install(monkeypatch)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> QueueDriver:
    driver, release = QueueDriver(), FlagHandOff.release

    def seen(way: FlagHandOff) -> None:
        release(way)
        if driver.by_itself:
            driver.run()

    monkeypatch.setattr(FlagHandOff, "release", seen)
    return driver


def idle() -> None:
    """A launch that is on its way at once."""


def pinned(size_bytes: int) -> torch.Tensor:
    return torch.empty(size_bytes, dtype=torch.uint8)


@pytest.fixture(params=["flags", "callback"])
def way(request: pytest.FixtureRequest, cuda: FakeCuda, driver: QueueDriver) -> HandOff:
    try:
        return {way.name: way for way in working(hand_offs(driver, pinned), idle)}[request.param]
    except KeyError:
        pytest.skip("not on this machine")


def test_all_ways_work_and_the_quickest_is_taken(cuda: FakeCuda, driver: QueueDriver) -> None:
    ways = hand_offs(driver, pinned)
    assert [way.name for way in working(ways, idle)][-1] == "event"

    def clock_of(*seconds: float) -> Callable[[], float]:
        """Round trips of each way in turn take so long."""
        ticks: Iterator[float] = itertools.accumulate(
            step for trip_s in seconds for _ in range(20) for step in (0.0, trip_s)
        )
        return lambda: next(ticks)

    count = len(list(working(ways, idle)))
    for quickest, way in enumerate(list(working(ways, idle))):
        seconds = [1.0] * count
        seconds[quickest] = 0.5
        assert choose_hand_off(ways, idle, clock_of(*seconds)).name == way.name
    assert choose_hand_off(ways, idle, clock_of(*[1.0] * count)).name == next(working(ways, idle)).name, (
        "of equals the first"
    )


def test_a_signal_is_heard_once(way: HandOff, driver: QueueDriver) -> None:
    way.wait()  # nothing is under way
    for _ in range(3):
        way.signal()
        way.wait()
    way.wait()


def test_no_older_signal_is_taken_for_the_latest(
    way: HandOff, driver: QueueDriver, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that was stopped leaves one behind."""
    driver.by_itself = False
    cuda.done = False
    way.signal()
    driver.run()
    way.signal()
    asked = []

    def still_running(_: object) -> bool:
        asked.append(len(driver.queue))
        driver.run()
        return False

    monkeypatch.setattr("tests.engine.devices.fake_cuda.FakeStream.query", still_running)
    way.wait()
    assert asked == [1], "it waited until the second one had come"
    assert not driver.queue


def test_a_signal_that_comes_while_the_stream_is_asked_counts_once(
    way: HandOff, driver: QueueDriver, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.by_itself = False

    def done(_: object) -> bool:
        driver.run()
        return True

    monkeypatch.setattr("tests.engine.devices.fake_cuda.FakeStream.query", done)
    way.signal()
    way.wait()
    way.signal()
    assert not way._arrived(0.0), "nothing is left of the first"


def test_a_lost_gpu_is_found_and_a_lost_signal_too(
    way: HandOff, driver: QueueDriver, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.deaf = True
    way.signal()
    with pytest.raises(GpuLostError, match="never came"), device_faults():
        way.wait()

    def lost(_: object) -> bool:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    monkeypatch.setattr("tests.engine.devices.fake_cuda.FakeStream.query", lost)
    with pytest.raises(GpuLostError, match="unspecified launch failure"), device_faults():
        way.wait()


def test_an_event_is_waited_for(cuda: FakeCuda) -> None:
    way = EventHandOff()
    way.signal()
    way.signal()
    way.wait()
    way.wait()
    assert [entry[0] for entry in cuda.log] == ["record", "record", "synchronize"]
    assert round_trip_s(way, itertools.count().__next__) == 1.0


class TestHolding:
    @pytest.fixture
    def flags(self, cuda: FakeCuda, driver: QueueDriver) -> FlagHandOff:
        try:
            return FlagHandOff(driver, pinned(8).view(torch.int32))
        except HandOffError as error:
            pytest.skip(str(error))

    def test_what_is_held_goes_on_when_it_is_let_go(self, flags: FlagHandOff, driver: QueueDriver) -> None:
        for _ in range(3):
            flags.hold()
            flags.signal()
            assert not flags._arrived(0.0)
            flags.release()
            flags.wait()
            flags.release()  # again does no harm

    def test_the_counters_go_round_the_circle(self, flags: FlagHandOff, driver: QueueDriver) -> None:
        flags._held = flags._signalled = (1 << 32) - 2
        flags.release()
        self.test_what_is_held_goes_on_when_it_is_let_go(flags, driver)
        assert flags._held == flags._signalled == 1

    def test_others_hold_nothing(self, cuda: FakeCuda) -> None:
        assert not EventHandOff.ahead
        EventHandOff().release()
        with pytest.raises(AssertionError, match="event holds nothing"):
            EventHandOff().hold()


class TestTrial:
    @pytest.mark.parametrize("fault", ["deaf", "refused", "not held"])
    def test_a_way_that_does_not_work_is_passed_over(
        self, cuda: FakeCuda, driver: QueueDriver, monkeypatch: pytest.MonkeyPatch, fault: str
    ) -> None:
        def refused(*_: object) -> None:
            raise CudaDriverError("CUDA_ERROR_NOT_SUPPORTED", "The driver is too old for this.")

        if fault == "deaf":
            driver.deaf = True
        elif fault == "refused":
            monkeypatch.setattr(driver, "write_value", refused)
            monkeypatch.setattr(driver, "call_host", refused)
        else:
            monkeypatch.setattr(driver, "wait_value", lambda *_: None)
        names = [way.name for way in working(hand_offs(driver, pinned), idle)]
        assert "flags" not in names
        assert names[-1] == "event"

    def test_a_stream_that_does_not_go_on_is_lost(
        self, cuda: FakeCuda, driver: QueueDriver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        FlagHandOff(driver, pinned(8).view(torch.int32))
        monkeypatch.setattr(FlagHandOff, "release", lambda _: None)
        with pytest.raises(GpuLostError, match="did not go on"):
            list(working(hand_offs(driver, pinned), idle))
        driver.queue.clear()

    def test_a_trial_that_breaks_off_lets_the_stream_go(
        self, cuda: FakeCuda, driver: QueueDriver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        written: list[int] = []
        kept: list[torch.Tensor] = []

        def keep(size_bytes: int) -> torch.Tensor:
            kept.append(pinned(size_bytes))
            return kept[-1]

        def once(stream: int, address: int, value: int) -> None:
            if written:
                raise CudaDriverError("CUDA_ERROR_NOT_SUPPORTED", "Once was enough.")
            written.append(value)
            QueueDriver.write_value(driver, stream, address, value)

        monkeypatch.setattr(driver, "write_value", once)
        assert "flags" not in [way.name for way in working(hand_offs(driver, keep), idle)]
        driver.run()
        assert driver.queue == []

    def test_a_launch_that_waits_for_the_stream_is_no_launch_to_hold(self, cuda: FakeCuda, driver: QueueDriver) -> None:
        def blocking() -> None:
            until_s = time.monotonic() + 10
            while driver.queue and time.monotonic() < until_s:
                time.sleep(1e-3)
            assert not driver.queue, "let go by the timer"

        assert [way.name for way in working(hand_offs(driver, pinned), blocking)][-1] == "event"
        assert "flags" not in [way.name for way in working(hand_offs(driver, pinned), blocking)]

    def test_flags_are_left_alone_where_stores_may_be_seen_in_another_order(
        self, cuda: FakeCuda, driver: QueueDriver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("platform.machine", lambda: "aarch64")
        with pytest.raises(HandOffError, match="x86-64 only"):
            FlagHandOff(driver, pinned(8).view(torch.int32))

    def test_callbacks_are_for_linux(
        self, cuda: FakeCuda, driver: QueueDriver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.platform", "win32")
        with pytest.raises(HandOffError, match="Only Linux"):
            CallbackHandOff(driver)
