"""Random GGUF files that this engine and llama.cpp both load: real shapes, real mixes of formats, no download.

The weights are random but sized as trained ones are, so that activations stay finite and routers choose. A file is
written under another name and renamed at the end: one that is there is whole, and is used again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from engine.bench.random_weights import Bytes, RandomWeights
from engine.bench.routing import BRANCH_GAIN, ROUTINGS, Floats, Routing, Topics
from engine.checkpoint import tensor_names
from engine.checkpoint.dense_formats import with_dense_formats
from engine.config import ModelConfig
from engine.quant.formats import FORMATS
from engine.quant.mixes import MIXES, Place, tensor_format

if TYPE_CHECKING:
    from gguf import GGUFWriter

FIRST_WORD_ID = 3 + 256  # after the special tokens and the bytes
EMBEDDING, HEAD, ROUTER = "token_embd.weight", "output.weight", "ffn_gate_inp.weight"

WRITTEN = tuple(mix for mix in MIXES if mix != "MXFP4")  # whose scales are no float16
_NAMES = {EMBEDDING: tensor_names.EMBEDDING}  # as the engine says it

_ROUTER_GAIN = 4.0  # clear choices, so that rounding does not send a token elsewhere
_NORM_SPREAD = 0.1
_ROUTED_FORMAT = "Q8_0"  # of embedding and head, where they carry the routing
_PART_ROWS = 8192


@dataclass(frozen=True, slots=True)
class Shape:
    """A Mixture-of-Experts decoder to fill with random weights.

    Attributes:
        name: What files of it are called.
        architecture: As GGUF calls it: "llama" (Mixtral) or "qwen3moe".
        hidden: Width of the residual stream.
        width: Width inside one expert.
        layers: Number of layers.
        experts: Experts per layer.
        experts_per_token: Experts that each token visits.
        heads: Query heads.
        kv_heads: Key/value heads.
        head_dim: Width of one head.
        vocabulary: Tokens, at least 259.
        context_tokens: Longest context that the file declares.
        routing: How it shall route; None leaves that to chance.
    """

    name: str
    architecture: str
    hidden: int
    width: int
    layers: int
    experts: int
    experts_per_token: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int = 32000
    context_tokens: int = 4096
    routing: Routing | None = None

    def place(self, layer: int) -> Place:
        """Where the tensors of one layer stand."""
        return Place(layer, self.layers, self.experts, self.heads // self.kv_heads)

    def config(self, mix: str) -> ModelConfig:
        """What the engine will read of a file of it, as far as placement cares."""
        kinds = ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")
        columns = (self.hidden, self.hidden, self.width)
        formats = [
            [tensor_format(mix, kind, size, self.place(layer)) for kind, size in zip(kinds, columns, strict=True)]
            for layer in range(self.layers)
        ]
        config = ModelConfig(
            name=self.name,
            family={"llama": "mixtral", "qwen3moe": "qwen3_moe"}[self.architecture],
            hidden_size=self.hidden,
            intermediate_size=self.width,
            layers=self.layers,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            experts=self.experts,
            experts_per_token=self.experts_per_token,
            vocab_size=self.vocabulary,
            max_position_embeddings=self.context_tokens,
            query_key_norm=self.architecture == "qwen3moe",
            expert_formats=tuple((gate, up, down) for gate, up, down in formats),
        )
        outside = [tensor for tensor in tensors(self, mix) if "exps" not in tensor.name]
        if all(FORMATS[tensor.format].is_float for tensor in outside):
            return config
        named = ((_NAMES.get(tensor.name, tensor.name), tensor.format, tensor.shape) for tensor in outside)
        return with_dense_formats(config, named)


SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        shape.name: shape
        for shape in (
            Shape("mixtral", "llama", 2048, 7168, 8, 8, 2, heads=32, kv_heads=8, head_dim=64),
            Shape("qwen3", "qwen3moe", 2048, 768, 12, 64, 8, heads=32, kv_heads=4, head_dim=128),
        )
    }
)

# The real models' own shapes, and small ones of the same kind; experts of an exact multiple of every block.
SIZES: Mapping[str, tuple[Shape, ...]] = MappingProxyType(
    {
        "full": (
            Shape("mixtral-8x7b", "llama", 4096, 14336, 32, 8, 2, heads=32, kv_heads=8, head_dim=128,
                  context_tokens=32768, routing=ROUTINGS["mixtral"]),
            Shape("qwen3-30b-a3b", "qwen3moe", 2048, 768, 48, 128, 8, heads=32, kv_heads=4, head_dim=128,
                  vocabulary=151936, context_tokens=32768, routing=ROUTINGS["qwen3"]),
        ),
        "small": (
            Shape("small-mixtral", "llama", 256, 768, 4, 8, 2, heads=4, kv_heads=2, head_dim=64,
                  vocabulary=4096, context_tokens=8192, routing=ROUTINGS["mixtral"]),
            Shape("small-qwen3", "qwen3moe", 256, 256, 4, 32, 4, heads=4, kv_heads=2, head_dim=64,
                  vocabulary=4096, context_tokens=8192, routing=ROUTINGS["qwen3"]),
        ),
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a file to be written.

    Attributes:
        name: As GGUF calls it.
        format: A key of `engine.quant.formats.FORMATS`.
        shape: Its sizes, columns last.
        rms: Root mean square of its weights; None for a norm, which is near 1.
    """

    name: str
    format: str
    shape: tuple[int, ...]
    rms: float | None

    @property
    def rows(self) -> int:
        """Rows of all its matrices together."""
        return math.prod(self.shape[:-1])

    @property
    def size_bytes(self) -> int:
        """Bytes in the file."""
        return self.rows * FORMATS[self.format].row_bytes(self.shape[-1])


