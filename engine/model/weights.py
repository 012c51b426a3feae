"""Reads a checkpoint into its final place: dense weights onto the device, experts into the host arena.

One tensor is read at a time, straight into its final place where the type on disk is the type in memory; otherwise
through a buffer of that one tensor. Every tensor is checked for NaN and infinity as it arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from engine.checkpoint import tensor_names
from engine.checkpoint.checkpoint import Checkpoint
from engine.config import ModelConfig
from engine.devices import Device
from engine.errors import CheckpointError
from engine.experts.store import ExpertStore

TORCH_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DISK_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}

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
    """

    attention_norm: torch.Tensor
    qkv: torch.Tensor
    output: torch.Tensor
    expert_norm: torch.Tensor
    router: torch.Tensor


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
    reader = _Reader(checkpoint, progress)

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
    layers = tuple(_load_layer(layer, place) for layer in range(model.layers))
    norm = place(tensor_names.FINAL_NORM)
    head = embedding if model.tie_word_embeddings else place(tensor_names.HEAD)
    return DenseWeights(embedding, layers, norm, head)


def _load_layer(layer: int, place: Callable[..., torch.Tensor]) -> LayerWeights:
    """Dense weights of one layer."""
    return LayerWeights(
        attention_norm=place(tensor_names.attention_norm(layer)),
        qkv=place(*(tensor_names.attention(layer, part) for part in ("q", "k", "v"))),
        output=place(tensor_names.attention(layer, "o")),
        expert_norm=place(tensor_names.expert_norm(layer)),
        router=place(tensor_names.router(layer)),
    )


def load_experts(checkpoint: Checkpoint, store: ExpertStore, progress: Progress) -> None:
    """Read every expert into the host arena, layer by layer.

    Raises:
        CheckpointError: A file is truncated, unreadable or holds NaN.
    """
    model = checkpoint.config
    reader = _Reader(checkpoint, progress)
    for layer in range(model.layers):
        for expert in range(model.experts):
            weights = store.weights(layer, expert)
            reader.read(tensor_names.expert_tensor(layer, expert, "w1"), weights.gate_up[: model.intermediate_size])
            reader.read(tensor_names.expert_tensor(layer, expert, "w3"), weights.gate_up[model.intermediate_size :])
            reader.read(tensor_names.expert_tensor(layer, expert, "w2"), weights.down)


def checkpoint_bytes(model: ModelConfig) -> int:
    """Bytes that loading brings into memory, for progress."""
    return model.dense_bytes + model.total_experts * model.expert_bytes


class _Reader:
    """Reads one tensor at a time, converts where it must, and refuses NaN."""

    def __init__(self, checkpoint: Checkpoint, progress: Progress) -> None:
        self._checkpoint = checkpoint
        self._progress = progress

    def read(self, name: str, target: torch.Tensor) -> None:
        """Fill `target` (contiguous, any device) with the tensor called `name`."""
        disk_dtype = DISK_DTYPES[self._checkpoint.tensors[name].dtype]
        direct = disk_dtype == target.dtype and target.device.type == "cpu"
        staged = target if direct else torch.empty(target.shape, dtype=disk_dtype)
        self._checkpoint.read(name, _writable_bytes(staged))
        # One pass at memory speed: a sum is finite unless a term is not (or the sum overflows, just as unusable).
        if not torch.isfinite(staged.sum(dtype=torch.float32)):
            raise CheckpointError(
                f"{self._checkpoint.tensors[name].file} holds NaN or infinite weights in {name}.",
                "Download that file again; if it stays so, the model itself is damaged.",
            )
        if not direct:
            target.copy_(staged)
        self._progress(target.nbytes)


def _writable_bytes(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous CPU tensor."""
    return tensor.view(-1).view(torch.uint8).numpy().data
