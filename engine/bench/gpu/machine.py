"""What machine this is: names and versions, and how fast its memories and links are, measured in a few seconds."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pynvml
import torch

from engine.bench.gpu.bounds import Speeds
from engine.bench.gpu.pcs import Pc
from engine.bench.limits import measure_limits
from engine.hardware import probe_gpu, probe_hardware
from engine.kernels.cpu_library import chosen_kernels
from engine.kernels.gpu_kernels import GpuKernels, GpuKernelsUnavailableError

COPY_BYTES = 256 << 20  # far more than any cache
ROUNDS = 5

Timer = Callable[[Callable[[], object]], float]  # runs some work on the GPU and tells its seconds

_GUESSED_RAM_BYTES_PER_S = 30e9
_PACKAGES = ("rooftop", "torch", "numpy", "transformers", "llama_cpp_python", "accelerate")


def facts(threads: int | None = None) -> dict[str, Any]:
    """Names and versions of everything that a figure depends on, GPU or not."""
    hardware = probe_hardware()
    return {
        "system": platform.platform(),
        "cpu": hardware.cpu_name,
        "cpu_threads": threads or hardware.physical_cores,
        "ram_bytes": hardware.ram_total_bytes,
        "cpu_kernels": chosen_kernels("auto"),
        "versions": {"python": platform.python_version()} | dict(_versions()),
        "cuda": torch.version.cuda,
    }


def gpu_facts(cache_folder: Path) -> dict[str, Any]:
    """The GPU that torch uses: name, driver, link, and whether our kernels run on it.

    Args:
        cache_folder: Where compiled kernels are kept.
    """
    device = torch.device("cuda", 0)
    major, minor = torch.cuda.get_device_capability(device)
    kernels, reason = "usable", ""
    try:
        GpuKernels.open(device, cache_folder)
    except GpuKernelsUnavailableError as error:
        kernels, reason = "not usable", str(error)
    properties: Any = torch.cuda.get_device_properties(device)
    return {
        "gpu": torch.cuda.get_device_name(device),
        "compute_capability": f"{major}.{minor}",
        "multiprocessors": properties.multi_processor_count,
        "vram_bytes": properties.total_memory,
        "own_gpu_kernels": kernels,
        "own_gpu_kernels_reason": reason,
        **_nvml_facts(),
    }


def vram_used() -> int | None:
    """VRAM in use by all programs together; None where NVML does not tell."""
    gpu = probe_gpu()
    return gpu.used_bytes if gpu else None


def cuda_timer(work: Callable[[], object]) -> float:
    """Seconds of work on the current stream, by the GPU's own clock."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def wall_timer(work: Callable[[], object]) -> float:
    """Seconds of work that blocks."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def copy_rates(
    device: torch.device, timer: Timer, blocking_timer: Timer, size_bytes: int = COPY_BYTES
) -> dict[str, float]:
    """Bytes per second between RAM and VRAM, both ways, from page-locked and from other memory; and inside VRAM.

    Args:
        device: Where VRAM is.
        timer: For copies that do not keep the host waiting.
        blocking_timer: For those that do.
        size_bytes: Of each copy.
    """
    on_gpu = torch.empty(size_bytes, dtype=torch.uint8, device=device)
    other = torch.empty_like(on_gpu)
    pageable = torch.ones(size_bytes, dtype=torch.uint8)
    pinned = pageable.pin_memory() if device.type == "cuda" else pageable.clone()
    return {
        "to_gpu_pinned_bytes_per_s": _rate(timer, on_gpu, pinned),
        "to_host_pinned_bytes_per_s": _rate(timer, pinned, on_gpu),
        "to_gpu_pageable_bytes_per_s": _rate(blocking_timer, on_gpu, pageable),
        "to_host_pageable_bytes_per_s": _rate(blocking_timer, pageable, on_gpu),
        # Each byte is read and written.
        "vram_bytes_per_s": 2 * _rate(timer, on_gpu, other),
    }


def cpu_rates(threads: int) -> dict[str, float]:
    """RAM bandwidth and int8 arithmetic of the CPU; empty where our native library is missing."""
    limits = measure_limits(threads)
    return asdict(limits) if limits else {}


def speeds_of(found: dict[str, Any]) -> Speeds:
    """What the bounds are worked out with; a plain guess for RAM where it could not be measured.

    Args:
        found: With `copy_rates` and `cpu_rates`.
    """
    ram = float(found.get("read_bytes_per_s", _GUESSED_RAM_BYTES_PER_S))
    return Speeds(vram=found["vram_bytes_per_s"], ram=ram, link=found["to_gpu_pinned_bytes_per_s"])


def simulated_facts(pc: Pc) -> dict[str, Any]:
    """The same of a PC that is simulated."""
    return {
        "simulated": True,
        "gpu": f"simulated: {pc.name}",
        "vram_bytes": pc.vram_bytes,
        "vram_bytes_per_s": pc.vram_bytes_per_s,
        "read_bytes_per_s": pc.ram_bytes_per_s,
        "to_gpu_pinned_bytes_per_s": pc.link_bytes_per_s,
        "int8_operations_per_s": pc.cpu_operations_per_s,
        "gpu_flops": pc.gpu_flops,
        "own_gpu_kernels": "not usable",
        "own_gpu_kernels_reason": "There is no GPU.",
    }


def _rate(timer: Timer, target: torch.Tensor, source: torch.Tensor) -> float:
    """Bytes per second of the quickest of some copies; others only ever take time away."""
    seconds = [timer(lambda: target.copy_(source, non_blocking=True)) for _ in range(ROUNDS + 1)]
    return source.nbytes / min(seconds[1:])


def _versions() -> Iterator[tuple[str, str]]:
    """Of the packages that are there."""
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)


def _nvml_facts() -> dict[str, Any]:
    """What NVML tells; less where it does not know."""
    found: dict[str, Any] = {}
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(0)
            asked: dict[str, Callable[[], object]] = {
                "driver": pynvml.nvmlSystemGetDriverVersion,
                "pcie_generation": lambda: pynvml.nvmlDeviceGetMaxPcieLinkGeneration(handle),
                "pcie_width": lambda: pynvml.nvmlDeviceGetMaxPcieLinkWidth(handle),
                "power_limit_mw": lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle),
            }
            for name, ask in asked.items():
                with contextlib.suppress(pynvml.NVMLError):
                    found[name] = ask()
        finally:
            pynvml.nvmlShutdown()
    return found
