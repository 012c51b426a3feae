"""The reference decoder against ggml's own arithmetic (the gguf package), bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.quant.formats import FORMATS, WeightFormat
from engine.quant.packing import pack
from engine.quant.reference import IQ4_VALUES, MXFP4_VALUES, Floats, decode
from tests.examples import examples
from tests.quantised import dequantise, random_blocks

EVERY_FORMAT = pytest.mark.parametrize("weight_format", FORMATS.values(), ids=lambda entry: entry.name)


def assert_same_bits(found: Floats, expected: Floats) -> None:
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.uint32), np.ascontiguousarray(expected).view(np.uint32))


@EVERY_FORMAT
@pytest.mark.parametrize("rows", [1, 7, 16, 17, 40])
@pytest.mark.parametrize("blocks", [1, 3])
def test_decoded_weights_are_those_of_ggml(weight_format: WeightFormat, rows: int, blocks: int) -> None:
    columns = blocks * weight_format.block_columns
    source = random_blocks(weight_format, rows, columns, np.random.default_rng(rows))
    packed = pack(weight_format, rows, columns, source)
    assert_same_bits(decode(weight_format, rows, columns, packed), dequantise(weight_format, source, columns))


@examples(40)
@given(name=st.sampled_from(list(FORMATS)), rows=st.integers(1, 50), blocks=st.integers(1, 5), seed=st.integers(0, 999))
def test_any_shape(name: str, rows: int, blocks: int, seed: int) -> None:
    weight_format = FORMATS[name]
    columns = blocks * weight_format.block_columns
    source = random_blocks(weight_format, rows, columns, np.random.default_rng(seed))
    packed = pack(weight_format, rows, columns, source)
    longer = np.concatenate([packed, np.full(64, 0xFF, dtype=np.uint8)])
    assert_same_bits(decode(weight_format, rows, columns, longer), dequantise(weight_format, source, columns))


def test_every_exponent_of_mxfp4() -> None:
    weight_format = FORMATS["MXFP4"]
    source = np.random.default_rng(0).integers(0, 256, (253, 17), dtype=np.uint8)
    source[:, 0] = np.arange(253)  # the largest whose products are finite
    packed = pack(weight_format, 253, 32, source)
    assert_same_bits(decode(weight_format, 253, 32, packed), dequantise(weight_format, source, 32))


@pytest.mark.parametrize(("name", "values"), [("IQ4_NL", IQ4_VALUES), ("MXFP4", MXFP4_VALUES)])
def test_every_code_of_a_table(name: str, values: tuple[int, ...]) -> None:
    weight_format = FORMATS[name]
    scale = [128] if name == "MXFP4" else [0x00, 0x3C]  # 1
    source = np.array([scale + [code | code << 4 for code in range(16)]], dtype=np.uint8)
    decoded = decode(weight_format, 1, 32, pack(weight_format, 1, 32, source))
    assert decoded.tolist() == [[float(value) for value in values * 2]]


@EVERY_FORMAT
def test_random_weights_are_of_a_trained_models_size(weight_format: WeightFormat) -> None:
    source = random_blocks(weight_format, 32, 1024, np.random.default_rng(3))
    weights = dequantise(weight_format, source, 1024)
    assert 0.6 < float(np.sqrt(np.mean(weights**2))) * 1024**0.5 < 2
    assert np.abs(weights).max() * 1024**0.5 < 20
