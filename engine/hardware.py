"""What machine is this: GPU, VRAM, RAM and cores, as one frozen profile.

Asks NVML and psutil, never torch, so that the window and `plan` can use it. Bandwidths and expert costs are
measured by `engine.experts.calibration`, which needs torch.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import psutil
import pynvml


@dataclass(frozen=True, slots=True)
class GpuProfile:
    """One NVIDIA GPU as NVML sees it.

    Attributes:
        name: Product name.
        total_bytes: Its VRAM.
        used_bytes: VRAM in use by every program together.
    """

    name: str
    total_bytes: int
    used_bytes: int


@dataclass(frozen=True, slots=True)
class HardwareProfile:
    """The machine, as far as placement cares.

    Attributes:
        cpu_name: Processor name.
        physical_cores: Cores without SMT.
        ram_total_bytes: Installed memory.
        ram_available_bytes: Memory that can be had without swapping.
        gpu: The first NVIDIA GPU, None without one or without a working driver.
    """

    cpu_name: str
    physical_cores: int
    ram_total_bytes: int
    ram_available_bytes: int
    gpu: GpuProfile | None


def probe_hardware() -> HardwareProfile:
    """Look at the machine now; takes a few milliseconds and never raises for a missing GPU."""
    memory = psutil.virtual_memory()
    return HardwareProfile(
        cpu_name=_cpu_name(),
        physical_cores=psutil.cpu_count(logical=False) or os.cpu_count() or 1,
        ram_total_bytes=int(memory.total),
        ram_available_bytes=int(memory.available),
        gpu=probe_gpu(),
    )


def probe_gpu() -> GpuProfile | None:
    """The first NVIDIA GPU, or None where NVML is missing or fails."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        name = pynvml.nvmlDeviceGetName(handle)
        return GpuProfile(str(name), int(memory.total), int(memory.used))
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _cpu_name() -> str:
    """The processor's marketing name where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
