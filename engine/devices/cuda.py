"""An NVIDIA GPU: copies beside the work on streams of their own, ordered and timed by events.

    compute   torch's current stream: the dense part, experts, sums
    hand-off  hidden states and routing to the host, behind the router, beside the resident experts
    copies    streamed experts, each into a free slot
    uploads   experts that come to live in VRAM

Pinned buffers of the hand-off are used again by the next layer without a wait: what it hands over depends on this
layer's sum, so that all copies of this layer are done when the host goes on.
"""

from __future__ import annotations

import itertools
import tempfile
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path

import torch

from engine.config import ModelConfig
from engine.devices.device import Device
from engine.devices.gpu_experts import GpuExperts
from engine.devices.gpu_products import GpuProducts
from engine.devices.hand_off import EventHandOff, HandOff, a_launch, choose_hand_off, hand_offs
from engine.devices.pending import EventSpan, Handed, Span
from engine.devices.step_tools import Captures, StepTools
from engine.devices.trial import on_trial, trial_mark
from engine.errors import ConfigurationError
from engine.hardware import GpuProfile
from engine.kernels.cuda_driver import CudaDriver, CudaDriverError
from engine.kernels.gpu_decoder_plans import MAX_HEAD_DIM, decoder_programs
from engine.kernels.gpu_grouped_plans import Visits
from engine.kernels.gpu_kernels import GpuKernels, GpuKernelsUnavailableError
from engine.kernels.gpu_plans import LayerTable, matrix_program, runs_experts
from engine.kernels.torch_expert import ExpertWeights, expert_forward
from engine.quant.formats import FORMATS
from engine.sentences import Sentence, said_by, say
from engine.uploads import EventUpload, Upload

HEAD_START_BYTES, HEAD_START_LAUNCHES = 32 << 20, 64


