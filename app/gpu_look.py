"""Which NVIDIA GPU this computer has, and whether the GPU component could use it. Asks NVML, never torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pynvml

from app.language import tr

if TYPE_CHECKING:
    from app.gpu_pins import Pins

DRIVERS_PAGE = "https://www.nvidia.com/drivers"


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU and its driver.

    Attributes:
        name: Product name, without the maker.
        driver: The driver's version, e.g. "580.95.05"; "" where it does not tell.
        capability: What kind of GPU it is, e.g. (8, 9); None where it does not tell.
    """

    name: str
    driver: str
    capability: tuple[int, int] | None


def look_for_gpu() -> Gpu | None:
    """The NVIDIA GPU of the newest kind, the first of several; None where NVML is missing or fails, or knows none."""
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError, OSError):
        return None
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        gpus = [_gpu(index, driver) for index in range(pynvml.nvmlDeviceGetCount())]
    except (pynvml.NVMLError, OSError, UnicodeDecodeError):
        return None
    finally:
        pynvml.nvmlShutdown()
    return max(gpus, key=lambda gpu: gpu.capability or (0, 0), default=None)


def why_not(gpu: Gpu, pins: Pins) -> str:
    """A sentence: why a GPU cannot be used with a component; "" where it can, or where nobody can tell."""
    if gpu.capability is not None and gpu.capability < pins.capability:
        oldest = ".".join(map(str, pins.capability))
        return tr("Your {gpu} is too old: it has compute capability {has}, and at least {oldest} is needed.").format(
            gpu=gpu.name, has=".".join(map(str, gpu.capability)), oldest=oldest
        )
    return ""


def why_not_yet(gpu: Gpu, pins: Pins) -> str:
    """A sentence: what a newer driver would change; "" where the driver is new enough, or does not tell."""
    if gpu.driver and _numbers(gpu.driver) < _numbers(pins.driver):
        return tr(
            "Your {gpu} cannot be used yet: its driver has version {has}, and CUDA {cuda} needs {oldest} or newer."
        ).format(gpu=gpu.name, has=gpu.driver, cuda=pins.build.cuda, oldest=pins.driver)
    return ""


def _gpu(index: int, driver: str) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    try:
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        capability = (int(major), int(minor))
    except pynvml.NVMLError:
        capability = None
    return Gpu(_text(pynvml.nvmlDeviceGetName(handle)).removeprefix("NVIDIA").strip(), driver, capability)


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
