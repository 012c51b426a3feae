"""Moves a weight matrix from GGUF's blocks into the packed layout (docs/packed-layout.md) with plain NumPy.

A block of the file and a
tile in memory are two structured types with the same fields, made from one table, so that packing is one copy per
field: [rows, blocks, entries] -> [strips, blocks, entries, 16]. The few fields whose bits move as well name the
function that moves them. Knows nothing of what the bits mean; `engine.quant.reference` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.quant.formats import TILE_ROWS, WeightFormat

Bytes = NDArray[np.uint8]

# Bytes of one row that stay together in a tile: small scales, fp16, the 4 columns of one lane.
BYTE, HALF, LANE = 1, 2, 4

# Source bytes in hand at a time: enough to hide NumPy's overhead, few enough to stay in the cache.
_PASS_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a block.

    Attributes:
        name: As in ggml's `block_*`.
        start: Its first byte in the block.
        size_bytes: Its bytes in the block, and per row in the tile.
        entry_bytes: How many of them stay together in the tile.
        rearranged: What moves its bits first, [..., entries] -> [..., entries]; None where they stay.
    """

    name: str
    start: int
    size_bytes: int
    entry_bytes: int
    rearranged: Callable[[NDArray[Any]], NDArray[Any]] | None = None

    @property
    def entries(self) -> int:
        """Entries of one row."""
        return self.size_bytes // self.entry_bytes


def tile_type(weight_format: WeightFormat) -> np.dtype[np.void]:
    """A tile of a block format as a structured type.

    Its fields are [entries, 16] of uint8, uint16 (fp16 bits) or uint32 (one lane), named as in ggml's `block_*`.
    """
    return _types(weight_format.name)[1]


def pack(weight_format: WeightFormat, rows: int, columns: int, source: Bytes) -> Bytes:
    """Pack a matrix into memory of its own: [packed_bytes]; arguments as for `pack_into`."""
    packed = np.empty(weight_format.packed_bytes(rows, columns), dtype=np.uint8)
    pack_into(weight_format, rows, columns, source, packed)
    return packed


