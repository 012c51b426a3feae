"""The beginning of a GGUF file: everything before its tensors' bytes (version 3, little-endian).

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; `engine.checkpoint.gguf_file` reads the same. The
`gguf` package's writer writes from first to last: a file that is resumed needs every offset before any byte.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from itertools import chain
from struct import pack

from engine.checkpoint.gguf_file import DEFAULT_ALIGNMENT, MAGIC, MetadataValue
from engine.quant.formats import FORMATS

Described = tuple[str, str, tuple[int, ...], int]
_VERSION = 3
_STRING, _ARRAY = 8, 9
_BOOL, _UINT32, _INT64, _UINT64, _FLOAT32 = 7, 4, 11, 10, 6
_ITEMS = {"B": 0, "b": 1, "H": 2, "h": 3, "I": 4, "i": 5, "f": 6, "Q": 10, "q": 11, "d": 12}


def encode_header(metadata: Mapping[str, MetadataValue], tensors: Iterable[Described]) -> bytes:
    """The header, filled up to where the first tensor begins.

    Args:
        metadata: Keys and values; a float is written as 32 bits, a whole number as 32 bits where it fits.
        tensors: For each its name, format, shape (the dimension that lies together last), and offset in the data.
    """
    described = list(tensors)
    parts = [
        MAGIC,
        pack("<IQQ", _VERSION, len(described), len(metadata)),
        *chain.from_iterable((_text(key), _value(value)) for key, value in metadata.items()),
    ]
    for name, stored, shape, offset in described:
        dimensions = pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        parts += [_text(name), dimensions, pack("<IQ", FORMATS[stored].gguf_id, offset)]
    header = b"".join(parts)
    return header + bytes(-len(header) % DEFAULT_ALIGNMENT)


def _text(text: str) -> bytes:
    content = text.encode()
    return pack("<Q", len(content)) + content


def _value(value: MetadataValue) -> bytes:
    """A value with its type before it."""
    if isinstance(value, bool):
        return pack("<I?", _BOOL, value)
    if isinstance(value, int):
        kind, letter = (_UINT32, "I") if 0 <= value < 1 << 32 else (_INT64, "q") if value < 1 << 63 else (_UINT64, "Q")
        return pack(f"<I{letter}", kind, value)
    if isinstance(value, float):
        return pack("<If", _FLOAT32, value)
    if isinstance(value, str):
        return pack("<I", _STRING) + _text(value)
    if isinstance(value, array):
        return pack(f"<IIQ{len(value)}{value.typecode}", _ARRAY, _ITEMS[value.typecode], len(value), *value)
    return pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(map(_text, value))
