"""Small random GGUF models on disk, and GGUF files in parts, so that a broken one can be made value by value.

Written by hand from the format's specification, apart from the engine's own reader and from the `gguf` package.
`tests/engine/checkpoint/test_gguf_oracle.py` holds that llama.cpp loads what is written here, and computes with it what
transformers computes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.config import DTYPE_FORMATS, ExpertFormats
from engine.quant.formats import FORMATS
from tests.checkpoints import CHAT_TEMPLATE, byte_alphabet, encode
from tests.quantised import random_blocks

Architecture = Literal["llama", "qwen3moe"]
Floats = NDArray[np.float32]
Value = tuple[int, Any]  # a type of GGUF, and the value

UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, INT64, FLOAT64 = range(13)
_LETTERS: Mapping[int, str] = dict(enumerate("BbHhIifB")) | {UINT64: "Q", INT64: "q", FLOAT64: "d"}
_FLOATS = {name: dtype for dtype, name in DTYPE_FORMATS.items()}

F32_EXPERTS: ExpertFormats = ("F32", "F32", "F32")
SPECIALS = ("<unk>", "<s>", "</s>")
WORDS = ("he", "ll", "hell")  # one for each merge
MERGES = ("h e", "l l", "he ll")
_NORMAL, _UNKNOWN, _CONTROL, _UNUSED = 1, 2, 3, 5


@dataclass
class Tensor:
    """A tensor as it goes into a file; what a file says of it can be set apart from what it is."""

    name: str
    shape: tuple[int, ...]  # the dimension that lies together last
    data: bytes
    kind: int  # ggml_type
    offset: int | None = None  # None for the next free place
    dimensions: int | None = None  # None for as many as there are


@dataclass
class Gguf:
    """A GGUF file in parts."""

    metadata: list[tuple[str, Value]] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    version: int = 3
    magic: bytes = b"GGUF"
    alignment: int = 32
    keys_count: int | None = None
    tensors_count: int | None = None

    def set(self, key: str, value: Value | None) -> None:
        """Put a value in a key's place, or take the key out."""
        place = next((index for index, (known, _) in enumerate(self.metadata) if known == key), len(self.metadata))
        self.metadata[place : place + 1] = [] if value is None else [(key, value)]

    def tensor(self, name: str) -> Tensor:
        """One of the tensors."""
        return next(tensor for tensor in self.tensors if tensor.name == name)

    def header(self) -> bytes:
        """All but the tensors' bytes."""
        keys = len(self.metadata) if self.keys_count is None else self.keys_count
        tensors = len(self.tensors) if self.tensors_count is None else self.tensors_count
        parts = [self.magic, struct.pack("<IQQ", self.version, tensors, keys)]
        for key, (kind, value) in self.metadata:
            parts += [encode_value(STRING, key), struct.pack("<I", kind), encode_value(kind, value)]
        for tensor, offset in zip(self.tensors, self._offsets(), strict=True):
            dimensions = len(tensor.shape) if tensor.dimensions is None else tensor.dimensions
            parts += [encode_value(STRING, tensor.name), struct.pack("<I", dimensions)]
            parts += [struct.pack(f"<{len(tensor.shape)}Q", *reversed(tensor.shape))]
            parts += [struct.pack("<IQ", tensor.kind, offset if tensor.offset is None else tensor.offset)]
        return b"".join(parts)

    def encode(self) -> bytes:
        """The whole file."""
        content = bytearray(self.header())
        for tensor in self.tensors:
            content += bytes(-len(content) % self.alignment) + tensor.data
        return bytes(content)

    def _offsets(self) -> list[int]:
        """Where each tensor begins after the header."""
        offsets, end = [], 0
        for tensor in self.tensors:
            offsets.append(-(-end // self.alignment) * self.alignment)
            end = offsets[-1] + len(tensor.data)
        return offsets


def encode_value(kind: int, value: Any) -> bytes:
    """The bytes of a value; bytes stand for themselves, and an array is a pair of its items' type and the items."""
    if isinstance(value, bytes):
        return value
    if kind == STRING:
        text = str(value).encode()
        return struct.pack("<Q", len(text)) + text
    if kind == ARRAY:
        item, items = value
        return struct.pack("<IQ", item, len(items)) + b"".join(encode_value(item, one) for one in items)
    return struct.pack(f"<{_LETTERS[kind]}", value)


@dataclass(frozen=True)
class Shape:
    """The shape of a small model."""

    hidden: int = 256
    intermediate: int = 256
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    experts: int = 4
    experts_per_token: int = 2
    vocab_size: int = 300
    context: int = 512
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    tied: bool = False


def write_gguf_mixtral(path: Path, **options: Any) -> Path:
    """Write a random Mixtral as GGUF; see `write_gguf`."""
    return write_gguf(path, "llama", **options)


def write_gguf_qwen3moe(path: Path, **options: Any) -> Path:
    """Write a random Qwen3-MoE as GGUF; see `write_gguf`."""
    return write_gguf(path, "qwen3moe", **options)


def write_gguf(path: Path, architecture: Architecture, *, splits: int = 1, **options: Any) -> Path:
    """Write a random model, and return its (first) file.

    Args:
        path: Where to write, ending in .gguf; splits get their numbers before that.
        architecture: As GGUF calls it.
        splits: Files to spread the tensors over.
        options: As for `gguf_model`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    model = gguf_model(architecture, **options)
    if splits == 1:
        path.write_bytes(model.encode())
        return path
    paths = [path.with_name(f"{path.stem}-{number:05d}-of-{splits:05d}.gguf") for number in range(1, splits + 1)]
    for part, content in zip(paths, split(model, splits), strict=True):
        part.write_bytes(content.encode())
    return paths[0]


def gguf_model(
    architecture: Architecture = "llama",
    shape: Shape = Shape(),
    *,
    formats: Sequence[ExpertFormats] = (F32_EXPERTS,),
    dense_format: str = "F32",
    seed: int = 0,
    weights: Mapping[str, Floats] | None = None,
    file_type: int | None = None,
    stacked: bool = True,
) -> Gguf:
    """A random model in parts, sound and complete.

    Args:
        architecture, shape: What to make.
        formats: Of gate, up and down, layer by layer, over again where the list ends.
        dense_format: Of every other matrix; norms and routers are F32.
        seed: Of the random weights.
        weights: Weights to use instead, by the names of `tests.checkpoints`; only for float formats.
        file_type: llama_ftype; None leaves it out.
        stacked: Whether a layer's experts lie in one tensor.
    """
    model = Gguf(_metadata(architecture, shape, file_type))
    generator = np.random.default_rng(seed)

    def add(name: str, canonical: Sequence[str], size: tuple[int, ...], stored: str, heads: int | None = None) -> None:
        """Append a tensor; several canonical ones make a stack."""
        rows = 1 if len(size) == 1 else size[-2]
        content = bytearray()
        for part in canonical:
            if weights is not None:
                block = np.frombuffer(encode(weights[part], _FLOATS[stored]), np.uint8).reshape(rows, -1)
            else:
                block = _random(generator, size, stored)
            if heads is not None:  # as llama.cpp's converter does it
                block = block.reshape(heads, 2, rows // heads // 2, -1).swapaxes(1, 2).reshape(rows, -1)
            content += block.tobytes()
        model.tensors.append(Tensor(name, size, bytes(content), FORMATS[stored].gguf_id))

    _add_tensors(add, architecture, shape, formats, dense_format, stacked)
    return model


def split(model: Gguf, splits: int) -> list[Gguf]:
    """A model cut into files, the metadata in the first."""
    total = len(model.tensors)
    parts = []
    for number in range(splits):
        place = [
            ("split.no", (UINT16, number)),
            ("split.count", (UINT16, splits)),
            ("split.tensors.count", (INT32, total)),
        ]
        tensors = model.tensors[number * total // splits : (number + 1) * total // splits]
        parts.append(Gguf([*(model.metadata if number == 0 else []), *place], tensors))
    return parts


def _random(generator: np.random.Generator, size: tuple[int, ...], stored: str) -> NDArray[np.uint8]:
    """A random matrix, or a random norm around 1, as bytes [rows, row bytes]."""
    if len(size) == 1:
        norm = 1 + 0.1 * generator.standard_normal((1, *size))
        return norm.astype("<f4").view(np.uint8)
    return random_blocks(FORMATS[stored], size[-2], size[-1], generator)


def _add_tensors(
    add: Any, architecture: Architecture, shape: Shape, formats: Sequence[ExpertFormats], dense: str, stacked: bool
) -> None:
    """Every tensor of a model, spelled out apart from the engine's own list."""
    wide, q_width, kv_width = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    llama = architecture == "llama"
    add("token_embd.weight", ["model.embed_tokens.weight"], (shape.vocab_size, wide), dense)
    add("output_norm.weight", ["model.norm.weight"], (wide,), "F32")
    if not shape.tied:
        add("output.weight", ["lm_head.weight"], (shape.vocab_size, wide), dense)
    for layer in range(shape.layers):
        block, prefix = f"blk.{layer}", f"model.layers.{layer}"
        attention, moe = f"{prefix}.self_attn", f"{prefix}.block_sparse_moe" if llama else f"{prefix}.mlp"
        add(f"{block}.attn_norm.weight", [f"{prefix}.input_layernorm.weight"], (wide,), "F32")
        q_heads, kv_heads = (shape.heads, shape.kv_heads) if llama else (None, None)
        add(f"{block}.attn_q.weight", [f"{attention}.q_proj.weight"], (q_width, wide), dense, q_heads)
        add(f"{block}.attn_k.weight", [f"{attention}.k_proj.weight"], (kv_width, wide), dense, kv_heads)
        add(f"{block}.attn_v.weight", [f"{attention}.v_proj.weight"], (kv_width, wide), dense)
        add(f"{block}.attn_output.weight", [f"{attention}.o_proj.weight"], (wide, q_width), dense)
        if not llama:
            add(f"{block}.attn_q_norm.weight", [f"{attention}.q_norm.weight"], (shape.head_dim,), "F32")
            add(f"{block}.attn_k_norm.weight", [f"{attention}.k_norm.weight"], (shape.head_dim,), "F32")
        add(f"{block}.ffn_norm.weight", [f"{prefix}.post_attention_layernorm.weight"], (wide,), "F32")
        add(f"{block}.ffn_gate_inp.weight", [f"{moe}.gate.weight"], (shape.experts, wide), "F32")
        parts = ("w1", "w3", "w2") if llama else ("gate_proj", "up_proj", "down_proj")
        for word, part, stored in zip(("gate", "up", "down"), parts, formats[layer % len(formats)], strict=True):
            size = (wide, shape.intermediate) if word == "down" else (shape.intermediate, wide)
            names = [f"{moe}.experts.{expert}.{part}.weight" for expert in range(shape.experts)]
            if stacked:
                add(f"{block}.ffn_{word}_exps.weight", names, (shape.experts, *size), stored)
            else:
                for expert, name in enumerate(names):
                    add(f"{block}.ffn_{word}.{expert}.weight", [name], size, stored)


def _metadata(architecture: Architecture, shape: Shape, file_type: int | None) -> list[tuple[str, Value]]:
    """What a converter writes about a model and its vocabulary."""
    filling = shape.vocab_size - len(SPECIALS) - 256 - len(WORDS)
    tokens = [*SPECIALS, *byte_alphabet(), *WORDS, *(f"[PAD{number}]" for number in range(filling))]
    kinds = [_UNKNOWN, _CONTROL, _CONTROL, *[_NORMAL] * (256 + len(WORDS)), *[_UNUSED] * filling]
    qwen = [("qwen3moe.expert_feed_forward_length", (UINT32, shape.intermediate))]
    return [
        ("general.architecture", (STRING, architecture)),
        ("general.name", (STRING, "Tiny-MoE_of random weights")),
        *([] if file_type is None else [("general.file_type", (UINT32, file_type))]),
        (f"{architecture}.block_count", (UINT32, shape.layers)),
        (f"{architecture}.context_length", (UINT32, shape.context)),
        (f"{architecture}.embedding_length", (UINT32, shape.hidden)),
        (f"{architecture}.feed_forward_length", (UINT32, shape.intermediate)),
        *(qwen if architecture == "qwen3moe" else []),
        (f"{architecture}.attention.head_count", (UINT32, shape.heads)),
        (f"{architecture}.attention.head_count_kv", (UINT32, shape.kv_heads)),
        (f"{architecture}.attention.key_length", (UINT32, shape.head_dim)),
        (f"{architecture}.attention.value_length", (UINT32, shape.head_dim)),
        (f"{architecture}.attention.layer_norm_rms_epsilon", (FLOAT32, shape.rms_norm_eps)),
        (f"{architecture}.rope.dimension_count", (UINT32, shape.head_dim)),
        (f"{architecture}.rope.freq_base", (FLOAT32, shape.rope_theta)),
        (f"{architecture}.expert_count", (UINT32, shape.experts)),
        (f"{architecture}.expert_used_count", (UINT32, shape.experts_per_token)),
        (f"{architecture}.vocab_size", (UINT32, shape.vocab_size)),
        ("tokenizer.ggml.model", (STRING, "gpt2")),
        ("tokenizer.ggml.pre", (STRING, "default")),
        ("tokenizer.ggml.tokens", (ARRAY, (STRING, tokens))),
        ("tokenizer.ggml.token_type", (ARRAY, (INT32, kinds))),
        ("tokenizer.ggml.merges", (ARRAY, (STRING, MERGES))),
        ("tokenizer.ggml.unknown_token_id", (UINT32, 0)),
        ("tokenizer.ggml.bos_token_id", (UINT32, 1)),
        ("tokenizer.ggml.eos_token_id", (UINT32, 2)),
        ("tokenizer.ggml.add_bos_token", (BOOL, True)),
        ("tokenizer.chat_template", (STRING, CHAT_TEMPLATE)),
    ]
