"""The one hand-off of a decode layer: how the host learns that the GPU's part is there, and the GPU that the host's is.

    GPU, in stream order      copies to pinned memory | signal | residents | ( held ) | what needs the host's part
    host                                        wait ----^        experts, sum into pinned memory, release --^

Three ways, tried at start (`choose_hand_off`), the quickest that works is taken:

    FlagHandOff       the stream writes a counter in pinned memory, and waits for another one, by stream memory
                      operations: no kernel spins. What follows is launched while the host has yet to compute.
    CallbackHandOff   a thread of the driver posts a semaphore; nothing of Python runs there
    EventHandOff      an event that the host waits for

With the last two, what needs the host's part is launched when it is there.

Between `hold` and `release` the host may call nothing of CUDA: whatever waits for the stream would wait forever.
"""

from __future__ import annotations

import ctypes
import platform
import statistics
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial

import torch

from engine.errors import GpuLostError
from engine.kernels.cuda_driver import CudaDriver, CudaDriverError
from engine.sentences import say

PATIENCE_S = 0.2  # without a signal, before the stream is asked whether the GPU is still there
TRIAL_S = 2.0  # for a round trip on trial

_HELD_S = 2e-3  # how long a trial holds the stream
_CIRCLE = 1 << 32
_TRIALS = 20


class HandOffError(Exception):
    """A way that does not work here; the message is one sentence."""


class HandOff(ABC):
    """Signals between the host and torch's current stream.

    Attributes:
        name: For the eye.
        ahead: Whether `hold` may be used.
    """

    name: str
    ahead = False

    def __init__(self) -> None:
        """Nothing is under way."""
        self._under_way = 0

    def signal(self) -> None:
        """Have the stream say that all launched before is done; the host does not wait."""
        self._signal()
        self._under_way += 1

    def wait(self) -> None:
        """Wait for the latest signal, and so for every one before it; returns at once where none is under way.

        Raises:
            CudaDriverError: The GPU broke off.
            RuntimeError: Likewise, in torch's words.
        """
        while self._under_way:
            while not self._arrived(PATIENCE_S):
                # A GPU that is lost says so here; one that has done everything has signalled too.
                if torch.cuda.current_stream().query():
                    if not self._arrived(PATIENCE_S):
                        raise CudaDriverError(
                            "CUDA_ERROR_UNKNOWN", say("A signal by {name} never came.", name=self.name)
                        )
                    break
            self._under_way -= 1

    def hold(self) -> None:
        """Have the stream wait for `release`, where `ahead` says that it can."""
        raise AssertionError(f"{self.name} holds nothing")

    def release(self) -> None:
        """Let go what is held, if anything is; calls nothing of CUDA."""

    @abstractmethod
    def _signal(self) -> None:
        """Put one signal into the stream."""

    @abstractmethod
    def _arrived(self, patience_s: float) -> bool:
        """Wait for the oldest signal under way, at most so long; whether it came."""


class EventHandOff(HandOff):
    """An event, which the host waits for."""

    name = "event"

    def __init__(self) -> None:
        """Make the event."""
        super().__init__()
        self._event = torch.cuda.Event()

    def _signal(self) -> None:
        self._event.record()

    def _arrived(self, patience_s: float) -> bool:
        del patience_s  # a GPU that is lost ends this wait with an error
        self._event.synchronize()
        self._under_way = 1  # it is the latest one
        return True


class CallbackHandOff(HandOff):
    """A semaphore of the system, which the driver's own thread posts.

    Args:
        driver: Of the device.
    """

    name = "callback"

    def __init__(self, driver: CudaDriver) -> None:
        """Make the semaphore.

        Raises:
            HandOffError: The system has none of a kind that is posted by one pointer.
        """
        super().__init__()
        if not sys.platform.startswith("linux"):
            raise HandOffError("Only Linux has semaphores that a driver can post.")
        self._driver, self._library = driver, ctypes.CDLL(None, use_errno=True)
        self._semaphore = ctypes.create_string_buffer(64)  # a sem_t is 32 bytes or fewer
        self._address = ctypes.addressof(self._semaphore)
        self._post = ctypes.cast(self._library.sem_post, ctypes.c_void_p).value or 0
        self._library.sem_timedwait.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        self._library.sem_init.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint)
        if self._library.sem_init(self._address, 0, 0):
            raise HandOffError("The system gave no semaphore.")

    def _signal(self) -> None:
        stream = torch.cuda.current_stream().cuda_stream
        self._driver.call_host(stream, self._post, self._address)

    def _arrived(self, patience_s: float) -> bool:
        until_s = time.time() + patience_s
        until = (ctypes.c_long * 2)(int(until_s), int(until_s % 1 * 1e9))  # struct timespec
        return bool(self._library.sem_timedwait(self._address, until) == 0)


