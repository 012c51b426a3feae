"""What is to be converted: the tensors of the new file, and where the weights of each lie.

A folder with safetensors is named and ordered as llama.cpp's converter does it, with the experts of a layer stacked. A
GGUF file in floats keeps its names, its order and its metadata.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from engine.checkpoint import gguf_tensors, tensor_names
from engine.checkpoint.checkpoint import FLOAT_DTYPES, open_checkpoint
from engine.checkpoint.families import FAMILIES
from engine.checkpoint.gguf_config import ARCHITECTURE, CONVERTED
from engine.checkpoint.gguf_file import DEFAULT_ALIGNMENT, MetadataValue
from engine.checkpoint.gguf_model import SPLIT_COUNT, SPLIT_NUMBER, SPLIT_TENSORS, GgufModel, read_gguf
from engine.checkpoint.gguf_tensors import EXPERT_PARTS, name_in_gguf
from engine.checkpoint.model_folder import CONFIG, TOKENIZER, find_gguf
from engine.checkpoint.tensor_reader import TensorEntry
from engine.checkpoint.untrusted import fill, open_regular, quote
from engine.config import ModelConfig
from engine.convert.gguf_header import encode_header
from engine.convert.recipe import ConversionFormat, target_format
from engine.errors import UnsupportedModelError
from engine.quant.formats import FORMATS
from engine.sentences import say

PIECE_BYTES = 4 << 20
COPIED = (
    CONFIG,
    "generation_config.json",
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
_FINGERPRINT_BYTES = 1 << 20
_FILE_TYPES = {"F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q4_K": 14, "Q4_1": 3}
_SPLIT_KEYS = (SPLIT_COUNT, SPLIT_NUMBER, SPLIT_TENSORS)
_QUANTISATION_VERSION = 2  # of ggml's blocks, since 2023


@dataclass(frozen=True, slots=True)
class Description:
    """What the new file says of the model by itself, so that other programs can load it.

    Attributes:
        metadata: Its shape and its tokenizer; empty where GGUF cannot say them.
        notes: Sentences about that for the user.
    """

    metadata: Mapping[str, MetadataValue]
    notes: tuple[str, ...]


Describe = Callable[[Path, ModelConfig, Mapping[str, TensorEntry]], Description]


def leave_to_folder(_path: Path, _config: ModelConfig, _tensors: Mapping[str, TensorEntry]) -> Description:
    """Say nothing: the files beside the new one say it all to this engine."""
    return Description({}, ())


@dataclass(frozen=True, slots=True)
class Target:
    """A tensor of the new file.

    Attributes:
        name: As GGUF calls it.
        format: How it will be stored.
        shape: Its dimensions, the one that lies together last.
        offset: Its first byte in the file.
        parts: Where its weights lie, one matrix after the other.
        heads: Heads whose two halves are to alternate, row by row; None where rows stay in order.
    """

    name: str
    format: str
    shape: tuple[int, ...]
    offset: int
    parts: tuple[TensorEntry, ...]
    heads: int | None

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return prod(self.shape[:-1]) * FORMATS[self.format].row_bytes(self.shape[-1])


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows, converted at once.

    Attributes:
        number: Its place in the file's order.
        target: The tensor that they belong to.
        source: Where they lie.
        offset: Where they go in the file.
        nbytes: How many bytes they become.
    """

    number: int
    target: Target
    source: TensorEntry
    offset: int
    nbytes: int

    @property
    def end(self) -> int:
        """Where the next one goes, but for padding."""
        return self.offset + self.nbytes


