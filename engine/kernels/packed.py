"""A weight matrix as it lies in memory: a run of bytes, a format and a shape; how torch reads it.

`docs/packed-layout.md` tells what the bytes mean. Float formats are read where they lie; block formats are unpacked,
a slice of rows at a time, so that the floats of a whole matrix never exist unless somebody asks for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from engine.kernels.torch_unpack import unpack
from engine.quant.formats import TILE_ROWS, WeightFormat

TORCH_FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# Unpacked at once. On a CPU the floats of a slice are still in its cache when they are multiplied; on a GPU a slice is
# worth its launches.
CPU_SLICE_WEIGHTS = 1 << 21
GPU_SLICE_WEIGHTS = 1 << 24
SLICE_ROWS = 64  # a slice begins at a multiple: so many rows of any format end a tile and a 64-byte line

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class PackedMatrix:
    """A view of one weight matrix.

    Attributes:
        data: Its bytes, packed: uint8 [format.packed_bytes(rows, columns)].
        format: What they mean.
        rows: Output features.
        columns: Input features.
        values: The same memory as [rows, columns] where the format is a float; None for block formats.
    """

    data: torch.Tensor
    format: WeightFormat
    rows: int
    columns: int
    values: torch.Tensor | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        """Look at floats as what they are, once: a decode step has no time for it."""
        if self.format.is_float:
            held = self.data[: self.rows * self.format.row_bytes(self.columns)]
            values = held.view(TORCH_FLOATS[self.format.name]).view(self.rows, self.columns)
            object.__setattr__(self, "values", values)

    def dense(self, dtype: torch.dtype) -> torch.Tensor:
        """The matrix [rows, columns] in a float type; a view where that is the type it has.

        Args:
            dtype: What the values are rounded to.
        """
        if self.values is not None:
            return self.values.to(dtype)
        return unpack(self.format, self.rows, self.columns, self.data, dtype)

    def linear(self, hidden: torch.Tensor) -> torch.Tensor:
        """Multiply: [s, columns] -> [s, rows], in the type of `hidden`.

        Args:
            hidden: On the device of the bytes.
        """
        values = self.values
        if values is not None:
            return F.linear(hidden, values if values.dtype == hidden.dtype else values.to(hidden.dtype))
        step = slice_rows(self.columns, GPU_SLICE_WEIGHTS if self.data.is_cuda else CPU_SLICE_WEIGHTS)
        edges = (*range(0, self.rows, step), self.rows)
        parts = [F.linear(hidden, self.slice(first, end).dense(hidden.dtype)) for first, end in pairwise(edges)]
        return torch.cat(parts, dim=-1)

    @property
    def strips(self) -> torch.Tensor:
        """Strips of a block format, each a matrix of `TILE_ROWS` rows: uint8 [strips, bytes]."""
        size = TILE_ROWS * self.format.row_bytes(self.columns)
        count = -(-self.rows // TILE_ROWS)
        return self.data[: count * size].view(count, size)

    def slice(self, first: int, end: int) -> PackedMatrix:
        """Some rows of a block format, without a copy.

        Args:
            first: A multiple of `SLICE_ROWS`.
            end: Another one, or `rows`.
        """
        assert first % SLICE_ROWS == 0, f"row {first} begins no line"
        begin = self.format.packed_bytes(first, self.columns)
        length = self.format.packed_bytes(end - first, self.columns)
        return PackedMatrix(self.data[begin : begin + length], self.format, end - first, self.columns)


def slice_rows(columns: int, weights: int = CPU_SLICE_WEIGHTS) -> int:
    """Rows of so many columns that are worked on at once.

    Args:
        columns: Of the matrix.
        weights: About as many in all, in whole `SLICE_ROWS`.
    """
    return max(1, weights // columns // SLICE_ROWS) * SLICE_ROWS
