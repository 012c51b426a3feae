"""Random layers of torch's decoder, which the GPU kernels are held against."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch

from engine.config import ModelConfig
from engine.devices import CpuDevice
from engine.experts.executor import ExpertExecutor
from engine.hardware import probe_hardware
from engine.kernels.gpu_decoder_plans import HeadNorms
from engine.model.decoder import Decoder
from engine.model.kv_cache import KVCache
from engine.model.weights import DenseWeights, LayerWeights

FP32, FP16, BF16 = torch.float32, torch.float16, torch.bfloat16
TYPES = (FP32, FP16, BF16)
EXACT = 2e-6  # what another order of fp32's sums may lose, of a result's length
EPSILON = 1e-5


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def a_random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def a_model(heads: int, kv_heads: int, head_dim: int, hidden_size: int = 64, **others: object) -> ModelConfig:
    model = ModelConfig(
        "random", "mixtral", hidden_size=hidden_size, intermediate_size=32, layers=1, heads=heads, kv_heads=kv_heads,
        head_dim=head_dim, experts=8, experts_per_token=2, vocab_size=8, max_position_embeddings=1 << 17,
        rms_norm_eps=EPSILON, dtype="float32",
    )  # fmt: skip
    return replace(model, **others)  # type: ignore[arg-type]


def a_decoder(model: ModelConfig, capacity: int = 8) -> tuple[Decoder, LayerWeights]:
    """Torch's, with random weights of one layer in fp32."""
    hidden, width = model.hidden_size, model.head_dim
    all_heads = model.heads + 2 * model.kv_heads
    layer = LayerWeights(
        attention_norm=a_random(hidden, seed=1),
        qkv=a_random(all_heads * width, hidden, seed=2) / 4,
        output=a_random(hidden, model.heads * width, seed=3) / 4,
        expert_norm=a_random(hidden, seed=4),
        router=a_random(model.experts, hidden, seed=5),
        query_norm=a_random(width, seed=6) if model.query_key_norm else None,
        key_norm=a_random(width, seed=7) if model.query_key_norm else None,
    )
    embedding = a_random(model.vocab_size, hidden, seed=8)
    cache = KVCache(model, CpuDevice(probe_hardware()), capacity, "auto")
    cache.keys.copy_(a_random(*cache.keys.shape, seed=9))
    cache.values.copy_(a_random(*cache.values.shape, seed=10))
    weights = DenseWeights(embedding, (layer,), a_random(hidden, seed=11), embedding)
    return Decoder(model, weights, cast(ExpertExecutor, None), cache), layer


def norms_of(layer: LayerWeights) -> HeadNorms | None:
    if layer.query_norm is None or layer.key_norm is None:
        return None
    return HeadNorms(layer.query_norm, layer.key_norm, EPSILON)
