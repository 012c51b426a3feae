"""Memory for weights: large pieces in huge pages, small ones as ever, and a refusal that can be told."""

from __future__ import annotations

import mmap

import pytest
import torch

from engine.devices import CpuDevice
from engine.errors import DeviceOutOfMemoryError
from engine.hardware import probe_hardware
from engine.kernels import host_memory
from engine.kernels.host_memory import HUGE_PAGE_BYTES, anonymous_memory, host_tensor


@pytest.mark.parametrize("shape", [(3, 5), (2, HUGE_PAGE_BYTES // 4 + 1)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32])
def test_a_tensor_has_its_shape_and_can_be_written(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    tensor = host_tensor(shape, dtype)
    assert (tuple(tensor.shape), tensor.dtype, tensor.is_contiguous()) == (shape, dtype, True)
    tensor.fill_(7)
    assert tensor.float().mean() == 7


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="this system has no huge pages to ask for")
def test_only_large_tensors_take_pages_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def remembered(size_bytes: int) -> mmap.mmap:
        asked.append(size_bytes)
        return anonymous_memory(size_bytes)

    monkeypatch.setattr(host_memory, "anonymous_memory", remembered)
    host_tensor((HUGE_PAGE_BYTES - 1,), torch.uint8)
    host_tensor((HUGE_PAGE_BYTES,), torch.uint8)
    assert asked == [HUGE_PAGE_BYTES]


def test_what_the_system_refuses_is_a_device_out_of_memory() -> None:
    device = CpuDevice(probe_hardware())
    device.budget_bytes = 1 << 63
    with pytest.raises(DeviceOutOfMemoryError, match="kv"):
        device.allocate((1 << 62,), torch.uint8, "kv")
    assert device.allocated_bytes == 0
