"""From a checkpoint and a plan to a model in memory: every part allocated, filled and wired.

The plan was checked before; here nothing is decided. What fails half-way gives back what it took.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from engine.checkpoint.checkpoint import Checkpoint
from engine.config import EngineConfig, ModelConfig
from engine.devices import Device, open_device
from engine.errors import OperationCancelledError
from engine.experts.executor import ExpertExecutor
from engine.experts.popularity import Popularity
from engine.experts.residency import Residency
from engine.experts.store import ExpertStore
from engine.hardware import HardwareProfile
from engine.messages import CostModel, Event, Loading, PlacementPlan, Snapshot
from engine.model.decoder import Decoder
from engine.model.kv_cache import KVCache
from engine.model.weights import TORCH_DTYPES, checkpoint_bytes, load_dense, load_experts

LOADING_INTERVAL_S = 0.05

OnEvent = Callable[[Event], None]
Cancelled = Callable[[], bool]


class LoadProgress:
    """Turns bytes read into `Loading` events, and a wish to stop into an error.

    Args:
        total_bytes: Bytes that the whole load reads.
        on_event: Hears the events.
        cancelled: Asked at every check.
    """

    def __init__(self, total_bytes: int, on_event: OnEvent, cancelled: Cancelled) -> None:
        """See the class."""
        self._total_bytes, self._done_bytes = total_bytes, 0
        self._on_event, self._cancelled = on_event, cancelled
        self._told_s = 0.0

    def phase(self, name: str) -> Callable[[int], None]:
        """A callback for one phase that takes the bytes just read; it raises like `check`."""

        def progress(size_bytes: int) -> None:
            self._done_bytes += size_bytes
            now_s = time.perf_counter()
            if now_s - self._told_s > LOADING_INTERVAL_S or self._done_bytes == self._total_bytes:
                self._told_s = now_s
                self._on_event(Loading(name, self._done_bytes, self._total_bytes))
            self.check()

        return progress

    def check(self) -> None:
        """Stop if the user asked for it.

        Raises:
            OperationCancelledError: They did.
        """
        if self._cancelled():
            raise OperationCancelledError("Loading was stopped.", "Open a model to go on.")


@dataclass(slots=True)
class LoadedModel:
    """The parts of a model in memory.

    Attributes:
        model: Its shape.
        device: Where its dense part is.
        store: Every expert in RAM.
        residency: The experts in VRAM.
        popularity: Which experts are used how often.
        executor: Runs experts.
        decoder: Runs everything else, over the KV cache.
    """

    model: ModelConfig
    device: Device
    store: ExpertStore
    residency: Residency
    popularity: Popularity
    executor: ExpertExecutor
    decoder: Decoder

    def place(self, plan: PlacementPlan) -> None:
        """Bring residents and context in line with a plan; another context length gives up the cached sequence.

        Raises:
            DeviceOutOfMemoryError: The device does not hold what was planned.
        """
        cache, device = self.decoder.cache, self.device
        # What leaves goes first, under the larger of both budgets; what comes must fit the new one.
        device.budget_bytes = max(plan.vram_budget_bytes, device.budget_bytes)
        if plan.context_tokens != cache.capacity:
            self.residency.close()
            cache.close()
            self.decoder.cache = KVCache(self.model, device, plan.context_tokens, cache.keys.dtype)
        if device.has_gpu:
            device.release("workspace", device.allocated.get("workspace", 0))
            device.reserve("workspace", plan.vram_bytes["workspace"])
            self.residency.place(plan.resident_by_layer, staging=plan.vram_bytes["staging"] > 0)
            device.budget_bytes = plan.vram_budget_bytes

    def snapshot(self, tokens_per_s: float) -> Snapshot:
        """The inside, now.

        Args:
            tokens_per_s: Decode speed to report.
        """
        device, executor = self.device, self.executor
        gpu_bytes, cpu_bytes = (device.allocated, {}) if device.has_gpu else ({}, device.allocated)
        return Snapshot(
            resident_by_layer=self.residency.by_layer(),
            recent_use=self.popularity.recent(),
            layers=tuple(trace for trace in executor.traces if trace is not None),
            vram_bytes=dict(gpu_bytes),
            vram_budget_bytes=device.budget_bytes if device.has_gpu else 0,
            host_bytes={"experts": self.store.nbytes, **cpu_bytes},
            hits=executor.counters.hits,
            visits=executor.counters.visits,
            streamed=executor.counters.streamed,
            streamed_bytes=executor.counters.streamed_bytes,
            tokens_per_s=tokens_per_s,
        )

    def close(self) -> None:
        """Give back what does not go with the last reference."""
        self.residency.close()
        self.store.close()
        self.device.close()


def load_model(
    checkpoint: Checkpoint,
    plan: PlacementPlan,
    config: EngineConfig,
    hardware: HardwareProfile,
    costs: CostModel,
    popularity: Popularity,
    on_event: OnEvent,
    cancelled: Cancelled,
) -> LoadedModel:
    """Allocate and read everything, each thing in its final place.

    Args:
        checkpoint: Open and validated.
        plan: A plan that fits.
        config: The policy, and the speeds of a simulated GPU.
        hardware: The machine.
        costs: What the executor plans with until something better is measured.
        popularity: Counts to go on from.
        on_event: Hears `Loading`.
        cancelled: True stops the load.

    Raises:
        CheckpointError: A file is truncated, unreadable or holds NaN.
        DeviceOutOfMemoryError: The device does not hold what was planned.
        OperationCancelledError: `cancelled` said so.
    """
    model, dtype = checkpoint.config, TORCH_DTYPES[checkpoint.config.dtype]
    progress = LoadProgress(checkpoint_bytes(model), on_event, cancelled)
    device = open_device(plan.device, config, hardware, plan.vram_budget_bytes)
    store = ExpertStore(model, device, dtype)
    try:
        dense = load_dense(checkpoint, device, progress.phase("dense"))
        cache = KVCache(model, device, plan.context_tokens, dtype)
        load_experts(checkpoint, store, progress.phase("experts"))
        store.pin()
        residency = Residency(model, device, store, dtype)
        executor = ExpertExecutor(model, device, store, residency, popularity, costs, config.policy)
        decoder = Decoder(model, dense, executor, cache)
        loaded = LoadedModel(model, device, store, residency, popularity, executor, decoder)
        loaded.place(plan)
    except BaseException:
        store.close()
        device.close()
        raise
    return loaded
