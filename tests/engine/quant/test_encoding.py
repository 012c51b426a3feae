"""Blocks made from floats: what they mean, and less error than plain rounding."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.quant.encoding import ENCODERS, encode
from engine.quant.formats import FORMATS

Floats = NDArray[np.float32]
# What the search must win over plain rounding, at least: the share of its root mean square error that is left.
LEFT = {"Q8_0": 0.95, "Q4_1": 0.93, "Q4_K": 0.93}


def matrix(kind: str, rows: int = 64, columns: int = 512) -> Floats:
    """Random weights of a kind."""
    draw = np.random.default_rng(1)
    if kind == "heavy-tailed":
        return (0.02 * draw.standard_t(5, (rows, columns))).astype(np.float32)
    return (0.02 * draw.standard_normal((rows, columns)) + (0.03 if kind == "shifted" else 0.0)).astype(np.float32)


def decoded(name: str, blocks: NDArray[np.uint8]) -> Floats:
    """What the `gguf` package makes of blocks."""
    weights: Floats = gguf.dequantize(blocks, gguf.GGMLQuantizationType[name])
    return weights


@pytest.mark.parametrize("name", list(ENCODERS))
@pytest.mark.parametrize("kind", ["normal", "heavy-tailed", "shifted"])
def test_the_search_loses_less_than_plain_rounding(name: str, kind: str) -> None:
    weights = matrix(kind)
    searched, rounded = encode(name, weights), encode(name, weights, search=False)
    assert searched.squared_error < LEFT[name] ** 2 * rounded.squared_error


@pytest.mark.parametrize("name", list(ENCODERS))
def test_the_errors_told_are_those_of_what_gguf_decodes(name: str) -> None:
    weights = matrix("normal")
    for search in (True, False):
        encoded = encode(name, weights, search=search)
        assert encoded.blocks.shape == (len(weights), FORMATS[name].row_bytes(weights.shape[1]))
        error = np.square(weights.astype(np.float64) - decoded(name, encoded.blocks)).sum()
        assert encoded.squared_error == pytest.approx(error, rel=1e-4)
        assert encoded.squared_weights == pytest.approx(np.square(weights.astype(np.float64)).sum(), rel=1e-4)


@pytest.mark.parametrize("name", ["Q8_0", "Q4_1"])
def test_plain_rounding_is_that_of_gguf(name: str) -> None:
    weights = matrix("normal")
    theirs = decoded(name, gguf.quantize(weights, gguf.GGMLQuantizationType[name]))
    error = np.square(weights.astype(np.float64) - theirs).sum()
    assert encode(name, weights, search=False).squared_error == pytest.approx(error, rel=0.01)


@pytest.mark.parametrize("name", list(ENCODERS))
@pytest.mark.parametrize("value", [0.0, -0.0, 0.5, -0.5])
def test_groups_of_equal_weights_lose_nothing_to_speak_of(name: str, value: float) -> None:
    weights = np.full((4, 256), value, dtype=np.float32)
    got = decoded(name, encode(name, weights).blocks)
    assert np.abs(got - weights).max() <= 1e-3 * abs(value)


@pytest.mark.parametrize("name", list(ENCODERS))
def test_tiny_weights_become_zero_and_not_something_else(name: str) -> None:
    weights = np.random.default_rng(0).standard_normal((4, 256)).astype(np.float32) * np.float32(1e-20)
    assert not decoded(name, encode(name, weights).blocks).any()
