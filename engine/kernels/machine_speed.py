"""What this machine's CPU and memory do, from some tenths of a second: enough for a first, rough promise.

Once per process, without torch. What a model really takes is measured when it is loaded (`engine.experts.calibration`).
"""

from __future__ import annotations

import mmap
import threading
from functools import cache

import numpy as np

from engine.config import IsaName
from engine.errors import RooftopError
from engine.hardware import MachineSpeed
from engine.kernels.cpu_library import CpuPool, available_isas

MEMORY_BYTES = 192 << 20  # more than any gaming PC's caches, which made 64 MiB seem a quarter faster
CACHED_BYTES = 16 << 20  # which a gaming PC's last cache holds
INT8_S = 0.004


_one_at_a_time = threading.Lock()


def machine_speed(kernels: IsaName, threads: int) -> MachineSpeed | None:
    """Measure it; the same answer ever after, and whoever asks meanwhile waits for it.

    Args:
        kernels: What would compute.
        threads: On so many threads.

    Returns:
        None where torch computes, or where the system gives no memory or threads for it.
    """
    with _one_at_a_time:
        return _measured(kernels, threads)


@cache
def _measured(kernels: IsaName, threads: int) -> MachineSpeed | None:
    """See `machine_speed`."""
    if kernels not in available_isas():
        return None
    try:
        with mmap.mmap(-1, MEMORY_BYTES) as memory, CpuPool(kernels, threads) as pool:
            if hasattr(mmap, "MADV_HUGEPAGE"):
                memory.madvise(mmap.MADV_HUGEPAGE)
            values = np.frombuffer(memory, np.uint8)
            values[:: mmap.PAGESIZE] = 1  # has the system really give it
            read = pool.measure_bandwidth(values.ctypes.data, MEMORY_BYTES)
            cached = max(pool.measure_bandwidth(values.ctypes.data, CACHED_BYTES) for _ in range(3))
            speed = MachineSpeed(threads, read, pool.measure_int8(INT8_S), cached)
            del values  # or the memory could not be given back
            return speed
    except (OSError, RooftopError):
        return None
