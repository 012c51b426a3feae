"""Dense weights as the decoder takes them, and every expert, packed into the host arena.

Matrices are floats on the device; where it multiplies packed ones, those that are stored in blocks stay so, and an
embedding that is only looked up stays in RAM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from engine.checkpoint import tensor_names
from engine.checkpoint.checkpoint import Checkpoint
from engine.config import DTYPE_FORMATS, ModelConfig
from engine.devices import Device
from engine.devices.gpu_products import GpuMatrix, GpuProducts, Part
from engine.experts.arena import Arena
from engine.experts.store import ExpertStore
from engine.kernels.packed import SLICE_ROWS, PackedMatrix
from engine.model.embedding import Embedding, LookedUp, embed
from engine.model.weight_reader import Progress, WeightReader
from engine.quant.formats import FORMATS, WeightFormat

BIASED: tuple[tensor_names.ExpertPart, ...] = ("w1", "w3", "w2")  # in the order of an expert's run
TORCH_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

Matrix = torch.Tensor | GpuMatrix  # [rows, columns]


def linear(hidden: torch.Tensor, matrix: Matrix, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Multiply: [s, columns] -> [s, rows], in the type of `hidden`.

    Args:
        hidden: On the matrix's device.
        matrix: [rows, columns].
        bias: [rows].
    """
    if isinstance(matrix, torch.Tensor):
        return F.linear(hidden, matrix, bias)
    product = matrix.linear(hidden)
    return product if bias is None else product + bias


def floats_of(matrix: Matrix | Embedding) -> torch.Tensor:
    """A matrix that is held as floats on the device."""
    assert isinstance(matrix, torch.Tensor), f"{matrix} is held otherwise"
    return matrix


@dataclass(frozen=True, slots=True)
class SharedExpert:
    """The expert that every token visits.

    Attributes:
        gate_up: Gate above up [2S, H].
        down: [H, S].
        weight: What decides on its weight [1, H]; None where that is 1.
    """

    gate_up: Matrix
    down: Matrix
    weight: Matrix | None


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """Dense weights of one decoder layer.

    Attributes:
        attention_norm: [H].
        qkv: Queries above keys above values [(N + 2K) * D, H].
        output: [H, N * D].
        expert_norm: [H].
        router: [E, H].
        query_norm: [D], every query head's norm, or [N * D] where it spans them; None where there is none.
        key_norm: [D] or [K * D], the same for keys.
        qkv_bias: [(N + 2K) * D]; None where there is none.
        output_bias: [H]; None where there is none.
        shared: None where there is none.
        attention_norm_bias: [H]; None where norms have none.
        expert_norm_bias: [H]; None where norms have none.
        router_bias: [E]; None where there is none.
        sinks: [N]; None where there are none.
    """

    attention_norm: torch.Tensor
    qkv: Matrix
    output: Matrix
    expert_norm: torch.Tensor
    router: Matrix
    query_norm: torch.Tensor | None = None
    key_norm: torch.Tensor | None = None
    qkv_bias: torch.Tensor | None = None
    output_bias: torch.Tensor | None = None
    shared: SharedExpert | None = None
    attention_norm_bias: torch.Tensor | None = None
    expert_norm_bias: torch.Tensor | None = None
    router_bias: torch.Tensor | None = None
    sinks: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class DenseWeights:
    """All weights outside the experts.

    Attributes:
        embedding: [V, H].
        layers: One entry per layer.
        norm: [H].
        head: [V, H]; the embedding itself when tied.
        norm_bias: [H]; None where norms have none.
        head_bias: [V]; None where there is none.
    """

    embedding: Embedding
    layers: tuple[LayerWeights, ...]
    norm: torch.Tensor
    head: Matrix
    norm_bias: torch.Tensor | None = None
    head_bias: torch.Tensor | None = None

    @property
    def device(self) -> torch.device:
        """Where the decoder is."""
        return self.norm.device

    @property
    def host_bytes(self) -> int:
        """Bytes of them that are in RAM beside a device with memory of its own."""
        return self.embedding.host_bytes if isinstance(self.embedding, LookedUp) else 0

    def embed(self, tokens: list[int]) -> torch.Tensor:
        """The embedding's rows of some tokens: [T, H]."""
        return embed(self.embedding, tokens)


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
    with WeightReader(checkpoint, progress) as reader:
        loader = _Loader(checkpoint, device, reader)
        embedding, head = _load_ends(model, loader, device.products)
        layers = tuple(_load_layer(model, layer, loader) for layer in range(model.layers))
        norm = loader.floats(tensor_names.FINAL_NORM)
        norm_bias = loader.floats(tensor_names.FINAL_NORM_BIAS) if model.traits.layer_norm else None
        head_bias = loader.floats(tensor_names.HEAD_BIAS) if model.traits.head_bias else None
    return DenseWeights(embedding, layers, norm, head, norm_bias, head_bias)


