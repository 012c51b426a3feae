"""A GGUF model: one file, or all the files of a split one, found beside each other and held against each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from engine.checkpoint.gguf_file import GgufHeader, MetadataValue, read_gguf_header
from engine.checkpoint.tensor_reader import TensorEntry
from engine.checkpoint.untrusted import quote
from engine.errors import CheckpointError
from engine.sentences import say

MAX_SPLITS = 1024
SPLIT_NUMBER, SPLIT_COUNT, SPLIT_TENSORS = "split.no", "split.count", "split.tensors.count"

_SPLIT_NAME = re.compile(
    r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.gguf)", re.IGNORECASE | re.ASCII
)
_SAME_PLACE = say("Download all files of the model again, from the same place.")


@dataclass(frozen=True, slots=True)
class GgufModel:
    """A whole GGUF model's header.

    Attributes:
        path: Its first file.
        metadata: That file's keys and values.
        tensors: The tensors of all files, by their names there.
    """

    path: Path
    metadata: Mapping[str, MetadataValue]
    tensors: Mapping[str, TensorEntry]


def read_gguf(path: Path, read_header: Callable[[Path], GgufHeader] = read_gguf_header) -> GgufModel:
    """Read the headers of a GGUF model.

    Args:
        path: Its file, or any file of a split one.
        read_header: Reads the header of one file.

    Raises:
        CheckpointError: A file is missing, damaged or of another model.
        UnsupportedModelError: A file is of another GGUF version, or a tensor in a format that is not run here.
    """
    paths = split_paths(path)
    headers = [_read_split(read_header(shard), shard, number, len(paths)) for number, shard in enumerate(paths)]
    tensors: dict[str, TensorEntry] = {}
    for shard, header in zip(paths, headers, strict=True):
        repeated = next((name for name in header.tensors if name in tensors), None)
        if repeated is not None:
            raise CheckpointError(
                say(
                    "Tensor {repeated} is in {file} and again in {shard}.",
                    repeated=quote(repeated),
                    file=quote(tensors[repeated].file.name),
                    shard=quote(shard.name),
                ),
                _SAME_PLACE,
            )
        tensors |= header.tensors
    _check_totals(paths, headers, len(tensors))
    return GgufModel(paths[0], headers[0].metadata, MappingProxyType(tensors))


def stem(name: str) -> str:
    """The name that a GGUF file shares with the other files of its model: without split number and suffix."""
    split = _SPLIT_NAME.fullmatch(name)
    return split["stem"] if split else name[: -len(".gguf")]


def split_paths(path: Path) -> list[Path]:
    """All files of the model that a file belongs to, the first one first, as their names say it.

    Raises:
        CheckpointError: The name has impossible numbers.
    """
    split = _SPLIT_NAME.fullmatch(path.name)
    if split is None:
        return [path]
    number, count = int(split["number"]), int(split["count"])
    if not 1 <= number <= count <= MAX_SPLITS:
        raise CheckpointError(
            say(
                "{file} calls itself file {number} of {count}, which cannot be (up to {most}).",
                file=quote(path.name),
                number=number,
                count=count,
                most=MAX_SPLITS,
            ),
            say("Download the model again from its publisher."),
        )
    names = (f"{split['stem']}-{index:05d}-of-{count:05d}{split['suffix']}" for index in range(1, count + 1))
    return [path.with_name(name) for name in names]


def _read_split(header: GgufHeader, path: Path, number: int, count: int) -> GgufHeader:
    """One file's header, if the file knows its place."""
    stated_count = header.metadata.get(SPLIT_COUNT, 1)
    stated_number = header.metadata.get(SPLIT_NUMBER, 0)
    if stated_count in (0, 1) and count == 1:
        return header
    if (stated_number, stated_count) != (number, count):
        raise CheckpointError(
            say(
                "{file} holds {key} {stated} and {other_key} {other_stated}, its name asks for {number} and {count}.",
                file=quote(path.name),
                key=SPLIT_NUMBER,
                stated=quote(stated_number),
                other_key=SPLIT_COUNT,
                other_stated=quote(stated_count),
                number=number,
                count=count,
            ),
            say("Give each file the name that its publisher gave it, or download them again."),
        )
    return header


def _check_totals(paths: list[Path], headers: list[GgufHeader], tensors: int) -> None:
    """Hold that the files of a split model are those of one model."""
    for path, header in zip(paths, headers, strict=True):
        stated = header.metadata.get(SPLIT_TENSORS, tensors)
        if type(stated) is not int or stated != tensors:
            raise CheckpointError(
                say(
                    "{file} is part of a model of {stated} tensors, but the files here hold {tensors} together.",
                    file=quote(path.name),
                    stated=quote(stated),
                    tensors=tensors,
                ),
                _SAME_PLACE,
            )
        for key in ("general.architecture", "general.name"):
            first = headers[0].metadata.get(key)
            if header.metadata.get(key, first) != first:
                raise CheckpointError(
                    say(
                        "{file} belongs to another model than {other} ({key}).",
                        file=quote(path.name),
                        other=quote(paths[0].name),
                        key=key,
                    ),
                    _SAME_PLACE,
                )
