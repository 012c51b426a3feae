"""A model in memory: its parts, brought in line with plans, and what it gives up when memory runs out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch

from engine.config import KvPrecision, ModelConfig
from engine.devices import Device, device_faults
from engine.errors import DeviceOutOfMemoryError, GpuLostError
from engine.experts.cpu_experts import CpuExperts
from engine.experts.lending import Lending
from engine.experts.popularity import Popularity
from engine.experts.record import ExecutionRecord
from engine.experts.residency import Residency
from engine.experts.store import ExpertStore
from engine.kernels.cpu_library import CpuPool
from engine.messages import PlacementPlan, Snapshot
from engine.model.compatible_cache import CompatibleCache
from engine.model.compatible_decoder import CompatibleDecoder
from engine.model.decoder import Decoder
from engine.model.kv_cache import KVCache
from engine.model.native_decoder import NativeDecoder
from engine.model.step_trial import open_steps
from engine.sentences import say

# What our own allocations raise, and what torch's raise while it computes.
OUT_OF_MEMORY = (DeviceOutOfMemoryError, torch.OutOfMemoryError)

T = TypeVar("T")


@dataclass(slots=True)
class LoadedModel:
    """The parts of a model in memory.

    Attributes:
        model: Its shape, with experts in parts where they are placed so.
        device: Where its dense part is.
        store: Every expert in RAM, or on disk.
        residency: The experts in VRAM.
        lending: Which of them make way for a long prompt.
        cpu: Runs experts on the CPU.
        popularity: Which experts are used how often.
        record: What the experts did; where a GPU takes part, it is the executor itself.
        decoder: Runs the model, over the KV cache.
        pool: Threads of our own kernels; None where torch computes.
        host_dense_bytes: Of dense weights that are in RAM beside a GPU.
        step_note: A sentence: why decode steps on the GPU are slower than they could be; "" where there is none.
        chunk_tokens: Prompt tokens per forward pass, at most.
        pass_tokens: Tokens of the forward pass under way; 0 between replies.
        memory_shortages: Times that memory ran out, so that less is in force than was planned; else 0.
    """

    model: ModelConfig
    device: Device
    store: ExpertStore
    residency: Residency
    lending: Lending
    cpu: CpuExperts
    popularity: Popularity
    record: ExecutionRecord
    decoder: Decoder | NativeDecoder | CompatibleDecoder
    pool: CpuPool | None
    host_dense_bytes: int = 0
    step_note: str = ""
    chunk_tokens: int = 1
    pass_tokens: int = 0
    memory_shortages: int = 0

    @property
    def threads(self) -> int:
        """Threads that compute on the CPU."""
        return self.pool.threads if self.pool else torch.get_num_threads()

    def use_threads(self, threads: int) -> None:
        """Compute on the CPU with so many threads from now on.

        Raises:
            ConfigurationError: The system does not give them.
        """
        if self.pool:
            self.pool.resize(threads)
        # Where our own threads do all the work, torch only draws tokens: threads of its own would be in their way.
        torch.set_num_threads(1 if isinstance(self.decoder, NativeDecoder) else threads)

    def place(self, plan: PlacementPlan) -> None:
        """Bring residents and KV cache in line with a plan; another context length or precision gives up the sequence.

        Where the device has less memory than was planned there are fewer residents, then no streaming, then the
        cache as it was before.

        Raises:
            DeviceOutOfMemoryError: It does not even hold that.
        """
        cache, device = self.decoder.cache, self.device
        residents = self.lending.follow(plan)
        # What leaves goes first, under the larger of both budgets; what comes must fit the new one.
        device.budget_bytes = max(plan.vram_budget_bytes, device.budget_bytes)
        streaming = plan.vram_bytes.get("staging", 0) > 0
        self.residency.vacate(residents, staging=streaming)
        if device.has_gpu:
            device.release("workspace", device.allocated.get("workspace", 0))
        if (plan.context_tokens, plan.kv_precision) != (cache.capacity, cache.precision):
            self._replace_cache(plan.context_tokens, plan.kv_precision)
        complete = True
        if device.has_gpu:
            workspace = plan.vram_bytes["workspace"] + self.lending.taken_bytes
            self.with_room(lambda: device.reserve("workspace", workspace))
            complete = self.residency.fill(residents, staging=streaming, shares=self.popularity.shares())
            device.budget_bytes = plan.vram_budget_bytes
        self.chunk_tokens = plan.prefill_chunk_tokens
        cache = self.decoder.cache
        as_planned = complete and (plan.context_tokens, plan.kv_precision) == (cache.capacity, cache.precision)
        self.memory_shortages = 0 if as_planned else 1
        self.record.placed()
        self._open_steps()

    @contextlib.contextmanager
    def reading(self, tokens: int) -> Iterator[None]:
        """Compute a prompt: residents make way for one that is longer than the standing workspace is for.

        Args:
            tokens: New ones of the prompt.

        Raises:
            DeviceOutOfMemoryError: There is nothing left to give up.
        """
        lending, device = self.lending, self.device
        if not lending.asked(tokens):
            yield
            return
        with contextlib.ExitStack() as undo:
            undo.callback(self._end_reading)
            with device_faults():
                lending.lend(tokens)
            self.record.placed()
            self.with_room(lambda: device.reserve("workspace", lending.taken_bytes))
            undo.callback(lambda: device.release("workspace", lending.taken_bytes))
            yield

    def _end_reading(self) -> None:
        """Have those that made way come back; nobody does where the model was closed meanwhile."""
        if self.lending.reading:
            with device_faults():
                if not self.lending.bring_back():
                    self.memory_shortages += 1
            self.record.placed()

    def _open_steps(self) -> None:
        """Have the device's own kernels run decode steps over the cache, where they can."""
        if isinstance(self.decoder, Decoder) and self.decoder.steps is None:
            with device_faults():
                self.step_note = open_steps(self.model, self.decoder, self.device)

    def _replace_cache(self, context_tokens: int, precision: KvPrecision) -> None:
        """Another, empty KV cache; one like the old where there is no memory for a new one.

        Raises:
            DeviceOutOfMemoryError: There is not even memory for that.
        """
        decoder = self.decoder
        before = decoder.cache.capacity, decoder.cache.precision
        if isinstance(decoder, Decoder):
            decoder.steps = None
        decoder.cache.close()

        def open_cache(tokens: int, precision: KvPrecision) -> None:
            """One try."""
            if isinstance(decoder, CompatibleDecoder):
                decoder.cache = self.with_room(lambda: CompatibleCache(self.model, self.device, tokens, precision))
            else:
                decoder.cache = self.with_room(lambda: KVCache(self.model, self.device, tokens, precision))

        try:
            open_cache(context_tokens, precision)
        except DeviceOutOfMemoryError:
            open_cache(*before)

    # ---- when memory runs out -----------------------------------------------------------------------------------

    def with_room(self, work: Callable[[], T]) -> T:
        """Do some work, giving up residents until the device has the memory for it.

        Args:
            work: May be done several times; what it left undone does no harm.

        Raises:
            DeviceOutOfMemoryError: There is nothing left to give up.
        """
        while True:
            try:
                with device_faults():
                    return work()
            except OUT_OF_MEMORY as error:
                self.make_room(error)

    def make_room(self, error: Exception) -> None:
        """Give up a part of the residents because memory ran out.

        Args:
            error: What said so.

        Raises:
            DeviceOutOfMemoryError: There is nothing left to give up.
        """
        if self.residency.shrink(self.popularity.shares()):
            self.memory_shortages += 1
            self.record.placed()
            return
        if isinstance(error, DeviceOutOfMemoryError):
            raise error
        raise DeviceOutOfMemoryError(
            say("{device} has no memory left to compute in, with no expert on it any more.", device=self.device.name),
            say("Close other programs that use the GPU, or shorten the context."),
        ) from error

    def snapshot(self, tokens_per_s: float) -> Snapshot:
        """The inside, now.

        Args:
            tokens_per_s: Decode speed to report.
        """
        device, record = self.device, self.record
        gpu_bytes, cpu_bytes = (device.allocated, {}) if device.has_gpu else ({}, device.allocated)
        if self.host_dense_bytes:
            cpu_bytes = {"dense": self.host_dense_bytes}
        store_bytes = {} if self.store.on_disk else {"experts": self.store.nbytes}
        return Snapshot(
            resident_by_layer=self.residency.by_layer(),
            recent_use=self.popularity.recent(),
            layers=tuple(trace for trace in record.traces if trace is not None),
            vram_bytes=dict(gpu_bytes),
            vram_budget_bytes=device.budget_bytes if device.has_gpu else 0,
            host_bytes={**store_bytes, **cpu_bytes},
            hits=record.counters.hits,
            visits=record.counters.visits,
            streamed=record.counters.streamed,
            streamed_bytes=record.counters.streamed_bytes,
            tokens_per_s=tokens_per_s,
            uploads=record.counters.uploads,
            uploaded_bytes=record.counters.uploaded_bytes,
            not_adapting=record.not_adapting,
            memory_shortages=self.memory_shortages,
        )

    def remember(self, token: int, text: str, seconds: float) -> None:
        """Keep what the latest pass did, from which a token of the reply was drawn.

        Args:
            token: Its id.
            text: What is shown of it.
            seconds: Since the token before.
        """
        self.record.history.token(token, text, seconds, self.residency.resident, self.residency.changes)

    def close(self) -> None:
        """Give back what does not go with the last reference; a GPU that was lost has nothing to give."""
        self.lending.close()
        with contextlib.suppress(GpuLostError), device_faults():
            self.residency.close()
        self.store.close()
        with contextlib.suppress(GpuLostError), device_faults():
            self.device.close()
        if self.pool:
            self.pool.close()