def _load_ends(model: ModelConfig, loader: _Loader, products: GpuProducts | None) -> tuple[Embedding, Matrix]:
    """Embedding and head."""
    if products is None:
        floats = loader.floats(tensor_names.EMBEDDING)
        return floats, floats if model.tie_word_embeddings else loader.floats(tensor_names.HEAD)
    if not model.tie_word_embeddings:
        return loader.in_ram(tensor_names.EMBEDDING, products), loader.matrix(tensor_names.HEAD)
    head = loader.matrix(tensor_names.EMBEDDING)
    if isinstance(head, torch.Tensor):
        return head, head
    (matrix,) = head.parts
    assert isinstance(matrix, PackedMatrix), "a matrix of one part is in blocks"
    return LookedUp(matrix, products, loader.torch_device, loader.dtype, in_ram=False), head


def _load_layer(model: ModelConfig, layer: int, loader: _Loader) -> LayerWeights:
    """Dense weights of one layer."""
    traits = model.traits
    projections: tuple[tensor_names.AttentionPart, ...] = ("q", "k", "v")
    return LayerWeights(
        attention_norm=loader.floats(tensor_names.attention_norm(layer)),
        qkv=loader.matrix(*(tensor_names.attention(layer, part) for part in projections)),
        output=loader.matrix(tensor_names.attention(layer, "o")),
        expert_norm=loader.floats(tensor_names.expert_norm(layer)),
        router=loader.matrix(tensor_names.router(layer)),
        query_norm=loader.floats(tensor_names.query_norm(layer)) if model.query_key_norm else None,
        key_norm=loader.floats(tensor_names.key_norm(layer)) if model.query_key_norm else None,
        qkv_bias=loader.floats(*(tensor_names.attention_bias(layer, part) for part in projections))
        if traits.qkv_bias
        else None,
        output_bias=loader.floats(tensor_names.attention_bias(layer, "o")) if traits.output_bias else None,
        shared=_load_shared(model, layer, loader) if traits.shared_size else None,
        attention_norm_bias=loader.floats(tensor_names.attention_norm_bias(layer)) if traits.layer_norm else None,
        expert_norm_bias=loader.floats(tensor_names.expert_norm_bias(layer)) if traits.layer_norm else None,
        router_bias=loader.floats(tensor_names.router_bias(layer)) if traits.router_bias else None,
        sinks=loader.floats(tensor_names.sinks(layer)) if traits.sinks else None,
    )


def _load_shared(model: ModelConfig, layer: int, loader: _Loader) -> SharedExpert:
    """The expert of one layer that every token visits."""
    return SharedExpert(
        gate_up=loader.matrix(tensor_names.shared_expert(layer, "w1"), tensor_names.shared_expert(layer, "w3")),
        down=loader.matrix(tensor_names.shared_expert(layer, "w2")),
        weight=loader.matrix(tensor_names.shared_gate(layer)) if model.traits.shared_gated else None,
    )