@dataclass(frozen=True, slots=True)
class Source:
    """A model that is to be converted.

    Attributes:
        path: Its folder or file.
        config: Its shape.
        header: The beginning of the new file.
        targets: The tensors after that.
        files: All files that it is made from.
        copied: Those of them that the new folder gets as they are.
        notes: Sentences for the user about who can load the new file.
    """

    path: Path
    config: ModelConfig
    header: bytes
    targets: tuple[Target, ...]
    files: tuple[Path, ...]
    copied: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    @property
    def source_bytes(self) -> int:
        """Bytes of weights that are read."""
        return sum(part.nbytes for target in self.targets for part in target.parts)

    @property
    def target_bytes(self) -> int:
        """Bytes of the new file."""
        last = self.targets[-1]
        return last.offset + last.nbytes

    def pieces(self) -> Iterator[Piece]:
        """All work, in the order of the new file."""
        number = 0
        for target in self.targets:
            offset = target.offset
            for part in target.parts:
                for rows in _cut(target, part):
                    nbytes = prod(rows.shape[:-1]) * FORMATS[target.format].row_bytes(rows.shape[-1])
                    yield Piece(number, target, rows, offset, nbytes)
                    number, offset = number + 1, offset + nbytes

    def fingerprint(self) -> list[list[Any]]:
        """For each file its name, size, time of change and the SHA-256 of its beginning.

        Raises:
            CheckpointError: One cannot be read.
        """
        return [_fingerprint(path) for path in self.files]


def open_source(path: Path, conversion: ConversionFormat, describe: Describe = leave_to_folder) -> Source:
    """Look at a model and lay out the file that it becomes; reads headers only.

    Args:
        path: A folder with safetensors, or a GGUF file.
        conversion: What it becomes.
        describe: What the new file says of a model that is no GGUF file yet, by its tensors there.

    Raises:
        CheckpointError: Something is missing, damaged or unsafe.
        UnsupportedModelError: This engine does not run the model, or its weights are no floats.
    """
    with open_checkpoint(path) as checkpoint:
        config, tensors = checkpoint.config, dict(checkpoint.tensors)
    if config.compatibility is not None:
        raise UnsupportedModelError(
            say("{path} is of the family {family}, which cannot be converted.", path=quote(path), family=config.family),
            say("Use it as it is, or choose its GGUF file."),
        )
    rounded = next(
        (name for name, entry in tensors.items() if _is_used(name) and entry.format not in FLOAT_DTYPES), None
    )
    if config.quantization is not None or rounded is not None:
        kind = config.quantization or tensors[rounded or ""].format
        raise UnsupportedModelError(
            say(
                "{path} is quantised already ({kind}); rounding it again would lose more.", path=quote(path), kind=kind
            ),
            say("Use it as it is, or convert the model's original bfloat16 version."),
        )
    gguf = find_gguf(path)
    if gguf is not None:
        model = read_gguf(gguf)
        drafts = _of_gguf(model, conversion)
        files = sorted({entry.file for entry in model.tensors.values()} | {model.path})
        return _lay_out(path, config, {**_kept(model)}, drafts, files, ())
    drafts = _of_folder(config, tensors, conversion)
    copied = tuple(path / name for name in COPIED if (path / name).is_file())
    files = sorted({part.file for target in drafts for part in target.parts} | set(copied))
    told = describe(path, config, {target.name: _entry(target) for target in drafts})
    metadata: dict[str, MetadataValue] = {
        ARCHITECTURE: FAMILIES[config.family].gguf,
        "general.name": config.name,
        CONVERTED: True,
        **told.metadata,
    }
    return replace(_lay_out(path, config, metadata, drafts, files, copied), notes=told.notes)


def _entry(target: Target) -> TensorEntry:
    """A tensor as the new file's reader will find it."""
    return TensorEntry(target.name, target.format, target.shape, Path(target.name), 0, target.nbytes)


def _is_used(name: str) -> bool:
    """Whether a tensor is one of the model's; folders may hold others."""
    return name.startswith(("model.", "lm_head."))