class FlagHandOff(HandOff):
    """Two counters in pinned memory.

    Args:
        driver: Of the device.
        counters: int32 [2], pinned: the GPU's and the host's.
    """

    name, ahead = "flags", True

    def __init__(self, driver: CudaDriver, counters: torch.Tensor) -> None:
        """Set both to zero.

        Raises:
            HandOffError: This machine's stores may be seen in another order, or its driver keeps launches back.
        """
        super().__init__()
        if platform.machine() not in ("x86_64", "AMD64") or sys.platform == "win32":
            raise HandOffError("Flags are used on Linux with x86-64 only.")
        counters.zero_()
        self._driver, self._counters = driver, counters
        self._to_host = ctypes.c_uint32.from_address(counters.data_ptr())
        self._to_gpu = ctypes.c_uint32.from_address(counters.data_ptr() + 4)
        self._signalled = self._held = 0

    def hold(self) -> None:
        """See `HandOff`."""
        held = (self._held + 1) % _CIRCLE
        self._driver.wait_value(torch.cuda.current_stream().cuda_stream, ctypes.addressof(self._to_gpu), held)
        self._held = held

    def release(self) -> None:
        """See `HandOff`; x86-64 shows stores in their order, so the sum is seen before the counter."""
        self._to_gpu.value = self._held

    def _signal(self) -> None:
        value = (self._signalled + 1) % _CIRCLE
        self._driver.write_value(torch.cuda.current_stream().cuda_stream, ctypes.addressof(self._to_host), value)
        self._signalled = value

    def _arrived(self, patience_s: float) -> bool:
        until_s = time.perf_counter() + patience_s
        while self._to_host.value != self._signalled:
            if time.perf_counter() > until_s:
                return False
        self._under_way = 1  # it is the latest one
        return True


Opener = Callable[[], HandOff]


def hand_offs(driver: CudaDriver, pinned: Callable[[int], torch.Tensor]) -> tuple[Opener, ...]:
    """All ways, the most wanted first.

    Args:
        driver: Of the device.
        pinned: Makes pinned memory of so many bytes.
    """

    def flags() -> HandOff:
        return FlagHandOff(driver, pinned(8).view(torch.int32))

    return flags, lambda: CallbackHandOff(driver), EventHandOff


def a_launch(device: torch.device) -> Callable[[], object]:
    """What puts a kernel into torch's current stream, for trials; it has run before, so that nothing is loaded then.

    Args:
        device: Whose.
    """
    number = torch.zeros(1, device=device)
    number.add_(1)
    return partial(number.add_, 1)


def choose_hand_off(
    openers: Sequence[Opener], launch: Callable[[], object], clock: Callable[[], float] = time.perf_counter
) -> HandOff:
    """The quickest way that works, of equals the first.

    Args:
        openers: What may be tried; the last one works wherever CUDA does.
        launch: As of `a_launch`.
        clock: Tells seconds.

    Raises:
        CudaDriverError: The GPU broke off, and nothing works.
        RuntimeError: Likewise, in torch's words.
    """
    return min(working(openers, launch), key=lambda hand_off: round_trip_s(hand_off, clock))


def working(openers: Sequence[Opener], launch: Callable[[], object]) -> Iterator[HandOff]:
    """Those that work here, tried one after the other.

    Args:
        openers: As for `choose_hand_off`.
        launch: Likewise.
    """
    for opener in openers[:-1]:
        with suppress(HandOffError, CudaDriverError):
            hand_off = opener()
            _try(hand_off, launch)
            yield hand_off
    yield openers[-1]()


def round_trip_s(hand_off: HandOff, clock: Callable[[], float] = time.perf_counter) -> float:
    """Median time from a signal to the host's hearing it, with nothing else on the GPU.

    Args:
        hand_off: One that works.
        clock: Tells seconds.
    """
    samples = []
    for _ in range(_TRIALS):
        started_s = clock()
        hand_off.signal()
        hand_off.wait()
        samples.append(clock() - started_s)
    return statistics.median(samples)


def _try(hand_off: HandOff, launch: Callable[[], object]) -> None:
    """One round trip, with what is held let go before anything waits.

    Launches may wait for the stream (`CUDA_LAUNCH_BLOCKING`, some tools): a timer lets it go then.

    Raises:
        HandOffError: A signal did not come, or came although it was held back.
        GpuLostError: The stream does not go on.
    """
    hand_off.signal()
    if not hand_off._arrived(TRIAL_S):
        raise HandOffError(f"A signal by {hand_off.name} did not come.")
    hand_off._under_way = 0
    if not hand_off.ahead:
        return
    hand_off.hold()
    timer = threading.Timer(TRIAL_S, hand_off.release)
    timer.start()
    try:
        launch()
        hand_off.signal()
        early = hand_off._arrived(_HELD_S)
    finally:
        timer.cancel()
        hand_off.release()
    if not early and not hand_off._arrived(TRIAL_S):
        # The stream stands for good; the mark of the trial stays, and the next start does without.
        raise GpuLostError(
            say("The GPU did not go on after a trial ({name}).", name=hand_off.name), say("Start Rooftop again.")
        )
    if early:
        raise HandOffError(f"What {hand_off.name} held back came at once, or a launch waited for it.")
    hand_off._under_way = 0
