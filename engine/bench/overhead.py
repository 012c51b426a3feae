"""What one decode layer costs around its experts, at a width where arithmetic is nothing: the price of the operations.

One CPU thread, hidden 64, 8 experts, 128 cached tokens; the paper's systems pay this once per layer and token.
"""

from __future__ import annotations

import statistics
import time
from typing import cast

import torch

from engine.config import ModelConfig
from engine.devices import CpuDevice
from engine.experts.executor import ExpertExecutor
from engine.hardware import probe_hardware
from engine.model.decoder import Decoder
from engine.model.kv_cache import KVCache
from engine.model.weights import DenseWeights, LayerWeights

CACHED_TOKENS = 128
LAYERS = 8
PASSES = 200
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


class _NoExperts:
    """An executor whose experts cost nothing; the choice still reaches the host."""

    def run(
        self, layer: int, hidden: torch.Tensor, top_weights: torch.Tensor, top_experts: torch.Tensor, check: object
    ) -> torch.Tensor:
        """The hidden states as they are."""
        del layer, top_weights, check
        top_experts.tolist()
        return hidden


def decode_layer_seconds() -> float:
    """Median seconds of one decode layer around its experts, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        decoder = _decoder()
        decoder.forward_at_once(list(range(CACHED_TOKENS)))
        samples = []
        for _ in range(PASSES):
            del decoder.cache.tokens[CACHED_TOKENS:]
            started = time.perf_counter()
            decoder.forward_at_once([1])
            samples.append((time.perf_counter() - started) / LAYERS)
        return statistics.median(samples)
    finally:
        torch.set_num_threads(threads)


def _decoder() -> Decoder:
    """A random decoder without experts."""
    torch.manual_seed(0)
    width = SHAPE.hidden_size
    device = CpuDevice(probe_hardware())
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
    weights = DenseWeights(embedding, layers, torch.ones(width), embedding)
    cache = KVCache(SHAPE, device, SHAPE.max_position_embeddings, torch.float32)
    return Decoder(SHAPE, weights, cast("ExpertExecutor", _NoExperts()), cache)
