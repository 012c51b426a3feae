"""What the packed layout (docs/packed-layout.md) means: plain decoders, and the measure for every faster one.

Each is the arithmetic of ggml's `dequantize_row_*` in float32, operation for operation, so that decoded weights equal
those of ggml bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.quant.formats import TILE_ROWS, WeightFormat
from engine.quant.packing import BYTE, HALF, LAYOUTS, Bytes, Field, tile_type

Floats = NDArray[np.float32]

# A block's fields by ggml's names: fp16 scales as floats [R, B, 1], all else as bytes [R, B, n]. R rows, B blocks.
Fields = Mapping[str, NDArray[Any]]

# What the 16 codes of IQ4_NL and IQ4_XS stand for (ggml's kvalues_iq4nl).
IQ4_VALUES = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
# Twice what the 16 codes of MXFP4 stand for: e2m1 of the OCP Microscaling specification (ggml's kvalues_mxfp4).
MXFP4_VALUES = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)


def decode(weight_format: WeightFormat, rows: int, columns: int, packed: Bytes) -> Floats:
    """Decode a packed matrix.

    Args:
        weight_format: Its format.
        rows: Its rows.
        columns: Its columns.
        packed: [packed_bytes], or longer.

    Returns:
        [rows, columns] float32, equal bit for bit to what ggml makes of the blocks.
    """
    if weight_format.is_float:
        return _FLOATS[weight_format.name](packed[: rows * weight_format.row_bytes(columns)]).reshape(rows, columns)
    tile, strips = tile_type(weight_format), -(-rows // TILE_ROWS)
    tiles = packed[: strips * TILE_ROWS * weight_format.row_bytes(columns)].view(tile).reshape(strips, -1)
    fields = {field.name: _rows(field, tiles[field.name])[:rows] for field in LAYOUTS[weight_format.name]}
    weights: Floats = _BLOCKS[weight_format.name](fields).reshape(rows, columns)
    return weights


def _rows(field: Field, entries: NDArray[Any]) -> NDArray[Any]:
    """A field by rows [R, B, n] of its tiles [strips, B, entries, 16]."""
    strips, blocks = entries.shape[:2]
    by_row = np.ascontiguousarray(entries.transpose(0, 3, 1, 2)).reshape(strips * TILE_ROWS, blocks, field.entries)
    if field.entry_bytes == HALF:
        return by_row.view(np.float16).astype(np.float32)
    return by_row if field.entry_bytes == BYTE else by_row.view(np.uint8)


def _codes(field: Bytes, chunk_bytes: int, bits: int) -> Floats:
    """Codes in the order of the columns [R, B, C].

    A chunk of bytes holds its first columns in the lowest bits of its bytes, the next ones in the bits above.
    """
    chunks = field.reshape(*field.shape[:2], -1, 1, chunk_bytes)
    shifts = np.arange(0, 8, bits, dtype=np.uint8).reshape(-1, 1)
    codes = chunks >> shifts & np.uint8((1 << bits) - 1)
    return codes.reshape(*field.shape[:2], -1).astype(np.float32)


def _six_bits(scales: Bytes) -> Floats:
    """Numbers of 6 bits [R, B, n], of their low 4 bits in pairs followed by their upper 2 bits in fours."""
    pairs, fours = np.split(scales, [scales.shape[-1] * 2 // 3], axis=-1)
    return _codes(pairs, 1, 4) + 16 * _codes(fours, 1, 2)


def _scaled(scales: Floats, codes: Floats) -> Floats:
    """Each group's scale [R, B, G] times its codes [R, B, C]."""
    return (scales[..., None] * _grouped(codes, scales)).reshape(codes.shape)


def _scaled_less(scales: Floats, codes: Floats, mins: Floats) -> Floats:
    """As `_scaled`, less each group's minimum [R, B, G]."""
    return (scales[..., None] * _grouped(codes, scales) - mins[..., None]).reshape(codes.shape)


def _grouped(codes: Floats, scales: Floats) -> Floats:
    """Codes [R, B, G, C / G], one group for each scale [R, B, G]."""
    return codes.reshape(*scales.shape, -1)


def _q8_0(f: Fields) -> Floats:
    return f["d"] * f["qs"].view(np.int8).astype(np.float32)


