"""The key/value cache of transformers' decoder, with the methods of `KVCache` that a reply needs.

Its layers are made by transformers on the first pass, each as the family wants it; the bytes are counted beforehand.
Some kinds (recurrent states, sliding windows) cannot be cut back to a prefix: then the sequence is begun anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers.cache_utils import DynamicCache, DynamicLayer

from engine.config import KvPrecision, ModelConfig
from engine.devices import Device


class CompatibleCache:
    """Keys and values for `capacity` tokens of one sequence.

    Attributes:
        capacity: Tokens that it holds at most (S).
        precision: The setting that it was made for; it always holds the model's own type.
        tokens: Ids of the tokens that are in it.
        past: What transformers keeps of them; None before the first pass.
    """

    def __init__(self, model: ModelConfig, device: Device, capacity: int, precision: KvPrecision) -> None:
        """Count it under the term "kv".

        Raises:
            DeviceOutOfMemoryError: The device's budget does not hold it.
        """
        self.capacity, self.precision = capacity, precision
        self.nbytes = capacity * model.kv_bytes_per_token(precision)
        device.reserve("kv", self.nbytes)
        self._device = device
        self.tokens: list[int] = []
        self.past: Any = None

    def close(self) -> None:
        """Give the memory back; this one is of no use afterwards."""
        self._device.release("kv", self.nbytes)
        self.capacity = self.nbytes = 0
        self.past = None
        self.tokens.clear()

    def keep_prefix(self, tokens: Sequence[int]) -> int:
        """Forget what does not begin like `tokens`, all of it where it cannot be cut; see `KVCache.keep_prefix`.

        Returns:
            How many leading tokens need no computation.
        """
        kept = 0
        for have, want in zip(self.tokens, tokens[:-1], strict=False):
            if have != want:
                break
            kept += 1
        if kept < len(self.tokens) and not self._can_be_cut():
            kept = 0
        del self.tokens[kept:]
        return kept

    def align(self) -> None:
        """Bring what transformers keeps in line with `tokens`, also after a pass that was broken off."""
        if not self.tokens:
            self.past = None
        elif self._can_be_cut():
            for layer in self.past.layers:
                layer.keys = layer.keys[..., : len(self.tokens), :]
                layer.values = layer.values[..., : len(self.tokens), :]

    def forget_pass(self) -> None:
        """A pass was broken off: go back to the tokens before it, or to none."""
        if not self._can_be_cut():
            self.tokens.clear()
        self.align()

    def _can_be_cut(self) -> bool:
        """Whether every layer keeps its tokens one by one."""
        return type(self.past) is DynamicCache and all(type(layer) is DynamicLayer for layer in self.past.layers)
