"""How far a transfer is, how fast it goes and when it will be done. Knows neither the network nor the disk."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

STALLED_AFTER_S = 5.0
RATE_WINDOW_S = 8.0
_SAMPLE_S = 0.1


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """How far a transfer is.

    Attributes:
        phase: "running" while bytes are missing, "checking" while only checksums are.
        done_bytes: Bytes that are here, those of earlier runs too.
        total_bytes: Bytes of all files.
        bytes_per_s: What arrived lately; 0 when nothing did.
        seconds_left: At this rate; None when nobody can tell.
        stalled: Nothing has come for some seconds.
        trouble: Why not, in a few words; "" while all is well.
    """

    phase: Literal["running", "checking"]
    done_bytes: int
    total_bytes: int
    bytes_per_s: float = 0.0
    seconds_left: float | None = None
    stalled: bool = False
    trouble: str = ""


class Meter:
    """Counts bytes as they come; for several threads.

    Args:
        total_bytes: Of all files.
        clock: Seconds that only grow.
    """

    def __init__(self, total_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        """See the class."""
        self.fetched_bytes = 0
        self._total_bytes = total_bytes
        self._done_bytes = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._samples: deque[tuple[float, int]] = deque([(clock(), 0)])
        self._last_byte_s = clock()
        self._trouble = ""

    def start_with(self, done_bytes: int) -> None:
        """So much is here from earlier runs."""
        with self._lock:
            self._done_bytes = done_bytes

    def add(self, count: int, *, new: bool = True) -> None:
        """So many bytes came; `new` where they were not here before."""
        now = self._clock()
        with self._lock:
            self.fetched_bytes += count
            self._done_bytes += count if new else 0
            self._last_byte_s = now
            self._trouble = ""
            if now - self._samples[-1][0] >= _SAMPLE_S:
                self._samples.append((now, self.fetched_bytes))

    def lose(self, count: int) -> None:
        """So many bytes that were here do not count any more."""
        with self._lock:
            self._done_bytes -= count

    def say(self, trouble: str) -> None:
        """Why nothing comes."""
        with self._lock:
            self._trouble = trouble

    def progress(self) -> TransferProgress:
        """How far it is now."""
        now = self._clock()
        with self._lock:
            while len(self._samples) > 1 and now - self._samples[0][0] > RATE_WINDOW_S:
                self._samples.popleft()
            then_s, then_bytes = self._samples[0]
            missing = self._total_bytes - self._done_bytes
            stalled = missing > 0 and now - self._last_byte_s >= STALLED_AFTER_S
            passed_s = now - then_s
            rate = (self.fetched_bytes - then_bytes) / passed_s if passed_s > 0 and not stalled else 0.0
            return TransferProgress(
                phase="running" if missing > 0 else "checking",
                done_bytes=self._done_bytes,
                total_bytes=self._total_bytes,
                bytes_per_s=rate,
                seconds_left=missing / rate if rate > 0 else None,
                stalled=stalled,
                trouble=self._trouble,
            )