def _q4_0(f: Fields) -> Floats:
    return f["d"] * (_codes(f["qs"], 16, 4) - 8)


def _q4_1(f: Fields) -> Floats:
    return f["d"] * _codes(f["qs"], 16, 4) + f["m"]


def _q5_0(f: Fields) -> Floats:
    return f["d"] * (_five_bits(f) - 16)


def _q5_1(f: Fields) -> Floats:
    return f["d"] * _five_bits(f) + f["m"]


def _five_bits(f: Fields) -> Floats:
    """Codes of Q5_0 and Q5_1, whose high bits lie as in note (a)."""
    return _codes(f["qs"], 16, 4) + 16 * _codes(f["qh"], 4, 1)


def _q2_k(f: Fields) -> Floats:
    scales, mins = np.split(_codes(f["scales"], 16, 4), 2, axis=-1)
    return _scaled_less(f["d"] * scales, _codes(f["qs"], 32, 2), f["dmin"] * mins)


def _q3_k(f: Fields) -> Floats:
    codes = _codes(f["qs"], 32, 2) + 4 * _codes(f["hmask"], 32, 1) - 4
    return _scaled(f["d"] * (_six_bits(f["scales"]) - 32), codes)


def _q4_k(f: Fields) -> Floats:
    return _k_with_mins(f, _codes(f["qs"], 32, 4))


def _q5_k(f: Fields) -> Floats:
    return _k_with_mins(f, _codes(f["qs"], 32, 4) + 16 * _codes(f["qh"], 32, 1))


def _k_with_mins(f: Fields, codes: Floats) -> Floats:
    """Q4_K and Q5_K: scale and minimum of a group lie side by side, as in note (c)."""
    numbers = _six_bits(f["scales"])
    return _scaled_less(f["d"] * numbers[..., 0::2], codes, f["dmin"] * numbers[..., 1::2])


def _q6_k(f: Fields) -> Floats:
    codes = _codes(f["ql"], 64, 4) + 16 * _codes(f["qh"], 32, 2) - 32
    return _scaled(f["d"] * f["scales"].view(np.int8).astype(np.float32), codes)


def _iq4_nl(f: Fields) -> Floats:
    return f["d"] * _looked_up(IQ4_VALUES, _codes(f["qs"], 16, 4))


def _iq4_xs(f: Fields) -> Floats:
    scales = _six_bits(np.concatenate([f["scales_l"], f["scales_h"]], axis=-1)) - 32
    return _scaled(f["d"] * scales, _looked_up(IQ4_VALUES, _codes(f["qs"], 16, 4)))


def _mxfp4(f: Fields) -> Floats:
    exponents = f["e"].astype(np.uint32)
    # Half of 2 ** (e - 127), because the values are doubled; the two smallest are subnormal.
    bits = np.where(exponents < 2, np.uint32(0x00200000) << exponents, (exponents - 1) << np.uint32(23))
    return bits.view(np.float32) * _looked_up(MXFP4_VALUES, _codes(f["qs"], 16, 4))


def _looked_up(values: tuple[int, ...], codes: Floats) -> Floats:
    """What the codes stand for."""
    return np.array(values, dtype=np.float32)[codes.astype(np.intp)]


def _f32(raw: Bytes) -> Floats:
    return raw.view(np.float32)


def _f16(raw: Bytes) -> Floats:
    return raw.view(np.float16).astype(np.float32)


def _bf16(raw: Bytes) -> Floats:
    return (raw.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)


_FLOATS: Mapping[str, Callable[[Bytes], Floats]] = MappingProxyType({"F32": _f32, "F16": _f16, "BF16": _bf16})
_BLOCKS: Mapping[str, Callable[[Fields], Floats]] = MappingProxyType(
    {
        "Q8_0": _q8_0,
        "Q4_0": _q4_0,
        "Q4_1": _q4_1,
        "Q5_0": _q5_0,
        "Q5_1": _q5_1,
        "Q2_K": _q2_k,
        "Q3_K": _q3_k,
        "Q4_K": _q4_k,
        "Q5_K": _q5_k,
        "Q6_K": _q6_k,
        "IQ4_NL": _iq4_nl,
        "IQ4_XS": _iq4_xs,
        "MXFP4": _mxfp4,
    }
)
