"""What a GPU raises when it breaks or runs out of memory outside of torch's allocator, as errors of our own tree.

A CUDA error is found by whatever call comes next, wherever it is, and spoils the process's context for good: whoever
sees it once sees it at every call.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType

import torch

from engine.errors import DeviceOutOfMemoryError, GpuLostError
from engine.kernels.cuda_driver import CudaDriverError
from engine.sentences import say

_MARKS = ("CUDA error", "CUDA driver error", "cuDNN error")
_MEMORY_MARKS = ("out of memory", "OUT_OF_MEMORY", "ALLOC_FAILED")


class _DeviceFaults:
    """What `device_faults` gives: it holds nothing, so that one serves all, twice a token."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raise an error of ours in place of the GPU's."""
        if not isinstance(error, (CudaDriverError, RuntimeError)):
            return
        said = str(error).partition("\n")[0].strip().rstrip(".")
        if isinstance(error, torch.OutOfMemoryError) or not _is_fault(error, said):
            return
        if any(mark in said for mark in _MEMORY_MARKS):
            raise DeviceOutOfMemoryError(
                say("The GPU has no memory left ({said}).", said=said),
                say("Lower the VRAM budget or close other programs that use it."),
            ) from error
        raise GpuLostError(
            say("The GPU stopped working ({said}).", said=said),
            say("Start Rooftop again to use it; until then, load the model again and it runs on the CPU."),
        ) from error


_FAULTS = _DeviceFaults()


def device_faults() -> AbstractContextManager[None]:
    """Turn what the GPU raises into errors of ours; all else passes, `torch.OutOfMemoryError` too.

    Raises:
        GpuLostError: The GPU cannot go on.
        DeviceOutOfMemoryError: A library around torch found no memory.
    """
    return _FAULTS


def _is_fault(error: Exception, said: str) -> bool:
    """Whether an error came from the GPU."""
    from_gpu = isinstance(error, (CudaDriverError, torch.AcceleratorError))
    return from_gpu or any(mark in said for mark in _MARKS)
