"""Floats to GGUF's blocks, by the native library where it is there, by its NumPy reference where not: the same bytes.

Imports no torch. Calls release the interpreter's lock, so that several threads encode at once.
"""

from __future__ import annotations

import ctypes
import math
from ctypes import c_double, c_int, c_size_t, c_void_p
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.config import IsaName
from engine.kernels import library_path
from engine.kernels.cpu_library import ISAS, available_isas
from engine.quant.encoding import GROUP, Bytes, Encoded, Floats, encode
from engine.quant.formats import FORMATS

_CACHED_WEIGHTS = 1 << 15  # looked at together; no more than a core's cache holds
_REFERENCE_WEIGHTS = 1 << 18
FLOATS = ("F32", "F16", "BF16")


def encode_weights(
    name: str,
    source_format: str,
    source: Bytes,
    columns: int,
    *,
    search: bool = True,
    isa: IsaName | None = None,
    out: Bytes | None = None,
) -> Encoded:
    """Encode rows as they lie in a file.

    Args:
        name: A format of `engine.quant.encoding.ENCODERS`.
        source_format: One of `FLOATS`.
        source: Raw bytes of whole rows, contiguous.
        columns: Weights of a row, a multiple of the format's `block_columns`.
        search: As for `engine.quant.encoding.encode`.
        isa: Instructions to use; None for the best that are there.
        out: Where the blocks go, contiguous; None for new memory.

    Raises:
        ValueError: A weight is not finite, or too large for the format.
    """
    row_bytes = columns * FORMATS[source_format].block_bytes
    rows = source.size // row_bytes
    assert rows * row_bytes == source.size, f"{source.size} bytes are no rows of {row_bytes}"
    shape = rows, FORMATS[name].row_bytes(columns)
    blocks = np.empty(shape, dtype=np.uint8) if out is None else out.reshape(shape)
    isas = available_isas()
    function = _native()
    if function is None or not isas:
        encoded = _by_reference(name, source_format, source, columns, search)
        blocks[:] = encoded.blocks
        encoded = replace(encoded, blocks=blocks)
    else:
        squares = (c_double * 2)()
        function(
            ISAS.index(isa or isas[-1]),
            FORMATS[name].native_id,
            FORMATS[source_format].native_id,
            source.ctypes.data,
            rows * columns // GROUP,
            blocks.ctypes.data,
            search,
            squares,
        )
        encoded = Encoded(blocks, squares[0], squares[1])
    if not (math.isfinite(encoded.squared_error) and math.isfinite(encoded.squared_weights)):
        raise ValueError(f"a weight is not finite, or too large for {name}")
    return encoded


def as_float32(source_format: str, source: Bytes) -> Floats:
    """Raw bytes of floats [n * bytes] -> [n]."""
    if source_format == "BF16":
        return (source.view("<u2").astype("<u4") << np.uint32(16)).view("<f4")
    return source.view({"F32": "<f4", "F16": "<f2"}[source_format]).astype(np.float32)


def as_bfloat16(source_format: str, source: Bytes) -> Bytes:
    """Raw bytes of floats, each rounded to the nearest bfloat16, ties to even; not-a-numbers stay such."""
    if source_format == "BF16":
        return source
    bits: NDArray[np.uint32] = as_float32(source_format, source).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    lost = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    return (np.where(lost, bits | np.uint32(0x400000), rounded) >> np.uint32(16)).astype("<u2").view(np.uint8)


def is_finite(source_format: str, source: Bytes) -> bool:
    """Whether raw bytes of floats hold neither infinities nor not-a-numbers."""
    kind, exponent = {"F32": ("<u4", 0x7F800000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}[source_format]
    bits = source.view(kind)
    sign = bits.dtype.type(1 << (8 * bits.itemsize - 1))
    parts = (bits[first : first + _CACHED_WEIGHTS] & ~sign for first in range(0, bits.size, _CACHED_WEIGHTS))
    return all(int(part.max()) < exponent for part in parts)


def _by_reference(name: str, source_format: str, source: Bytes, columns: int, search: bool) -> Encoded:
    """A few rows at a time: the reference keeps many copies."""
    rows = source.reshape(-1, columns * FORMATS[source_format].block_bytes)
    step = max(1, _REFERENCE_WEIGHTS // columns)
    with np.errstate(invalid="ignore", over="ignore"):  # weights that are not finite: the sums tell
        parts = [
            encode(
                name,
                as_float32(source_format, rows[first : first + step].reshape(-1)).reshape(-1, columns),
                search=search,
            )
            for first in range(0, len(rows), step)
        ]
    return Encoded(
        np.concatenate([part.blocks for part in parts]),
        sum(part.squared_error for part in parts),
        sum(part.squared_weights for part in parts),
    )


@cache
def _native() -> Any:  # noqa: ANN401 - a function of a foreign library
    """The library's encoder; None where there is no library, or one without it."""
    path = library_path.find_library()
    if path is None or not available_isas():
        return None
    function = getattr(ctypes.CDLL(str(path)), "rooftop_encode", None)
    if function is not None:
        function.restype = None
        function.argtypes = (c_int, c_int, c_int, c_void_p, c_size_t, c_void_p, c_int, c_void_p)
    return function
