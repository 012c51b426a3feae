"""What is under way on a device and can be asked for later: tensors on their way to the host, and times."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch


class Handed:
    """Tensors on their way to the host.

    Args:
        tensors: Where they will be, on the host.
        arrived: Recorded behind their copies; None where they are there already.
    """

    def __init__(self, tensors: tuple[torch.Tensor, ...], arrived: torch.cuda.Event | None = None) -> None:
        """See the class."""
        self._tensors, self._arrived = tensors, arrived

    def wait(self) -> tuple[torch.Tensor, ...]:
        """The tensors, once they are there; waits for nothing else that the GPU does."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._tensors


class Span(ABC):
    """How long the GPU's side of a layer took."""

    @abstractmethod
    def seconds(self) -> float | None:
        """Its time; None while it runs. Never waits."""

    @abstractmethod
    def wait(self) -> float:
        """Its time, once it is over."""


class KnownSpan(Span):
    """A time that is known: of a virtual clock, or none at all.

    Args:
        seconds: The time.
    """

    def __init__(self, seconds: float) -> None:
        """See the class."""
        self._seconds = seconds

    def seconds(self) -> float:
        """See `Span`."""
        return self._seconds

    def wait(self) -> float:
        """See `Span`."""
        return self._seconds


class EventSpan(Span):
    """The time between two events, known once the second has happened.

    Args:
        start: Recorded before the work.
        end: Recorded behind it; where it is recorded again, the last time counts.
    """

    def __init__(self, start: torch.cuda.Event, end: torch.cuda.Event) -> None:
        """See the class."""
        self._start, self._end = start, end

    def seconds(self) -> float | None:
        """See `Span`."""
        return self._elapsed() if self._end.query() else None

    def wait(self) -> float:
        """See `Span`."""
        self._end.synchronize()
        return self._elapsed()

    def _elapsed(self) -> float:
        return float(self._start.elapsed_time(self._end)) / 1e3
