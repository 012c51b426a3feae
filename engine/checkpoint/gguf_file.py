"""The header of a GGUF file, checked as if an enemy wrote it.

Format: magic, version, counts, metadata, tensor descriptions, padding, then the tensors, all little-endian
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md); versions 2 and 3, which are the same for us. Every count
and length is held against the bytes left in the file before anything is allocated or counted through. Only the header
is read, a piece at a time, and never mapped.
"""

from __future__ import annotations

import os
import sys
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from struct import Struct
from types import MappingProxyType
from typing import Any, TypeAlias

from engine.checkpoint.tensor_reader import TensorEntry
from engine.checkpoint.untrusted import DOWNLOAD_AGAIN, fill, open_regular, quote
from engine.errors import CheckpointError, UnsupportedModelError
from engine.quant.formats import BY_GGUF_ID, WeightFormat
from engine.sentences import say

MetadataValue: TypeAlias = "int | float | bool | str | list[str] | array[Any]"

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_HEADER_BYTES = 64 << 20
MAX_STRING_BYTES = 4 << 20
MAX_STRINGS = 1_000_000
MAX_KEYS = 10_000
MAX_KEY_BYTES = 1024
MAX_GGUF_TENSORS = 32_768
MAX_NAME_BYTES = 256
MAX_DIMENSIONS = 4
MIN_ALIGNMENT, MAX_ALIGNMENT = 8, 1 << 20
DEFAULT_ALIGNMENT = 32
FIRST_READ_BYTES = 1 << 20
_TENSOR_NAME = say("the name of a tensor")
CHOOSE_FORMAT = say("Choose the Q4_K_M or Q4_0 file of the model.")

