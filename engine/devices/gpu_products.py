"""Products with packed matrices on a GPU: few rows multiply them as they lie, many share their unpacking.

Up to 16 rows of activations are one launch of our kernels for each matrix. With more, a matrix is unpacked, a slice at
a time, into a buffer that the plan's workspace has counted, and torch multiplies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from engine.kernels.gpu_kernels import GpuKernels
from engine.kernels.gpu_plans import MAX_TOKENS, linear_workspace_bytes, plan_linears
from engine.kernels.packed import GPU_SLICE_WEIGHTS, PackedMatrix, slice_rows

Part = PackedMatrix | torch.Tensor  # in blocks, or floats [rows, columns] in the type of the activations


class GpuProducts:
    """Launches on torch's current stream, and nothing here waits.

    Args:
        kernels: For every format that comes, loaded and tested.
    """

    def __init__(self, kernels: GpuKernels) -> None:
        """See the class."""
        self._kernels = kernels
        self._buffer = torch.empty(0, dtype=torch.uint8)

    def linear(self, hidden: torch.Tensor, parts: Sequence[Part]) -> torch.Tensor:
        """Multiply with matrices that lie above each other: [s, columns] -> [s, all rows], in the type of `hidden`."""
        hidden = hidden.contiguous()
        out = hidden.new_empty(hidden.shape[0], sum(rows_of(part) for part in parts))
        packed = [(part, view) for part, view in views_of(out, parts) if isinstance(part, PackedMatrix)]
        for part, view in views_of(out, parts):
            if isinstance(part, torch.Tensor):
                torch.mm(hidden, part.T, out=view)
        if hidden.shape[0] > MAX_TOKENS:
            for matrix, view in packed:
                self._multiply_many(hidden, matrix, view)
        elif packed:
            matrices, outs = zip(*packed, strict=True)
            buffer = self.room(linear_workspace_bytes(*hidden.shape), hidden.device)
            for launch in plan_linears(matrices, hidden, buffer, outs):
                self._kernels.launch(launch)
        return out

    def unpacked(self, matrix: PackedMatrix, dtype: torch.dtype) -> torch.Tensor:
        """The weights of a matrix in blocks, or of a slice: [rows, columns], there until something else is multiplied.

        Args:
            matrix: Of at most a slice's weights.
            dtype: Of the floats.
        """
        size = matrix.rows * matrix.columns * dtype.itemsize
        floats = self.room(size, matrix.data.device)[:size].view(dtype).view(matrix.rows, matrix.columns)
        return self._kernels.unpack(matrix, floats)

    def room(self, size_bytes: int, device: torch.device) -> torch.Tensor:
        """A buffer of at least so many bytes; it is used again in the order of the stream."""
        if self._buffer.nbytes < size_bytes:
            self._buffer = torch.empty(0, dtype=torch.uint8)  # given back before there is a larger one
            self._buffer = torch.empty(size_bytes, dtype=torch.uint8, device=device)
        return self._buffer

    def _multiply_many(self, hidden: torch.Tensor, matrix: PackedMatrix, out: torch.Tensor) -> None:
        """Multiply with one slice of rows after the other."""
        for first, end in pairwise(
            (*range(0, matrix.rows, slice_rows(matrix.columns, GPU_SLICE_WEIGHTS)), matrix.rows)
        ):
            floats = self.unpacked(matrix.slice(first, end), hidden.dtype)
            torch.mm(hidden, floats.T, out=out[:, first:end])


@dataclass(frozen=True, slots=True)
class GpuMatrix:
    """A matrix on the GPU of which some rows at least are in blocks.

    Attributes:
        parts: What lies above each other.
        products: Multiplies them.
    """

    parts: tuple[Part, ...]
    products: GpuProducts

    def linear(self, hidden: torch.Tensor) -> torch.Tensor:
        """Multiply: [s, columns] -> [s, rows], in the type of `hidden`."""
        return self.products.linear(hidden, self.parts)


def rows_of(part: Part) -> int:
    """Output features of a part."""
    return part.rows if isinstance(part, PackedMatrix) else part.shape[0]


def views_of(out: torch.Tensor, parts: Sequence[Part]) -> Iterator[tuple[Part, torch.Tensor]]:
    """Each part with its columns of a result.

    Args:
        out: [s, all rows].
        parts: Above each other.
    """
    first = 0
    for part in parts:
        yield part, out[:, first : first + rows_of(part)]
        first += rows_of(part)
