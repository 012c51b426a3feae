"""Dense weights as torch's decoder takes them, floats on the device; and every expert, packed into the host arena."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from engine.checkpoint import tensor_names
from engine.checkpoint.checkpoint import Checkpoint
from engine.config import ModelConfig
from engine.devices import Device
from engine.experts.store import ExpertStore
from engine.model.weight_reader import Progress, WeightReader

BIASED: tuple[tensor_names.ExpertPart, ...] = ("w1", "w3", "w2")  # in the order of an expert's run
TORCH_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class SharedExpert:
    """The expert that every token visits.

    Attributes:
        gate_up: Gate above up [2S, H].
        down: [H, S].
        weight: What decides on its weight [1, H]; None where that is 1.
    """

    gate_up: torch.Tensor
    down: torch.Tensor
    weight: torch.Tensor | None


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
    qkv: torch.Tensor
    output: torch.Tensor
    expert_norm: torch.Tensor
    router: torch.Tensor
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

    embedding: torch.Tensor
    layers: tuple[LayerWeights, ...]
    norm: torch.Tensor
    head: torch.Tensor
    norm_bias: torch.Tensor | None = None
    head_bias: torch.Tensor | None = None


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
        norm_bias = place(tensor_names.FINAL_NORM_BIAS) if model.traits.layer_norm else None
        head_bias = place(tensor_names.HEAD_BIAS) if model.traits.head_bias else None
    return DenseWeights(embedding, layers, norm, head, norm_bias, head_bias)


def _load_layer(model: ModelConfig, layer: int, place: Callable[..., torch.Tensor]) -> LayerWeights:
    """Dense weights of one layer."""
    traits = model.traits
    projections: tuple[tensor_names.AttentionPart, ...] = ("q", "k", "v")
    return LayerWeights(
        attention_norm=place(tensor_names.attention_norm(layer)),
        qkv=place(*(tensor_names.attention(layer, part) for part in projections)),
        output=place(tensor_names.attention(layer, "o")),
        expert_norm=place(tensor_names.expert_norm(layer)),
        router=place(tensor_names.router(layer)),
        query_norm=place(tensor_names.query_norm(layer)) if model.query_key_norm else None,
        key_norm=place(tensor_names.key_norm(layer)) if model.query_key_norm else None,
        qkv_bias=place(*(tensor_names.attention_bias(layer, part) for part in projections))
        if traits.qkv_bias
        else None,
        output_bias=place(tensor_names.attention_bias(layer, "o")) if traits.output_bias else None,
        shared=_load_shared(model, layer, place) if traits.shared_size else None,
        attention_norm_bias=place(tensor_names.attention_norm_bias(layer)) if traits.layer_norm else None,
        expert_norm_bias=place(tensor_names.expert_norm_bias(layer)) if traits.layer_norm else None,
        router_bias=place(tensor_names.router_bias(layer)) if traits.router_bias else None,
        sinks=place(tensor_names.sinks(layer)) if traits.sinks else None,
    )


def _load_shared(model: ModelConfig, layer: int, place: Callable[..., torch.Tensor]) -> SharedExpert:
    """The expert of one layer that every token visits."""
    return SharedExpert(
        gate_up=place(tensor_names.shared_expert(layer, "w1"), tensor_names.shared_expert(layer, "w3")),
        down=place(tensor_names.shared_expert(layer, "w2")),
        weight=place(tensor_names.shared_gate(layer)) if model.traits.shared_gated else None,
    )


def load_experts(checkpoint: Checkpoint, store: ExpertStore, progress: Progress, threads: int = 1) -> None:
    """Read every expert into the host arena, layer by layer.

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
            for expert, flat in enumerate(store.layer(layer)):
                weights = store.view(layer, flat)
                reader.pack(tensor_names.expert_tensor(layer, expert, "w1"), weights.gate)
                reader.pack(tensor_names.expert_tensor(layer, expert, "w3"), weights.up)
                reader.pack(tensor_names.expert_tensor(layer, expert, "w2"), weights.down)
                if weights.biases is not None:
                    for part, bias in zip(BIASED, weights.biases.parts, strict=True):
                        reader.read(tensor_names.expert_bias(layer, expert, part), bias)


def checkpoint_bytes(checkpoint: Checkpoint) -> int:
    """Bytes that loading reads, for progress."""
    if checkpoint.config.compatibility is not None:
        return checkpoint.total_bytes
    return sum(checkpoint.tensors[name].nbytes for name, _ in tensor_names.expected_tensors(checkpoint.config))
