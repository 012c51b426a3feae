"""What the cache holds, to the byte and to half a step, and what it keeps when another prompt comes."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch

from engine.config import KvPrecision
from engine.devices import CpuDevice
from engine.hardware import probe_hardware
from engine.model.kv_cache import KVCache
from tests.engine.shapes import TINY


@pytest.fixture
def cache() -> KVCache:
    cache = KVCache(TINY, CpuDevice(probe_hardware()), 32, "auto")
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


@pytest.mark.parametrize("precision", get_args(KvPrecision))
def test_closing_gives_every_byte_back(precision: KvPrecision) -> None:
    device = CpuDevice(probe_hardware())
    cache = KVCache(TINY, device, 32, precision)
    cache.tokens += [1, 2, 3]
    cache.close()
    assert (device.allocated_bytes, cache.capacity, cache.tokens) == (0, 0, [])
    assert cache.keys.untyped_storage().nbytes() + cache.values.untyped_storage().nbytes() == 0


@pytest.mark.parametrize(
    ("precision", "dim", "row"),
    [("auto", 4, 16), ("f16", 4, 8), ("q8", 4, 4 + 2), ("q8", 80, 80 + 2), ("q8", 64, 64 + 4), ("q8", 128, 128 + 8)],
)
def test_it_is_counted_to_the_byte(precision: KvPrecision, dim: int, row: int) -> None:
    device, model = CpuDevice(probe_hardware()), replace(TINY, head_dim=dim)
    cache = KVCache(model, device, 32, precision)
    assert model.kv_bytes_per_token(precision) == 2 * model.layers * model.kv_heads * row
    assert device.allocated == {"kv": 32 * model.kv_bytes_per_token(precision)}
    assert cache.nbytes == device.allocated["kv"] == cache.keys.nbytes + cache.values.nbytes
    assert cache.keys.shape[:3] == (model.layers, model.kv_heads, 32)


def round_trip(precision: KvPrecision, numbers: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Numbers [T, K, D] after the cache held them, as keys and as values, in the middle of a layer."""
    model = replace(TINY, head_dim=numbers.shape[2])
    cache = KVCache(model, CpuDevice(probe_hardware()), 32, precision)
    cache.keys.fill_(7), cache.values.fill_(7)
    cache.write(1, 5, numbers, -numbers)
    keys, values = cache.read(1, 5, 5 + len(numbers), dtype)
    assert torch.equal(values, -keys)
    untouched = torch.cat([cache.keys[1, :, :5], cache.keys[1, :, 5 + len(numbers) :]], dim=1)
    assert bool((untouched == 7).all() & (cache.keys[0] == 7).all() & (cache.keys[2] == 7).all())
    return keys.transpose(0, 1)


@pytest.mark.parametrize("dim", [4, 32, 48, 64, 128])
def test_int8_is_off_by_half_a_step_of_its_group_at_most(dim: int) -> None:
    torch.manual_seed(dim)
    group = 32 if dim % 32 == 0 else dim
    numbers = torch.randn(9, TINY.kv_heads, dim) * torch.logspace(-3, 3, 9)[:, None, None]
    numbers[:, :, 0] *= 40  # an outlier costs its own group precision, and no other
    error = (round_trip("q8", numbers) - numbers).unflatten(-1, (-1, group)).abs().amax(-1)
    peak = numbers.unflatten(-1, (-1, group)).abs().amax(-1)
    assert bool((error <= peak / 127 * 0.505 + 1e-7).all())


def test_int8_of_the_smallest_and_largest_numbers() -> None:
    numbers = torch.zeros(3, TINY.kv_heads, 32)
    numbers[1, :, :] = 1e-9
    numbers[2, :, 0] = 5e6
    back = round_trip("q8", numbers)
    torch.testing.assert_close(back, numbers, rtol=4e-3, atol=1e-6)


def test_int8_of_what_no_scale_reaches_is_the_largest_there_is() -> None:
    numbers = torch.zeros(2, TINY.kv_heads, 32)
    numbers[0, :, 0], numbers[1, :, 0] = 1e9, -1e38
    back = round_trip("q8", numbers)
    assert back[:, 0, 0].tolist() == [65280.0 * 127, -65280.0 * 127]
    assert int((back != 0).sum()) == 2 * TINY.kv_heads


@pytest.mark.parametrize(("precision", "tolerance"), [("auto", 0.0), ("f16", 5e-4)])
def test_floats_come_back_as_they_are(precision: KvPrecision, tolerance: float) -> None:
    torch.manual_seed(1)
    numbers = torch.randn(9, TINY.kv_heads, 16)
    torch.testing.assert_close(round_trip(precision, numbers), numbers, rtol=tolerance, atol=0.0)


def test_a_cache_of_the_wanted_type_is_read_without_a_copy() -> None:
    cache = KVCache(TINY, CpuDevice(probe_hardware()), 32, "auto")
    keys, values = cache.read(1, 3, 9, torch.float32)
    assert keys.data_ptr() == cache.keys[1, :, 3:].data_ptr()
    assert values.data_ptr() == cache.values[1, :, 3:].data_ptr()


def test_int8_is_read_in_the_type_that_is_asked_for() -> None:
    torch.manual_seed(1)
    numbers = torch.randn(9, TINY.kv_heads, 64)
    narrow = round_trip("q8", numbers, torch.bfloat16)
    assert narrow.dtype == torch.bfloat16
    torch.testing.assert_close(narrow.float(), round_trip("q8", numbers), rtol=2**-8, atol=0.0)
