"""A model folder, checked as a whole when it is opened and read tensor by tensor afterwards.

`Checkpoint.open` reads headers only: it takes milliseconds for a model of any size. What it lets through is complete:
every tensor that the model needs is there, with the right shape and a float type.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Self

from engine.checkpoint import model_folder
from engine.checkpoint.model_config import read_model_config
from engine.checkpoint.safetensors_file import MAX_TENSORS, TensorEntry, TensorReader, read_header
from engine.checkpoint.tensor_names import HEAD, Shape, expected_tensors, is_expert
from engine.checkpoint.untrusted import DOWNLOAD_AGAIN, quote
from engine.config import DTypeName, ModelConfig
from engine.errors import CheckpointError, UnsupportedModelError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

FLOAT_DTYPES: Mapping[str, DTypeName] = MappingProxyType({"F32": "float32", "BF16": "bfloat16", "F16": "float16"})
IGNORED_SUFFIX = ".rotary_emb.inv_freq"


class Checkpoint:
    """An open model folder; a context manager that closes its files.

    Attributes:
        folder: Where it lies.
        config: The model's shape; its dtype is the one that most expert tensors are stored in.
        tensors: Every tensor by name, also the few that the model does not need.
        total_bytes: Bytes of all these tensors.
    """

    def __init__(self, folder: Path, config: ModelConfig, tensors: Mapping[str, TensorEntry]) -> None:
        """Take parts that `open` has checked."""
        self.folder = folder
        self.config = config
        self.tensors: Mapping[str, TensorEntry] = MappingProxyType(dict(tensors))
        self.total_bytes = sum(entry.nbytes for entry in tensors.values())
        self._reader = TensorReader()

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read and check a folder's config and every header.

        Args:
            folder: Holds config.json and model.safetensors, or model.safetensors.index.json and its files.

        Raises:
            CheckpointError: Something is missing, damaged, contradictory or unsafe.
            UnsupportedModelError: A sound model that this engine does not run.
        """
        config = read_model_config(folder)
        tensors = _read_tensors(folder)
        if HEAD in tensors:  # as in transformers: a head of its own wins over a config that says "tied"
            config = replace(config, tie_word_embeddings=False)
        dtype = _check_complete(config, tensors)
        return cls(folder, replace(config, dtype=dtype), tensors)

    def read(self, name: str, into: WriteableBuffer) -> None:
        """Read a tensor's raw bytes, in its type on disk, straight into a buffer; safe from any thread.

        Args:
            name: A key of `tensors`.
            into: Writable, contiguous, as long as the tensor's `nbytes`.

        Raises:
            CheckpointError: No such tensor, the file is gone or truncated by now, or the drive fails.
            ValueError: The buffer has another length, or the checkpoint is closed (a mistake of the caller).
        """
        entry = self.tensors.get(name)
        if entry is None:
            raise CheckpointError(f"{quote(self.folder)} holds no tensor {quote(name)}.", DOWNLOAD_AGAIN)
        self._reader.read(entry, into)

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
                    f"{model_folder.INDEX} promises tensor {quote(name)} in {quote(file)}, which does not hold it.",
                    "Download both files again.",
                )
            tensors[name] = header[name]
        if len(tensors) > MAX_TENSORS:
            raise CheckpointError(
                f"The model has over {MAX_TENSORS} tensors, more than can be right.",
                "Get the model from its publisher.",
            )
    return tensors


def _check_complete(config: ModelConfig, tensors: Mapping[str, TensorEntry]) -> DTypeName:
    """Hold that the tensors are those of this model; the type that most experts are stored in."""
    stored: Counter[str] = Counter()
    needed = set()
    for name, shape in expected_tensors(config):
        entry = tensors.get(name)
        if entry is None:
            raise _missing(name, tensors)
        _check_tensor(entry, shape)
        needed.add(name)
        stored[entry.dtype] += is_expert(name)
    for name, entry in tensors.items():
        if name.startswith("model.") and name not in needed and not name.endswith(IGNORED_SUFFIX):
            raise CheckpointError(
                f"{quote(entry.file.name)} holds tensor {quote(name)}, which a model as in "
                f"{model_folder.CONFIG} does not have.",
                f"Download {model_folder.CONFIG} again, from the same place as the weights.",
            )
    return FLOAT_DTYPES[stored.most_common(1)[0][0]]


def _check_tensor(entry: TensorEntry, shape: Shape) -> None:
    """Hold that a tensor has the shape that the config asks for and a type that the engine reads."""
    if entry.shape != shape:
        raise CheckpointError(
            f"Tensor {quote(entry.name)} in {quote(entry.file.name)} has shape {quote(list(entry.shape))}, "
            f"{model_folder.CONFIG} asks for {quote(list(shape))}.",
            f"Download {model_folder.CONFIG} and this file again, from the same place.",
        )
    if entry.dtype not in FLOAT_DTYPES:
        raise UnsupportedModelError(
            f"Tensor {quote(entry.name)} in {quote(entry.file.name)} is stored as {entry.dtype}, "
            f"not one of {', '.join(FLOAT_DTYPES)}.",
            "Choose the original bfloat16 version of the model.",
        )


def _missing(name: str, tensors: Mapping[str, TensorEntry]) -> CheckpointError:
    """The error for a tensor that no file holds."""
    files = sorted({entry.file.name for entry in tensors.values()})
    where = quote(files[0]) if len(files) == 1 else f"all {len(files)} files of {model_folder.INDEX}"
    return CheckpointError(
        f"Tensor {quote(name)} is missing from {where}.", "Download the model again from its publisher."
    )
