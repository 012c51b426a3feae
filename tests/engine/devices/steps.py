"""Step tools without a GPU: kernels emulated, a hand-off that keeps a log and punishes what a GPU would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch

from engine.devices.hand_off import HandOff
from engine.devices.step_tools import StepTools, Work, in_order
from engine.kernels.gpu_kernels import GpuKernels
from tests.engine.devices.fake_cuda import FakeCuda
from tests.engine.kernels.cuda_emulation.launcher import EmulatedLauncher

Deferred = Callable[[], object]


class Stream:
    """The GPU's stream as a queue: nothing runs before the host waits for it, or for what comes behind it.

    Attributes:
        queue: Work that was launched and has not run.
        held: Whether the stream has come to a place where it waits for the host.
        log: What happened, in order.
        captured: The graphs that were made.
    """

    def __init__(self, cuda: FakeCuda) -> None:
        self.queue: list[tuple[str, Deferred]] = []
        self.held = False
        self.log = cuda.log
        self.captured: list[str] = []

    def put(self, name: str, work: Deferred) -> None:
        self.queue.append((name, work))
        self.log.append(("put", name))

    def run(self) -> None:
        """As far as it goes."""
        while self.queue and not self.held:
            name, work = self.queue.pop(0)
            self.log.append(("run", name))
            with torch.inference_mode():
                work()

    def finish(self) -> None:
        """If a step's end was launched: torch's operations read it in the order of the stream."""
        if self.queue and self.queue[-1][0] == "last":
            self.run()


class RecordingHandOff(HandOff):
    """Signals of a stream that runs as late as it may: when the host waits, and on from a hold when it is let go.

    Attributes:
        lost: Whether the GPU is gone.
    """

    name = "recording"

    def __init__(self, stream: Stream, *, ahead: bool) -> None:
        super().__init__()
        self.ahead, self.lost = ahead, False
        self._stream = stream
        self._signals = self._holds = self._releases = 0

    def hold(self) -> None:
        assert self.ahead
        self._holds += 1
        number = self._holds

        def stop() -> None:
            self._stream.held = self._releases < number

        self._stream.put("hold", stop)

    def release(self) -> None:
        self._stream.log.append(("release",))
        self._releases = self._holds
        self._stream.held = False
        self._stream.finish()

    def _signal(self) -> None:
        def count() -> None:
            self._signals += 1

        self._stream.put("signal", count)

    def _arrived(self, patience_s: float) -> bool:
        if self.lost:
            raise torch.AcceleratorError("CUDA error: unspecified launch failure")
        self._stream.run()
        assert not self._stream.held, "the host waits for a stream that waits for the host"
        assert self._signals > 0, "nothing was signalled"
        self._signals -= 1
        self._stream.log.append(("heard",))
        return True


def step_tools(
    cuda: FakeCuda,
    launcher: EmulatedLauncher,
    *,
    ahead: bool,
    capture: Callable[[Sequence[Work]], Work] | None = None,
    free_bytes: Callable[[], int] = lambda: 0,
) -> tuple[StepTools, Stream, RecordingHandOff]:
    """Tools whose graphs are put into a stream that runs late."""
    stream = Stream(cuda)
    hand_off = RecordingHandOff(stream, ahead=ahead)

    def captured(works: Sequence[Work]) -> Work:
        for work in works:
            work()
        run = in_order(list(works))
        stream.captured.append(f"{len(works)} launches")
        if len(works) > 1:
            return lambda: stream.put("graph", run)

        def last() -> None:
            stream.put("last", run)
            stream.finish()

        return last

    tools = StepTools(
        kernels=GpuKernels(launcher),
        hand_off=hand_off,
        pinned=lambda size_bytes: torch.zeros(size_bytes, dtype=torch.uint8),
        capture=capture or captured,
        free_bytes=free_bytes,
        trial=nullcontext,
    )
    return tools, stream, hand_off
