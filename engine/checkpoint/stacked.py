"""Experts that safetensors files hold stacked: an entry for each matrix and bias in the stacks' place.

Three ways, as `engine.checkpoint.families` says:

    Granite          input_linear [E, 2I, H], gate above up; output_linear [E, H, I]; the shared expert's without E
    gpt-oss, floats  gate_up_proj [E, H, 2I], columns of gate and up alternating; down_proj [E, I, H]
    gpt-oss, MXFP4   ..._blocks [E, rows, columns / 32, 16] and ..._scales [E, rows, columns / 32], rows of gate and
                     up alternating; a byte holds two neighbouring columns, the first in its low half
    gpt-oss, both    gate_up_proj_bias [E, 2I], alternating; down_proj_bias [E, H]

MXFP4 becomes GGUF's as it is read: the scale before its 16 bytes, byte j with columns j and j + 16. No bit changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.checkpoint.families import FAMILIES
from engine.checkpoint.model_folder import CONFIG, INDEX
from engine.checkpoint.tensor_names import (
    ExpertPart,
    Shape,
    dense_tensors,
    expert_bias,
    expert_shape,
    expert_tensor,
    shared_expert,
)
from engine.checkpoint.tensor_reader import SlabPart, TensorEntry, TensorReader
from engine.checkpoint.untrusted import quote
from engine.config import DTYPE_FORMATS, ModelConfig
from engine.errors import CheckpointError, UnsupportedModelError
from engine.quant.formats import FORMATS
from engine.sentences import say

MXFP4 = FORMATS["MXFP4"]
BLOCKS, SCALES, BIAS = "_blocks", "_scales", "_bias"
BLOCK_CODES = MXFP4.block_bytes - 1

Bytes = NDArray[np.uint8]


def is_mxfp4(content: Mapping[str, Any]) -> bool:
    """Whether config.json says that experts are in MXFP4."""
    settings = content.get("quantization_config")
    return isinstance(settings, dict) and settings.get("quant_method") == "mxfp4"


def with_mxfp4(config: ModelConfig) -> ModelConfig:
    """The same model with its experts in MXFP4, everything else as its dtype says.

    Raises:
        UnsupportedModelError: The experts' widths are no whole blocks.
    """
    if config.hidden_size % MXFP4.block_columns or config.intermediate_size % MXFP4.block_columns:
        raise UnsupportedModelError(
            say(
                "{config} says that experts of {hidden} by {inside} are in MXFP4, whose blocks hold {block} weights.",
                config=CONFIG,
                hidden=config.hidden_size,
                inside=config.intermediate_size,
                block=MXFP4.block_columns,
            ),
            say("Choose the model's GGUF version."),
        )
    plain = FORMATS[DTYPE_FORMATS[config.dtype]]
    # As it lies in memory: vectors are float32 there.
    dense = sum(
        plain.packed_bytes(*shape) if len(shape) == 2 else FORMATS["F32"].packed_bytes(1, shape[0])
        for _, shape in dense_tensors(config)
    )
    formats = ((MXFP4.name,) * 3,) * config.layers
    return replace(config, quantization=MXFP4.name, expert_formats=formats, dense_packed_bytes=dense)


def unstack_experts(config: ModelConfig, stored: dict[str, TensorEntry]) -> None:
    """Put an entry for each matrix in the stacks' place, where a family's files have stacks.

    Args:
        config: The model's shape.
        stored: Tensors by their names in the file; changed in place. What is missing is left to who looks for it.

    Raises:
        CheckpointError: A stack has another shape.
        UnsupportedModelError: A stack has a type that is not read.
    """
    family = FAMILIES[config.family]
    if family.stacked is None:
        return
    for layer in range(config.layers):
        joined, down = (f"model.layers.{layer}{suffix}" for suffix in family.stacked)
        if family.alternating:
            _unstack_alternating(config, layer, stored, joined, down)
        else:
            _unstack_halves(config, layer, stored, joined, down)
            if config.traits.shared_size:
                _unstack_shared(config, layer, stored)


def _unstack_halves(config: ModelConfig, layer: int, stored: dict[str, TensorEntry], joined: str, down: str) -> None:
    """Granite's experts: gate above up."""
    kinds: tuple[tuple[str, tuple[ExpertPart, ...]], ...] = ((joined, ("w1", "w3")), (down, ("w2",)))
    for name, parts in kinds:
        shape = expert_shape(config, parts[0])
        stack = _take(stored, name, (config.experts, len(parts) * shape[0], shape[1]))
        places = product(range(config.experts), parts)
        for (expert, part), entry in zip(places, _cut(stack, config.experts * len(parts), shape), strict=True):
            stored[expert_tensor(layer, expert, part)] = entry


def _unstack_shared(config: ModelConfig, layer: int, stored: dict[str, TensorEntry]) -> None:
    """The expert that every token visits, of a family whose experts are stacked."""
    wide, narrow = config.hidden_size, config.traits.shared_size
    prefix = f"model.layers.{layer}.shared_mlp."
    stack = _take(stored, f"{prefix}input_linear.weight", (2 * narrow, wide))
    gate, up = _cut(stack, 2, (narrow, wide))
    stored[shared_expert(layer, "w1")], stored[shared_expert(layer, "w3")] = gate, up
    stored[shared_expert(layer, "w2")] = _take(stored, f"{prefix}output_linear.weight", (wide, narrow))


