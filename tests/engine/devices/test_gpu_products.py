"""Products with packed matrices on a GPU are torch's, whatever the format, shape and type; the kernels are emulated."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.devices import gpu_products
from engine.devices.gpu_products import GpuMatrix, GpuProducts, rows_of, views_of
from engine.kernels.gpu_kernels import GpuKernels
from engine.kernels.gpu_self_test import LINEAR_ERROR, as_seen, random_weights
from engine.kernels.packed import PackedMatrix
from engine.quant.formats import FORMATS
from tests.engine.kernels.cuda_emulation.launcher import EmulatedLauncher

BLOCK_FORMATS = [name for name, entry in FORMATS.items() if not entry.is_float]
TYPES = (torch.float16, torch.bfloat16)


@pytest.fixture
def products(launcher: EmulatedLauncher) -> GpuProducts:
    return GpuProducts(GpuKernels(launcher))


def a_matrix(name: str, rows: int, columns: int, seed: int = 0) -> PackedMatrix:
    return PackedMatrix(
        random_weights(FORMATS[name], rows, columns, np.random.default_rng(seed)), FORMATS[name], rows, columns
    )


def activations(tokens: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(tokens, columns, generator=torch.Generator().manual_seed(tokens)).to(dtype)


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", BLOCK_FORMATS)
def test_every_format_in_both_types_with_few_rows_and_many(
    products: GpuProducts, name: str, dtype: torch.dtype
) -> None:
    matrix = a_matrix(name, 21, FORMATS[name].block_columns * 3)
    weights = matrix.dense(torch.float32)
    for tokens in (1, 9, 17):
        hidden = activations(tokens, matrix.columns, dtype)
        found = products.linear(hidden, (matrix,))
        assert found.dtype == dtype
        assert found.shape == (tokens, 21)
        seen = as_seen(hidden.float(), matrix.format) if tokens <= 16 else hidden.float()
        assert error(found, seen @ weights.T) <= LINEAR_ERROR + 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("tokens", [1, 5, 20])
def test_parts_lie_beside_each_other_and_share_their_activations(
    products: GpuProducts, launcher: EmulatedLauncher, tokens: int
) -> None:
    floats = torch.randn(7, 256).bfloat16()
    parts = (a_matrix("Q4_K", 64, 256), a_matrix("Q8_0", 5, 256, 1), floats, a_matrix("Q6_K", 32, 256, 2))
    hidden = activations(tokens, 256, torch.bfloat16)
    expected = [products.linear(hidden, (part,)) for part in parts]
    launcher.launched.clear()
    assert torch.equal(GpuMatrix(parts, products).linear(hidden), torch.cat(expected, dim=-1))
    few = ["prepare", "linear_8", "linear_8", "linear_8"]
    assert launcher.launched == (few if tokens < 20 else ["unpack_tiles"] * 3)


def test_a_large_matrix_is_unpacked_in_slices(
    products: GpuProducts, launcher: EmulatedLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix, hidden = a_matrix("Q4_0", 150, 64), activations(20, 64, torch.float16)
    expected = products.linear(hidden, (matrix,))
    monkeypatch.setattr(gpu_products, "GPU_SLICE_WEIGHTS", 64 * 64)
    assert error(products.linear(hidden, (matrix,)), expected) <= 1e-3
    assert launcher.launched == ["unpack_tiles"] * 4


def test_rows_that_do_not_lie_in_order_are_the_same(products: GpuProducts) -> None:
    matrix, hidden = a_matrix("Q5_0", 16, 64), activations(4, 128, torch.bfloat16)
    expected = products.linear(hidden[:, :64].contiguous(), (matrix,))
    assert torch.equal(products.linear(hidden[:, :64], (matrix,)), expected)


def test_unpacked_weights_are_torchs_bit_for_bit(products: GpuProducts) -> None:
    matrix = a_matrix("Q3_K", 32, 256)
    for dtype in TYPES:
        assert torch.equal(products.unpacked(matrix, dtype), matrix.dense(dtype))


def test_views_are_a_results_columns() -> None:
    out, parts = torch.arange(10.0).view(1, 10), (a_matrix("Q8_0", 4, 32), torch.zeros(6, 32))
    assert [view.tolist() for _, view in views_of(out, parts)] == [[[0, 1, 2, 3]], [[4, 5, 6, 7, 8, 9]]]
    assert [rows_of(part) for part in parts] == [4, 6]
