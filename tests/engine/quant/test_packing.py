"""Packing against docs/packed-layout.md, written out byte by byte, and against the sizes that formats promise."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.quant import packing
from engine.quant.formats import FORMATS, TILE_ROWS, WeightFormat
from engine.quant.packing import LAYOUTS, pack, tile_type
from tests.examples import examples
from tests.quantised import random_blocks

Bytes = NDArray[np.uint8]
Rows = list[dict[str, list[int]]]  # of 16 rows, the bytes of each field of one block

# ggml's blocks: their fields in the order of the file, and the bytes of each (ggml-common.h).
GGML_BLOCKS: Mapping[str, dict[str, int]] = {
    "Q8_0": {"d": 2, "qs": 32},
    "Q4_0": {"d": 2, "qs": 16},
    "Q4_1": {"d": 2, "m": 2, "qs": 16},
    "Q5_0": {"d": 2, "qh": 4, "qs": 16},
    "Q5_1": {"d": 2, "m": 2, "qh": 4, "qs": 16},
    "Q2_K": {"scales": 16, "qs": 64, "d": 2, "dmin": 2},
    "Q3_K": {"hmask": 32, "qs": 64, "scales": 12, "d": 2},
    "Q4_K": {"d": 2, "dmin": 2, "scales": 12, "qs": 128},
    "Q5_K": {"d": 2, "dmin": 2, "scales": 12, "qh": 32, "qs": 128},
    "Q6_K": {"ql": 128, "qh": 64, "scales": 16, "d": 2},
    "IQ4_NL": {"d": 2, "qs": 16},
    "IQ4_XS": {"d": 2, "scales_h": 2, "scales_l": 4, "qs": 128},
    "MXFP4": {"e": 1, "qs": 16},
}

# ---- the document's table and notes, one step for each entry ----


def halves(field: str) -> Callable[[Rows], list[int]]:
    return lambda rows: [byte for row in rows for byte in row[field]]


def single_bytes(field: str) -> Callable[[Rows], list[int]]:
    return lambda rows: [row[field][g] for g in range(len(rows[0][field])) for row in rows]


def lines(count: int, field: str) -> Callable[[Rows], list[int]]:
    return lambda rows: [row[field][4 * k + j] for k in range(count) for row in rows for j in range(4)]


def high_bits(rows: Rows) -> list[int]:
    """Note (a)."""
    bytes_of_rows = []
    for row in rows:
        bits = [row["qh"][column // 8] >> column % 8 & 1 for column in range(32)]
        bytes_of_rows += [sum(bits[4 * p + j] << p for p in range(8)) for j in range(4)]
    return bytes_of_rows


def six_bit_scales(numbers: Callable[[dict[str, list[int]]], list[int]]) -> Callable[[Rows], list[int]]:
    """Notes (b), (c) and (d): pairs of low halves, then fours of upper bits; 16 rows side by side."""

    def laid(rows: Rows) -> list[int]:
        of_rows = [numbers(row) for row in rows]
        count = len(of_rows[0])
        pairs = [row[2 * p] & 15 | (row[2 * p + 1] & 15) << 4 for p in range(count // 2) for row in of_rows]
        fours = [sum((row[4 * p + i] >> 4) << 2 * i for i in range(4)) for p in range(count // 4) for row in of_rows]
        return pairs + fours

    return laid


def q3_k_numbers(row: dict[str, list[int]]) -> list[int]:
    """As in ggml's `dequantize_row_q3_K`."""
    low = [row["scales"][g % 8] >> 4 * (g // 8) & 15 for g in range(16)]
    return [low[g] | (row["scales"][8 + g % 4] >> 2 * (g // 4) & 3) << 4 for g in range(16)]


def q4_k_numbers(row: dict[str, list[int]]) -> list[int]:
    """As in ggml's `get_scale_min_k4`: scale 0, min 0, scale 1, min 1, ..."""
    q, numbers = row["scales"], []
    for j in range(8):
        if j < 4:
            numbers += [q[j] & 63, q[j + 4] & 63]
        else:
            numbers += [q[j + 4] & 15 | (q[j - 4] >> 6) << 4, q[j + 4] >> 4 | (q[j] >> 6) << 4]
    return numbers


def iq4_xs_numbers(row: dict[str, list[int]]) -> list[int]:
    """As in ggml's `dequantize_row_iq4_xs`."""
    high = row["scales_h"][0] | row["scales_h"][1] << 8
    return [row["scales_l"][g // 2] >> 4 * (g % 2) & 15 | (high >> 2 * g & 3) << 4 for g in range(8)]


D, M, DMIN, QS = halves("d"), halves("m"), halves("dmin"), lines(4, "qs")
K_SCALES = six_bit_scales(q4_k_numbers)
DOCUMENTED: Mapping[str, list[Callable[[Rows], list[int]]]] = {
    "Q8_0": [D, lines(8, "qs")],
    "Q4_0": [D, QS],
    "IQ4_NL": [D, QS],
    "Q4_1": [D, M, QS],
    "Q5_0": [D, high_bits, QS],
    "Q5_1": [D, M, high_bits, QS],
    "MXFP4": [single_bytes("e"), QS],
    "Q2_K": [D, DMIN, single_bytes("scales"), lines(16, "qs")],
    "Q3_K": [D, six_bit_scales(q3_k_numbers), lines(8, "hmask"), lines(16, "qs")],
    "Q4_K": [D, DMIN, K_SCALES, lines(32, "qs")],
    "Q5_K": [D, DMIN, K_SCALES, lines(8, "qh"), lines(32, "qs")],
    "Q6_K": [D, single_bytes("scales"), lines(32, "ql"), lines(16, "qh")],
    "IQ4_XS": [D, six_bit_scales(iq4_xs_numbers), lines(32, "qs")],
}


def fields_of(name: str, block: Bytes) -> dict[str, list[int]]:
    """The bytes of each field of one block."""
    fields, start = {}, 0
    for field, size in GGML_BLOCKS[name].items():
        fields[field] = block[start : start + size].tolist()
        start += size
    assert start == len(block)
    return fields


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_tiles_are_as_documented(name: str) -> None:
    weight_format, blocks = FORMATS[name], 3
    rows, columns, size = 2 * TILE_ROWS, blocks * weight_format.block_columns, weight_format.block_bytes
    source = np.random.default_rng(0).integers(0, 256, (rows, blocks * size), dtype=np.uint8)
    packed = pack(weight_format, rows, columns, source)
    for index in range(2 * blocks):
        strip, column = divmod(index, blocks)
        of_rows = source[strip * TILE_ROWS : (strip + 1) * TILE_ROWS, column * size : (column + 1) * size]
        rows_of_block = [fields_of(name, block) for block in of_rows]
        expected = [byte for step in DOCUMENTED[name] for byte in step(rows_of_block)]
        assert packed[index * TILE_ROWS * size :][: TILE_ROWS * size].tolist() == expected


# ---- a few places by their numbers, as a kernel has them ----


def set_and_found(name: str, row: int, byte: int, value: int) -> dict[int, int]:
    """Where in a tile one byte of one row's block goes: the bytes of the tile that are not zero."""
    weight_format = FORMATS[name]
    source = np.zeros((TILE_ROWS, weight_format.block_bytes), dtype=np.uint8)
    source[row, byte] = value
    packed = pack(weight_format, TILE_ROWS, weight_format.block_columns, source)
    return {int(place): int(packed[place]) for place in np.flatnonzero(packed)}


@pytest.mark.parametrize("row", [0, 9, 15])
def test_places_of_q4_0(row: int) -> None:
    assert set_and_found("Q4_0", row, 1, 0x3C) == {2 * row + 1: 0x3C}
    for k in range(4):
        for j in range(4):
            assert set_and_found("Q4_0", row, 2 + 4 * k + j, 0xA5) == {32 + 64 * k + 4 * row + j: 0xA5}


@pytest.mark.parametrize("column", range(32))
def test_places_of_the_high_bits_of_q5_0(column: int) -> None:
    found = set_and_found("Q5_0", 3, 2 + column // 8, 1 << column % 8)
    assert found == {32 + 4 * 3 + column % 4: 1 << column // 4}


def test_places_of_the_scales_of_q4_k() -> None:
    low, upper = 64, 64 + 8 * TILE_ROWS
    assert set_and_found("Q4_K", 5, 4 + 2, 0b00_11_0110) == {low + 2 * 16 + 5: 0x06, upper + 1 * 16 + 5: 0b00_00_00_11}
    assert set_and_found("Q4_K", 5, 8 + 3, 0b00_10_1001) == {low + 3 * 16 + 5: 0x90, upper + 1 * 16 + 5: 0b10_00_00_00}
    assert set_and_found("Q4_K", 5, 12 + 1, 0xC7) == {low + 5 * 16 + 5: 0xC7}
    assert set_and_found("Q4_K", 5, 4 + 0, 0b11_00_0000) == {upper + 2 * 16 + 5: 0b00_00_00_11}
    assert set_and_found("Q4_K", 5, 8 + 0, 0b01_00_0000) == {upper + 2 * 16 + 5: 0b00_00_01_00}


def test_places_of_q6_k() -> None:
    assert set_and_found("Q6_K", 2, 208, 0x12) == {2 * 2: 0x12}
    assert set_and_found("Q6_K", 2, 192 + 7, 0x80) == {32 + 7 * 16 + 2: 0x80}
    assert set_and_found("Q6_K", 2, 127, 0x5A) == {288 + 31 * 64 + 4 * 2 + 3: 0x5A}
    assert set_and_found("Q6_K", 2, 128 + 5, 0x5A) == {288 + 33 * 64 + 4 * 2 + 1: 0x5A}


def test_places_of_mxfp4() -> None:
    assert set_and_found("MXFP4", 15, 0, 0x7F) == {15: 0x7F}
    assert set_and_found("MXFP4", 15, 1, 0x21) == {16 + 4 * 15: 0x21}


# ---- sizes and edges ----


@pytest.mark.parametrize("weight_format", FORMATS.values(), ids=lambda entry: entry.name)
def test_a_tile_has_the_bytes_of_16_blocks(weight_format: WeightFormat) -> None:
    if weight_format.is_float:
        assert weight_format.name not in LAYOUTS
    else:
        assert tile_type(weight_format).itemsize == TILE_ROWS * weight_format.block_bytes


@pytest.mark.parametrize("weight_format", FORMATS.values(), ids=lambda entry: entry.name)
@pytest.mark.parametrize("rows", [1, 7, 16, 17, 40])
def test_rows_past_the_last_are_zero(weight_format: WeightFormat, rows: int) -> None:
    columns = 3 * weight_format.block_columns
    source = random_blocks(weight_format, rows, columns, np.random.default_rng(rows))
    packed = pack(weight_format, rows, columns, source)
    assert packed.shape == (weight_format.packed_bytes(rows, columns),)
    if weight_format.is_float:
        assert packed[: source.size].tolist() == source.ravel().tolist()
        assert not packed[source.size :].any()
        return
    held = np.zeros((-(-rows // TILE_ROWS) * TILE_ROWS, source.shape[1]), dtype=np.uint8)
    held[:rows] = source
    filled = pack(weight_format, len(held), columns, held)
    assert packed.tolist() == filled.tolist()
    assert not packed[held.size :].any()


@examples(40)
@given(name=st.sampled_from(list(LAYOUTS)), rows=st.integers(1, 70), blocks=st.integers(1, 5), seed=st.integers(0, 999))
def test_strips_are_packed_alike_alone_and_together(name: str, rows: int, blocks: int, seed: int) -> None:
    weight_format = FORMATS[name]
    columns = blocks * weight_format.block_columns
    source = random_blocks(weight_format, rows, columns, np.random.default_rng(seed))
    packed = pack(weight_format, rows, columns, source)
    strip_bytes = TILE_ROWS * source.shape[1]
    for strip, first in enumerate(range(0, rows, TILE_ROWS)):
        some = source[first : first + TILE_ROWS]
        alone = pack(weight_format, len(some), columns, some)[:strip_bytes]
        assert np.array_equal(packed[strip * strip_bytes :][:strip_bytes], alone)


@pytest.mark.parametrize("name", ["Q4_0", "Q5_0", "Q4_K"])
def test_several_passes_make_what_one_makes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weight_format, rows, columns = FORMATS[name], 7 * TILE_ROWS + 3, 512
    source = random_blocks(weight_format, rows, columns, np.random.default_rng(1))
    at_once = pack(weight_format, rows, columns, source)
    monkeypatch.setattr(packing, "_PASS_BYTES", 2 * TILE_ROWS * source.shape[1])
    assert np.array_equal(pack(weight_format, rows, columns, source), at_once)


def test_a_view_of_a_larger_matrix_is_packed_as_its_copy() -> None:
    weight_format = FORMATS["Q4_K"]
    source = random_blocks(weight_format, 32, 1024, np.random.default_rng(2))
    part = source[::2, : weight_format.row_bytes(512)]
    part.flags.writeable = False
    assert np.array_equal(pack(weight_format, 16, 512, part), pack(weight_format, 16, 512, part.copy()))


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(AssertionError, match="no 3 x 32 matrix"):
        pack(FORMATS["Q4_0"], 3, 32, np.zeros((3, 20), dtype=np.uint8))
