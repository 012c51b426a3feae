"""Random weights decode to numbers of the spread that was asked for, in every format of every mix."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.bench.random_weights import RandomWeights
from engine.quant.formats import FORMATS

BLOCK_FORMATS = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS")


def _decoded(name: str, rows: int, columns: int, rms: float) -> NDArray[np.float32]:
    gguf = pytest.importorskip("gguf")
    matrix = RandomWeights().matrix(name, rows, columns, rms)
    assert matrix.shape == (rows, FORMATS[name].row_bytes(columns))
    values: NDArray[np.float32] = gguf.quants.dequantize(matrix, gguf.GGMLQuantizationType(FORMATS[name].gguf_id))
    return values


@pytest.mark.parametrize("name", [*BLOCK_FORMATS, "F16"])
@pytest.mark.parametrize("columns", [256, 7168])
def test_weights_have_the_spread_that_was_asked_for(name: str, columns: int) -> None:
    values = _decoded(name, 96, columns, columns**-0.5)
    assert values.shape == (96, columns)
    rms = float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
    assert rms * columns**0.5 == pytest.approx(1, rel=0.15)
    assert abs(values.mean()) < 0.15 * rms


def test_rows_differ() -> None:
    values = _decoded("Q4_K", 64, 512, 1.0)
    assert len(np.unique(values, axis=0)) == 64


def test_floats_are_normally_distributed() -> None:
    values = RandomWeights().matrix("F32", 100, 1000, 0.5).view("<f4")
    assert float(values.std()) == pytest.approx(0.5, rel=0.02)


def test_the_seed_fixes_the_weights() -> None:
    pytest.importorskip("gguf")
    first, same, other = (RandomWeights(seed).matrix("Q4_0", 8, 64, 1.0) for seed in (1, 1, 2))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
