"""From a checkpoint and a plan to a model in memory: every part allocated, filled and wired.

The plan was checked before; here nothing is decided. What fails half-way gives back what it took.
"""

from __future__ import annotations

import contextlib
import importlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from engine.checkpoint.checkpoint import Checkpoint
from engine.config import EngineConfig, IsaName, KvPrecision, ModelConfig, PolicyName
from engine.devices import Device, device_faults, open_device
from engine.errors import OperationCancelledError
from engine.experts.cost_model import planned_threads
from engine.experts.cpu_experts import CpuExperts, TorchCpuExperts
from engine.experts.executor import ExpertExecutor
from engine.experts.lending import Lending
from engine.experts.native_experts import NativeCpuExperts
from engine.experts.parts import in_parts
from engine.experts.pinning import Mask, choose_pinned, pinned_budget
from engine.experts.popularity import Popularity
from engine.experts.ranking import as_mask, staying_residents
from engine.experts.record import CpuRecord, ExecutionRecord
from engine.experts.residency import Residency
from engine.experts.store import ExpertStore
from engine.hardware import HardwareProfile
from engine.kernels.cpu_library import CpuPool
from engine.loaded_model import LoadedModel
from engine.messages import TORCH_KERNELS, CostModel, Event, Loading, PlacementPlan
from engine.model.compatible_cache import CompatibleCache
from engine.model.compatible_decoder import CompatibleDecoder
from engine.model.decoder import Decoder
from engine.model.kv_cache import KVCache
from engine.model.native_decoder import NativeDecoder
from engine.model.native_weights import NativeWeights, load_native_dense
from engine.model.weights import DenseWeights, checkpoint_bytes, load_dense, load_experts
from engine.sentences import say

LOADING_INTERVAL_S = 0.05
MAX_READERS = 4  # threads that read and pack: faster than any drive, and each holds a buffer of one tensor

Dense = DenseWeights | NativeWeights | torch.nn.Module  # of our torch decoder, our native one, and transformers'
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
            raise OperationCancelledError(say("Loading was stopped."), say("Open a model to go on."))


def load_model(
    checkpoint: Checkpoint,
    plan: PlacementPlan,
    without_kernels: Callable[[], PlacementPlan],
    config: EngineConfig,
    hardware: HardwareProfile,
    costs: CostModel,
    popularity: Popularity,
    kernels: IsaName,
    on_event: OnEvent,
    cancelled: Cancelled,
) -> LoadedModel:
    """Allocate and read everything, each thing in its final place.

    Args:
        checkpoint: Open and validated.
        plan: A plan that fits.
        without_kernels: Makes another one that fits, for a GPU where our kernels turn out not to run.
        config: The policy, and the speeds of a simulated GPU.
        hardware: The machine.
        costs: What the executor plans with until something better is measured.
        popularity: Counts to go on from.
        kernels: What computes on the CPU.
        on_event: Hears `Loading`.
        cancelled: True stops the load.

    Raises:
        CheckpointError: A file is truncated, unreadable or holds NaN.
        DoesNotFitError: The system does not give the memory, or the drive has no room for experts on disk.
        DeviceOutOfMemoryError: The device does not hold what was planned.
        GpuLostError: The GPU broke off.
        OperationCancelledError: `cancelled` said so.
    """
    model = in_parts(checkpoint.config, plan.expert_parts)
    progress = LoadProgress(checkpoint_bytes(checkpoint), on_event, cancelled)
    threads = planned_threads(model, hardware, config)
    readers = min(threads, MAX_READERS)
    with device_faults(), contextlib.ExitStack() as undo:
        device = open_device(plan.device, config, hardware, plan.vram_budget_bytes)
        undo.callback(device.close)
        device.prepare(model, config.cost_cache_dir)
        if plan.device == "cuda" and device.products is None:
            plan = without_kernels()
        pool = undo.enter_context(CpuPool(kernels, threads)) if kernels != TORCH_KERNELS else None
        torch.set_num_threads(threads)
        store = ExpertStore(model, device, _disk_folder(config) if config.experts_on_disk else None)
        undo.callback(store.close)
        # Where everything is on the CPU, our own kernels run the whole decoder.
        native = pool is not None and not device.has_gpu
        dense: Dense
        if model.compatibility is not None:
            compatible = importlib.import_module("engine.model.compatible_weights")  # takes seconds
            dense = compatible.load_compatible(checkpoint, device, progress.phase("dense"))
        elif native:
            dense = load_native_dense(checkpoint, device, progress.phase("dense"), readers)
        else:
            dense = load_dense(checkpoint, device, progress.phase("dense"))
        cache = _open_cache(model, device, plan.context_tokens, plan.kv_precision)
        load_experts(checkpoint, store, progress.phase("experts"), readers)
        store.pin(_to_pin(model, plan, config, hardware, popularity))
        loaded = _wire(model, device, store, dense, cache, pool, popularity, costs, config.policy)
        loaded.host_dense_bytes = dense.host_bytes if isinstance(dense, DenseWeights) else 0
        loaded.use_threads(threads)
        loaded.record.adaptive = config.adaptive
        loaded.place(plan)
        undo.pop_all()
    return loaded


def _wire(
    model: ModelConfig,
    device: Device,
    store: ExpertStore,
    dense: Dense,
    cache: KVCache | CompatibleCache,
    pool: CpuPool | None,
    popularity: Popularity,
    costs: CostModel,
    policy: PolicyName,
) -> LoadedModel:
    """Put the parts together."""
    residency = Residency(model, device, store)
    cpu: CpuExperts = NativeCpuExperts(store, model.layers, pool) if pool else TorchCpuExperts(store)
    record: ExecutionRecord
    decoder: Decoder | NativeDecoder | CompatibleDecoder
    if isinstance(dense, NativeWeights):
        assert pool is not None, "native weights are loaded for the pool"
        assert isinstance(cache, KVCache)
        record = passes = CpuRecord(model, popularity, costs, policy)
        decoder = NativeDecoder(model, dense, store, passes, cache, pool)
    else:
        record = executor = ExpertExecutor(model, device, store, residency, cpu, popularity, costs, policy)
        if isinstance(cache, CompatibleCache):
            assert isinstance(dense, torch.nn.Module)
            decoder = CompatibleDecoder(dense, executor, cache)
        else:
            assert isinstance(dense, DenseWeights)
            decoder = Decoder(model, dense, executor, cache)
    lending = Lending(model, device, residency, popularity)
    return LoadedModel(model, device, store, residency, lending, cpu, popularity, record, decoder, pool)


def _open_cache(model: ModelConfig, device: Device, tokens: int, precision: KvPrecision) -> KVCache | CompatibleCache:
    """An empty cache of the kind that the model's decoder takes."""
    kind = KVCache if model.compatibility is None else CompatibleCache
    return kind(model, device, tokens, precision)


def _to_pin(
    model: ModelConfig, plan: PlacementPlan, config: EngineConfig, hardware: HardwareProfile, popularity: Popularity
) -> Mask:
    """Which experts' host copies are to be page-locked."""
    shares, resident = popularity.shares(), as_mask(model, plan.resident_by_layer)
    staying = staying_residents(model, shares, resident, max(plan.lent_bytes.values(), default=0))
    return choose_pinned(model, shares, staying, pinned_budget(hardware, config))


def _disk_folder(config: EngineConfig) -> Path:
    """Where experts on disk go: the cache, or the system's place for temporary files without one."""
    return Path(config.cost_cache_dir or tempfile.gettempdir())
