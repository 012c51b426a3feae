"""What may come of one request for bytes; apart from `source`, so that planning a download loads no HTTP client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

SILENCE_S = 20.0


class TryAgain(Exception):  # noqa: N818 - no error yet: the same request may succeed
    """An answer that may be different next time.

    Args:
        reason: What happened, in a few words.
        after_s: How long the server asks to wait; None where it does not say.
        silent: Nothing came for a long time.
    """

    def __init__(self, reason: str, after_s: float | None = None, *, silent: bool = False) -> None:
        """See the class."""
        super().__init__(reason)
        self.reason = reason
        self.after_s = after_s
        self.silent = silent


@dataclass(frozen=True, slots=True)
class Body:
    """An answer whose bytes can be read.

    Attributes:
        start: Which byte of the file comes first: the one that was asked for, or 0 from a server without ranges.
        etag: What the server calls this version; "" where it does not, or only loosely.
        read_into: Fills a buffer with bytes that have come, and returns how many: 0 when all have been read. Raises
            when they stop early.
    """

    start: int
    etag: str
    read_into: Callable[[memoryview], int]
