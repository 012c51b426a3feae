"""Matrices that GPTQ or AWQ has rounded to 4 bits, from safetensors, as the engine's format Q4_1.

Both keep, for each group of inputs and each output, a scale and a zero point: weight = scale * (code - zero). Q4_1 says
the same as scale * code + minimum, for 32 inputs at a time; the minimum is rounded to fp16, which is exact where the
zero point is 8, as in every symmetric model. How codes lie in words of 32 bits:

    GPTQ  qweight [inputs / 8, outputs], 8 inputs to a word, the first in the lowest bits
    AWQ   qweight [inputs, outputs / 8], 8 outputs to a word, in the order 0 2 4 6 1 3 5 7
    both  qzeros [groups, outputs / 8], packed along outputs, AWQ's in its order; scales fp16 [groups, outputs]
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.checkpoint.dense_formats import with_dense_formats
from engine.checkpoint.families import Family
from engine.checkpoint.fields import Fields
from engine.checkpoint.model_folder import CONFIG
from engine.checkpoint.tensor_names import Shape, dense_tensors, is_expert
from engine.checkpoint.tensor_reader import Int4Parts, TensorEntry
from engine.checkpoint.untrusted import quote
from engine.config import DTYPE_FORMATS, ModelConfig
from engine.errors import CheckpointError, UnsupportedModelError
from engine.quant.formats import FORMATS
from engine.sentences import say

STORED = FORMATS["Q4_1"]
INT4_FAMILIES = ("mixtral", "qwen3_moe", "olmoe", "phimoe")  # others keep parts that are not known here
MAX_GROUP = 1 << 16
CODES_PER_WORD = 8
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
CHOOSE_ANOTHER = say("Choose the model's GGUF version, or the original bfloat16 one.")

Codes = NDArray[np.uint8]

_ATTENTION = re.compile(r".*\.self_attn\.[qkvo]_proj\.weight")


@dataclass(frozen=True, slots=True)
class Int4:
    """How a folder's matrices were rounded.

    Attributes:
        method: Which of the two.
        group: Inputs that share a scale.
        zero_shift: What is to be added to a zero point as stored.
    """

    method: Literal["gptq", "awq"]
    group: int
    zero_shift: int


def read_int4(content: Mapping[str, Any], family: Family) -> Int4 | None:
    """What config.json says of GPTQ or AWQ; None for a model in floats.

    Raises:
        CheckpointError: A number is outside its limits.
        UnsupportedModelError: Another method, or a variant of these that is not run.
    """
    settings = content.get("quantization_config")
    if settings is None:
        return None
    method = settings.get("quant_method") if isinstance(settings, dict) else settings
    if method not in ("gptq", "awq") or family.name not in INT4_FAMILIES:
        raise UnsupportedModelError(
            say(
                "{config} says that the weights are quantized ({method}), which is not supported for {title} yet.",
                config=CONFIG,
                method=quote(method),
                title=family.title,
            ),
            CHOOSE_ANOTHER,
        )
    plain: dict[str, tuple[object, ...]] = {"bits": (4,)}
    if method == "gptq":
        plain |= {"desc_act": (False,), "checkpoint_format": ("gptq", "gptq_v2")}
    else:
        plain |= {"version": ("gemm", "GEMM"), "zero_point": (True,)}
    for name, values in plain.items():
        value = settings.get(name, values[0])
        if value not in values or isinstance(value, bool) is not isinstance(values[0], bool):
            raise UnsupportedModelError(
                say(
                    "{config} says {name} of {method} is {value}, of which only {plain} is supported.",
                    config=CONFIG,
                    name=name,
                    method=method,
                    value=quote(value),
                    plain=str(values[0]),
                ),
                CHOOSE_ANOTHER,
            )
    source = say("{config}'s quantization_config", config=CONFIG)
    fields = Fields(settings, source, say("Download {config} again from the model's publisher.", config=CONFIG))
    group = fields.integer("group_size", STORED.block_columns, MAX_GROUP)
    if group % STORED.block_columns:
        raise fields.refusal("group_size", group, say("no multiple of {number}", number=STORED.block_columns))
    first_version = method == "gptq" and settings.get("checkpoint_format", "gptq") == "gptq"
    return Int4(method, group, 1 if first_version else 0)


def is_rounded(name: str) -> bool:
    """Whether GPTQ and AWQ round a tensor: the matrices of attention and experts, nothing else."""
    return is_expert(name) or _ATTENTION.fullmatch(name) is not None


def with_int4(config: ModelConfig, int4: Int4) -> ModelConfig:
    """The same model with its rounded matrices in Q4_1; everything else as its dtype says."""
    plain, formats = DTYPE_FORMATS[config.dtype], ((STORED.name,) * 3,) * config.layers
    config = replace(config, quantization=f"{int4.method.upper()} int4", expert_formats=formats)
    stored = ((name, STORED.name if is_rounded(name) else plain, shape) for name, shape in dense_tensors(config))
    return with_dense_formats(config, stored)


def take_rounded(int4: Int4, stored: dict[str, TensorEntry], name: str, shape: Shape) -> TensorEntry | None:
    """Take a rounded matrix out of a folder's tensors: one entry for what three of them hold together.

    Args:
        int4: How it was rounded.
        stored: All tensors that are left; what belongs to the matrix is taken out.
        name: What the matrix would be called in floats.
        shape: [outputs, inputs].

    Returns:
        None where a part is missing.

    Raises:
        CheckpointError: A part has another shape or type.
        UnsupportedModelError: The matrix is no whole number of groups and words.
    """
    prefix = name.removesuffix("weight")
    outputs, inputs = shape
    if inputs % int4.group or outputs % CODES_PER_WORD:
        raise UnsupportedModelError(
            say(
                "Tensor {name} has {inputs} inputs and {outputs} outputs, not whole groups of {group} and "
                "words of {codes}.",
                name=quote(name),
                inputs=inputs,
                outputs=outputs,
                group=int4.group,
                codes=CODES_PER_WORD,
            ),
            CHOOSE_ANOTHER,
        )
    stored.pop(f"{prefix}g_idx", None)  # which group an input is in: with desc_act false, the next one after so many
    groups, words = inputs // int4.group, outputs // CODES_PER_WORD
    codes = (inputs // CODES_PER_WORD, outputs) if int4.method == "gptq" else (inputs, words)
    wanted = {"qweight": ("I32", codes), "qzeros": ("I32", (groups, words)), "scales": ("F16", (groups, outputs))}
    parts: list[TensorEntry] = []
    for part, (kind, size) in wanted.items():
        entry = stored.pop(prefix + part, None)
        if entry is None:
            return None
        if (entry.format, entry.shape) != (kind, size):
            raise CheckpointError(
                say(
                    "Tensor {entry} in {file} is {format} {shape}, {config} asks for {kind} {size}.",
                    entry=quote(entry.name),
                    file=quote(entry.file.name),
                    format=entry.format,
                    shape=quote(list(entry.shape)),
                    config=CONFIG,
                    kind=kind,
                    size=quote(list(size)),
                ),
                say("Download {config} and this file again, from the same place.", config=CONFIG),
            )
        parts.append(entry)
    nbytes = outputs * STORED.row_bytes(inputs)
    qweight, qzeros, scales = parts
    packed = Int4Parts(qweight, qzeros, scales, int4.method == "awq", int4.zero_shift)
    return TensorEntry(qweight.name, STORED.name, shape, qweight.file, qweight.offset, nbytes, int4=packed)


def to_q4_1(
    qweight: NDArray[np.uint32], qzeros: NDArray[np.uint32], scales: NDArray[np.float16], *, awq: bool, zero_shift: int
) -> Codes:
    """The bytes of Q4_1 [outputs, inputs / 32, 20] of a matrix as the three tensors hold it.

    Args:
        qweight: See the module.
        qzeros: See the module.
        scales: [groups, outputs].
        awq: Whether they are AWQ's.
        zero_shift: Added to zero points, within 4 bits.
    """
    groups, outputs = scales.shape
    if awq:
        codes = _along_outputs(qweight, awq=True)
    else:
        codes = np.stack([_nibble(qweight, place) for place in range(CODES_PER_WORD)], axis=1).reshape(-1, outputs)
    inputs = codes.shape[0]
    zeros = (_along_outputs(qzeros, awq=awq) + np.uint8(zero_shift)) & np.uint8(15)
    minima = (-scales.astype(np.float32) * zeros).astype("<f2")
    blocks = np.empty((outputs, inputs // STORED.block_columns, STORED.block_bytes), dtype=np.uint8)
    repeats = inputs // groups // STORED.block_columns
    for start, values in ((0, scales.astype("<f2")), (2, minima)):
        pairs = np.ascontiguousarray(values.T).view(np.uint8).reshape(outputs, groups, 2)
        blocks[..., start : start + 2] = np.repeat(pairs, repeats, axis=1)
    by_block = codes.T.reshape(outputs, -1, 2, STORED.block_columns // 2)
    blocks[..., 4:] = by_block[:, :, 0] | by_block[:, :, 1] << 4
    return blocks


def _along_outputs(words: NDArray[np.uint32], *, awq: bool) -> Codes:
    """Codes [n, outputs] out of words that hold 8 outputs each."""
    codes = np.empty((*words.shape, CODES_PER_WORD), dtype=np.uint8)
    for place in range(CODES_PER_WORD):
        codes[..., AWQ_ORDER[place] if awq else place] = _nibble(words, place)
    return codes.reshape(len(words), -1)


def _nibble(words: NDArray[np.uint32], place: int) -> Codes:
    """The 4 bits of each word at a place, the lowest ones first."""
    found: Codes = ((words >> np.uint32(4 * place)) & np.uint32(15)).astype(np.uint8)
    return found
