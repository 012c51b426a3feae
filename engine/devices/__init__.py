"""Where the dense part and the resident experts live: one object per kind of device.

Code asks the object, never `if cuda`. A device counts every allocation by term against its budget, runs experts on
its own side, copies weights beside running work, and tells how long its side of a layer took:

    hand_over(hidden, routing)          to the host, asked for when it is needed
    begin_layer() -> resident_experts() all residents of few tokens in one go, before the host knows the routing
                  -> end_layer()
    copy_in(slot, weights)* -> run_expert(...)* / wait_copy(slot)* -> end_layer()
                                        what is streamed, and residents of many tokens, one by one
    send(what the host computed)

Nothing of it waits but `Handed.wait`, which waits for the routing alone. The time is asked for later (`Span`).

Between layers `begin_upload` starts a copy of a new resident that nothing waits for: whoever wants it asks whether it
is done.

- `CpuDevice`: no GPU; nothing is copied.
- `CudaDevice`: a compute stream and streams for copies, pinned host memory, events, our own kernels where they work.
- `SimulatedDevice`: computes on the CPU, but enforces a VRAM budget and keeps a virtual clock for each of its two
  streams, so that placement, streaming, eviction and running out of memory can be seen and tested without a GPU.
"""

from __future__ import annotations

from engine.config import EngineConfig
from engine.devices.cuda import CudaDevice, why_unusable
from engine.devices.device import CpuDevice, Device
from engine.devices.faults import device_faults
from engine.devices.simulated import SimulatedDevice
from engine.hardware import HardwareProfile

__all__ = [
    "CpuDevice",
    "CudaDevice",
    "Device",
    "SimulatedDevice",
    "device_faults",
    "open_device",
    "why_unusable",
]


def open_device(kind: str, config: EngineConfig, hardware: HardwareProfile, budget_bytes: int) -> Device:
    """The device that a plan chose.

    Args:
        kind: `PlacementPlan.device`.
        config: Speeds of the simulated GPU.
        hardware: The machine.
        budget_bytes: VRAM that may be used; the CPU device takes what RAM is available instead.

    Raises:
        ConfigurationError: CUDA was chosen and is not usable.
    """
    if kind == "cuda":
        return CudaDevice(budget_bytes, hardware.gpu)
    if kind == "simulated":
        return SimulatedDevice(config, budget_bytes)
    return CpuDevice(hardware)
