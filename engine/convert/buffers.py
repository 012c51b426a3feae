"""Memory that is used again: new memory costs more time than what is done with it."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray


class Buffers:
    """Lends memory; safe from any thread.

    Args:
        size: Of what is kept; a larger one is made each time.
    """

    def __init__(self, size: int) -> None:
        """See the class."""
        self._size = size
        self._idle: deque[NDArray[np.uint8]] = deque()

    def take(self, size: int) -> NDArray[np.uint8]:
        """So many bytes, with anything in them."""
        if size > self._size:
            return np.empty(size, dtype=np.uint8)
        try:
            whole = self._idle.pop()
        except IndexError:
            whole = np.empty(self._size, dtype=np.uint8)
        return whole[:size]

    def give_back(self, buffer: NDArray[np.uint8]) -> None:
        """Nobody looks at a buffer any more; one that is not from here, or too large to be kept, is let go of."""
        whole = buffer.base
        if isinstance(whole, np.ndarray) and whole.nbytes == self._size:
            self._idle.append(whole)
