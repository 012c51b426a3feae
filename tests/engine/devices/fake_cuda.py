"""CUDA's streams and events as stand-ins that keep a log, and a `CudaDevice` on them whose tensors are the CPU's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from engine.devices import CudaDevice

Entry = tuple[str, ...]


class FakeCuda:
    """What the stand-ins share.

    Attributes:
        log: What was asked of them, in order.
        done: Whether events have happened.
    """

    def __init__(self) -> None:
        self.log: list[Entry] = []
        self.done = True
        self.compute = FakeStream(self, "compute")
        self.current = self.compute
        self._names = iter(("hand-offs", "copies", "uploads"))
        self._events = 0

    def stream(self, *_: object) -> FakeStream:
        return FakeStream(self, next(self._names, "captures"))

    def event(self, enable_timing: bool = False) -> FakeEvent:
        self._events += 1
        return FakeEvent(self, f"event{self._events}", enable_timing)

    @contextmanager
    def on(self, stream: FakeStream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before


class FakeEvent:
    """An event."""

    def __init__(self, cuda: FakeCuda, name: str, timed: bool) -> None:
        self._cuda, self.name, self.timed = cuda, name, timed

    def record(self, stream: FakeStream | None = None) -> None:
        self._cuda.log.append(("record", self.name, (stream or self._cuda.current).name))

    def synchronize(self) -> None:
        self._cuda.log.append(("synchronize", self.name))

    def query(self) -> bool:
        self._cuda.log.append(("query", self.name))
        return self._cuda.done

    def elapsed_time(self, end: FakeEvent) -> float:
        assert self.timed
        assert end.timed
        return 12.0


class FakeStream:
    """A stream."""

    def __init__(self, cuda: FakeCuda, name: str) -> None:
        self._cuda, self.name = cuda, name

    cuda_stream = 5

    def wait_event(self, event: FakeEvent) -> None:
        self._cuda.log.append(("wait", event.name, self.name))

    def wait_stream(self, other: FakeStream) -> None:
        self._cuda.log.append(("wait", other.name, self.name))

    def query(self) -> bool:
        self._cuda.log.append(("query", self.name))
        return self._cuda.done

    def synchronize(self) -> None:
        self._cuda.log.append(("synchronize", self.name))


def install(patch: pytest.MonkeyPatch) -> FakeCuda:
    """Put the stand-ins in torch's place."""
    cuda = FakeCuda()
    patch.setattr("engine.devices.cuda.why_unusable", lambda _: "")
    patch.setattr("engine.devices.cuda._find", lambda _: torch.device("cpu"))
    patch.setattr(CudaDevice, "_new_pinned", lambda _, size_bytes: torch.empty(size_bytes, dtype=torch.uint8))
    places: dict[str, Callable[..., Any]] = {
        "set_device": lambda _: None,
        "get_device_name": lambda _: "A GPU",
        "Stream": cuda.stream,
        "Event": cuda.event,
        "stream": cuda.on,
        "current_stream": lambda *_: cuda.current,
        "graph_pool_handle": lambda: (0, 1),
        "mem_get_info": lambda *_: (1 << 30, 1 << 30),
        "synchronize": lambda _: cuda.log.append(("synchronize", "device")),
        "empty_cache": lambda: None,
    }
    for name, stand_in in places.items():
        patch.setattr(torch.cuda, name, stand_in)
    return cuda
