"""A copy of one expert's weights to VRAM, under way beside all other work: asked whether it is done, never waited for.

One kind for each kind of GPU: done when an event has happened, or when a virtual clock says so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch


class Upload(ABC):
    """A copy under way."""

    @abstractmethod
    def done(self) -> bool:
        """Whether the weights have arrived; never waits."""

    @abstractmethod
    def wait(self) -> None:
        """Return when they have."""


class EventUpload(Upload):
    """Done when its event has happened; what is launched after that sees the weights.

    Args:
        arrived: Recorded behind the copy.
    """

    def __init__(self, arrived: torch.cuda.Event) -> None:
        """See the class."""
        self._arrived = arrived

    def done(self) -> bool:
        """See `Upload`."""
        return bool(self._arrived.query())

    def wait(self) -> None:
        """See `Upload`."""
        self._arrived.synchronize()


class VirtualClock:
    """The time of a GPU that is not there.

    Attributes:
        now_s: Seconds since it was opened.
    """

    def __init__(self) -> None:
        """Start at zero."""
        self.now_s = 0.0


class TimedUpload(Upload):
    """Done at some virtual time; only then do the bytes change hands.

    Args:
        clock: Says what time it is.
        ends_s: When it is done.
        target: The slot.
        source: The weights.
    """

    def __init__(self, clock: VirtualClock, ends_s: float, target: torch.Tensor, source: torch.Tensor) -> None:
        """See the class."""
        self._clock, self._ends_s, self._target, self._source = clock, ends_s, target, source

    def done(self) -> bool:
        """See `Upload`."""
        if self._clock.now_s < self._ends_s:
            return False
        self._target.copy_(self._source)
        return True

    def wait(self) -> None:
        """See `Upload`."""
        self._clock.now_s = max(self._clock.now_s, self._ends_s)
        self._target.copy_(self._source)
