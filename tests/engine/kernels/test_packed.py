"""A packed matrix multiplies as its dequantised self does, whole or in slices, from whatever format."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.kernels import packed
from engine.kernels.packed import SLICE_ROWS, PackedMatrix, slice_rows
from engine.quant.formats import ALIGNMENT_BYTES, FORMATS, TILE_ROWS, WeightFormat
from engine.quant.packing import pack_into
from tests.quantised import Floats, dequantise, random_blocks

COLUMNS = 512


def a_matrix(weight_format: WeightFormat, rows: int, columns: int = COLUMNS) -> tuple[PackedMatrix, Floats]:
    """A random matrix as it lies in memory, and what it means."""
    source = random_blocks(weight_format, rows, columns, np.random.default_rng(rows))
    data = np.full(weight_format.packed_bytes(rows, columns), 0xAA, dtype=np.uint8)
    pack_into(weight_format, rows, columns, source.ravel(), data)
    matrix = PackedMatrix(torch.from_numpy(data), weight_format, rows, columns)
    return matrix, dequantise(weight_format, source, columns)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("rows", [16, 37, 200])
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_every_format_multiplies_as_its_floats_do(
    name: str, rows: int, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = blocks * max(32, FORMATS[name].block_columns)
    matrix, floats = a_matrix(FORMATS[name], rows, columns)
    hidden = torch.randn(3, columns)
    expected = hidden @ torch.from_numpy(floats).T
    torch.testing.assert_close(matrix.linear(hidden), expected, atol=1e-4, rtol=1e-4)
    monkeypatch.setattr(packed, "CPU_SLICE_WEIGHTS", SLICE_ROWS * columns)
    torch.testing.assert_close(matrix.linear(hidden), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dense_is_the_file_rounded_once(name: str, dtype: torch.dtype) -> None:
    matrix, floats = a_matrix(FORMATS[name], 21)
    dense = matrix.dense(dtype)
    assert dense.dtype == dtype
    assert torch.equal(dense, torch.from_numpy(floats).to(dtype))


def test_floats_of_the_right_type_are_read_where_they_lie() -> None:
    matrix, _ = a_matrix(FORMATS["BF16"], 7)
    assert matrix.dense(torch.bfloat16).data_ptr() == matrix.data.data_ptr()


@pytest.mark.parametrize("name", ["F16", "Q4_K"])
def test_packing_writes_every_byte(name: str) -> None:
    matrix, _ = a_matrix(FORMATS[name], 3, columns=256 if name == "Q4_K" else 5)
    source_bytes = 3 * FORMATS[name].row_bytes(matrix.columns)
    assert matrix.data.numel() > source_bytes
    if FORMATS[name].is_float:
        assert not matrix.data[source_bytes:].any()


@pytest.mark.parametrize("name", [name for name, entry in FORMATS.items() if not entry.is_float])
def test_a_slice_is_the_rows_in_place(name: str) -> None:
    matrix, floats = a_matrix(FORMATS[name], 210, columns=FORMATS[name].block_columns)
    for first, end in ((64, 210), (64, 192), (192, 210)):
        part = matrix.slice(first, end)
        assert np.array_equal(part.dense(torch.float32).numpy(), floats[first:end])
        offset = part.data.data_ptr() - matrix.data.data_ptr()
        assert offset == first * FORMATS[name].row_bytes(matrix.columns)
        assert offset % ALIGNMENT_BYTES == 0


def test_slices_are_whole_lines_of_tiles() -> None:
    assert SLICE_ROWS % TILE_ROWS == 0
    assert slice_rows(4096, weights=1 << 20) == 256
    assert slice_rows(1 << 30) == SLICE_ROWS
    assert slice_rows(3000) % SLICE_ROWS == 0
