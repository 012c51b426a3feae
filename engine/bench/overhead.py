"""What one decode layer costs around its experts, at a width where arithmetic is nothing, and what a plan costs.

For the layer: one CPU thread, hidden 64, 8 experts, 128 cached tokens; the paper's systems pay this once per layer and
token.
"""

from __future__ import annotations

import statistics
import time
from typing import cast

import numpy as np
import torch

from engine.config import EngineConfig, IsaName, ModelConfig
from engine.devices import CpuDevice
from engine.experts.assumed_costs import assumed_costs
from engine.experts.executor import ExpertExecutor
from engine.experts.placement import make_plan
from engine.experts.popularity import Popularity
from engine.experts.record import CpuRecord
from engine.experts.store import ExpertStore
from engine.hardware import GpuProfile, HardwareProfile, probe_hardware
from engine.kernels.cpu_library import CpuPool
from engine.kernels.packed import PackedMatrix
from engine.messages import TORCH_KERNELS, PlanningInputs
from engine.model.decoder import Decoder
from engine.model.kv_cache import KVCache
from engine.model.native_decoder import NativeDecoder
from engine.model.native_weights import NativeLayer, NativeWeights
from engine.model.weights import DenseWeights, LayerWeights, floats_of
from engine.quant.formats import FORMATS

CACHED_TOKENS = 128
LAYERS = 8
PASSES = 200
PLANS = 20
SHAPE = ModelConfig(
    name="overhead",
    family="mixtral",
    hidden_size=64,
    intermediate_size=128,
    layers=LAYERS,
    heads=4,
    kv_heads=2,
    head_dim=16,
    experts=8,
    experts_per_token=2,
    vocab_size=256,
    max_position_embeddings=256,
    dtype="float32",
)


LARGE = ModelConfig("Qwen3-30B-A3B", "qwen3_moe", 2048, 768, 48, 32, 4, 128, 128, 8, 151936, 40960, query_key_norm=True)


def plan_seconds() -> float:
    """Median seconds of a plan for Qwen3-30B-A3B, each expert as popular as no other, on a GPU that holds some."""
    gib = 1 << 30
    hardware = HardwareProfile("any", 8, 128 * gib, 120 * gib, GpuProfile("any", 12 * gib, 0))
    config = EngineConfig(device="cuda")
    shares = np.random.default_rng(0).dirichlet(np.ones(LARGE.experts), LARGE.layers)
    popularity = tuple(map(tuple, shares.tolist()))
    inputs = PlanningInputs(LARGE, hardware, assumed_costs(LARGE, hardware, config), popularity)
    samples = []
    for _ in range(PLANS):
        started = time.perf_counter()
        make_plan(inputs, config)
        samples.append(time.perf_counter() - started)
    return statistics.median(samples)


class _NoExperts:
    """An executor whose experts cost nothing; the choice still reaches the host."""

    def run(
        self, layer: int, hidden: torch.Tensor, top_weights: torch.Tensor, top_experts: torch.Tensor, check: object
    ) -> torch.Tensor:
        """The hidden states as they are."""
        del layer, top_weights, check
        top_experts.tolist()
        return hidden


def decode_layer_seconds(kernels: IsaName) -> float:
    """Median seconds of one decode layer around its experts, on one thread.

    Args:
        kernels: What computes: "torch", or an instruction set of our library.
    """
    if kernels != TORCH_KERNELS:
        with CpuPool(kernels, 1) as pool:
            decoder = _native_decoder(pool)
            decoder.forward_at_once(list(range(CACHED_TOKENS)))
            return statistics.median(decoder.dense_seconds(CACHED_TOKENS) for _ in range(PASSES)) / LAYERS
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _torch_layer_seconds()
    finally:
        torch.set_num_threads(threads)


def _torch_layer_seconds() -> float:
    """The same with torch."""
    decoder = _decoder()
    decoder.forward_at_once(list(range(CACHED_TOKENS)))
    samples = []
    for _ in range(PASSES):
        del decoder.cache.tokens[CACHED_TOKENS:]
        started = time.perf_counter()
        decoder.forward_at_once([1])
        samples.append((time.perf_counter() - started) / LAYERS)
    return statistics.median(samples)


def _decoder() -> Decoder:
    """A random decoder without experts."""
    device = CpuDevice(probe_hardware())
    cache = KVCache(SHAPE, device, SHAPE.max_position_embeddings, "auto")
    return Decoder(SHAPE, _decoder_weights(), cast("ExpertExecutor", _NoExperts()), cache)


def _decoder_weights() -> DenseWeights:
    """Random weights."""
    torch.manual_seed(0)
    width = SHAPE.hidden_size
    layers = tuple(
        LayerWeights(
            attention_norm=torch.ones(width),
            qkv=torch.randn((SHAPE.heads + 2 * SHAPE.kv_heads) * SHAPE.head_dim, width) / 8,
            output=torch.randn(width, SHAPE.heads * SHAPE.head_dim) / 8,
            expert_norm=torch.ones(width),
            router=torch.randn(SHAPE.experts, width) / 8,
        )
        for _ in range(LAYERS)
    )
    embedding = torch.randn(SHAPE.vocab_size, width)
    return DenseWeights(embedding, layers, torch.ones(width), embedding)


def _native_decoder(pool: CpuPool) -> NativeDecoder:
    """The same for our own kernels; its experts are all zero and timed apart."""
    plain, hardware = _decoder_weights(), probe_hardware()
    device, width = CpuDevice(hardware), SHAPE.hidden_size
    kv_rows = SHAPE.kv_heads * SHAPE.head_dim
    layers = tuple(
        NativeLayer(
            attention_norm=layer.attention_norm,
            query=_packed(floats_of(layer.qkv)[:width]),
            key=_packed(floats_of(layer.qkv)[width : width + kv_rows]),
            value=_packed(floats_of(layer.qkv)[width + kv_rows :]),
            output=_packed(floats_of(layer.output)),
            expert_norm=layer.expert_norm,
            router=_packed(floats_of(layer.router)),
            query_norm=None,
            key_norm=None,
        )
        for layer in plain.layers
    )
    embedding = _packed(floats_of(plain.embedding))
    weights = NativeWeights(embedding, layers, plain.norm, embedding)
    costs = assumed_costs(SHAPE, hardware, EngineConfig(), pool.isa)
    record = CpuRecord(SHAPE, Popularity(SHAPE), costs, "fiddler")
    cache = KVCache(SHAPE, device, SHAPE.max_position_embeddings, "auto")
    return NativeDecoder(SHAPE, weights, ExpertStore(SHAPE, device), record, cache, pool)


def _packed(values: torch.Tensor) -> PackedMatrix:
    """A matrix of floats as it lies."""
    rows, columns = values.shape
    return PackedMatrix(values.contiguous().view(-1).view(torch.uint8), FORMATS["F32"], rows, columns)
