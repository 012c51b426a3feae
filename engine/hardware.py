"""What machine is this: GPU, VRAM, RAM and cores, as one frozen profile.

Asks NVML and psutil, never torch, so that the window and `plan` can use it. Speeds are measured elsewhere: roughly by
`engine.kernels.machine_speed`, and those of a model by `engine.experts.calibration`, which needs torch.
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
        uuid: NVML's name of this very card; "" where it is not known.
    """

    name: str
    total_bytes: int
    used_bytes: int
    uuid: str = ""


@dataclass(frozen=True, slots=True)
class HardwareProfile:
    """The machine, as far as placement cares.

    Attributes:
        cpu_name: Processor name.
        physical_cores: Cores without SMT.
        ram_total_bytes: Installed memory.
        ram_available_bytes: Memory that can be had without swapping.
        gpu: The NVIDIA GPU that was asked for, else the one with the most VRAM; None without a working driver.
        simulated_used_bytes: VRAM of the simulated GPU that other programs, simulated too, hold.
    """

    cpu_name: str
    physical_cores: int
    ram_total_bytes: int
    ram_available_bytes: int
    gpu: GpuProfile | None
    simulated_used_bytes: int = 0


@dataclass(frozen=True, slots=True)
class MachineSpeed:
    """What the CPU and its memory do at their best.

    Attributes:
        threads: On so many threads.
        read_bytes_per_s: Reading memory.
        int8_operations_per_s: Multiplying and adding 8-bit integers; a multiplication and its addition are two.
        cached_bytes_per_s: Reading again what the last cache before memory holds.
    """

    threads: int
    read_bytes_per_s: float
    int8_operations_per_s: float
    cached_bytes_per_s: float


def probe_hardware(gpu_index: int | None = None) -> HardwareProfile:
    """Look at the machine now; takes a few milliseconds and never raises for a missing GPU.

    Args:
        gpu_index: Of the GPU to look at, as NVML counts; None for the one with the most VRAM.
    """
    memory = psutil.virtual_memory()
    return HardwareProfile(
        cpu_name=_cpu_name(),
        physical_cores=psutil.cpu_count(logical=False) or os.cpu_count() or 1,
        ram_total_bytes=int(memory.total),
        ram_available_bytes=int(memory.available),
        gpu=probe_gpu(gpu_index),
    )


def own_ram_bytes() -> int:
    """RAM that this process holds and no other shares; pages of files that the system could drop do not count."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - getattr(memory, "shared", 0))


def probe_gpu(gpu_index: int | None = None) -> GpuProfile | None:
    """An NVIDIA GPU, or None where NVML is missing or fails, or counts fewer.

    Args:
        gpu_index: As NVML counts; None for the one with the most VRAM, the first of several.
    """
    gpus = list_gpus(gpu_index)
    return max(gpus, key=lambda gpu: gpu.total_bytes, default=None)


def list_gpus(gpu_index: int | None = None) -> tuple[GpuProfile, ...]:
    """The NVIDIA GPUs in NVML's order, or the one asked for; none where NVML is missing or fails."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        indices = range(pynvml.nvmlDeviceGetCount()) if gpu_index is None else (gpu_index,)
        return tuple(map(_gpu_profile, indices))
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def _gpu_profile(index: int) -> GpuProfile:
    """One GPU; NVMLError where it cannot be asked."""
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    name, uuid = pynvml.nvmlDeviceGetName(handle), pynvml.nvmlDeviceGetUUID(handle)
    return GpuProfile(str(name), int(memory.total), int(memory.used), str(uuid))


def _cpu_name() -> str:
    """The processor's marketing name where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
