"""Reads a checkpoint into its final place: dense weights onto the device, experts packed into the host arena.

One tensor is read at a time: floats straight into their final place where the type on disk is the type in memory,
everything else through a buffer of that one tensor. Dense weights become the model's float type, block formats a slice
of rows at a time; experts keep the format they have. Every tensor is checked for NaN and infinity as it arrives: floats
one by one, block formats by their scales.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from engine.checkpoint import tensor_names
from engine.checkpoint.checkpoint import Checkpoint
from engine.config import ModelConfig
from engine.devices import Device
from engine.errors import CheckpointError
from engine.experts.store import ExpertStore
from engine.kernels.packed import TORCH_FLOATS, Bytes, PackedMatrix, pack_into, slice_rows
from engine.quant.formats import FORMATS, WeightFormat
from engine.quant.packing import tile_type

TORCH_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
HALF_SCALES = ("d", "dmin", "m")  # fp16 fields of a tile
HALF_EXPONENT = 0x7C00  # all of its bits set: infinity or NaN
EXPONENT_SCALE, EXPONENT_NAN = "e", 0xFF  # the e8m0 field of a tile

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """Dense weights of one decoder layer.

    Attributes:
        attention_norm: [H].
        qkv: Queries above keys above values [(N + 2K) * D, H].
        output: [H, N * D].
        expert_norm: [H].
        router: [E, H].
        query_norm: [D], every query head's norm; None where queries and keys are not normed.
        key_norm: [D], the same for keys.
    """

    attention_norm: torch.Tensor
    qkv: torch.Tensor
    output: torch.Tensor
    expert_norm: torch.Tensor
    router: torch.Tensor
    query_norm: torch.Tensor | None = None
    key_norm: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class DenseWeights:
    """All weights outside the experts.

    Attributes:
        embedding: [V, H].
        layers: One entry per layer.
        norm: [H].
        head: [V, H]; the embedding itself when tied.
    """

    embedding: torch.Tensor
    layers: tuple[LayerWeights, ...]
    norm: torch.Tensor
    head: torch.Tensor


def load_dense(checkpoint: Checkpoint, device: Device, progress: Progress) -> DenseWeights:
    """Read everything but the experts onto the device.

    Args:
        checkpoint: Validated: every expected tensor is there with the right shape.
        device: Where to, counted under the term "dense".
        progress: Called with the bytes read after every tensor; may raise to stop.

    Raises:
        CheckpointError: A file is truncated, unreadable or holds NaN.
        DeviceOutOfMemoryError: The device's budget does not hold them.
    """
    model = checkpoint.config
    reader = WeightReader(checkpoint, progress)

    def place(*names: str) -> torch.Tensor:
        """Read tensors one above the other into one tensor on the device."""
        shapes = [checkpoint.tensors[name].shape for name in names]
        rows = sum(shape[0] for shape in shapes)
        target = device.allocate((rows, *shapes[0][1:]), TORCH_DTYPES[model.dtype], "dense")
        first = 0
        for name, shape in zip(names, shapes, strict=True):
            reader.read(name, target[first : first + shape[0]])
            first += shape[0]
        return target

    embedding = place(tensor_names.EMBEDDING)
    layers = tuple(_load_layer(model, layer, place) for layer in range(model.layers))
    norm = place(tensor_names.FINAL_NORM)
    head = embedding if model.tie_word_embeddings else place(tensor_names.HEAD)
    return DenseWeights(embedding, layers, norm, head)


def _load_layer(model: ModelConfig, layer: int, place: Callable[..., torch.Tensor]) -> LayerWeights:
    """Dense weights of one layer."""
    return LayerWeights(
        attention_norm=place(tensor_names.attention_norm(layer)),
        qkv=place(*(tensor_names.attention(layer, part) for part in ("q", "k", "v"))),
        output=place(tensor_names.attention(layer, "o")),
        expert_norm=place(tensor_names.expert_norm(layer)),
        router=place(tensor_names.router(layer)),
        query_norm=place(tensor_names.query_norm(layer)) if model.query_key_norm else None,
        key_norm=place(tensor_names.key_norm(layer)) if model.query_key_norm else None,
    )


def load_experts(checkpoint: Checkpoint, store: ExpertStore, progress: Progress) -> None:
    """Read every expert into the host arena, layer by layer.

    Raises:
        CheckpointError: A file is truncated, unreadable or holds NaN.
    """
    model = checkpoint.config
    reader = WeightReader(checkpoint, progress)
    for layer in range(model.layers):
        for expert, flat in enumerate(store.layer(layer)):
            weights = store.view(layer, flat)
            reader.pack(tensor_names.expert_tensor(layer, expert, "w1"), weights.gate)
            reader.pack(tensor_names.expert_tensor(layer, expert, "w3"), weights.up)
            reader.pack(tensor_names.expert_tensor(layer, expert, "w2"), weights.down)


def checkpoint_bytes(checkpoint: Checkpoint) -> int:
    """Bytes that loading reads, for progress."""
    return sum(checkpoint.tensors[name].nbytes for name, _ in tensor_names.expected_tensors(checkpoint.config))


class WeightReader:
    """Reads one tensor at a time, converts where it must, and refuses what is no number.

    Args:
        checkpoint: Validated.
        progress: Called with the bytes read after every tensor; may raise to stop.
    """

    def __init__(self, checkpoint: Checkpoint, progress: Progress) -> None:
        """See the class."""
        self._checkpoint = checkpoint
        self._progress = progress
        self._buffer = np.empty(0, dtype=np.uint8)

    def read(self, name: str, target: torch.Tensor) -> None:
        """Fill a float tensor with a tensor of any format.

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
            raw = self._read_raw(name)
            rows, columns = entry.shape
            step = slice_rows(columns)
            for first in range(0, rows, step):
                end = min(first + step, rows)
                part = raw[first * stored.row_bytes(columns) : end * stored.row_bytes(columns)]
                packed = np.empty(stored.packed_bytes(end - first, columns), dtype=np.uint8)
                matrix = PackedMatrix(torch.from_numpy(packed), stored, end - first, columns)
                self._pack_blocks(name, matrix, part)
                target[first:end].copy_(matrix.dense(target.dtype))
        self._progress(entry.nbytes)

    def pack(self, name: str, target: PackedMatrix) -> None:
        """Fill a packed matrix with a tensor of the same format; floats become the matrix's type.

        Args:
            name: The engine's name of the tensor.
            target: In RAM, of the tensor's shape.

        Raises:
            CheckpointError: The file is truncated, unreadable or holds NaN.
        """
        entry = self._checkpoint.tensors[name]
        stored = FORMATS[entry.format]
        if target.values is not None:
            self._read_floats(name, TORCH_FLOATS[stored.name], target.values)
        else:
            assert stored == target.format, f"{name} is stored as {stored.name}, not as {target.format.name}"
            self._pack_blocks(name, target, self._read_raw(name))
        self._progress(entry.nbytes)

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
        """A tensor's bytes on disk, in a buffer that the next call takes back."""
        size_bytes = self._checkpoint.tensors[name].nbytes
        if self._buffer.size < size_bytes:
            self._buffer = np.empty(size_bytes, dtype=np.uint8)
        raw = self._buffer[:size_bytes]
        self._checkpoint.read(name, raw.data)
        return raw

    def _not_a_number(self, name: str) -> CheckpointError:
        """The error for weights that nothing can be computed with."""
        return CheckpointError(
            f"{self._checkpoint.tensors[name].file} holds NaN or infinite weights in {name}.",
            "Download that file again; if it stays so, the model itself is damaged.",
        )


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
