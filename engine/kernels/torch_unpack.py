"""Decodes packed weights (docs/packed-layout.md) with torch operations, on whatever device they lie.

The portable path, held equal bit for bit to `engine.quant.reference` in float32. Works a few strips at a time, so that
its temporaries stay small beside the result. Does not wait for the device, but for the first use of a table of codes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType

import torch

from engine.quant.formats import TILE_ROWS, WeightFormat
from engine.quant.packing import HALF, LANE, LAYOUTS, Field
from engine.quant.reference import IQ4_VALUES, MXFP4_VALUES

# Weights in hand at a time. On a CPU their temporaries stay in its cache; on a GPU a pass is worth its launches.
_CPU_PASS_WEIGHTS = 1 << 19
_GPU_PASS_WEIGHTS = 1 << 22

# Times a mask of one byte, the mask of the 4 bytes of a lane.
_EVERY_BYTE = 0x01010101

# A block's fields by ggml's names: fp16 scales as float32 [S, 16, B, 1], bytes as uint8 [S, 16, B, n], lanes as
# int32 [S, 16, B, n]. S strips, 16 rows, B blocks, C columns of a block, G groups of them with one scale each.
_Fields = Mapping[str, torch.Tensor]

# Codes [S, 16, B, C]; what a group's codes are multiplied with [S, 16, B, G]; what is subtracted, alike, if anything.
_Decoded = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]


def unpack(
    weight_format: WeightFormat, rows: int, columns: int, packed: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """Decode a packed matrix.

    Args:
        weight_format: Its format.
        rows: Its rows.
        columns: Its columns.
        packed: [packed_bytes] uint8 or longer, at a 64-byte boundary.
        dtype: A float type.

    Returns:
        [rows, columns] of `dtype` on the same device, rounded once from float32; float formats of that very type are
        a view.
    """
    row_bytes = weight_format.row_bytes(columns)
    if weight_format.is_float:
        return packed[: rows * row_bytes].view(_FLOATS[weight_format.name]).view(rows, columns).to(dtype)
    strips, blocks = -(-rows // TILE_ROWS), columns // weight_format.block_columns
    tiles = packed[: strips * TILE_ROWS * row_bytes].view(strips, blocks, TILE_ROWS * weight_format.block_bytes)
    shape = (strips, TILE_ROWS, blocks, weight_format.block_columns)
    weights = torch.empty(shape, dtype=dtype, device=packed.device)
    pass_weights = _GPU_PASS_WEIGHTS if packed.is_cuda else _CPU_PASS_WEIGHTS
    step = max(1, pass_weights // (TILE_ROWS * columns))
    for some, target in zip(tiles.split(step), weights.split(step), strict=True):
        _write(_BLOCKS[weight_format.name](_fields(weight_format.name, some)), target)
    return weights.view(-1, columns)[:rows]


def _fields(name: str, tiles: torch.Tensor) -> _Fields:
    """Views of tiles [S, B, tile_bytes] by field and row; only the scales are converted."""
    fields, start = {}, 0
    for field in LAYOUTS[name]:
        size = field.size_bytes * TILE_ROWS
        fields[field.name] = _by_row(field, tiles[..., start : start + size])
        start += size
    return fields


def _by_row(field: Field, entries: torch.Tensor) -> torch.Tensor:
    """One field of tiles [S, B, bytes] by rows."""
    if field.entry_bytes == HALF:
        return entries.view(torch.float16).movedim(-1, 1).unsqueeze(-1).float()
    if field.entry_bytes == LANE:
        entries = entries.view(torch.int32)
    by_row: torch.Tensor = entries.unflatten(-1, (field.entries, TILE_ROWS)).movedim(-1, 1)
    return by_row.contiguous()


def _write(decoded: _Decoded, weights: torch.Tensor) -> None:
    """Scale codes into weights [S, 16, B, C], which are rounded to their type."""
    codes, scales, minima = decoded
    grouped = (*scales.shape, -1)
    codes, weights = codes.view(grouped), weights.view(grouped)
    if minima is None:
        torch.mul(codes, scales.unsqueeze(-1), out=weights)
    else:
        torch.sub(codes * scales.unsqueeze(-1), minima.unsqueeze(-1), out=weights)


def _parts(lanes: torch.Tensor, chunk_lanes: int, bits: int) -> torch.Tensor:
    """Codes in the order of the columns, 4 to an int32 [S, 16, B, C / 4], of lanes [S, 16, B, n].

    A chunk of lanes holds its first columns in the lowest bits of its bytes, the next ones in the bits above.
    """
    chunks = lanes.unflatten(-1, (-1, chunk_lanes))
    parts = torch.stack([chunks >> shift for shift in range(0, 8, bits)], dim=-2)
    return parts.bitwise_and_(_EVERY_BYTE * ((1 << bits) - 1)).flatten(3)


def _signed(codes: torch.Tensor, zero: int) -> torch.Tensor:
    """Codes, 4 to an int32, as int8 [S, 16, B, C], less the one that stands for zero."""
    return codes.view(torch.int8).sub_(zero)


def _looked_up(codes: torch.Tensor, values: tuple[int, ...]) -> torch.Tensor:
    """What codes, 4 to an int32, stand for: int8 [S, 16, B, C]."""
    table = _table(values, codes.device).expand(codes.shape[0] * TILE_ROWS * codes.shape[2], -1)
    flat = codes.view(torch.uint8).long().view(table.shape[0], -1)
    return table.gather(1, flat).view(*codes.shape[:3], -1)


@cache
def _table(values: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """A table on its device; made once, because the copy waits for it."""
    return torch.tensor(values, dtype=torch.int8, device=device)


def _pieces(scales: torch.Tensor, bits: int) -> torch.Tensor:
    """The parts of bytes [S, 16, B, n], lowest bits first: [S, 16, B, n * 8 / bits]."""
    parts = torch.stack([scales >> shift for shift in range(0, 8, bits)], dim=-1)
    return parts.bitwise_and_((1 << bits) - 1).flatten(3)


def _six_bits(pairs: torch.Tensor, fours: torch.Tensor) -> torch.Tensor:
    """Numbers of 6 bits, as float32, of their low 4 bits in pairs and their upper 2 bits in fours [S, 16, B, n]."""
    return (_pieces(pairs, 4) | _pieces(fours, 2) << 4).float()


def _q8_0(f: _Fields) -> _Decoded:
    return f["qs"].view(torch.int8), f["d"], None


def _q4_0(f: _Fields) -> _Decoded:
    return _signed(_parts(f["qs"], 4, 4), 8), f["d"], None


def _q4_1(f: _Fields) -> _Decoded:
    return _parts(f["qs"], 4, 4).view(torch.int8), f["d"], -f["m"]


def _q5_0(f: _Fields) -> _Decoded:
    return _signed(_five_bits(f), 16), f["d"], None


def _q5_1(f: _Fields) -> _Decoded:
    return _five_bits(f).view(torch.int8), f["d"], -f["m"]


def _five_bits(f: _Fields) -> torch.Tensor:
    """Codes of Q5_0 and Q5_1, whose high bits lie as in note (a)."""
    return _parts(f["qs"], 4, 4) | _parts(f["qh"], 1, 1) << 4


def _q2_k(f: _Fields) -> _Decoded:
    scales, minima = f["scales"] & 15, f["scales"] >> 4
    return _parts(f["qs"], 8, 2).view(torch.int8), f["d"] * scales, f["dmin"] * minima


def _q3_k(f: _Fields) -> _Decoded:
    codes = _parts(f["qs"], 8, 2) | _parts(f["hmask"], 8, 1) << 2
    pairs, fours = f["scales"].split((8, 4), dim=-1)
    return _signed(codes, 4), f["d"] * (_six_bits(pairs, fours) - 32), None


def _q4_k(f: _Fields) -> _Decoded:
    return _with_minima(f, _parts(f["qs"], 8, 4))


def _q5_k(f: _Fields) -> _Decoded:
    return _with_minima(f, _parts(f["qs"], 8, 4) | _parts(f["qh"], 8, 1) << 4)


def _with_minima(f: _Fields, codes: torch.Tensor) -> _Decoded:
    """Q4_K and Q5_K: scale and minimum of a group lie side by side, as in note (c)."""
    pairs, fours = f["scales"].split((8, 4), dim=-1)
    numbers = _six_bits(pairs, fours)
    return codes.view(torch.int8), f["d"] * numbers[..., 0::2], f["dmin"] * numbers[..., 1::2]


def _q6_k(f: _Fields) -> _Decoded:
    codes = _parts(f["ql"], 16, 4) | _parts(f["qh"], 8, 2) << 4
    return _signed(codes, 32), f["d"] * f["scales"].view(torch.int8), None


def _iq4_nl(f: _Fields) -> _Decoded:
    return _looked_up(_parts(f["qs"], 4, 4), IQ4_VALUES), f["d"], None


def _iq4_xs(f: _Fields) -> _Decoded:
    scales = _six_bits(f["scales_l"], f["scales_h"]) - 32
    return _looked_up(_parts(f["qs"], 4, 4), IQ4_VALUES), f["d"] * scales, None


def _mxfp4(f: _Fields) -> _Decoded:
    exponents = f["e"].int()
    # Half of 2 ** (e - 127), because the values are doubled; the two smallest are subnormal.
    bits = torch.where(exponents < 2, 0x00200000 << exponents, (exponents - 1) << 23)
    return _looked_up(_parts(f["qs"], 4, 4), MXFP4_VALUES), bits.view(torch.float32), None


_FLOATS: Mapping[str, torch.dtype] = MappingProxyType(
    {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
)
_BLOCKS: Mapping[str, Callable[[_Fields], _Decoded]] = MappingProxyType(
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
