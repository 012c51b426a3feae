"""The preallocated key/value cache of one conversation, and which tokens it holds.

Knows nothing of prompts or layers' weights. Keys and values are [L, K, S, D]: a layer's heads are contiguous, so that
attention reads one run per head, and writing a token is one small copy.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.config import ModelConfig
from engine.devices import Device


class KVCache:
    """Keys and values for `capacity` tokens of one sequence.

    Attributes:
        capacity: Tokens that it holds at most (S).
        keys: [L, K, S, D].
        values: [L, K, S, D].
        tokens: Ids of the tokens whose keys and values are valid.
    """

    def __init__(self, model: ModelConfig, device: Device, capacity: int, dtype: torch.dtype) -> None:
        """Allocate under the term "kv".

        Raises:
            DeviceOutOfMemoryError: The device's budget does not hold it.
        """
        shape = (2, model.layers, model.kv_heads, capacity, model.head_dim)
        storage = device.allocate(shape, dtype, "kv")
        self._device = device
        self.capacity = capacity
        self.nbytes = storage.nbytes
        self.keys, self.values = storage[0], storage[1]
        self.tokens: list[int] = []

    def close(self) -> None:
        """Give the memory back, so that another cache can take its place; this one is of no use afterwards."""
        self._device.release("kv", self.nbytes)
        self.capacity, self.nbytes = 0, 0
        self.keys, self.values = self.keys.new_empty(0), self.values.new_empty(0)
        self.tokens.clear()

    def keep_prefix(self, tokens: Sequence[int]) -> int:
        """Forget what does not begin like `tokens`; the last of them is always computed anew, for its logits.

        Returns:
            How many leading tokens need no computation.
        """
        kept = 0
        for have, want in zip(self.tokens, tokens[:-1], strict=False):
            if have != want:
                break
            kept += 1
        del self.tokens[kept:]
        return kept