def model_path(folder: Path, shape: Shape, mix: str) -> Path:
    """Where the file of a shape in a mix of formats lies."""
    routed = f"-{shape.routing.label}" if shape.routing else ""
    return folder / f"{shape.name}-{mix}{routed}.gguf"


def model_file(folder: Path, shape: Shape, mix: str, seed: int = 0) -> Path:
    """The file of a shape in a mix of formats, written unless it is there.

    Args:
        folder: Where it lies; made if it is missing.
        shape: What model.
        mix: One of `WRITTEN`.
        seed: Fixes the weights of a new file.

    Raises:
        OSError: The file cannot be written.
    """
    path = model_path(folder, shape, mix)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        try:
            _write(unfinished, shape, mix, seed)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    return path


def model_bytes(shape: Shape, mix: str) -> int:
    """Bytes of all tensors of a file; its header adds about a megabyte."""
    return sum(tensor.size_bytes for tensor in tensors(shape, mix))


def tensors(shape: Shape, mix: str) -> Iterator[Tensor]:
    """Every tensor of a file, in the order in which they are written."""
    words = (shape.vocabulary, shape.hidden)
    routed = _ROUTED_FORMAT if shape.routing else None
    yield _matrix(shape, mix, 0, EMBEDDING, words, 1.0, routed)
    for layer in range(shape.layers):
        yield from _layer(shape, mix, layer)
    yield _norm("output_norm.weight", shape.hidden)
    yield _matrix(shape, mix, 0, HEAD, words, None, routed)


def _layer(shape: Shape, mix: str, layer: int) -> Iterator[Tensor]:
    """The tensors of one layer."""
    hidden, width, experts = shape.hidden, shape.width, shape.experts
    q_width, kv_width = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    matrices: dict[str, tuple[int, ...]] = {
        "attn_q": (q_width, hidden),
        "attn_k": (kv_width, hidden),
        "attn_v": (kv_width, hidden),
        "attn_output": (hidden, q_width),
        "ffn_gate_exps": (experts, width, hidden),
        "ffn_up_exps": (experts, width, hidden),
        "ffn_down_exps": (experts, hidden, width),
    }
    yield _norm(f"blk.{layer}.attn_norm.weight", hidden)
    if shape.architecture == "qwen3moe":
        yield _norm(f"blk.{layer}.attn_q_norm.weight", shape.head_dim)
        yield _norm(f"blk.{layer}.attn_k_norm.weight", shape.head_dim)
    gain = BRANCH_GAIN * shape.layers**-0.5 if shape.routing else 1.0
    for kind, sizes in matrices.items():
        rms = gain * sizes[-1] ** -0.5 if kind in ("attn_output", "ffn_down_exps") else None
        yield _matrix(shape, mix, layer, f"blk.{layer}.{kind}.weight", sizes, rms)
    yield _norm(f"blk.{layer}.ffn_norm.weight", hidden)
    rms = _ROUTER_GAIN / math.sqrt(hidden)
    yield _matrix(shape, mix, layer, f"blk.{layer}.{ROUTER}", (experts, hidden), rms)


