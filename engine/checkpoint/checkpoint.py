"""A model's files, checked as a whole when they are opened and read tensor by tensor afterwards.

`open_checkpoint` reads headers only: it takes milliseconds for a model of any size. What it lets through is complete:
every tensor that the model needs is there under the engine's own name, with the right shape and a format that the
engine runs, whether the files are safetensors or GGUF.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import psutil
from numpy.typing import NDArray

from engine.checkpoint import model_folder
from engine.checkpoint.compatible import may_be_compatible, read_compatible
from engine.checkpoint.gguf_config import read_gguf_config
from engine.checkpoint.gguf_model import read_gguf
from engine.checkpoint.int4 import Int4, is_rounded, take_rounded, to_q4_1, with_int4
from engine.checkpoint.model_config import (
    has_experts,
    model_name,
    read_config_and_int4,
    read_config_json,
    read_model_config,
)
from engine.checkpoint.safetensors_file import MAX_TENSORS, read_header
from engine.checkpoint.stacked import check_tensor, missing, read_part, unstack_experts, with_mxfp4
from engine.checkpoint.tensor_names import HEAD, expected_tensors, is_expert_matrix, name_in_file
from engine.checkpoint.tensor_reader import Int4Parts, TensorEntry, TensorReader
from engine.checkpoint.untrusted import DOWNLOAD_AGAIN, quote
from engine.config import DTYPE_FORMATS, DTypeName, ModelConfig
from engine.errors import CheckpointError
from engine.sentences import say

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

FLOAT_DTYPES: Mapping[str, DTypeName] = MappingProxyType({name: dtype for dtype, name in DTYPE_FORMATS.items()})
IGNORED_SUFFIX = ".rotary_emb.inv_freq"


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a model: read and check its config and every header.

    Args:
        path: A folder with config.json and safetensors, a folder with one GGUF model, or a .gguf file (any one of a
            split model).

    Raises:
        CheckpointError: Something is missing, damaged, contradictory or unsafe.
        UnsupportedModelError: A sound model that this engine does not run.
    """
    gguf = model_folder.find_gguf(path)
    if gguf is not None:
        return Checkpoint(path, *read_gguf_config(read_gguf(gguf)))
    content = read_config_json(path)
    if has_experts(content) and may_be_compatible(content):
        return Checkpoint(path, *read_compatible(model_name(path), content, _read_tensors(path)))
    config, int4 = read_config_and_int4(path)
    stored = _read_tensors(path)
    if HEAD in stored:  # as in transformers: a head of its own wins over a config that says "tied"
        config = replace(config, tie_word_embeddings=False)
    dtype, tensors = _check_complete(config, stored, int4)
    if int4 is not None:
        return Checkpoint(path, with_int4(config, int4), tensors)
    if config.expert_formats:
        return Checkpoint(path, with_mxfp4(config), tensors)
    return Checkpoint(path, replace(config, dtype=dtype), tensors)


def read_config(path: Path) -> ModelConfig:
    """The shape of a model, from config.json alone or from the headers of its GGUF files.

    Args:
        path: As for `open_checkpoint`; a folder with config.json needs no weights, unless transformers' decoder runs
            its family, where they tell which layers have experts.

    Raises:
        CheckpointError: A file is missing or damaged, or a number is outside its limits.
        UnsupportedModelError: A sound model that this engine does not run.
    """
    gguf = model_folder.find_gguf(path)
    if gguf is not None:
        return read_gguf_config(read_gguf(gguf))[0]
    content = read_config_json(path)
    if has_experts(content) and may_be_compatible(content):
        return open_checkpoint(path).config
    return read_model_config(path)