def _unstack_alternating(
    config: ModelConfig, layer: int, stored: dict[str, TensorEntry], joined: str, down: str
) -> None:
    """gpt-oss's experts and their biases: gate, up, gate, up ..."""
    kinds: tuple[tuple[str, tuple[ExpertPart, ...]], ...] = ((joined, ("w1", "w3")), (down, ("w2",)))
    for name, parts in kinds:
        shape = expert_shape(config, parts[0])
        rows, columns = len(parts) * shape[0], shape[1]
        scales: list[TensorEntry] | list[None] = [None] * config.experts
        if config.expert_formats:
            blocks = columns // MXFP4.block_columns
            codes = _take(stored, name + BLOCKS, (config.experts, rows, blocks, BLOCK_CODES), ("U8",))
            slabs = _cut(codes, config.experts, (rows, blocks, BLOCK_CODES))
            scales = _cut(_take(stored, name + SCALES, codes.shape[:3], ("U8",)), config.experts, (rows, blocks))
        else:
            slabs = _cut(_take(stored, name, (config.experts, columns, rows)), config.experts, (columns, rows))
        biases = _cut(_take(stored, name + BIAS, (config.experts, rows)), config.experts, (rows,))
        for expert, first in product(range(config.experts), range(len(parts))):
            matrix = SlabPart(slabs[expert], first, len(parts), scales[expert])
            bias = SlabPart(biases[expert], first, len(parts))
            stored[expert_tensor(layer, expert, parts[first])] = _made(matrix, shape)
            stored[expert_bias(layer, expert, parts[first])] = _made(bias, shape[:1])


def read_part(reader: TensorReader, part: SlabPart) -> Bytes:
    """What a matrix or bias is made of, as the engine has it: rows of floats, or blocks as in GGUF.

    Args:
        reader: Of the files.
        part: Where it lies.
    """
    held = _read(reader, part.slab)
    if part.scales is not None:
        scales = _read(reader, part.scales)
        return to_gguf_blocks(held[part.first :: part.step], scales[part.first :: part.step])
    return np.ascontiguousarray(held.T[part.first :: part.step]).view(np.uint8)


def to_gguf_blocks(codes: Bytes, scales: Bytes) -> Bytes:
    """Blocks of MXFP4 as in GGUF [rows, blocks, 17].

    Args:
        codes: [rows, blocks, 16], neighbouring columns in each byte.
        scales: [rows, blocks].
    """
    columns = np.stack([codes & 15, codes >> 4], axis=-1).reshape(*codes.shape[:2], 2 * BLOCK_CODES)
    low, high = np.split(columns, 2, axis=-1)
    return np.concatenate([scales[..., None], low | high << 4], axis=-1)


def _read(reader: TensorReader, entry: TensorEntry) -> NDArray[Any]:
    """A tensor's numbers, floats of 16 bits as the integers of the same bits."""
    raw = np.empty(entry.nbytes, dtype=np.uint8)
    reader.read(entry, raw.data)
    item = entry.nbytes // int(np.prod(entry.shape))
    return raw.view(f"<u{item}").reshape(entry.shape)


def _made(part: SlabPart, shape: Shape) -> TensorEntry:
    """An entry for what is made of a slab."""
    slab = part.slab
    stored = slab.format if part.scales is None else MXFP4.name
    rows, columns = shape if len(shape) == 2 else (1, shape[0])
    return replace(slab, format=stored, shape=shape, nbytes=rows * FORMATS[stored].row_bytes(columns), part=part)


def _cut(stack: TensorEntry, count: int, shape: Shape) -> list[TensorEntry]:
    """Equal parts of a tensor, one behind the other."""
    size = stack.nbytes // count
    return [replace(stack, shape=shape, offset=stack.offset + index * size, nbytes=size) for index in range(count)]


def _take(
    stored: dict[str, TensorEntry], name: str, shape: Shape, formats: tuple[str, ...] = tuple(DTYPE_FORMATS.values())
) -> TensorEntry:
    """Take a tensor out, if it is what the config asks for."""
    entry = stored.pop(name, None)
    if entry is None:
        raise missing(name, stored)
    check_tensor(entry, shape, formats)
    return entry


def check_tensor(entry: TensorEntry, shape: Shape, formats: tuple[str, ...] = tuple(DTYPE_FORMATS.values())) -> None:
    """Hold that a tensor has the shape that the config asks for and a type that the engine reads.

    Args:
        entry: The tensor.
        shape: What it must be.
        formats: Types that it may have.

    Raises:
        CheckpointError: It has another shape.
        UnsupportedModelError: It has another type.
    """
    if entry.shape != shape:
        raise CheckpointError(
            say(
                "Tensor {entry} in {file} has shape {shape}, {config} asks for {wanted}.",
                entry=quote(entry.name),
                file=quote(entry.file.name),
                shape=quote(list(entry.shape)),
                config=CONFIG,
                wanted=quote(list(shape)),
            ),
            say("Download {config} and this file again, from the same place.", config=CONFIG),
        )
    if entry.format not in formats:
        raise UnsupportedModelError(
            say(
                "Tensor {entry} in {file} is stored as {format}, not one of {names}.",
                entry=quote(entry.name),
                file=quote(entry.file.name),
                format=entry.format,
                names=", ".join(formats),
            ),
            say("Choose the original bfloat16 version of the model."),
        )


def missing(name: str, tensors: Mapping[str, TensorEntry]) -> CheckpointError:
    """The error for a tensor that no file holds."""
    files = sorted({entry.file.name for entry in tensors.values()})
    where = quote(files[0]) if len(files) == 1 else say("all {number} files of {index}", number=len(files), index=INDEX)
    return CheckpointError(
        say("Tensor {name} is missing from {where}.", name=quote(name), where=where),
        say("Download the model again from its publisher."),
    )
