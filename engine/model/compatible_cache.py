"""The key/value cache of transformers' decoder, with the methods of `KVCache` that a reply needs.

Its layers are made by transformers on the first pass, each as the family wants it; the bytes are counted beforehand.
Those that keep every token then get room that doubles, up to the capacity, where transformers would copy all of it for
each new token.
Some kinds (recurrent states, sliding windows) cannot be cut back to a prefix: then the sequence is begun anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from engine.config import KvPrecision, ModelConfig
from engine.devices import Device

FIRST_ROWS = 64


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """What `DynamicLayer` keeps, in room that is copied only when it doubles.

    `keys` and `values` are the filled beginnings of that room, so that cutting them short is all it takes to forget.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, filled: Any, capacity: int) -> None:  # noqa: ANN401 - transformers' types lack what is in it
        """Go on where a layer stands.

        Args:
            filled: A `DynamicLayer` after a pass.
            capacity: Tokens that it will hold at most.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(filled.keys, filled.values)
        self.keys, self.values = filled.keys, filled.values
        self._capacity = capacity
        self._rooms: list[torch.Tensor] = [filled.keys, filled.values]

    @property
    def rows(self) -> int:
        """Tokens that there is room for."""
        return int(self._rooms[0].shape[-2])

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_arguments: object, **_named: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values [1, heads, T, width]; returns all there are now."""
        have = self.keys.shape[-2]
        need = have + key_states.shape[-2]
        if need > self.rows:
            rows = max(need, min(self._capacity, max(2 * self.rows, FIRST_ROWS)))
            self._rooms = [_larger(filled, rows) for filled in (self.keys, self.values)]
        for room, states in zip(self._rooms, (key_states, value_states), strict=True):
            room[..., have:need, :] = states
        self.keys, self.values = (room[..., :need, :] for room in self._rooms)
        return self.keys, self.values


def _larger(filled: torch.Tensor, rows: int) -> torch.Tensor:
    room = filled.new_empty((*filled.shape[:-2], rows, filled.shape[-1]))
    room[..., : filled.shape[-2], :] = filled
    return room


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

    def take(self, past: Any, tokens: Sequence[int]) -> None:  # noqa: ANN401 - of transformers' own kinds
        """Keep what a pass over some tokens has left."""
        if self.past is None and type(past) is DynamicCache:
            past.layers = [
                GrowingLayer(layer, self.capacity) if type(layer) is DynamicLayer and layer.is_initialized else layer
                for layer in past.layers
            ]
        self.past = past
        self.tokens += tokens

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
        return type(self.past) is DynamicCache and all(type(layer) is GrowingLayer for layer in self.past.layers)
