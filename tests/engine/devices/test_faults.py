"""What a GPU raises becomes an error of ours; nothing else does."""

from __future__ import annotations

import pytest
import torch

from engine.devices import device_faults
from engine.errors import DeviceOutOfMemoryError, GpuLostError
from engine.kernels.cuda_driver import CudaDriverError


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCompile with ..."),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(...)`"),
        CudaDriverError("CUDA_ERROR_LAUNCH_FAILED", "cuLaunchKernel: CUDA_ERROR_LAUNCH_FAILED: it failed."),
    ],
)
def test_a_broken_gpu_is_lost(error: Exception) -> None:
    sentence = r"^The GPU stopped working \([^\n]*[^.]\)\. Start Rooftop again"
    with pytest.raises(GpuLostError, match=sentence) as raised, device_faults():
        raise error
    assert raised.value.code == "gpu-lost"
    assert raised.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        torch.AcceleratorError("CUDA error: out of memory"),
        CudaDriverError("CUDA_ERROR_OUT_OF_MEMORY", "cuModuleLoadDataEx: CUDA_ERROR_OUT_OF_MEMORY: out of memory."),
    ],
)
def test_memory_that_a_library_wanted_can_be_made(error: Exception) -> None:
    with pytest.raises(DeviceOutOfMemoryError, match="no memory left"), device_faults():
        raise error


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
        RuntimeError("The size of tensor a must match"),
        DeviceOutOfMemoryError("No memory.", "Buy more."),
        KeyError("CUDA error"),
    ],
)
def test_all_else_passes(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, device_faults():
        raise error
    assert raised.value is error
