"""Unpacking with torch against the plain reference, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.kernels import torch_unpack
from engine.kernels.torch_unpack import unpack
from engine.quant.formats import FORMATS, WeightFormat
from engine.quant.packing import pack
from engine.quant.reference import decode
from tests.examples import examples
from tests.quantised import random_blocks

EVERY_FORMAT = pytest.mark.parametrize("weight_format", FORMATS.values(), ids=lambda entry: entry.name)


def random_packed(weight_format: WeightFormat, rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    source = random_blocks(weight_format, rows, columns, np.random.default_rng(seed))
    return torch.from_numpy(pack(weight_format, rows, columns, source))


def expected_of(weight_format: WeightFormat, rows: int, columns: int, packed: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(decode(weight_format, rows, columns, packed.numpy()).copy())


def assert_same_bits(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.is_contiguous()
    kind = {4: torch.int32, 2: torch.int16}[found.itemsize]
    assert torch.equal(found.view(kind), expected.contiguous().view(kind))


@EVERY_FORMAT
@pytest.mark.parametrize("rows", [1, 7, 16, 17, 40])
@pytest.mark.parametrize("blocks", [1, 3])
def test_unpacked_weights_are_those_of_the_reference(weight_format: WeightFormat, rows: int, blocks: int) -> None:
    columns = blocks * weight_format.block_columns
    packed = random_packed(weight_format, rows, columns, rows)
    expected = expected_of(weight_format, rows, columns, packed)
    assert_same_bits(unpack(weight_format, rows, columns, packed, torch.float32), expected)


@EVERY_FORMAT
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_types_are_rounded_once(weight_format: WeightFormat, dtype: torch.dtype) -> None:
    packed = random_packed(weight_format, 20, 512)
    expected = expected_of(weight_format, 20, 512, packed).to(dtype)
    assert_same_bits(unpack(weight_format, 20, 512, packed, dtype), expected)


@examples(40)
@given(name=st.sampled_from(list(FORMATS)), rows=st.integers(1, 50), blocks=st.integers(1, 5), seed=st.integers(0, 999))
def test_any_shape(name: str, rows: int, blocks: int, seed: int) -> None:
    weight_format = FORMATS[name]
    columns = blocks * weight_format.block_columns
    packed = random_packed(weight_format, rows, columns, seed)
    expected = expected_of(weight_format, rows, columns, packed)
    assert_same_bits(unpack(weight_format, rows, columns, packed, torch.float32), expected)


@EVERY_FORMAT
def test_several_passes_make_what_one_makes(weight_format: WeightFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = random_packed(weight_format, 100, 256)
    at_once = unpack(weight_format, 100, 256, packed, torch.float32)
    monkeypatch.setattr(torch_unpack, "_CPU_PASS_WEIGHTS", 2 * 16 * 256)
    assert_same_bits(unpack(weight_format, 100, 256, packed, torch.float32), at_once)


@EVERY_FORMAT
def test_a_matrix_in_the_middle_of_a_run(weight_format: WeightFormat) -> None:
    packed = random_packed(weight_format, 20, 256)
    run = torch.cat([torch.full((64,), 0xFF, dtype=torch.uint8), packed, torch.full((64,), 0xFF, dtype=torch.uint8)])
    before = run.clone()
    expected = expected_of(weight_format, 20, 256, packed)
    assert_same_bits(unpack(weight_format, 20, 256, run[64:], torch.float32), expected)
    assert torch.equal(run, before)


def test_every_exponent_of_mxfp4() -> None:
    weight_format = FORMATS["MXFP4"]
    source = np.random.default_rng(0).integers(0, 256, (253, 17), dtype=np.uint8)
    source[:, 0] = np.arange(253)  # the largest whose products are finite
    packed = torch.from_numpy(pack(weight_format, 253, 32, source))
    expected = expected_of(weight_format, 253, 32, packed)
    assert_same_bits(unpack(weight_format, 253, 32, packed, torch.float32), expected)


@pytest.mark.parametrize(("name", "dtype"), [("F32", torch.float32), ("F16", torch.float16), ("BF16", torch.bfloat16)])
def test_floats_of_the_same_type_are_a_view(name: str, dtype: torch.dtype) -> None:
    packed = random_packed(FORMATS[name], 5, 32)
    assert unpack(FORMATS[name], 5, 32, packed, dtype).data_ptr() == packed.data_ptr()
