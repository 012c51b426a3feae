"""What every device can do: memory within a budget, uploads, and one side of a layer; and the device without a GPU."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch

from engine.config import ModelConfig
from engine.devices.gpu_products import GpuProducts
from engine.devices.pending import Handed, KnownSpan, Span
from engine.devices.step_tools import StepTools
from engine.errors import DeviceOutOfMemoryError
from engine.hardware import HardwareProfile
from engine.kernels.gpu_grouped_plans import Visits
from engine.kernels.gpu_plans import LayerTable
from engine.kernels.host_memory import host_tensor
from engine.kernels.torch_expert import ExpertWeights
from engine.sentences import Number, Sentence, say
from engine.uploads import Upload


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
        step_tools: What decode steps of our kernels need; None where they cannot run.
        limitation: A sentence: what it cannot do here that others of its kind can; "" where there is nothing.
    """

    kind: str
    name: str
    has_gpu: bool
    simulated: bool
    needs_pinning = False
    torch_device: torch.device
    limitation: str = Sentence()
    step_tools: StepTools | None = None

    def __init__(self, budget_bytes: int) -> None:
        """Start empty."""
        self.budget_bytes = budget_bytes
        self.allocated: dict[str, int] = {}

    @property
    def products(self) -> GpuProducts | None:
        """Multiplies packed matrices in VRAM; None where dense weights are held as floats."""
        return None

    def prepare(self, model: ModelConfig, cache_dir: str | None) -> None:
        """Make ready what a model will be run with; `limitation` says what could not be had.

        Args:
            model: Its formats.
            cache_dir: What is compiled is kept there; None keeps nothing.
        """

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
                say(
                    "{device} has {left} bytes left of its budget of {budget}, and {term} needs {size}.",
                    device=self.name,
                    left=Number(f"{self.budget_bytes - self.allocated_bytes:,}"),
                    budget=Number(f"{self.budget_bytes:,}"),
                    term=term,
                    size=Number(f"{size_bytes:,}"),
                ),
                say("Raise the VRAM budget or shorten the context."),
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
                say(
                    "{device} could not give {size} bytes for {term}; another program may hold them.",
                    device=self.name,
                    size=Number(f"{size_bytes:,}"),
                    term=term,
                ),
                say("Lower the VRAM budget or close other programs that use the GPU."),
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

    # -- to the host and back ---------------------------------------------------------------------

    def hand_over(self, *tensors: torch.Tensor) -> Handed:
        """Start bringing tensors to the host, as they are when all that was launched before is done.

        What is launched afterwards does not wait for them, nor do they wait for it. The host's copies stay as they are
        until the next call.
        """
        return Handed(tensors)

    def send(self, role: str, tensor: torch.Tensor) -> torch.Tensor:
        """A host tensor on the device, for what is launched from now on; the host does not wait.

        Args:
            role: What it is for; a role is sent once between two hand-overs.
            tensor: Free to change when this returns.
        """
        return tensor

    @abstractmethod
    def activation_round_trip_s(self, hidden: torch.Tensor) -> float:
        """Time to bring activations [s, H] to the host and back."""

    # -- one layer --------------------------------------------------------------------------------

    def head_start(self) -> None:
        """Have this side be busy for about a millisecond: what is launched next is then timed without its launch."""

    @abstractmethod
    def begin_layer(self) -> None:
        """Start the clock of this side."""

    def runs_at_once(self, table: LayerTable, tokens: int, per_token: int) -> bool:
        """Whether `resident_experts` takes so many tokens (T) with so many experts each (A)."""
        return False

    def resident_experts(
        self,
        table: LayerTable,
        hidden: torch.Tensor,
        top_experts: torch.Tensor,
        top_weights: torch.Tensor,
        out: torch.Tensor,
    ) -> None:
        """Add the weighted outputs of all chosen experts that are resident; the host need not know which.

        Args:
            table: Where they are.
            hidden: Normed hidden states [T, H].
            top_experts: Chosen experts [T, A].
            top_weights: Router weights fp32 [T, A].
            out: fp32 [T, H], changed in place.
        """
        raise AssertionError("asked for only where runs_at_once says so")

    @abstractmethod
    def copy_in(self, slot: int, target: torch.Tensor, source: torch.Tensor) -> None:
        """Start copying one expert's weights into staging slot `slot`, once that slot's last expert has run."""

    def copy_ahead(self, slot: int, target: torch.Tensor, source: torch.Tensor) -> None:
        """Do as `copy_in` for the next layer, when all of this one is launched."""
        self.copy_in(slot, target, source)

    def copied(self, slot: int) -> bool:
        """Whether the copy ahead into a staging slot is done; never waits."""
        raise AssertionError("asked for only where something was copied")

    def finish_copies(self) -> None:
        """Wait for copies into staging slots, before their memory goes."""

    @abstractmethod
    def wait_copy(self, slot: int) -> None:
        """Make the compute stream wait for the copy into a staging slot."""

    @abstractmethod
    def run_expert(self, hidden: torch.Tensor, weights: ExpertWeights, slot: int | None = None) -> torch.Tensor:
        """Run one expert on this side: [s, H] -> [s, H]; `slot` names its staging slot, None for a resident."""

    def run_group(self, visits: Visits, experts: Sequence[tuple[int, ExpertWeights]], slot: int | None = None) -> None:
        """Add what some experts say to `visits.out`, on this side; one after the other where it knows no better.

        Args:
            visits: Of the layer.
            experts: Which, in the order of the visits, right behind each other.
            slot: The staging slot of a single expert; None for residents.
        """
        for expert, weights in experts:
            rows, scales = visits.rows(expert)
            visits.out.index_add_(0, rows, self.run_expert(visits.hidden[rows], weights, slot) * scales)

    @abstractmethod
    def end_layer(self) -> Span:
        """Stop the clock of this side, for now: called again after more work, the later time counts."""


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

    def activation_round_trip_s(self, hidden: torch.Tensor) -> float:
        """They are on the host already."""
        del hidden
        return 0.0

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

    def end_layer(self) -> Span:
        """No GPU side, no time."""
        return KnownSpan(0.0)
