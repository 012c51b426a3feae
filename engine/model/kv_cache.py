"""The preallocated key/value cache of one conversation, and which tokens it holds.

Knows nothing of prompts or layers' weights. Keys and values are [L, K, S, R]: a layer's heads are contiguous, so that
attention reads one run per head, and writing a token is one small copy. A row is one head's key or value of one token:

    floats   R = D numbers
    Q8_0     R = D + 2 D / g bytes: D codes in int8, then an fp16 scale for every g of them (`ModelConfig.kv_group`)

A number is its code times its scale; the scale is the group's largest magnitude / 127, rounded so that bfloat16 holds
it too. Our native attention reads these rows itself; for torch, `read` turns what one layer needs into floats.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.config import KvPrecision, ModelConfig
from engine.devices import Device

_FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_LARGEST_CODE = 127
_LARGEST_SCALE = 65280.0  # that both fp16 and bfloat16 hold


class KVCache:
    """Keys and values for `capacity` tokens of one sequence.

    Attributes:
        capacity: Tokens that it holds at most (S).
        precision: The setting that it was made for.
        format: What its rows hold, a name in `engine.quant.formats`.
        keys: [L, K, S, R], uint8 where they are int8 with scales.
        values: [L, K, S, R].
        tokens: Ids of the tokens whose keys and values are valid.
    """

    def __init__(self, model: ModelConfig, device: Device, capacity: int, precision: KvPrecision) -> None:
        """Allocate under the term "kv".

        Raises:
            DeviceOutOfMemoryError: The device's budget does not hold it.
        """
        self.precision, self.format = precision, model.kv_format(precision)
        dtype = _FLOATS.get(self.format, torch.uint8)
        row = model.kv_row_bytes(precision) // dtype.itemsize
        self._storage = device.allocate((2, model.layers, model.kv_heads, capacity, row), dtype, "kv")
        self._device, self._dim, self._group = device, model.head_dim, model.kv_group
        self.capacity = capacity
        self.nbytes = self._storage.nbytes
        self.keys, self.values = self._storage[0], self._storage[1]
        self.tokens: list[int] = []

    @property
    def holds_floats(self) -> bool:
        """Whether its rows are plain numbers."""
        return self.format in _FLOATS

    def close(self) -> None:
        """Give the memory back, so that another cache can take its place; this one is of no use afterwards."""
        self._device.release("kv", self.nbytes)
        self.capacity, self.nbytes = 0, 0
        self._storage = self.keys = self.values = self.keys.new_empty(0)
        self.tokens.clear()

    def write(self, layer: int, start: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Put T tokens' keys and values of one layer, [T, K, D] each, at positions start..start+T."""
        end = start + keys.shape[0]
        if self.holds_floats:
            self.keys[layer, :, start:end] = keys.transpose(0, 1)
            self.values[layer, :, start:end] = values.transpose(0, 1)
            return
        numbers = torch.stack([keys, values]).transpose(1, 2).float().unflatten(-1, (-1, self._group))
        scales = (numbers.abs().amax(-1, keepdim=True) / _LARGEST_CODE).clamp(max=_LARGEST_SCALE).bfloat16().half()
        codes = (numbers / scales).nan_to_num(0.0).round().clamp(-_LARGEST_CODE, _LARGEST_CODE).to(torch.int8)
        rows = self._storage[:, layer, :, start:end]
        rows[..., : self._dim] = codes.flatten(-2).view(torch.uint8)
        rows[..., self._dim :] = scales.flatten(-2).view(torch.uint8)

    def read(self, layer: int, first: int, end: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """One layer's keys and values of positions first..end in a float type: [K, end - first, D] each.

        Views of the cache where it holds that type, else made for the moment.
        """
        if self.holds_floats:
            return self.keys[layer, :, first:end].to(dtype), self.values[layer, :, first:end].to(dtype)
        rows = self._storage[:, layer, :, first:end]
        codes = rows[..., : self._dim].view(torch.int8).unflatten(-1, (-1, self._group))
        scales = rows[..., self._dim :].view(torch.float16).unsqueeze(-1)
        keys, values = codes.to(dtype).mul_(scales.to(dtype)).flatten(-2)
        return keys, values

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
