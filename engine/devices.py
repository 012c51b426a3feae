"""Where the dense part and the resident experts live: one object per kind of device.

Code asks the object, never `if cuda`. A device counts every allocation by term against its budget, runs an expert on
its own side, copies weights beside running work, and tells how long its side of a layer took:

    begin_layer() -> copy_in(slot, weights)* -> run_expert(...)* / wait_copy(slot)* -> end_layer() -> seconds()

Between layers `begin_upload` starts a copy of a new resident that nothing waits for: whoever wants it asks whether it
is done.

- `CpuDevice`: no GPU; nothing is copied.
- `CudaDevice`: a compute stream and two copy streams, pinned host memory, events; nothing blocks until `seconds()`.
- `SimulatedDevice`: computes on the CPU, but enforces a VRAM budget and keeps a virtual clock for each of its two
  streams, so that placement, streaming, eviction and running out of memory can be seen and tested without a GPU.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from engine.config import SIMULATED_LAUNCH_S, EngineConfig
from engine.errors import ConfigurationError, DeviceOutOfMemoryError
from engine.hardware import HardwareProfile
from engine.kernels.host_memory import host_tensor
from engine.kernels.torch_expert import ExpertWeights, expert_forward
from engine.uploads import EventUpload, TimedUpload, Upload, VirtualClock

CUDA_HOST_REGISTER_PORTABLE = 1


class Device(ABC):
    """A place for tensors with a budget and two streams.

    Attributes:
        kind: "cpu", "cuda" or "simulated".
        name: For the screen.
        has_gpu: Whether there is a GPU side at all.
        simulated: Whether that GPU is simulated.
        needs_pinning: Whether only page-locked memory is copied without keeping the host waiting.
        torch_device: Where its tensors live.
        budget_bytes: Most bytes that may be allocated.
        allocated: Term -> bytes allocated now.
    """

    kind: str
    name: str
    has_gpu: bool
    simulated: bool
    needs_pinning = False
    torch_device: torch.device

    def __init__(self, budget_bytes: int) -> None:
        """Start empty."""
        self.budget_bytes = budget_bytes
        self.allocated: dict[str, int] = {}

    # -- memory -----------------------------------------------------------------------------------

    @property
    def allocated_bytes(self) -> int:
        """All terms together."""
        return sum(self.allocated.values())

    def reserve(self, term: str, size_bytes: int) -> None:
        """Count bytes that libraries will allocate themselves, such as activations.

        Raises:
            DeviceOutOfMemoryError: The budget does not hold them.
        """
        if self.allocated_bytes + size_bytes > self.budget_bytes:
            raise DeviceOutOfMemoryError(
                f"{self.name} has {self.budget_bytes - self.allocated_bytes:,} bytes left of its budget of "
                f"{self.budget_bytes:,}, and {term} needs {size_bytes:,}.",
                "Raise the VRAM budget or shorten the context.",
            )
        self.allocated[term] = self.allocated.get(term, 0) + size_bytes

    def release(self, term: str, size_bytes: int) -> None:
        """Give bytes of a term back; the tensors themselves are the caller's to drop."""
        self.allocated[term] = self.allocated.get(term, 0) - size_bytes
        assert self.allocated[term] >= 0, f"{term} was released more often than reserved"

    def allocate(self, shape: Sequence[int], dtype: torch.dtype, term: str) -> torch.Tensor:
        """An uninitialised tensor on this device, counted under a term.

        Raises:
            DeviceOutOfMemoryError: The budget, or the device itself, does not hold it.
        """
        size_bytes = dtype.itemsize
        for length in shape:
            size_bytes *= length
        self.reserve(term, size_bytes)
        try:
            return self._new_tensor(shape, dtype)
        except (torch.OutOfMemoryError, OSError) as error:
            self.release(term, size_bytes)
            raise DeviceOutOfMemoryError(
                f"{self.name} could not give {size_bytes:,} bytes for {term}; another program may hold them.",
                "Lower the VRAM budget or close other programs that use the GPU.",
            ) from error

    def _new_tensor(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """An uninitialised tensor, whatever the budget says."""
        return torch.empty(*shape, dtype=dtype, device=self.torch_device)

    def pin(self, tensor: torch.Tensor) -> bool:
        """Page-lock host memory for fast copies; False where that is not possible or of no use."""
        del tensor
        return False

    def unpin(self, tensor: torch.Tensor) -> None:
        """Undo `pin` before the tensor is dropped."""

    def trim(self) -> None:
        """Hand memory that was released back to the system."""

    def close(self) -> None:
        """Wait for running work and give everything back."""

    # -- between layers ---------------------------------------------------------------------------

    @abstractmethod
    def begin_upload(self, target: torch.Tensor, source: torch.Tensor) -> Upload:
        """Start copying one expert's weights into a slot, once all that was launched so far no longer needs it."""

    def elapse(self, seconds: float) -> None:
        """Time went by; only a device with a clock of its own must be told."""

    # -- one layer --------------------------------------------------------------------------------

    @abstractmethod
    def begin_layer(self) -> None:
        """Start the clock of this side."""

    @abstractmethod
    def copy_in(self, slot: int, target: torch.Tensor, source: torch.Tensor) -> None:
        """Start copying one expert's weights into staging slot `slot`, once that slot's last expert has run."""

    @abstractmethod
    def wait_copy(self, slot: int) -> None:
        """Make the compute stream wait for the copy into a staging slot."""

    @abstractmethod
    def run_expert(self, hidden: torch.Tensor, weights: ExpertWeights, slot: int | None = None) -> torch.Tensor:
        """Run one expert on this side: [s, H] -> [s, H]; `slot` names its staging slot, None for a resident."""

    @abstractmethod
    def end_layer(self) -> None:
        """Stop the clock of this side; may return before the work is done."""

    @abstractmethod
    def seconds(self) -> float:
        """Time of this side between `begin_layer` and `end_layer`; waits for it."""

    @abstractmethod
    def activation_round_trip_s(self, hidden: torch.Tensor) -> float:
        """Time to bring activations [s, H] to the host and back."""


class CpuDevice(Device):
    """No GPU: the dense part and every expert are on the CPU."""

    kind, has_gpu, simulated = "cpu", False, False

    def __init__(self, hardware: HardwareProfile) -> None:
        """Bound by what RAM is available."""
        super().__init__(hardware.ram_available_bytes)
        self.name = hardware.cpu_name
        self.torch_device = torch.device("cpu")

    def _new_tensor(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """In huge pages where the system has them."""
        return host_tensor(shape, dtype)

    def begin_upload(self, target: torch.Tensor, source: torch.Tensor) -> Upload:
        """Never asked for: without a GPU no expert is resident."""
        raise AssertionError("a CPU device has no GPU side")

    def begin_layer(self) -> None:
        """Nothing runs beside the CPU."""

    def copy_in(self, slot: int, target: torch.Tensor, source: torch.Tensor) -> None:
        """Never asked for: the planner streams nothing without a GPU."""
        raise AssertionError("a CPU has no staging slots")

    def wait_copy(self, slot: int) -> None:
        """Never asked for."""
        raise AssertionError("a CPU has no staging slots")

    def run_expert(self, hidden: torch.Tensor, weights: ExpertWeights, slot: int | None = None) -> torch.Tensor:
        """Never asked for: without a GPU no expert is resident."""
        raise AssertionError("a CPU device has no GPU side")

    def end_layer(self) -> None:
        """Nothing runs beside the CPU."""

    def seconds(self) -> float:
        """No GPU side, no time."""
        return 0.0

    def activation_round_trip_s(self, hidden: torch.Tensor) -> float:
        """They are on the host already."""
        del hidden
        return 0.0


class SimulatedDevice(Device):
    """A GPU that is not there: tensors and arithmetic on the CPU, budget and clocks of a GPU.

    Attributes:
        clock: Its virtual time.
    """

    kind, name, has_gpu, simulated = "simulated", "Simulated GPU", True, True

    def __init__(self, config: EngineConfig, budget_bytes: int) -> None:
        """Take the simulated speeds from the settings."""
        super().__init__(min(budget_bytes, config.simulated_vram_bytes))
        self.torch_device = torch.device("cpu")
        self._link = config.simulated_link_bytes_per_s
        self._memory = config.simulated_memory_bytes_per_s
        self._flops = config.simulated_flops
        self._compute_clock_s = 0.0
        self._copy_clock_s = 0.0
        self._arrived_s: dict[int, float] = {}
        self._vacated_s: dict[int, float] = {}
        self.clock = VirtualClock()
        self._uploading_until_s = 0.0

    def begin_upload(self, target: torch.Tensor, source: torch.Tensor) -> Upload:
        """Copies share one link: this one follows what is on it; the bytes change hands when it is done."""
        start_s = max(self.clock.now_s, self._uploading_until_s)
        self._uploading_until_s = start_s + source.nbytes / self._link + SIMULATED_LAUNCH_S
        return TimedUpload(self.clock, self._uploading_until_s, target, source)

    def elapse(self, seconds: float) -> None:
        """Move the virtual time on."""
        self.clock.now_s += seconds

    def begin_layer(self) -> None:
        """Set both virtual clocks to zero."""
        self._compute_clock_s = self._copy_clock_s = 0.0
        self._arrived_s.clear()
        self._vacated_s.clear()

    def copy_in(self, slot: int, target: torch.Tensor, source: torch.Tensor) -> None:
        """Copy now; on the virtual clock it takes the link's time."""
        target.copy_(source)
        uploading_s = self._uploading_until_s - self.clock.now_s
        start = max(self._copy_clock_s, self._vacated_s.get(slot, 0.0), uploading_s)
        self._copy_clock_s = start + source.nbytes / self._link + SIMULATED_LAUNCH_S
        self._arrived_s[slot] = self._copy_clock_s

    def wait_copy(self, slot: int) -> None:
        """Move the compute clock to the copy's end."""
        self._compute_clock_s = max(self._compute_clock_s, self._arrived_s[slot])

    def run_expert(self, hidden: torch.Tensor, weights: ExpertWeights, slot: int | None = None) -> torch.Tensor:
        """Compute on the CPU; on the virtual clock it takes the GPU's time."""
        bytes_s = weights.nbytes / self._memory
        arithmetic_s = 2 * weights.parameters * hidden.shape[0] / self._flops
        self._compute_clock_s += max(bytes_s, arithmetic_s) + SIMULATED_LAUNCH_S
        if slot is not None:
            self._vacated_s[slot] = self._compute_clock_s
        return expert_forward(hidden, weights)

    def end_layer(self) -> None:
        """The virtual clocks stand still by themselves."""

    def seconds(self) -> float:
        """Virtual time: what a GPU of these speeds would have taken."""
        return max(self._compute_clock_s, self._copy_clock_s)

    def activation_round_trip_s(self, hidden: torch.Tensor) -> float:
        """Virtual time of both ways over the link."""
        return 2 * (hidden.nbytes / self._link + SIMULATED_LAUNCH_S)


class CudaDevice(Device):
    """The first NVIDIA GPU: expert copies on a second stream, ordered and timed by events; uploads on a third."""

    kind, has_gpu, simulated = "cuda", True, False
    needs_pinning = True

    def __init__(self, budget_bytes: int) -> None:
        """Open the GPU.

        Raises:
            ConfigurationError: torch finds no usable CUDA GPU.
        """
        super().__init__(budget_bytes)
        if not torch.cuda.is_available():
            raise ConfigurationError(
                "The GPU was asked for, but no usable NVIDIA GPU was found.",
                "Install or update the NVIDIA driver, or choose the CPU.",
            )
        self.torch_device = torch.device("cuda", 0)
        self.name = torch.cuda.get_device_name(self.torch_device)
        self._copies = torch.cuda.Stream(self.torch_device)
        self._uploads = torch.cuda.Stream(self.torch_device)
        self._start = torch.cuda.Event(enable_timing=True)
        self._end = torch.cuda.Event(enable_timing=True)
        self._arrived: dict[int, torch.cuda.Event] = {}
        self._vacated: dict[int, torch.cuda.Event] = {}

    def pin(self, tensor: torch.Tensor) -> bool:
        """Register existing memory: torch's own pinned allocator rounds up to a power of two."""
        cudart: Any = torch.cuda.cudart()
        status = cudart.cudaHostRegister(tensor.data_ptr(), tensor.nbytes, CUDA_HOST_REGISTER_PORTABLE)
        return int(status) == 0

    def unpin(self, tensor: torch.Tensor) -> None:
        """Unregister it."""
        cudart: Any = torch.cuda.cudart()
        cudart.cudaHostUnregister(tensor.data_ptr())

    def trim(self) -> None:
        """Empty torch's cache of freed blocks."""
        torch.cuda.empty_cache()

    def close(self) -> None:
        """Wait for all streams, then trim."""
        torch.cuda.synchronize(self.torch_device)
        self.trim()

    def begin_upload(self, target: torch.Tensor, source: torch.Tensor) -> Upload:
        """Copy on a stream of its own, behind the compute stream's latest launch: no streamed expert queues here."""
        launched, arrived = torch.cuda.Event(), torch.cuda.Event()
        launched.record()
        self._uploads.wait_event(launched)
        with torch.cuda.stream(self._uploads):
            target.copy_(source, non_blocking=True)
            arrived.record(self._uploads)
        return EventUpload(arrived)

    def begin_layer(self) -> None:
        """Mark the start on the compute stream; copies may not overtake it."""
        self._start.record()

    def copy_in(self, slot: int, target: torch.Tensor, source: torch.Tensor) -> None:
        """Copy on the second stream, after the slot's last expert has run."""
        if slot in self._vacated:
            self._copies.wait_event(self._vacated[slot])
        with torch.cuda.stream(self._copies):
            target.copy_(source, non_blocking=True)
            self._arrived.setdefault(slot, torch.cuda.Event()).record(self._copies)

    def wait_copy(self, slot: int) -> None:
        """The compute stream waits for the copy's event; the host does not."""
        torch.cuda.current_stream(self.torch_device).wait_event(self._arrived[slot])

    def run_expert(self, hidden: torch.Tensor, weights: ExpertWeights, slot: int | None = None) -> torch.Tensor:
        """Launch on the compute stream."""
        out = expert_forward(hidden, weights)
        if slot is not None:
            self._vacated.setdefault(slot, torch.cuda.Event()).record()
        return out

    def end_layer(self) -> None:
        """Mark the end on the compute stream."""
        self._end.record()

    def seconds(self) -> float:
        """Wait for the end mark; the next layer's routing needs this layer's result anyway."""
        self._end.synchronize()
        return float(self._start.elapsed_time(self._end)) / 1e3

    def activation_round_trip_s(self, hidden: torch.Tensor) -> float:
        """Wall time of both ways, synchronised."""
        torch.cuda.synchronize(self.torch_device)
        started = time.perf_counter()
        hidden.to("cpu").to(self.torch_device)
        torch.cuda.synchronize(self.torch_device)
        return time.perf_counter() - started


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
        return CudaDevice(budget_bytes)
    if kind == "simulated":
        return SimulatedDevice(config, budget_bytes)
    return CpuDevice(hardware)