def _of_folder(config: ModelConfig, tensors: dict[str, TensorEntry], conversion: ConversionFormat) -> list[Target]:
    """The tensors of a folder under GGUF's names, in the order of the layers."""
    alternate = FAMILIES[config.family].rows_alternate
    heads = {".q_proj.weight": config.heads, ".k_proj.weight": config.kv_heads} if alternate else {}
    drafts: list[Target] = []
    for name, shape in tensor_names.dense_tensors(config):
        turned = next((count for suffix, count in heads.items() if name.endswith(suffix)), None)
        stored = target_format(conversion, name, shape)
        drafts.append(Target(name_in_gguf(config.family, name), stored, shape, 0, (tensors[name],), turned))
    kinds = ("weight", "bias") if config.traits.clamped_gate else ("weight",)
    for layer, (word, part), kind in product(range(config.layers), EXPERT_PARTS, kinds):
        name_of = tensor_names.expert_tensor if kind == "weight" else tensor_names.expert_bias
        names = [name_of(layer, expert, part) for expert in range(config.experts)]
        entries = tuple(tensors[name] for name in names)
        stored, shape = target_format(conversion, names[0], entries[0].shape), (len(names), *entries[0].shape)
        drafts.append(Target(f"blk.{layer}.ffn_{word}_exps.{kind}", stored, shape, 0, entries, None))
    return drafts


def _of_gguf(model: GgufModel, conversion: ConversionFormat) -> list[Target]:
    """The tensors of a GGUF file, in its order."""
    ours = {gguf_tensors.EMBEDDING: tensor_names.EMBEDDING, gguf_tensors.HEAD: tensor_names.HEAD}
    return [
        Target(name, _gguf_format(conversion, ours.get(name, name), entry.shape), entry.shape, 0, (entry,), None)
        for name, entry in model.tensors.items()
    ]


def _gguf_format(conversion: ConversionFormat, name: str, shape: tuple[int, ...]) -> str:
    """As for a folder; routers are known by llama.cpp's names."""
    return "F32" if ".ffn_gate_inp" in name else target_format(conversion, name, shape)


def _kept(model: GgufModel) -> dict[str, MetadataValue]:
    """The metadata that stays true."""
    return {key: value for key, value in model.metadata.items() if key not in (*_SPLIT_KEYS, "general.alignment")}


def _lay_out(
    path: Path,
    config: ModelConfig,
    metadata: dict[str, MetadataValue],
    drafts: list[Target],
    files: list[Path],
    copied: tuple[Path, ...],
) -> Source:
    """Give every tensor its place."""
    experts = next(target.format for target in drafts if "_exps" in target.name or ".ffn_gate." in target.name)
    metadata |= {"general.file_type": _FILE_TYPES[experts], "general.quantization_version": _QUANTISATION_VERSION}
    offsets, end = [], 0
    for target in drafts:
        offsets.append(end)
        end += -(-target.nbytes // DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT
    header = encode_header(
        metadata,
        ((target.name, target.format, target.shape, offset) for target, offset in zip(drafts, offsets, strict=True)),
    )
    targets = tuple(
        replace(target, offset=len(header) + offset) for target, offset in zip(drafts, offsets, strict=True)
    )
    return Source(path, config, header, targets, tuple(files), copied)


def _cut(target: Target, part: TensorEntry) -> Iterator[TensorEntry]:
    """A matrix in runs of whole rows; in one piece where its rows move or are taken out of others."""
    columns = target.shape[-1]
    rows = prod(part.shape) // columns
    row_bytes = part.nbytes // rows
    step = rows if target.heads or part.part else max(1, PIECE_BYTES // row_bytes)
    for first in range(0, rows, step):
        count = min(step, rows - first)
        offset = part.offset + first * row_bytes
        yield replace(part, shape=(count, columns), offset=offset, nbytes=count * row_bytes)


def _fingerprint(path: Path) -> list[Any]:
    """What would change if the file did."""
    status = path.stat()
    with open_regular(path) as file:
        beginning = bytearray(min(status.st_size, _FINGERPRINT_BYTES))
        fill(file, path, 0, memoryview(beginning))
    return [path.name, status.st_size, status.st_mtime_ns, hashlib.sha256(beginning).hexdigest()]
