"""What the cache keeps when another prompt comes."""

from __future__ import annotations

import pytest
import torch

from engine.devices import CpuDevice
from engine.hardware import probe_hardware
from engine.model.kv_cache import KVCache
from tests.engine.shapes import TINY


@pytest.fixture
def cache() -> KVCache:
    cache = KVCache(TINY, CpuDevice(probe_hardware()), 32, torch.float32)
    cache.tokens = [1, 2, 3, 4]
    return cache


@pytest.mark.parametrize(
    ("prompt", "kept"),
    [
        ([1, 2, 3, 4, 5], 4),
        ([1, 2, 3, 4], 3),  # the last token is computed anew, for its logits
        ([1, 2, 9, 4, 5], 2),
        ([9], 0),
        ([1], 0),
        ([1, 2, 3], 2),
    ],
)
def test_the_common_prefix_is_kept(cache: KVCache, prompt: list[int], kept: int) -> None:
    assert cache.keep_prefix(prompt) == kept
    assert cache.tokens == prompt[:kept]


def test_closing_gives_every_byte_back() -> None:
    device = CpuDevice(probe_hardware())
    cache = KVCache(TINY, device, 32, torch.float32)
    cache.close()
    assert device.allocated_bytes == 0
    assert cache.keys.untyped_storage().nbytes() + cache.values.untyped_storage().nbytes() == 0


def test_it_is_counted_to_the_byte() -> None:
    device = CpuDevice(probe_hardware())
    cache = KVCache(TINY, device, 32, torch.float32)
    assert device.allocated == {"kv": 32 * TINY.kv_bytes_per_token}
    assert cache.nbytes == device.allocated["kv"]
    assert cache.keys.shape == (TINY.layers, TINY.kv_heads, 32, TINY.head_dim)