def _matrix(
    shape: Shape,
    mix: str,
    layer: int,
    name: str,
    sizes: tuple[int, ...],
    rms: float | None = None,
    weight_format: str | None = None,
) -> Tensor:
    """A matrix, or one per expert; by default its products are as large as its inputs, its format the mix's."""
    columns = sizes[-1]
    chosen = weight_format or tensor_format(mix, name, columns, shape.place(layer))
    return Tensor(name, chosen, sizes, rms or columns**-0.5)


def _norm(name: str, columns: int) -> Tensor:
    return Tensor(name, "F32", (columns,), None)


# ---- writing --------------------------------------------------------------------------------------------------------


def _write(path: Path, shape: Shape, mix: str, seed: int) -> None:
    """Write a file, one tensor in memory at a time."""
    import gguf

    writer = gguf.GGUFWriter(path, shape.architecture)
    try:
        _add_metadata(writer, shape, mix)
        _add_vocabulary(writer, shape.vocabulary)
        contents = list(tensors(shape, mix))
        for tensor in contents:
            kind = gguf.GGMLQuantizationType(FORMATS[tensor.format].gguf_id)
            writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.void), tensor.size_bytes, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        weights = RandomWeights(seed)
        topics = Topics(shape.routing, shape.hidden, seed) if shape.routing else None
        for tensor in contents:
            routed = _routed_content(topics, tensor) if topics else None
            writer.write_tensor_data(_content(weights, tensor) if routed is None else routed)
    finally:
        writer.close()


def _routed_content(topics: Topics, tensor: Tensor) -> Bytes | None:
    """The bytes of a tensor that has to do with routing, None for any other."""
    if tensor.name.endswith(ROUTER):
        experts, _ = tensor.shape
        return topics.router(int(tensor.name.split(".")[1]), experts).astype("<f4").view(np.uint8)
    rows: Mapping[str, Callable[[int, int], Floats]] = {EMBEDDING: topics.embedding, HEAD: topics.head}
    return _in_parts(rows[tensor.name], tensor) if tensor.name in rows else None


def _in_parts(rows: Callable[[int, int], Floats], tensor: Tensor) -> Bytes:
    """Rows in the tensor's format; only some of them are floats at a time."""
    import gguf

    kind = gguf.GGMLQuantizationType(FORMATS[tensor.format].gguf_id)
    parts = [
        gguf.quants.quantize(rows(first, min(first + _PART_ROWS, tensor.rows)), kind)
        for first in range(0, tensor.rows, _PART_ROWS)
    ]
    return np.concatenate(parts)


def _content(weights: RandomWeights, tensor: Tensor) -> Bytes:
    """A tensor's bytes."""
    columns = tensor.shape[-1]
    if tensor.rms is not None:
        return weights.matrix(tensor.format, tensor.rows, columns, tensor.rms)
    return (weights.matrix("F32", 1, columns, _NORM_SPREAD).view("<f4") + np.float32(1)).view(np.uint8)


def _add_metadata(writer: GGUFWriter, shape: Shape, mix: str) -> None:
    """What the file says of its model's shape."""
    import gguf

    writer.add_name(f"{shape.name} {mix} (random)")
    writer.add_file_type(MIXES[mix].file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(shape.context_tokens)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.width)
    if shape.architecture == "qwen3moe":
        writer.add_expert_feed_forward_length(shape.width)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_expert_count(shape.experts)
    writer.add_expert_used_count(shape.experts_per_token)


def _add_vocabulary(writer: GGUFWriter, size: int) -> None:
    """A vocabulary of the SentencePiece kind: special tokens, bytes, and words that mean nothing."""
    import gguf

    kinds = gguf.TokenType
    words = size - FIRST_WORD_ID
    writer.add_tokenizer_model("llama")
    writer.add_token_list(
        ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *(f"▁w{word}" for word in range(words))]
    )
    writer.add_token_scores([0.0] * FIRST_WORD_ID + [-float(word) for word in range(words)])
    special = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL]
    writer.add_token_types([*special, *[kinds.BYTE] * 256, *[kinds.NORMAL] * words])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
