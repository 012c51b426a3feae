"""The bundled guide as a GGUF file in any format that the engine runs: trained weights that show what rounding costs.

A plain file holds every matrix in one format, as the `gguf` package quantises it. A mixed one ("Q4_K_M") is what
llama.cpp's own quantiser makes of the guide, with the formats that it chooses. Norms and routers are always F32. A file
is written under another name and renamed at the end: one that is there is whole, and is used again.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.checkpoint.catalog import guide_path
from engine.checkpoint.checkpoint import Checkpoint, open_checkpoint
from engine.checkpoint.tensor_names import (
    EMBEDDING,
    FINAL_NORM,
    HEAD,
    ExpertPart,
    attention,
    attention_norm,
    expert_norm,
    expert_tensor,
    router,
)
from engine.config import ModelConfig
from engine.errors import ConfigurationError, EngineFailure
from engine.quant.formats import FORMATS

if TYPE_CHECKING:
    from gguf import GGUFWriter

Floats = NDArray[np.float32]

# By name the number in general.file_type (llama_ftype).
PLAIN: Mapping[str, int] = MappingProxyType(
    {"F32": 0, "BF16": 32, "Q8_0": 7, "Q4_0": 2, "Q4_1": 3, "Q5_0": 8, "Q5_1": 9, "MXFP4": 38}
)
MIXED: Mapping[str, int] = MappingProxyType(
    {"Q2_K": 10, "Q3_K_M": 12, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18, "IQ4_NL": 25, "IQ4_XS": 30}
)

_SOURCE = "BF16"  # what mixes are made from: the guide's own bits
_EXPERT_PARTS: tuple[tuple[str, ExpertPart], ...] = (("gate", "w1"), ("up", "w3"), ("down", "w2"))
_NORMAL, _CONTROL = 1, 3  # types of tokens


def guide_file(folder: Path, name: str) -> Path:
    """The guide in a format, written unless it is there.

    Args:
        folder: Where it lies; made if it is missing.
        name: A key of `PLAIN`, which needs the `gguf` package, or of `MIXED`, which needs llama-cpp-python too.

    Raises:
        CheckpointError: The guide is missing from this installation.
        ConfigurationError: A package is.
        EngineFailure: llama.cpp cannot make the mix.
        OSError: The file cannot be written.
    """
    path = folder / f"guide-{name}.gguf"
    if not path.exists():
        _check_packages(("gguf",) if name in PLAIN else ("gguf", "llama_cpp"))
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        try:
            if name in PLAIN:
                _write(unfinished, name)
            else:
                _quantise(guide_file(folder, _SOURCE), unfinished, MIXED[name])
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    return path


def _check_packages(names: tuple[str, ...]) -> None:
    """Refuse what this installation cannot write."""
    if not all(importlib.util.find_spec(name) for name in names):
        raise ConfigurationError(f"This needs the packages {' and '.join(names)}.", "Run: pip install -e '.[bench]'")


def _quantise(source: Path, path: Path, file_type: int) -> None:
    """Let llama.cpp make a mix of a file in floats."""
    import llama_cpp

    logging.getLogger("llama-cpp-python").setLevel(logging.CRITICAL)  # else it tells of every tensor
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype, settings.nthread = file_type, 1
    if llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(path), ctypes.byref(settings)) != 0:
        raise EngineFailure(f"llama.cpp cannot quantise {source}.", "Use another version of llama-cpp-python.")


def _write(path: Path, name: str) -> None:
    """Write the guide with every matrix in one format."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    try:
        with open_checkpoint(guide_path()) as guide:
            _add_metadata(writer, guide.config, name)
            for tensor, weights in _tensors(guide):
                plain = weights.ndim == 1 or tensor.endswith("ffn_gate_inp.weight")
                kind = gguf.GGMLQuantizationType(FORMATS["F32" if plain else name].gguf_id)
                writer.add_tensor(tensor, gguf.quantize(weights, kind), raw_dtype=kind)
        _add_vocabulary(writer, guide_path())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


# ---- weights --------------------------------------------------------------------------------------------------------


def _tensors(guide: Checkpoint) -> Iterator[tuple[str, Floats]]:
    """Every tensor as GGUF calls it, in fp32, the experts of a layer stacked."""
    config = guide.config
    yield "token_embd.weight", _read(guide, EMBEDDING)
    yield "output_norm.weight", _read(guide, FINAL_NORM)
    yield "output.weight", _read(guide, HEAD)
    for layer in range(config.layers):
        block = f"blk.{layer}"
        yield f"{block}.attn_norm.weight", _read(guide, attention_norm(layer))
        yield f"{block}.attn_q.weight", _alternate(_read(guide, attention(layer, "q")), config.heads)
        yield f"{block}.attn_k.weight", _alternate(_read(guide, attention(layer, "k")), config.kv_heads)
        yield f"{block}.attn_v.weight", _read(guide, attention(layer, "v"))
        yield f"{block}.attn_output.weight", _read(guide, attention(layer, "o"))
        yield f"{block}.ffn_norm.weight", _read(guide, expert_norm(layer))
        yield f"{block}.ffn_gate_inp.weight", _read(guide, router(layer))
        for word, part in _EXPERT_PARTS:
            experts = [_read(guide, expert_tensor(layer, expert, part)) for expert in range(config.experts)]
            yield f"{block}.ffn_{word}_exps.weight", np.stack(experts)


def _read(guide: Checkpoint, name: str) -> Floats:
    """A tensor, which the guide holds in BF16."""
    entry = guide.tensors[name]
    assert entry.format == "BF16", f"{name} is stored as {entry.format}"
    bits = np.empty(entry.shape, dtype="<u2")
    guide.read(name, bits.data)
    return (bits.astype("<u4") << 16).view("<f4")


def _alternate(weights: Floats, heads: int) -> Floats:
    """Rows of q or k in the order of llama.cpp: the two halves of each head alternate."""
    rows, columns = weights.shape
    return weights.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


# ---- metadata -------------------------------------------------------------------------------------------------------


def _add_metadata(writer: GGUFWriter, config: ModelConfig, name: str) -> None:
    """What the file says of the model's shape."""
    import gguf

    assert config.sliding_window is not None, "the guide looks back on a window"
    writer.add_name(config.name)
    writer.add_file_type(PLAIN[name])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_expert_count(config.experts)
    writer.add_expert_used_count(config.experts_per_token)
    writer.add_sliding_window(config.sliding_window)


def _add_vocabulary(writer: GGUFWriter, folder: Path) -> None:
    """The guide's own byte-level pairs, special tokens and chat template."""
    tokenizer, settings = _json(folder / "tokenizer.json"), _json(folder / "tokenizer_config.json")
    ids: dict[str, int] = tokenizer["model"]["vocab"]
    special = {token["content"] for token in tokenizer["added_tokens"]}
    tokens = sorted(ids, key=lambda token: ids[token])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([_CONTROL if token in special else _NORMAL for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(ids[settings["bos_token"]])
    writer.add_eos_token_id(ids[settings["eos_token"]])
    writer.add_pad_token_id(ids[settings["pad_token"]])
    writer.add_add_bos_token(settings["add_bos_token"])
    writer.add_chat_template(settings["chat_template"])


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