def why_unusable(gpu: GpuProfile | None) -> Sentence:
    """A sentence: why torch cannot use a GPU that the driver shows; "" where it can.

    Tries it: a GPU that this torch has no code for, or that failed earlier in this process, says so only then.

    Args:
        gpu: Which; None for any.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            if torch.cuda.is_available():
                torch.zeros(1, device=_find(gpu)).add_(1).item()
                return Sentence()
        except (RuntimeError, LookupError) as error:
            return say("The GPU does not work: {reason}.", reason=_first_line(error))
    if said:
        return say("Torch finds no usable NVIDIA GPU: {reason}.", reason=_first_line(said[0].message))
    return say("Torch finds no usable NVIDIA GPU.")


def _find(gpu: GpuProfile | None) -> torch.device:
    """A GPU as torch counts them.

    Raises:
        LookupError: Torch sees others only.
    """
    count = torch.cuda.device_count()
    if gpu is None or not gpu.uuid or count == 1:
        return torch.device("cuda", 0)
    for index in range(count):
        if gpu.uuid.endswith(str(torch.cuda.get_device_properties(index).uuid)):
            return torch.device("cuda", index)
    raise LookupError(f"{gpu.name} is hidden from this process")


def _first_line(text: object) -> str:
    """What a message begins with, without its full stop."""
    return str(text).partition("\n")[0].strip().rstrip(".")


class CudaDevice(Device):
    """One GPU.

    Args:
        budget_bytes: VRAM that may be used.
        gpu: Which; None for torch's first.

    Raises:
        ConfigurationError: Torch cannot use it.
    """

    kind, has_gpu, simulated = "cuda", True, False
    needs_pinning = True

    def __init__(self, budget_bytes: int, gpu: GpuProfile | None = None) -> None:
        """See the class."""
        super().__init__(budget_bytes)
        reason = why_unusable(gpu)
        if reason:
            raise ConfigurationError(reason, say("Install or update the NVIDIA driver, or choose the CPU."))
        self.torch_device = _find(gpu)
        torch.cuda.set_device(self.torch_device)
        self.name = torch.cuda.get_device_name(self.torch_device)
        self._hand_offs = torch.cuda.Stream(self.torch_device)
        self._copies = torch.cuda.Stream(self.torch_device)
        self._uploads = torch.cuda.Stream(self.torch_device)
        self._routed, self._handed = torch.cuda.Event(), torch.cuda.Event()
        # Two spans, because the time of a layer is read while the next one runs.
        marks = [tuple(torch.cuda.Event(enable_timing=True) for _ in range(2)) for _ in range(2)]
        self._marks = itertools.cycle(marks)
        self._start, self._end = marks[0]
        self._arrived: dict[int, torch.cuda.Event] = {}
        self._vacated: dict[int, torch.cuda.Event] = {}
        self._pinned: dict[str, torch.Tensor] = {}
        self._experts: GpuExperts | None = None

    @property
    def products(self) -> GpuProducts | None:
        """Where our kernels passed."""
        return self._experts.products if self._experts is not None else None

    def prepare(self, model: ModelConfig, cache_dir: str | None) -> None:
        """Compile, load and test the kernels of the model's formats; without them torch's operations do all of it."""
        formats = {model.formats(layer) for layer in range(model.layers)}
        known = [triple for triple in formats if runs_experts(triple, model.hidden_size, model.intermediate_size)]
        dense = [blocks.format for blocks in model.dense_blocks] + list(filter(None, [model.embedding_format]))
        names = sorted({*dense, *(name for triple in formats for name in triple)})
        with ExitStack() as undo:
            folder = Path(cache_dir or undo.enter_context(tempfile.TemporaryDirectory())) / "gpu_kernels"
            try:
                kernels = GpuKernels.open(self.torch_device, folder)
                kernels.load(known, [name for name in names if not FORMATS[name].is_float])
                mark = trial_mark(folder, matrix_program(names[0]).source().files, self._machine())
                with on_trial(mark, self._settle):
                    kernels.self_test(names, self.torch_device)
                    kernels.self_test_experts(known, self.torch_device)
            except (GpuKernelsUnavailableError, CudaDriverError) as error:
                self.limitation = say(
                    "Torch runs the experts on the GPU, more slowly than our kernels would: {reason}",
                    reason=said_by(error),
                )
                return
            self._experts = GpuExperts(kernels)
            self.step_tools = self._open_step_tools(kernels, folder)

    def _open_step_tools(self, kernels: GpuKernels, folder: Path) -> StepTools:
        """Find the best hand-off."""
        sources, machine = decoder_programs(MAX_HEAD_DIM, torch.float32)[0].source().files, self._machine()
        hand_off: HandOff = EventHandOff()
        with suppress(GpuKernelsUnavailableError, CudaDriverError):
            driver = self._driver
            with on_trial(trial_mark(folder, sources, f"{machine}, hand-off"), self._settle):
                hand_off = choose_hand_off(hand_offs(driver, self._new_pinned), a_launch(self.torch_device))

        steps_mark = trial_mark(folder, sources, f"{machine}, steps")
        return StepTools(
            kernels=kernels,
            hand_off=hand_off,
            pinned=self._new_pinned,
            capture=Captures(self.torch_device).capture,
            free_bytes=lambda: int(torch.cuda.mem_get_info(self.torch_device)[0]),
            trial=lambda: on_trial(steps_mark, self._settle),
        )

    def _settle(self) -> None:
        """Wait for all that the GPU does; raises what broke it."""
        torch.cuda.synchronize(self.torch_device)

    def _machine(self) -> str:
        """What decides whether the kernels work, besides themselves."""
        return f"{self.name}, torch {torch.__version__}"

    def pin(self, tensor: torch.Tensor) -> bool:
        """Lock existing memory: torch's own pinned allocator rounds up to a power of two."""
        try:
            self._driver.lock_pages(tensor.data_ptr(), tensor.nbytes)
        except CudaDriverError:
            return False
        return True

    def unpin(self, tensor: torch.Tensor) -> None:
        """Unlock it; a GPU that was lost holds nothing."""
        with suppress(CudaDriverError):
            self._driver.unlock_pages(tensor.data_ptr())

    @cached_property
    def _driver(self) -> CudaDriver:
        """The driver.

        Raises:
            CudaDriverError: It cannot be called.
        """
        return CudaDriver(self.torch_device.index or 0)

    def trim(self) -> None:
        """Empty torch's cache of freed blocks."""
        torch.cuda.empty_cache()

    def close(self) -> None:
        """Wait for all streams, then trim."""
        self._settle()
        self._experts = self.step_tools = None
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

    # -- to the host and back ---------------------------------------------------------------------

    def hand_over(self, *tensors: torch.Tensor) -> Handed:
        """Copy on a stream of its own, behind the compute stream's latest launch, into pinned memory."""
        self._routed.record()
        self._hand_offs.wait_event(self._routed)
        with torch.cuda.stream(self._hand_offs):
            held = tuple(self._host(f"handed {number}", tensor) for number, tensor in enumerate(tensors))
            for target, tensor in zip(held, tensors, strict=True):
                target.copy_(tensor, non_blocking=True)
            self._handed.record(self._hand_offs)
        return Handed(held, self._handed)

    def send(self, role: str, tensor: torch.Tensor) -> torch.Tensor:
        """Through pinned memory, on the compute stream."""
        held = self._host(role, tensor)
        held.copy_(tensor)
        return held.to(self.torch_device, non_blocking=True)

    def _host(self, role: str, like: torch.Tensor) -> torch.Tensor:
        """Pinned memory of a role, seen as a tensor; made anew where there is too little."""
        buffer = self._pinned.get(role)
        if buffer is None or buffer.nbytes < like.nbytes:
            buffer = self._pinned[role] = self._new_pinned(like.nbytes)
        return buffer[: like.nbytes].view(like.dtype).view(like.shape)

    def _new_pinned(self, size_bytes: int) -> torch.Tensor:
        """Pinned memory, which can be written inside and outside of inference mode."""
        with torch.inference_mode(mode=False):
            return torch.empty(size_bytes, dtype=torch.uint8, pin_memory=True)

    def activation_round_trip_s(self, hidden: torch.Tensor) -> float:
        """Wall time of both ways as a layer takes them, synchronised."""
        torch.cuda.synchronize(self.torch_device)
        started = time.perf_counter()
        (held,) = self.hand_over(hidden).wait()
        self.send("experts", held)
        torch.cuda.synchronize(self.torch_device)
        return time.perf_counter() - started

    # -- one layer --------------------------------------------------------------------------------

    def head_start(self) -> None:
        """Write some memory, again and again; without room for that there is none."""
        with suppress(torch.OutOfMemoryError):
            written = torch.empty(HEAD_START_BYTES, dtype=torch.uint8, device=self.torch_device)
            for _ in range(HEAD_START_LAUNCHES):
                written.zero_()

    def begin_layer(self) -> None:
        """Mark the start on the compute stream."""
        self._start, self._end = next(self._marks)
        self._start.record()

    def runs_at_once(self, table: LayerTable, tokens: int, per_token: int) -> bool:
        """As many as the kernels take, where there are kernels."""
        return self._experts is not None and self._experts.runs_at_once(table, tokens, per_token)

    def resident_experts(
        self,
        table: LayerTable,
        hidden: torch.Tensor,
        top_experts: torch.Tensor,
        top_weights: torch.Tensor,
        out: torch.Tensor,
    ) -> None:
        """Launch on the compute stream, in one go for all visits."""
        assert self._experts is not None, "runs_at_once said no"
        self._experts.add_residents(table, hidden, top_experts, top_weights, out)

    def copy_in(self, slot: int, target: torch.Tensor, source: torch.Tensor) -> None:
        """Copy on a stream of its own, after the slot's last expert has run."""
        if slot in self._vacated:
            self._copies.wait_event(self._vacated[slot])
        with torch.cuda.stream(self._copies):
            target.copy_(source, non_blocking=True)
            self._arrived.setdefault(slot, torch.cuda.Event()).record(self._copies)

    def copied(self, slot: int) -> bool:
        """Ask the copy's event."""
        return bool(self._arrived[slot].query())

    def finish_copies(self) -> None:
        """Wait for the copies' stream."""
        self._copies.synchronize()

    def wait_copy(self, slot: int) -> None:
        """The compute stream waits for the copy's event; the host does not."""
        torch.cuda.current_stream(self.torch_device).wait_event(self._arrived[slot])

    def run_expert(self, hidden: torch.Tensor, weights: ExpertWeights, slot: int | None = None) -> torch.Tensor:
        """Launch on the compute stream."""
        out = self._experts.run(hidden, weights) if self._experts else expert_forward(hidden, weights)
        self._vacate(slot)
        return out

    def run_group(self, visits: Visits, experts: Sequence[tuple[int, ExpertWeights]], slot: int | None = None) -> None:
        """Launch all of them at once, where there are kernels for such experts."""
        if self._experts is None or not self._experts.runs_group(experts[0][1]):
            super().run_group(visits, experts, slot)
            return
        self._experts.add_group(visits, experts)
        self._vacate(slot)

    def _vacate(self, slot: int | None) -> None:
        """What was launched so far is the last that needs a staging slot."""
        if slot is not None:
            self._vacated.setdefault(slot, torch.cuda.Event()).record()

    def end_layer(self) -> Span:
        """Mark the end on the compute stream."""
        self._end.record()
        return EventSpan(self._start, self._end)
