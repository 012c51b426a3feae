"""Dense weights as our CPU library takes them: matrices packed in the format that the file has, norms in fp32."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from engine.checkpoint import tensor_names
from engine.checkpoint.checkpoint import Checkpoint
from engine.config import ModelConfig
from engine.devices import Device
from engine.kernels.cpu_library import MatrixRef
from engine.kernels.packed import PackedMatrix
from engine.model.weight_reader import Progress, WeightReader
from engine.quant.formats import FORMATS


@dataclass(frozen=True, slots=True)
class NativeLayer:
    """Dense weights of one decoder layer.

    Attributes:
        attention_norm: fp32 [H].
        query: [N * D, H].
        key: [K * D, H].
        value: [K * D, H].
        output: [H, N * D].
        expert_norm: fp32 [H].
        router: [E, H].
        query_norm: fp32 [D]; None where queries and keys are not normed.
        key_norm: fp32 [D].
    """

    attention_norm: torch.Tensor
    query: PackedMatrix
    key: PackedMatrix
    value: PackedMatrix
    output: PackedMatrix
    expert_norm: torch.Tensor
    router: PackedMatrix
    query_norm: torch.Tensor | None
    key_norm: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class NativeWeights:
    """All weights outside the experts.

    Attributes:
        embedding: [V, H].
        layers: One entry per layer.
        norm: fp32 [H].
        head: [V, H]; the embedding itself when tied.
    """

    embedding: PackedMatrix
    layers: tuple[NativeLayer, ...]
    norm: torch.Tensor
    head: PackedMatrix


def reference(matrix: PackedMatrix) -> MatrixRef:
    """A packed matrix by address; it must outlive the reference."""
    return MatrixRef.of(matrix.data.data_ptr(), matrix.format, matrix.rows, matrix.columns)


def load_native_dense(checkpoint: Checkpoint, device: Device, progress: Progress, threads: int = 1) -> NativeWeights:
    """Read everything but the experts into RAM.

    Args:
        checkpoint: Validated.
        device: Counts the bytes under the term "dense".
        progress: Called with the bytes read after every tensor; may raise to stop.
        threads: Matrices that are read, packed and checked at a time.

    Raises:
        CheckpointError: A file is truncated, unreadable or holds NaN.
        DeviceOutOfMemoryError: There is not enough RAM.
    """
    model = checkpoint.config
    with WeightReader(checkpoint, progress, threads) as reader:
        loader = _Loader(checkpoint, device, reader)
        embedding = loader.matrix(tensor_names.EMBEDDING)
        layers = tuple(_load_layer(model, index, loader) for index in range(model.layers))
        head = embedding if model.tie_word_embeddings else loader.matrix(tensor_names.HEAD)
        norm = loader.vector(tensor_names.FINAL_NORM)
    return NativeWeights(embedding, layers, norm, head)


def _load_layer(model: ModelConfig, index: int, loader: _Loader) -> NativeLayer:
    """One layer."""
    normed = model.query_key_norm
    return NativeLayer(
        attention_norm=loader.vector(tensor_names.attention_norm(index)),
        query=loader.matrix(tensor_names.attention(index, "q")),
        key=loader.matrix(tensor_names.attention(index, "k")),
        value=loader.matrix(tensor_names.attention(index, "v")),
        output=loader.matrix(tensor_names.attention(index, "o")),
        expert_norm=loader.vector(tensor_names.expert_norm(index)),
        router=loader.matrix(tensor_names.router(index)),
        query_norm=loader.vector(tensor_names.query_norm(index)) if normed else None,
        key_norm=loader.vector(tensor_names.key_norm(index)) if normed else None,
    )


class _Loader:
    """Allocates tensors and has them filled."""

    def __init__(self, checkpoint: Checkpoint, device: Device, reader: WeightReader) -> None:
        self._checkpoint, self._device, self._reader = checkpoint, device, reader

    def matrix(self, name: str) -> PackedMatrix:
        """A matrix in the format that it is stored in."""
        entry = self._checkpoint.tensors[name]
        weight_format = FORMATS[entry.format]
        rows, columns = entry.shape
        data = self._device.allocate((weight_format.packed_bytes(rows, columns),), torch.uint8, "dense")
        matrix = PackedMatrix(data, weight_format, rows, columns)
        self._reader.pack(name, matrix)
        return matrix

    def vector(self, name: str) -> torch.Tensor:
        """A norm in fp32."""
        target = self._device.allocate(self._checkpoint.tensors[name].shape, torch.float32, "dense")
        self._reader.read(name, target)
        return target