class Checkpoint:
    """An open model; a context manager that closes its files.

    Attributes:
        path: The folder or file that was opened.
        config: The model's shape; its dtype is the one that most expert tensors are stored in, where they are floats.
        tensors: Every tensor by the engine's name for it, also the few that the model does not need.
        total_bytes: Bytes of all these tensors.
    """

    def __init__(self, path: Path, config: ModelConfig, tensors: Mapping[str, TensorEntry]) -> None:
        """Take parts that `open_checkpoint` has checked."""
        self.path = path
        self.config = config
        self.tensors: Mapping[str, TensorEntry] = MappingProxyType(dict(tensors))
        self.total_bytes = sum(entry.nbytes for entry in tensors.values())
        # Else they would not stay in the system's cache of files beside what is made of them.
        self._reader = TensorReader(direct=2 * self.total_bytes > psutil.virtual_memory().total)

    def read(self, name: str, into: WriteableBuffer) -> None:
        """Read a tensor's raw bytes, in its format on disk, straight into a buffer; safe from any thread.

        Rows that the file holds in another order (`TensorEntry.permuted_heads`) are put in order on the way.

        Args:
            name: A key of `tensors`.
            into: Writable, contiguous, as long as the tensor's `nbytes`.

        Raises:
            CheckpointError: No such tensor, the file is gone or truncated by now, or the drive fails.
            ValueError: The buffer has another length, or the checkpoint is closed (a mistake of the caller).
        """
        entry = self.tensors.get(name)
        if entry is None:
            raise CheckpointError(
                say("{path} holds no tensor {name}.", path=quote(self.path), name=quote(name)), DOWNLOAD_AGAIN
            )
        if entry.int4 is not None:
            _hand_over(entry, self._make_int4(entry.int4), into)
            return
        if entry.part is not None:
            _hand_over(entry, read_part(self._reader, entry.part), into)
            return
        self._reader.read(entry, into)
        if entry.permuted_heads is not None:
            _put_rows_in_order(entry, entry.permuted_heads, into)

    def place(self, name: str) -> tuple[str, int]:
        """A tensor's file and where it begins there: drives are fastest where tensors are read in this order.

        Args:
            name: A key of `tensors`.
        """
        entry = self.tensors[name]
        return str(entry.file), entry.offset

    def _make_int4(self, parts: Int4Parts) -> NDArray[np.uint8]:
        """Make a matrix of Q4_1 from what GPTQ or AWQ left."""
        words, zeros = (np.empty(part.shape, dtype="<u4") for part in (parts.codes, parts.zeros))
        scales = np.empty(parts.scales.shape, dtype="<f2")
        for part, buffer in ((parts.codes, words), (parts.zeros, zeros), (parts.scales, scales)):
            self._reader.read(part, buffer.data)
        return to_q4_1(words, zeros, scales, awq=parts.awq, zero_shift=parts.zero_shift)

    def close(self) -> None:
        """Close all files; closing twice does no harm."""
        self._reader.close()

    def __enter__(self) -> Self:
        """The checkpoint itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all files."""
        self.close()


def _read_tensors(folder: Path) -> dict[str, TensorEntry]:
    """Every tensor of a folder, each from the file where the index promises it."""
    tensors: dict[str, TensorEntry] = {}
    for file, promised in model_folder.find_shards(folder).items():
        header = read_header(folder / file)
        for name in header if promised is None else promised:
            if name not in header:
                raise CheckpointError(
                    say(
                        "{index} promises tensor {name} in {file}, which does not hold it.",
                        index=model_folder.INDEX,
                        name=quote(name),
                        file=quote(file),
                    ),
                    say("Download both files again."),
                )
            tensors[name] = header[name]
        if len(tensors) > MAX_TENSORS:
            raise CheckpointError(
                say("The model has over {most} tensors, more than can be right.", most=MAX_TENSORS),
                say("Get the model from its publisher."),
            )
    return tensors


def _check_complete(
    config: ModelConfig, stored: Mapping[str, TensorEntry], int4: Int4 | None
) -> tuple[DTypeName, dict[str, TensorEntry]]:
    """Hold that the tensors are those of this model; the type of most experts, and all by the engine's names."""
    formats: Counter[str] = Counter()
    left = dict(stored)
    unstack_experts(config, left)
    tensors: dict[str, TensorEntry] = {}
    for name, shape in expected_tensors(config):
        in_file = name_in_file(config.family, name)
        rounded = int4 is not None and is_rounded(name)
        entry = take_rounded(int4, left, in_file, shape) if int4 and rounded else left.pop(in_file, None)
        if entry is None:
            raise missing(in_file.removesuffix("weight") + "qweight" if rounded else in_file, stored)
        tensors[name] = entry
        if rounded:
            continue
        if entry.part is None:  # otherwise it was held against the config as it was taken out
            check_tensor(entry, shape)
        formats[entry.format] += is_expert_matrix(name)
    for name, entry in left.items():
        if name.startswith("model.") and not name.endswith(IGNORED_SUFFIX):
            raise CheckpointError(
                say(
                    "{file} holds tensor {name}, which a model as in {config} does not have.",
                    file=quote(entry.file.name),
                    name=quote(name),
                    config=model_folder.CONFIG,
                ),
                say("Download {config} again, from the same place as the weights.", config=model_folder.CONFIG),
            )
    most_common = None if config.expert_formats else formats.most_common(1)[0][0]
    return config.dtype if most_common is None else FLOAT_DTYPES[most_common], tensors | left


def _hand_over(entry: TensorEntry, made: NDArray[np.uint8], into: WriteableBuffer) -> None:
    """Put what was made of other tensors into a buffer."""
    target = np.frombuffer(memoryview(into), np.uint8)
    if target.size != entry.nbytes:
        raise ValueError(f"{entry.name} is {entry.nbytes} bytes long, the buffer {target.size}")
    target[:] = made.reshape(-1)


def _put_rows_in_order(entry: TensorEntry, heads: int, buffer: WriteableBuffer) -> None:
    """Part the two halves of each head, which llama.cpp's converter has made alternate, row by row."""
    rows = entry.shape[0]
    held = np.frombuffer(memoryview(buffer), np.uint8)
    alternating = held.reshape(heads, rows // heads // 2, 2, -1)
    held[:] = alternating.swapaxes(1, 2).reshape(-1)  # a copy, as the axes are swapped