class _Loader:
    """Allocates tensors and has them filled."""

    def __init__(self, checkpoint: Checkpoint, device: Device, reader: WeightReader) -> None:
        self._checkpoint, self._device, self._reader = checkpoint, device, reader
        self.dtype, self.torch_device = TORCH_DTYPES[checkpoint.config.dtype], device.torch_device

    def floats(self, *names: str) -> torch.Tensor:
        """Tensors one above the other in one tensor on the device."""
        shapes = [self._checkpoint.tensors[name].shape for name in names]
        rows = sum(shape[0] for shape in shapes)
        target = self._device.allocate((rows, *shapes[0][1:]), self.dtype, "dense")
        first = 0
        for name, shape in zip(names, shapes, strict=True):
            self._reader.read(name, target[first : first + shape[0]])
            first += shape[0]
        return target

    def matrix(self, *names: str) -> Matrix:
        """Matrices one above the other on the device: in blocks where they are stored so and it multiplies them."""
        products = self._device.products
        if products is None or all(self._format(name).is_float for name in names):
            return self.floats(*names)
        return GpuMatrix(tuple(self._part(run) for run in self._runs(names)), products)

    def in_ram(self, name: str, products: GpuProducts) -> LookedUp:
        """An embedding in RAM, as it is stored; floats in the model's type."""
        entry, stored = self._checkpoint.tensors[name], self._format(name)
        held = FORMATS[DTYPE_FORMATS[self._checkpoint.config.dtype]] if stored.is_float else stored
        rows, columns = entry.shape
        matrix = PackedMatrix(Arena(held.packed_bytes(rows, columns)).data, held, rows, columns)
        if matrix.values is None:
            self._reader.place(name, matrix)
        else:
            self._reader.read(name, matrix.values)
        return LookedUp(matrix, products, self.torch_device, self.dtype, in_ram=True)

    def _runs(self, names: Sequence[str]) -> list[list[str]]:
        """Neighbours that are one matrix in memory: blocks of the same format, whose rows are whole slices."""
        runs: list[list[str]] = []
        for name in names:
            before = runs[-1][-1] if runs else None
            if before is not None and self._joins(before, name):
                runs[-1].append(name)
            else:
                runs.append([name])
        return runs

    def _joins(self, before: str, name: str) -> bool:
        """Whether a matrix can lie directly below another one."""
        stored = self._format(name)
        whole = self._checkpoint.tensors[before].shape[0] % SLICE_ROWS == 0
        return whole and not stored.is_float and stored == self._format(before)

    def _part(self, names: Sequence[str]) -> Part:
        """Neighbours as one matrix on the device."""
        stored = self._format(names[0])
        if stored.is_float:
            return self.floats(*names)
        shapes = [self._checkpoint.tensors[name].shape for name in names]
        rows, columns = sum(shape[0] for shape in shapes), shapes[0][1]
        data = self._device.allocate((stored.packed_bytes(rows, columns),), torch.uint8, "dense")
        matrix, first = PackedMatrix(data, stored, rows, columns), 0
        for name, shape in zip(names, shapes, strict=True):
            self._reader.place(name, matrix.slice(first, first + shape[0]))
            first += shape[0]
        return matrix

    def _format(self, name: str) -> WeightFormat:
        """What a tensor is stored in."""
        return FORMATS[self._checkpoint.tensors[name].format]


def load_experts(checkpoint: Checkpoint, store: ExpertStore, progress: Progress, threads: int = 1) -> None:
    """Read every expert into the host arena, layer by layer, each layer in the order of the files.

    Args:
        checkpoint: Validated.
        store: Where to.
        progress: Called with the bytes read after every tensor, in order; may raise to stop.
        threads: Tensors that are read, packed and checked at a time.

    Raises:
        CheckpointError: A file is truncated, unreadable or holds NaN.
    """
    model = checkpoint.config
    with WeightReader(checkpoint, progress, threads) as reader:
        for layer in range(model.layers):
            matrices: list[tuple[str, Sequence[PackedMatrix]]] = []
            for expert in range(model.experts):
                parts = [store.view(layer, flat) for flat in store.parts_of(layer, expert)]
                gates, downs, ups = zip(*((part.gate, part.down, part.up) for part in parts), strict=True)
                for kind, targets in zip(tensor_names.EXPERT_PARTS, (gates, downs, ups), strict=True):
                    matrices.append((tensor_names.expert_tensor(layer, expert, kind), targets))
                biases = parts[0].biases
                if biases is not None:
                    for kind, bias in zip(BIASED, biases.parts, strict=True):
                        reader.read(tensor_names.expert_bias(layer, expert, kind), bias)
            for name, held in sorted(matrices, key=lambda named: checkpoint.place(named[0])):
                reader.pack(name, held)


def checkpoint_bytes(checkpoint: Checkpoint) -> int:
    """Bytes that loading reads, for progress."""
    if checkpoint.config.compatibility is not None:
        return checkpoint.total_bytes
    return sum(checkpoint.tensors[name].nbytes for name, _ in tensor_names.expected_tensors(checkpoint.config))