def pack_into(weight_format: WeightFormat, rows: int, columns: int, source: Bytes, target: Bytes) -> None:
    """Pack a matrix, or a slice of it that begins with a whole tile.

    Args:
        weight_format: Its format.
        rows: Its rows.
        columns: Its columns, a multiple of the format's `block_columns`.
        source: Row by row as in the file, contiguous, [rows * row_bytes] or [rows, row_bytes]: GGUF blocks, or the raw
            bytes of floats.
        target: [packed_bytes]; every byte is written: rows past the last and the bytes up to the boundary become zero.
    """
    row_bytes = weight_format.row_bytes(columns)
    assert source.size == rows * row_bytes, f"{source.size} bytes are no {rows} x {columns} matrix"
    assert target.size == weight_format.packed_bytes(rows, columns), f"{target.size} bytes for a packed matrix"
    if weight_format.is_float:
        target[: source.size] = source.reshape(-1)
        target[source.size :] = 0
        return
    block, tile = _types(weight_format.name)
    matrix = source.reshape(rows, row_bytes).view(block)
    strips, blocks = -(-rows // TILE_ROWS), matrix.shape[1]
    tiles = target[: strips * blocks * tile.itemsize].view(tile).reshape(strips, blocks)
    step = max(1, _PASS_BYTES // (TILE_ROWS * row_bytes))
    whole = rows // TILE_ROWS
    target[whole * blocks * tile.itemsize :] = 0
    for first in range(0, whole, step):
        last = min(first + step, whole)
        _lay(weight_format, matrix[first * TILE_ROWS : last * TILE_ROWS], tiles[first:last])
    if whole < strips:
        _lay(weight_format, matrix[whole * TILE_ROWS :], tiles[whole:])


def _lay(weight_format: WeightFormat, matrix: NDArray[np.void], tiles: NDArray[np.void]) -> None:
    """Copy rows [rows, blocks] into their tiles [strips, blocks]: whole strips, or one with fewer rows."""
    strips, blocks = tiles.shape
    for field in LAYOUTS[weight_format.name]:
        entries = matrix[field.name]
        if field.rearranged is not None:
            entries = field.rearranged(entries)
        by_strip = entries.reshape(strips, -1, blocks, field.entries)
        tiles[field.name][..., : by_strip.shape[1]] = by_strip.transpose(0, 2, 3, 1)


@cache
def _types(name: str) -> tuple[np.dtype[np.void], np.dtype[np.void]]:
    """The block in the file and the tile in memory, as structured types without gaps."""
    fields = LAYOUTS[name]
    entry = [f"<u{field.entry_bytes}" for field in fields]
    block = np.dtype(
        {
            "names": [field.name for field in fields],
            "formats": [(kind, (field.entries,)) for kind, field in zip(entry, fields, strict=True)],
            "offsets": [field.start for field in fields],
            "itemsize": sum(field.size_bytes for field in fields),
        }
    )
    tile = np.dtype([(field.name, kind, (field.entries, TILE_ROWS)) for kind, field in zip(entry, fields, strict=True)])
    return block, tile


def _high_bits(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Note (a): bit 4p + j of a block's 32 high bits becomes bit p of byte j."""
    moved = np.zeros_like(words)
    for p in range(8):
        nibble = (words >> np.uint32(4 * p)) & np.uint32(0xF)
        # The product has bit j of the nibble at 8j, beside copies that the mask drops; none of them meet.
        moved |= ((nibble * np.uint32(0x00204081)) & np.uint32(0x01010101)) << np.uint32(p)
    return moved


def _q3_k_scales(scales: Bytes) -> Bytes:
    """Note (b): the scales of `block_q3_K` [..., 12].

    In the file byte i has the low bits of groups i and i + 8, and byte 8 + i the upper bits of i, i + 4, i + 8, i + 12.
    """
    even, odd, upper = scales[..., 0:8:2], scales[..., 1:8:2], scales[..., 8:]
    fours = [_joined(upper >> shift & 3, 2) for shift in (0, 2, 4, 6)]
    return np.concatenate([even & 15 | odd << 4, even >> 4 | odd & 0xF0, *fours], axis=-1)


def _k_scales_and_mins(scales: Bytes) -> Bytes:
    """Note (c): the scales of `block_q4_K` and `block_q5_K` [..., 12].

    In the file bytes 0..3 have scales 0..3 and bytes 4..7 mins 0..3, with the upper bits of scales and mins 4..7 above
    them; bytes 8..11 have the low bits of scales and mins 4..7, paired as in the tile.
    """
    scale, minimum, late_low = scales[..., :4], scales[..., 4:8], scales[..., 8:]
    early_upper = scale >> 4 & 3 | minimum >> 2 & 12
    late_upper = scale >> 6 | minimum >> 4 & 12
    fours = [_joined(early_upper, 4), _joined(late_upper, 4)]
    return np.concatenate([scale & 15 | minimum << 4, late_low, *fours], axis=-1)


def _joined(parts: NDArray[Any], bits: int) -> NDArray[Any]:
    """Neighbours of so many bits each [..., n], joined to bytes [..., n * bits / 8], the first one lowest."""
    while bits < 8:
        parts, bits = parts[..., 0::2] | parts[..., 1::2] << bits, 2 * bits
    return parts


# The fields of every block format, in the order of the tile.
LAYOUTS: Mapping[str, tuple[Field, ...]] = MappingProxyType(
    {
        "Q8_0": (Field("d", 0, 2, HALF), Field("qs", 2, 32, LANE)),
        "Q4_0": (Field("d", 0, 2, HALF), Field("qs", 2, 16, LANE)),
        "Q4_1": (Field("d", 0, 2, HALF), Field("m", 2, 2, HALF), Field("qs", 4, 16, LANE)),
        "Q5_0": (Field("d", 0, 2, HALF), Field("qh", 2, 4, LANE, _high_bits), Field("qs", 6, 16, LANE)),
        "Q5_1": (
            Field("d", 0, 2, HALF),
            Field("m", 2, 2, HALF),
            Field("qh", 4, 4, LANE, _high_bits),
            Field("qs", 8, 16, LANE),
        ),
        "Q2_K": (
            Field("d", 80, 2, HALF),
            Field("dmin", 82, 2, HALF),
            Field("scales", 0, 16, BYTE),
            Field("qs", 16, 64, LANE),
        ),
        "Q3_K": (
            Field("d", 108, 2, HALF),
            Field("scales", 96, 12, BYTE, _q3_k_scales),
            Field("hmask", 0, 32, LANE),
            Field("qs", 32, 64, LANE),
        ),
        "Q4_K": (
            Field("d", 0, 2, HALF),
            Field("dmin", 2, 2, HALF),
            Field("scales", 4, 12, BYTE, _k_scales_and_mins),
            Field("qs", 16, 128, LANE),
        ),
        "Q5_K": (
            Field("d", 0, 2, HALF),
            Field("dmin", 2, 2, HALF),
            Field("scales", 4, 12, BYTE, _k_scales_and_mins),
            Field("qh", 16, 32, LANE),
            Field("qs", 48, 128, LANE),
        ),
        "Q6_K": (
            Field("d", 208, 2, HALF),
            Field("scales", 192, 16, BYTE),
            Field("ql", 0, 128, LANE),
            Field("qh", 128, 64, LANE),
        ),
        "IQ4_NL": (Field("d", 0, 2, HALF), Field("qs", 2, 16, LANE)),
        "IQ4_XS": (  # note (d): the file has the bits in this order already
            Field("d", 0, 2, HALF),
            Field("scales_l", 4, 4, BYTE),
            Field("scales_h", 2, 2, BYTE),
            Field("qs", 8, 128, LANE),
        ),
        "MXFP4": (Field("e", 0, 1, BYTE), Field("qs", 1, 16, LANE)),
    }
)
