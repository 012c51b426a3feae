"""Brings tensors from the files to where they stay, several at a time, and refuses what is no number.

Floats are read straight into their final place where the type on disk is the type in memory, everything else goes
through a buffer of one tensor, one for each thread. Block formats are packed as they are, or become floats a slice of
rows at a time. Every tensor is checked for NaN and infinity as it arrives: floats one by one, block formats by their
scales.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
import torch

from engine.checkpoint.checkpoint import Checkpoint
from engine.errors import CheckpointError
from engine.kernels.packed import TORCH_FLOATS, Bytes, PackedMatrix, slice_rows
from engine.quant.formats import FORMATS, WeightFormat
from engine.quant.packing import pack_into, tile_type
from engine.sentences import say

HALF_SCALES = ("d", "dmin", "m")  # fp16 fields of a tile
HALF_EXPONENT = 0x7C00  # all of its bits set: infinity or NaN
EXPONENT_SCALE, EXPONENT_NAN = "e", 0xFF  # the e8m0 field of a tile

# Tensors under way for each thread: enough that none waits for the next, few enough that a stop is heard soon.
TENSORS_AHEAD = 2

Progress = Callable[[int], None]
Cut = TypeVar("Cut", Bytes, torch.Tensor)


class WeightReader:
    """Reads tensors; to be used in a with statement, at whose end everything has arrived.

    Args:
        checkpoint: Validated.
        progress: Called by the owner's thread with the bytes of every tensor that has arrived; may raise to stop.
        threads: Threads that read, pack and check; a single core does not reach the speed of a good drive.
    """

    def __init__(self, checkpoint: Checkpoint, progress: Progress, threads: int = 1) -> None:
        """See the class."""
        self._checkpoint, self._progress = checkpoint, progress
        self._executor = ThreadPoolExecutor(threads, "weights")
        self._under_way: deque[Future[int]] = deque()
        self._most_under_way = TENSORS_AHEAD * threads
        self._buffers = threading.local()

    def __enter__(self) -> Self:
        """Nothing more to open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for what is under way; after an error what has not begun is left out.

        Raises:
            CheckpointError: A file is truncated, unreadable or holds NaN.
        """
        try:
            while self._under_way and error is None:
                self._await_oldest()
        finally:
            self._executor.shutdown(cancel_futures=True)

    def read(self, name: str, target: torch.Tensor) -> None:
        """Fill a float tensor with a tensor of any format; it is there when this returns.

        Args:
            name: The engine's name of the tensor.
            target: Contiguous, on any device, of the tensor's shape.

        Raises:
            CheckpointError: The file is truncated, unreadable or holds NaN.
        """
        entry = self._checkpoint.tensors[name]
        stored = FORMATS[entry.format]
        if stored.is_float:
            self._read_floats(name, TORCH_FLOATS[stored.name], target)
        else:
            self._unpack(name, stored, target)
        self._progress(entry.nbytes)

    def place(self, name: str, target: PackedMatrix) -> None:
        """Fill a matrix in a block format with a tensor of that format; it is there when this returns.

        Args:
            name: The engine's name of the tensor.
            target: On any device, of the tensor's shape.

        Raises:
            CheckpointError: The file is truncated, unreadable or holds NaN.
        """
        packed = np.empty(target.data.nbytes, dtype=np.uint8)
        staged = PackedMatrix(torch.from_numpy(packed), target.format, target.rows, target.columns)
        size_bytes = self._pack(name, [staged])
        target.data.copy_(staged.data)
        self._progress(size_bytes)

    def pack(self, name: str, targets: Sequence[PackedMatrix]) -> None:
        """Have packed matrices filled with a tensor of the same format; floats become the matrices' type.

        Args:
            name: The engine's name of the tensor.
            targets: In RAM; one of the tensor's shape, or equal parts of it, all with some of its rows or all with some
                of its columns, in their order. Filled at the end of the with statement, or before.

        Raises:
            CheckpointError: The file of this tensor, or of one before it, is truncated, unreadable or holds NaN.
        """
        if len(self._under_way) == self._most_under_way:
            self._await_oldest()
        self._under_way.append(self._executor.submit(self._pack, name, targets))

    def _await_oldest(self) -> None:
        """Wait for one tensor and tell of it."""
        self._progress(self._under_way.popleft().result())

    def _pack(self, name: str, targets: Sequence[PackedMatrix]) -> int:
        """Fill packed matrices; returns the bytes read."""
        entry, target = self._checkpoint.tensors[name], targets[0]
        stored = FORMATS[entry.format]
        if target.values is None:
            assert stored == target.format, f"{name} is stored as {stored.name}, not as {target.format.name}"
            rows = self._read_raw(name).reshape(entry.shape[0], -1)
            for part, source in zip(targets, _cut(rows, entry.shape, targets), strict=True):
                self._pack_blocks(name, part, np.ascontiguousarray(source).reshape(-1))
        elif len(targets) == 1:
            self._read_floats(name, TORCH_FLOATS[stored.name], target.values)
        else:
            whole = torch.empty(entry.shape, dtype=target.values.dtype)
            self._read_floats(name, TORCH_FLOATS[stored.name], whole)
            for part, values in zip(targets, _cut(whole, entry.shape, targets), strict=True):
                assert part.values is not None, f"{part} is in blocks"
                part.values.copy_(values)
        return entry.nbytes

    def _unpack(self, name: str, stored: WeightFormat, target: torch.Tensor) -> None:
        """Turn a block format into floats, a slice of rows at a time."""
        raw = self._read_raw(name)
        rows, columns = target.shape
        step = slice_rows(columns)
        for first in range(0, rows, step):
            end = min(first + step, rows)
            part = raw[first * stored.row_bytes(columns) : end * stored.row_bytes(columns)]
            packed = np.empty(stored.packed_bytes(end - first, columns), dtype=np.uint8)
            matrix = PackedMatrix(torch.from_numpy(packed), stored, end - first, columns)
            self._pack_blocks(name, matrix, part)
            target[first:end].copy_(matrix.dense(target.dtype))

    def _read_floats(self, name: str, stored: torch.dtype, target: torch.Tensor) -> None:
        """Straight into place, or through the buffer where the type differs or the target is not in RAM."""
        direct = stored == target.dtype and target.device.type == "cpu"
        if direct:
            self._checkpoint.read(name, _bytes_of(target).data)
            staged = target
        else:
            staged = torch.from_numpy(self._read_raw(name)).view(stored).view(target.shape)
        # One pass at memory speed: a sum is finite unless a term is not (or the sum overflows, just as unusable).
        if not torch.isfinite(staged.sum(dtype=torch.float32)):
            raise self._not_a_number(name)
        if not direct:
            target.copy_(staged)

    def _pack_blocks(self, name: str, target: PackedMatrix, source: Bytes) -> None:
        """Pack rows of a block format and look at their scales: codes are finite by themselves."""
        packed = _bytes_of(target.data)
        pack_into(target.format, target.rows, target.columns, source, packed)
        if not _scales_are_finite(target.format, packed):
            raise self._not_a_number(name)

    def _read_raw(self, name: str) -> Bytes:
        """A tensor's bytes on disk, in a buffer that this thread's next call takes back."""
        size_bytes = self._checkpoint.tensors[name].nbytes
        buffer: Bytes | None = getattr(self._buffers, "bytes", None)
        if buffer is None or buffer.size < size_bytes:
            buffer = self._buffers.bytes = np.empty(size_bytes, dtype=np.uint8)
        raw = buffer[:size_bytes]
        self._checkpoint.read(name, raw.data)
        return raw

    def _not_a_number(self, name: str) -> CheckpointError:
        """The error for weights that nothing can be computed with."""
        return CheckpointError(
            say(
                "{file} holds NaN or infinite weights in {name}.",
                file=str(self._checkpoint.tensors[name].file),
                name=name,
            ),
            say("Download that file again; if it stays so, the model itself is damaged."),
        )


def _cut(whole: Cut, shape: Sequence[int], targets: Sequence[PackedMatrix]) -> list[Cut]:
    """A tensor's rows or columns for each of the equal parts.

    Args:
        whole: [rows, columns], or [rows, bytes of a row].
        shape: The tensor's.
        targets: The parts.
    """
    count, across_rows = len(targets), targets[0].columns == shape[1]
    step = whole.shape[0 if across_rows else 1] // count
    edges = [slice(index * step, (index + 1) * step) for index in range(count)]
    return [whole[edge] if across_rows else whole[:, edge] for edge in edges]


def _scales_are_finite(weight_format: WeightFormat, packed: Bytes) -> bool:
    """Whether no scale of a packed matrix is NaN or infinite."""
    tile = tile_type(weight_format)
    tiles = packed[: packed.size // tile.itemsize * tile.itemsize].view(tile)
    names = tile.names or ()
    if EXPONENT_SCALE in names:
        return not np.any(tiles[EXPONENT_SCALE] == EXPONENT_NAN)
    return not any(np.any(tiles[name] & HALF_EXPONENT == HALF_EXPONENT) for name in HALF_SCALES if name in names)


def _bytes_of(tensor: torch.Tensor) -> Bytes:
    """The memory of a contiguous CPU tensor."""
    held: Bytes = tensor.view(-1).view(torch.uint8).numpy()
    return held
