"""Dense weights as our CPU library takes them: matrices packed in the format that the file has, norms in fp32."""

from __future__ import annotations

import math
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
class NativeSharedExpert:
    """The expert that every token visits.

    Attributes:
        gate: [S, H].
        up: [S, H].
        down: [H, S].
        weight: fp32 [1, H]: what decides on its weight; None where that is 1.
    """

    gate: PackedMatrix
    up: PackedMatrix
    down: PackedMatrix
    weight: torch.Tensor | None


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
        query_norm: fp32 [D], or [N * D] where it spans all heads; None where queries and keys are not normed.
        key_norm: fp32 [D] or [K * D].
        qkv_bias: fp32 [(N + 2K) * D]; None where there is none.
        output_bias: fp32 [H]; None where there is none.
        shared: None where there is none.
        attention_norm_bias: fp32 [H]; None where norms have none.
        expert_norm_bias: fp32 [H]; None where norms have none.
        router_bias: fp32 [E]; None where there is none.
        sinks: fp32 [N]; None where there are none.
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
    qkv_bias: torch.Tensor | None = None
    output_bias: torch.Tensor | None = None
    shared: NativeSharedExpert | None = None
    attention_norm_bias: torch.Tensor | None = None
    expert_norm_bias: torch.Tensor | None = None
    router_bias: torch.Tensor | None = None
    sinks: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class NativeWeights:
    """All weights outside the experts.

    Attributes:
        embedding: [V, H].
        layers: One entry per layer.
        norm: fp32 [H].
        head: [V, H]; the embedding itself when tied.
        norm_bias: fp32 [H]; None where norms have none.
        head_bias: fp32 [V]; None where there is none.
    """

    embedding: PackedMatrix
    layers: tuple[NativeLayer, ...]
    norm: torch.Tensor
    head: PackedMatrix
    norm_bias: torch.Tensor | None = None
    head_bias: torch.Tensor | None = None


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
        norm_bias = loader.vector(tensor_names.FINAL_NORM_BIAS) if model.traits.layer_norm else None
        head_bias = loader.vector(tensor_names.HEAD_BIAS) if model.traits.head_bias else None
    return NativeWeights(embedding, layers, norm, head, norm_bias, head_bias)


def _load_layer(model: ModelConfig, index: int, loader: _Loader) -> NativeLayer:
    """One layer."""
    normed, traits = model.query_key_norm, model.traits
    projections: tuple[tensor_names.AttentionPart, ...] = ("q", "k", "v")
    biases = [tensor_names.attention_bias(index, part) for part in projections]
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
        qkv_bias=loader.vector(*biases) if traits.qkv_bias else None,
        output_bias=loader.vector(tensor_names.attention_bias(index, "o")) if traits.output_bias else None,
        shared=_load_shared(model, index, loader) if traits.shared_size else None,
        attention_norm_bias=loader.vector(tensor_names.attention_norm_bias(index)) if traits.layer_norm else None,
        expert_norm_bias=loader.vector(tensor_names.expert_norm_bias(index)) if traits.layer_norm else None,
        router_bias=loader.vector(tensor_names.router_bias(index)) if traits.router_bias else None,
        sinks=loader.vector(tensor_names.sinks(index)) if traits.sinks else None,
    )


def _load_shared(model: ModelConfig, index: int, loader: _Loader) -> NativeSharedExpert:
    """The expert of one layer that every token visits."""
    return NativeSharedExpert(
        gate=loader.matrix(tensor_names.shared_expert(index, "w1")),
        up=loader.matrix(tensor_names.shared_expert(index, "w3")),
        down=loader.matrix(tensor_names.shared_expert(index, "w2")),
        weight=loader.vector(tensor_names.shared_gate(index)) if model.traits.shared_gated else None,
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
        self._reader.pack(name, [matrix])
        return matrix

    def vector(self, *names: str) -> torch.Tensor:
        """Norms or biases in fp32, one behind the other."""
        shapes = [self._checkpoint.tensors[name].shape for name in names]
        sizes = [math.prod(shape) for shape in shapes]
        target = self._device.allocate((sum(sizes),), torch.float32, "dense")
        for name, part, shape in zip(names, target.split(sizes), shapes, strict=True):
            self._reader.read(name, part.view(shape))
        return target
