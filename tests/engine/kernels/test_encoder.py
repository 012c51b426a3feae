"""The native encoder beside its NumPy reference: the same bytes on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.config import IsaName
from engine.kernels import encoder
from engine.kernels.cpu_library import available_isas
from engine.kernels.encoder import FLOATS, as_bfloat16, as_float32, encode_weights, is_finite
from engine.quant.encoding import ENCODERS, encode

needs_library = pytest.mark.skipif(not available_isas(), reason="the native library was not built: no C++ compiler")
Bytes = NDArray[np.uint8]


def weights(rows: int = 5, columns: int = 768) -> NDArray[np.float32]:
    """Rows of every kind: ordinary, outliers, shifted up and down, tiny, large, zeros, subnormal in fp16."""
    draw = np.random.default_rng(3).standard_normal((9, rows, columns))
    draw[1] **= 3
    draw[2] += 10
    draw[3] -= 10
    draw[7] = 0
    sizes = np.array([0.02, 0.02, 0.1, 0.1, 1e-6, 1e3, 1e-9, 1, 1e-5]).reshape(-1, 1, 1)
    scaled: NDArray[np.float32] = (draw * sizes).reshape(-1, columns).astype(np.float32)
    return scaled


def stored(source_format: str, values: NDArray[np.float32]) -> Bytes:
    """As a file holds them."""
    raw = values.reshape(-1).view(np.uint8)
    if source_format == "F16":
        return values.astype("<f2").reshape(-1).view(np.uint8)
    return raw if source_format == "F32" else as_bfloat16("F32", raw)


@needs_library
@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("name", list(ENCODERS))
def test_every_instruction_set_writes_the_bytes_of_the_reference(name: str, isa: IsaName) -> None:
    values = weights()
    for source_format in FLOATS:
        source = stored(source_format, values)
        widened = as_float32(source_format, source).reshape(values.shape)
        for search in (True, False):
            theirs = encode(name, widened, search=search)
            ours = encode_weights(name, source_format, source, values.shape[1], search=search, isa=isa)
            assert np.array_equal(ours.blocks, theirs.blocks)
            assert ours.squared_error == pytest.approx(theirs.squared_error, rel=1e-4)
            assert ours.squared_weights == pytest.approx(theirs.squared_weights, rel=1e-4)


def test_without_the_library_the_reference_does_it_in_runs_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    values = weights()
    source = stored("BF16", values)
    best = encode_weights("Q4_K", "BF16", source, values.shape[1])
    monkeypatch.setattr(encoder, "_native", lambda: None)
    monkeypatch.setattr(encoder, "_REFERENCE_WEIGHTS", 3 * values.shape[1])
    plain = encode_weights("Q4_K", "BF16", source, values.shape[1])
    assert np.array_equal(plain.blocks, best.blocks)
    assert plain.squared_error == pytest.approx(best.squared_error, rel=1e-4)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38])
def test_what_is_no_number_or_too_large_is_refused(bad: float, native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not native:
        monkeypatch.setattr(encoder, "_native", lambda: None)
    values = weights()
    values[7, 300] = bad
    for name in ENCODERS:
        with pytest.raises(ValueError, match=name):
            encode_weights(name, "F32", stored("F32", values), values.shape[1])


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("search", [True, False])
def test_what_is_just_too_large_does_not_become_zero(
    native: bool, search: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not native:
        monkeypatch.setattr(encoder, "_native", lambda: None)
    values = weights()
    values[7, 300] = 65504 * 127 * 1.01
    with pytest.raises(ValueError, match="Q8_0"):
        encode_weights("Q8_0", "F32", stored("F32", values), values.shape[1], search=search)
    values[7, 300] = 65504 * 127
    fits = encode_weights("Q8_0", "F32", stored("F32", values), values.shape[1], search=search)
    assert fits.squared_error < 1e-3 * fits.squared_weights


def test_bfloat16_is_rounded_to_nearest_ties_to_even() -> None:
    given = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-8, np.inf, 3.4e38], dtype=np.float32)
    wanted = np.array([1.0, 1.0, 1 + 2**-6, 1 + 2**-7, -1.0, np.inf, np.inf], dtype=np.float32)
    got = as_float32("BF16", as_bfloat16("F32", given.view(np.uint8)))
    assert np.array_equal(got, wanted)
    nan = as_float32("BF16", as_bfloat16("F32", np.array([np.nan], np.float32).view(np.uint8)))
    assert np.isnan(nan).all()


@pytest.mark.parametrize(("name", "kind"), [("F32", "<u4"), ("F16", "<u2"), ("BF16", "<u2")])
def test_what_is_not_finite_is_found_wherever_it_lies(name: str, kind: str) -> None:
    count = 2 * encoder._CACHED_WEIGHTS + 3
    largest = {"F32": 0xFF7FFFFF, "F16": 0xFBFF, "BF16": 0xFF7F}[name]
    bits = np.full(count, largest, dtype=kind)
    assert is_finite(name, bits.view(np.uint8))
    assert is_finite(name, bits[:0].view(np.uint8))
    for place in (0, encoder._CACHED_WEIGHTS, count - 1):
        for more in (1, 2):  # infinite, and not a number
            bits[place] = largest + more
            assert not is_finite(name, bits.view(np.uint8))
            assert not np.isfinite(as_float32(name, bits.view(np.uint8))).all()
        bits[place] = largest