_U32, _U64 = Struct("<I"), Struct("<Q")
_BOOL, _STRING, _ARRAY = 7, 8, 9
_SCALARS: Mapping[int, Struct] = MappingProxyType(
    {
        code: Struct(f"<{letter}")
        for code, letter in enumerate("BbHhIif")
    }
    | {_BOOL: Struct("<B"), 10: Struct("<Q"), 11: Struct("<q"), 12: Struct("<d")}
)  # fmt: skip
_MIN_KEY_BYTES = 8 + 1 + 4 + 1  # a length, a letter, a type, a value
_MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8  # a length, a letter, a count, a dimension, a type, an offset
# Formats of llama.cpp that this engine does not run, for messages only.
_OTHER_FORMATS: Mapping[int, str] = MappingProxyType(
    {9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S", 22: "IQ2_S",
     24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 40: "NVFP4",
     41: "Q1_0"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a GGUF file says about itself.

    Attributes:
        metadata: Its keys and values; an array is a list of strings, or an `array.array` of numbers (flags: 0 and 1).
        tensors: Its tensors by name; shapes have the dimension that lies together last, as everywhere here.
    """

    metadata: Mapping[str, MetadataValue]
    tensors: Mapping[str, TensorEntry]


Fill = Callable[[int, memoryview], None]  # a file's bytes from a position on, exactly as many as there is room for


def read_gguf_header(path: Path) -> GgufHeader:
    """Everything that a GGUF file says before its tensors' bytes.

    Raises:
        CheckpointError: The file is missing, truncated, damaged or lies about its contents.
        UnsupportedModelError: It is of another version or byte order, or a tensor is in a format not run here.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        return parse_gguf_header(path, size, partial(fill, file, path))


def parse_gguf_header(path: Path, size: int, fill_from: Fill) -> GgufHeader:
    """The same of a file whose bytes come from anywhere; asks for them in few pieces, in order.

    Args:
        path: What the file is called.
        size: Its length.
        fill_from: Gives its bytes.

    Raises:
        CheckpointError: As for `read_gguf_header`, and whatever `fill_from` raises.
        UnsupportedModelError: As for `read_gguf_header`.
    """
    source = _Source(path, size, fill_from)
    keys, tensors = _read_counts(source)
    metadata: dict[str, MetadataValue] = {}
    for _ in range(keys):
        key = source.string("a key", MAX_KEY_BYTES)
        if not key or not key.isprintable() or key in metadata:
            raise source.damaged(say("the key {key} is empty, unprintable or there twice", key=quote(key)))
        metadata[key] = _read_value(source, key, source.integer(_U32))
    described = [_read_tensor(source) for _ in range(tensors)]
    entries = _place_tensors(source, described, _alignment(source, metadata))
    return GgufHeader(MappingProxyType(metadata), MappingProxyType(entries))


@dataclass(frozen=True, slots=True)
class _Described:
    """One line of the list of tensors."""

    name: str
    shape: tuple[int, ...]
    format: WeightFormat
    offset: int  # from the start of the data


class _Source:
    """The start of a file, read as far as it is asked for; `position` is where the next value begins."""

    def __init__(self, path: Path, size: int, fill_from: Fill) -> None:
        self.path = path
        self.size = size
        self.data = bytearray()
        self.position = 0
        self.strings = 0  # in arrays, so far
        self._fill = fill_from

    def require(self, end: int) -> None:
        """Hold that `data` reaches to `end`.

        Raises:
            CheckpointError: The file is shorter, or no header is that long.
        """
        have = len(self.data)
        if end <= have:
            return
        if end > self.size:
            raise CheckpointError(
                say(
                    "{file} is truncated inside its header: {size} bytes of at least {end}.",
                    file=quote(self.path.name),
                    size=self.size,
                    end=end,
                ),
                DOWNLOAD_AGAIN,
            )
        if end > MAX_HEADER_BYTES:
            raise self.damaged(say("its header is over the limit of {most} bytes", most=MAX_HEADER_BYTES))
        target = min(max(end, 2 * have, FIRST_READ_BYTES), self.size, MAX_HEADER_BYTES)
        self.data.extend(bytes(target - have))
        self._fill(have, memoryview(self.data)[have:])

    def integer(self, layout: Struct) -> Any:  # noqa: ANN401 - the layout decides
        """The next number."""
        position = self.position
        end = position + layout.size
        if end > len(self.data):
            self.require(end)
        self.position = end
        return layout.unpack_from(self.data, position)[0]

    def take(self, count: int) -> bytearray:
        """The next bytes; the caller has bounded the count."""
        position = self.position
        self.position += count
        self.require(self.position)
        return self.data[position : self.position]

    def string(self, what: str, most_bytes: int = MAX_STRING_BYTES) -> str:
        """The next string."""
        length = self.integer(_U64)
        if length > most_bytes:
            raise self.damaged(
                say(
                    "{what} is {length} bytes long, over the limit of {most}",
                    what=what,
                    length=length,
                    most=most_bytes,
                )
            )
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise self.damaged(say("{what} is not UTF-8 text", what=what)) from None

    def has_room(self, count: int, bytes_each: int, what: str) -> None:
        """Hold that the file is long enough for what it promises."""
        if count * bytes_each > self.size - self.position:
            raise self.damaged(
                say(
                    "it promises {count} {what}, more than its {size} bytes can hold",
                    count=count,
                    what=what,
                    size=self.size,
                )
            )

    def damaged(self, what: str) -> CheckpointError:
        """The error for a header that cannot be true."""
        return CheckpointError(say("{file} is damaged: {what}.", file=quote(self.path.name), what=what), DOWNLOAD_AGAIN)


def _read_counts(source: _Source) -> tuple[int, int]:
    """The numbers of keys and of tensors, after a magic and a version that we read."""
    name = quote(source.path.name)
    if source.size < len(MAGIC) or source.take(len(MAGIC)) != MAGIC:
        raise CheckpointError(
            say("{name} is not a GGUF file: it does not begin with 'GGUF'.", name=name),
            say("Check that the download is complete, and download it again."),
        )
    version = source.integer(_U32)
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS
        what = say("in big-endian byte order") if swapped else say("of version {version}", version=version)
        raise UnsupportedModelError(
            say("{name} is a GGUF file {what}, not a little-endian one of version 2 or 3.", name=name, what=what),
            say("Download a newer conversion of the model."),
        )
    tensors, keys = source.integer(_U64), source.integer(_U64)
    for count, most, bytes_each, what in (
        (keys, MAX_KEYS, _MIN_KEY_BYTES, say("metadata keys")),
        (tensors, MAX_GGUF_TENSORS, _MIN_TENSOR_BYTES, say("tensors")),
    ):
        source.has_room(count, bytes_each, what)
        if count > most:
            raise source.damaged(
                say("it promises {count} {what}, over the limit of {most}", count=count, what=what, most=most)
            )
    return keys, tensors


def _read_value(source: _Source, key: str, kind: int) -> MetadataValue:
    """The value of one key."""
    if kind in _SCALARS:
        value: int | float = source.integer(_SCALARS[kind])
        return _as_bool(source, key, value) if kind == _BOOL else value
    if kind == _STRING:
        return source.string(say("the text of {key}", key=quote(key)))
    if kind != _ARRAY:
        raise source.damaged(say("{key} has the unknown type {kind}", key=quote(key), kind=kind))
    item, count = source.integer(_U32), source.integer(_U64)
    if item == _STRING:
        return _read_strings(source, key, count)
    if item not in _SCALARS:
        what = say("an array of arrays") if item == _ARRAY else say("an array of the unknown type {type}", type=item)
        raise source.damaged(say("{key} is {what}", key=quote(key), what=what))
    layout = _SCALARS[item]
    source.has_room(count, layout.size, say("values of {key}", key=quote(key)))
    content = source.take(count * layout.size)
    if item == _BOOL:
        for odd in content.translate(None, b"\0\1")[:1]:
            _as_bool(source, key, odd)
    numbers = array(layout.format[-1], content)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _as_bool(source: _Source, key: str, value: float) -> bool:
    """A byte that is 0 or 1."""
    if value not in (0, 1):
        raise source.damaged(say("{key} is {value}, neither true nor false", key=quote(key), value=str(value)))
    return bool(value)


def _read_strings(source: _Source, key: str, count: int) -> list[str]:
    """An array of strings: a hundred thousand tokens and more, so with local names and as few calls as can be."""
    source.has_room(count, _U64.size, say("strings of {key}", key=quote(key)))
    source.strings += count
    if source.strings > MAX_STRINGS:
        raise source.damaged(
            say(
                "its arrays hold {number} strings, over the limit of {most}",
                number=source.strings,
                most=MAX_STRINGS,
            )
        )
    data, position, have = source.data, source.position, len(source.data)
    unpack, result = _U64.unpack_from, []
    try:
        for _ in range(count):
            start = position + 8
            if start > have:
                source.require(start)
                have = len(data)
            position = start + unpack(data, position)[0]
            if position > have:
                source.require(position)
                have = len(data)
            result.append(data[start:position].decode())
    except UnicodeDecodeError:
        raise source.damaged(say("a string of {key} is not UTF-8 text", key=quote(key))) from None
    source.position = position
    return result


def _read_tensor(source: _Source) -> _Described:
    """The next line of the list of tensors; where its bytes lie is checked when all are known."""
    name = source.string(_TENSOR_NAME, MAX_NAME_BYTES)
    if not name or not name.isprintable():
        raise source.damaged(say("a tensor has the empty or unprintable name {name}", name=quote(name)))
    dimensions = source.integer(_U32)
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise source.damaged(
            say(
                "tensor {name} has {dimensions} dimensions, not 1 to {most}",
                name=quote(name),
                dimensions=dimensions,
                most=MAX_DIMENSIONS,
            )
        )
    shape = tuple([source.integer(_U64) for _ in range(dimensions)][::-1])
    if 0 in shape:
        raise source.damaged(
            say("tensor {name} has the empty shape {shape}", name=quote(name), shape=quote(list(shape)))
        )
    kind, offset = source.integer(_U32), source.integer(_U64)
    stored = BY_GGUF_ID.get(kind)
    if stored is None:
        raise UnsupportedModelError(
            say(
                "Tensor {name} in {file} is stored as {kind}, which is not supported.",
                name=quote(name),
                file=quote(source.path.name),
                kind=_OTHER_FORMATS.get(kind, say("the unknown format {number}", number=kind)),
            ),
            CHOOSE_FORMAT,
        )
    if shape[-1] % stored.block_columns:
        raise source.damaged(
            say(
                "tensor {name} has {columns} columns, no multiple of {format}'s {block}",
                name=quote(name),
                columns=shape[-1],
                format=stored.name,
                block=stored.block_columns,
            )
        )
    return _Described(name, shape, stored, offset)


def _alignment(source: _Source, metadata: Mapping[str, MetadataValue]) -> int:
    """What every offset is a multiple of."""
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(alignment) is not int or not MIN_ALIGNMENT <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise source.damaged(
            say(
                "general.alignment is {alignment}, no power of two from {least} to {most}",
                alignment=quote(alignment),
                least=MIN_ALIGNMENT,
                most=MAX_ALIGNMENT,
            )
        )
    return alignment


def _place_tensors(source: _Source, described: list[_Described], alignment: int) -> dict[str, TensorEntry]:
    """Where each tensor's bytes lie, inside the file and apart from each other."""
    begin = -(-source.position // alignment) * alignment
    entries: dict[str, TensorEntry] = {}
    end = begin
    for tensor in sorted(described, key=lambda tensor: tensor.offset):
        nbytes = tensor.format.row_bytes(tensor.shape[-1])
        for rows in tensor.shape[:-1]:
            nbytes *= rows
        start = begin + tensor.offset
        name = quote(tensor.name)
        if tensor.name in entries:
            raise source.damaged(say("tensor {name} is there twice", name=name))
        if tensor.offset % alignment:
            raise source.damaged(
                say(
                    "tensor {name} begins at {offset}, no multiple of {alignment}",
                    name=name,
                    offset=tensor.offset,
                    alignment=alignment,
                )
            )
        if start + nbytes > source.size:
            raise CheckpointError(
                say(
                    "{file} is truncated: tensor {name} ends {number} bytes past its end.",
                    file=quote(source.path.name),
                    name=name,
                    number=quote(start + nbytes - source.size),
                ),
                DOWNLOAD_AGAIN,
            )
        if start < end:
            raise source.damaged(say("tensor {name} overlaps another tensor", name=name))
        end = start + nbytes
        entries[tensor.name] = TensorEntry(tensor.name, tensor.format.name, tensor.shape, source.path, start, nbytes)
    return entries
