"""What a GPU lends to decode steps: kernels, the hand-off, pinned memory, and CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field

import torch

from engine.config import KvPrecision
from engine.devices.hand_off import HandOff
from engine.kernels.gpu_kernels import GpuKernels

Work = Callable[[], object]  # one launch, whose memory and arguments never change


@dataclass(frozen=True, slots=True)
class StepTools:
    """All of them.

    Attributes:
        kernels: Tested.
        hand_off: Tested.
        pinned: Makes pinned memory of so many bytes.
        capture: Makes one launch of a sequence of launches, as `Captures` does.
        free_bytes: Of the GPU's memory, now.
        trial: Lies around what may break the GPU; raises `GpuKernelsUnavailableError` where it did at an earlier start.
        passed: What has been tried and found right.
    """

    kernels: GpuKernels
    hand_off: HandOff
    pinned: Callable[[int], torch.Tensor]
    capture: Callable[[Sequence[Work]], Work]
    free_bytes: Callable[[], int]
    trial: Callable[[], AbstractContextManager[None]]
    passed: set[KvPrecision] = field(default_factory=set)


class Captures:
    """CUDA graphs, made on a stream of their own; they share one pool of memory and are launched on any stream.

    Args:
        device: Where.
    """

    def __init__(self, device: torch.device) -> None:
        """Make the stream."""
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def capture(self, works: Sequence[Work]) -> Work:
        """A graph of launches.

        They are done once before, so that nothing allocates or loads while they are captured.

        Args:
            works: In order.

        Returns:
            Launches them all.

        Raises:
            RuntimeError: Torch or the driver does not capture one of them.
            CudaDriverError: Likewise.
        """
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            _do(works)
            # Other threads may use CUDA meanwhile.
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                _do(works)
            except BaseException:
                with suppress(RuntimeError):
                    graph.capture_end()
                raise
            graph.capture_end()
        current.wait_stream(self._stream)
        return graph.replay


def in_order(works: Sequence[Work]) -> Work:
    """The same without a graph.

    Args:
        works: In order.
    """
    return lambda: _do(works)


def _do(works: Sequence[Work]) -> None:
    for work in works:
        work()
