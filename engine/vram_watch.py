"""Watches what other programs take of the GPU's memory while the engine runs, and says when to plan anew.

    daemon thread, twice a second:  OtherPrograms (NVML) -> WatchPolicy -> `changed`, which wakes the engine thread

Memory that others take is made room for at once, after a second reading has confirmed it. Memory that they give back is
used again only when it has stayed free for some seconds, in steps, and later each time that it was taken back soon.
Where NVML is missing or fails there is no watch, and nobody is told. Knows neither experts nor torch.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import pynvml

CHECK_PERIOD_S = 0.5
MOST_SILENT_READINGS = 20  # in a row, before the watch ends
STEADY_BYTES = 64 << 20  # what a reading's parts, taken one after the other, may differ by
MOST_OWN_BYTES = 1 << 30  # CUDA's context, code and libraries in this process

NOTICED_PARTS = 128  # of all VRAM: less is what the plan's margin is for
RETURNED_PARTS = 32  # less is not worth coming back for
STEP_PARTS = 8  # the least that comes back at a time, where there is so much
HOLD_S = 5.0
MOST_HOLD_S = 120.0
TRUST_S = 60.0  # what was taken again so soon should not have been used

Reader = Callable[[], int | None]


class OtherPrograms:
    """Bytes of our GPU's memory that other programs hold; a call reads them, None where that cannot be done now.

    NVML says what this process holds where the system lets it. Elsewhere (Windows, containers) it is what its tensors
    hold, and what CUDA itself took between the load and the first reading.

    Args:
        held_bytes: What this process's tensors hold now.
        before_bytes: What others held before this process used the GPU.
        uuid: The card, as in `GpuProfile`; "" for the first.
    """

    def __init__(self, held_bytes: Callable[[], int], before_bytes: int, uuid: str = "") -> None:
        """See the class."""
        self._held_bytes, self._before_bytes, self._uuid = held_bytes, before_bytes, uuid
        self._own_bytes: int | None = None
        self._handle: object | None = None

    def __call__(self) -> int | None:
        """Read now."""
        try:
            return self._read()
        except (pynvml.NVMLError, OSError):
            self._handle = None
            return None

    def _read(self) -> int | None:
        if self._handle is None:
            pynvml.nvmlInit()
            by_uuid = pynvml.nvmlDeviceGetHandleByUUID
            self._handle = by_uuid(self._uuid) if self._uuid else pynvml.nvmlDeviceGetHandleByIndex(0)
        before = int(pynvml.nvmlDeviceGetMemoryInfo(self._handle).used)
        process_bytes, held = _process_bytes(self._handle), self._held_bytes()
        used = int(pynvml.nvmlDeviceGetMemoryInfo(self._handle).used)
        if abs(used - before) > STEADY_BYTES:
            return None  # somebody, perhaps this process, is just allocating: the parts do not belong together
        if process_bytes is not None:
            return max(0, used - process_bytes)
        if self._own_bytes is None:
            self._own_bytes = min(max(0, used - held - self._before_bytes), MOST_OWN_BYTES)
        return max(0, used - held - self._own_bytes)


def _process_bytes(handle: object) -> int | None:
    """What NVML says that this process holds; None where the system hides it."""
    try:
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except pynvml.NVMLError:
        return None
    own = [process.usedGpuMemory for process in processes if process.pid == os.getpid()]
    return int(own[0]) if own and own[0] is not None else None


class WatchPolicy:
    """Decides when what others hold is worth another plan. Pure: it is told the time.

    Args:
        total_bytes: The GPU's memory.
        planned_bytes: What others held when the plan in force was made.

    Attributes:
        planned_bytes: What the plan in force leaves to others.
    """

    def __init__(self, total_bytes: int, planned_bytes: int) -> None:
        """See the class."""
        self._total_bytes, self.planned_bytes = total_bytes, planned_bytes
        self._latest_bytes = planned_bytes
        self._free_since_s: float | None = None
        self._most_bytes = 0  # that others held since then
        self._hold_s = HOLD_S
        self._returned_s = -TRUST_S

    def replanned(self, planned_bytes: int) -> None:
        """A plan was made for another reason."""
        self.planned_bytes, self._free_since_s = planned_bytes, None

    def observe(self, now_s: float, others_bytes: int) -> int | None:
        """Take a reading.

        Args:
            now_s: A clock that never goes back.
            others_bytes: What others hold.

        Returns:
            What to leave to others from now on; None where the plan in force will do.
        """
        confirmed = min(others_bytes, self._latest_bytes)
        self._latest_bytes = others_bytes
        if confirmed > self.planned_bytes + self._total_bytes // NOTICED_PARTS:
            if now_s - self._returned_s < TRUST_S:
                self._hold_s = min(2 * self._hold_s, MOST_HOLD_S)
            self.replanned(confirmed)
            return confirmed
        if others_bytes >= self.planned_bytes - self._total_bytes // RETURNED_PARTS:
            self._free_since_s = None
            return None
        if self._free_since_s is None:
            self._free_since_s, self._most_bytes = now_s, others_bytes
        self._most_bytes = max(self._most_bytes, others_bytes)
        return self._come_back(now_s) if now_s - self._free_since_s >= self._hold_s else None

    def _come_back(self, now_s: float) -> int:
        """Use a step of what stayed free."""
        if now_s - self._returned_s >= MOST_HOLD_S + TRUST_S:
            self._hold_s = HOLD_S
        self._returned_s = now_s
        step = max(self._total_bytes // STEP_PARTS, (self.planned_bytes - self._most_bytes) // 2)
        self.replanned(max(self._most_bytes, self.planned_bytes - step))
        return self.planned_bytes


class VramWatch:
    """The thread.

    Args:
        read: Bytes that other programs hold, None where it cannot be known now.
        policy: Decides.
        changed: Hears what to leave to others; called on the watch's thread, and must not block.
    """

    def __init__(self, read: Reader, policy: WatchPolicy, changed: Callable[[int], None]) -> None:
        """Start it."""
        self._read, self._policy, self._changed = read, policy, changed
        self._deciding = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vram-watch", daemon=True)
        self._thread.start()

    def replanned(self, planned_bytes: int) -> None:
        """A plan was made that leaves so much to others."""
        with self._deciding:
            self._policy.replanned(planned_bytes)

    def stop(self) -> None:
        """Say nothing from now on."""
        with self._deciding:
            self._stopped.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end, after `stop`; returns whether it has."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        silent = 0
        while silent < MOST_SILENT_READINGS and not self._stopped.wait(CHECK_PERIOD_S):
            others_bytes = self._read()
            silent = silent + 1 if others_bytes is None else 0
            if others_bytes is not None:
                self._decide(others_bytes)

    def _decide(self, others_bytes: int) -> None:
        with self._deciding:
            wanted = None if self._stopped.is_set() else self._policy.observe(time.monotonic(), others_bytes)
            if wanted is not None:
                self._changed(wanted)
