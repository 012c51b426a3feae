"""The native attention against one in double precision, within a layer whose experts add nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.kernels.cpu_library import (
    CpuPool,
    ExpertsRef,
    LayerRef,
    MatrixRef,
    ModelRef,
    TraceRef,
    available_isas,
)
from engine.kernels.encoder import as_bfloat16, as_float32
from engine.quant.formats import FORMATS
from engine.quant.packing import pack
from engine.quant.reference import decode
from tests.quantised import random_blocks

Floats = NDArray[np.floating]
Bytes = NDArray[np.uint8]

HIDDEN, EPSILON = 64, 1e-5
CACHES = ("F32", "F16", "BF16", "Q8_0")


@dataclass(frozen=True)
class Shape:
    """What a call attends to.

    Attributes:
        tokens: Of the call.
        start: Tokens that the cache has before.
        heads: Of queries.
        kv_heads: Of keys and values.
        dim: Of a head.
        window: Keys that a query looks back on, 0 for all.
        sinks: Whether each head has a score that no key has.
    """

    tokens: int
    start: int
    heads: int
    kv_heads: int
    dim: int
    window: int = 0
    sinks: bool = False


SHAPES = (
    Shape(2, 0, 1, 1, 16),
    Shape(33, 0, 8, 2, 64),
    Shape(70, 61, 6, 2, 80, sinks=True),
    Shape(40, 130, 4, 4, 24, window=17, sinks=True),
    Shape(31, 5, 5, 1, 6, window=1),
    Shape(66, 300, 8, 1, 128, window=128),
    Shape(9, 60, 7, 1, 128),
    Shape(1, 100, 8, 2, 128, window=50, sinks=True),
    Shape(1, 70, 4, 2, 48),
    Shape(1, 0, 2, 2, 64, sinks=True),
    Shape(1, 255, 16, 2, 128),
    Shape(1, 256, 15, 1, 16),
    Shape(1, 700, 6, 2, 80, sinks=True),
    Shape(1, 1030, 3, 1, 64, window=600, sinks=True),
)


class Layer:
    """A layer of random projections without rotation or experts, and its filled cache.

    Attributes:
        keys: [kv_heads, capacity, row bytes]
        values: The same.
    """

    def __init__(self, shape: Shape, cache: str, weights: str = "F32") -> None:
        """Draw one; `weights` is the projections' format."""
        self._shape, self._cache = shape, cache
        generator = np.random.default_rng(7)
        heads, kv_heads, dim = shape.heads, shape.kv_heads, shape.dim
        capacity = shape.start + shape.tokens
        rows = ((heads * dim, HIDDEN), (kv_heads * dim, HIDDEN), (kv_heads * dim, HIDDEN), (HIDDEN, heads * dim))
        self._memory: list[NDArray[np.generic]] = []  # kept alive
        matrices = [self._matrix(weights, *size, generator) for size in rows]
        self._query, _, _, self._output = (floats for _, floats in matrices)
        self._sinks = generator.standard_normal(heads).astype(np.float32) if shape.sinks else None
        filled = generator.standard_normal((2, kv_heads * capacity, dim)).astype(np.float32)
        self.keys, self.values = (in_cache(cache, part).reshape(kv_heads, capacity, -1) for part in filled)
        nothing = np.zeros(32 * HIDDEN, dtype=np.float32)
        ones = np.ones(HIDDEN, dtype=np.float32)
        frequencies = np.zeros(dim // 2, dtype=np.float32)
        expert = MatrixRef.of(0, FORMATS["F32"], 32, HIDDEN)
        layer = LayerRef(
            attention_norm=self._address(ones), expert_norm=self._address(ones),
            **dict(zip(("query", "key", "value", "output"), (matrix for matrix, _ in matrices), strict=True)),
            sinks=self._address(self._sinks) if self._sinks is not None else None,
            router=MatrixRef.of(self._address(nothing), FORMATS["F32"], 1, HIDDEN),
            experts=ExpertsRef(self._address(nothing), 0, expert, expert, MatrixRef.of(0, FORMATS["F32"], HIDDEN, 32)),
            keys=self.keys.ctypes.data, values=self.values.ctypes.data, window=shape.window,
        )  # fmt: skip
        self._layers = (LayerRef * 1)(layer)
        self.reference = ModelRef(
            hidden=HIDDEN, heads=heads, kv_heads=kv_heads, dim=dim, experts=1, experts_per_token=1, intermediate=32,
            layers=1, cache_format=FORMATS[cache].native_id, capacity=capacity, epsilon=EPSILON, embedding_scale=1,
            residual_scale=1, query_scale=1, rotation_scale=1, router_jitter=-1, layer=self._layers,
            inverse_frequencies=self._address(frequencies),
        )  # fmt: skip

    def _address(self, array: NDArray[np.generic]) -> int:
        self._memory.append(array)
        return array.ctypes.data

    def _matrix(self, name: str, rows: int, columns: int, generator: np.random.Generator) -> tuple[MatrixRef, Floats]:
        packed = pack(FORMATS[name], rows, columns, random_blocks(FORMATS[name], rows, columns, generator))
        reference = MatrixRef.of(self._address(packed), FORMATS[name], rows, columns)
        return reference, decode(FORMATS[name], rows, columns, packed).astype(np.float64)

    def run(self, pool: CpuPool, hidden: Floats, sizes: tuple[int, ...] = ()) -> Floats:
        """What tokens become, in calls of so many; one of a single token attends on another path."""
        out = hidden.copy()
        experts, seconds = np.zeros(len(hidden), dtype=np.int32), np.zeros(1, dtype=np.float32)
        trace = TraceRef(experts.ctypes.data, seconds.ctypes.data)
        at = 0
        for size in sizes or (len(hidden),):
            part = out[at : at + size]
            start = self._shape.start + at
            pool.forward(self.reference, (0, 1), None, size, start, part.ctypes.data, trace, lambda: None)
            at += size
        assert at == len(hidden)
        return out

    def by_hand(self, hidden: Floats) -> Floats:
        """The same in double precision, with what the cache holds now."""
        shape = self._shape
        x = hidden.astype(np.float64)
        x /= np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + EPSILON)
        queries = (x @ self._query.T).reshape(shape.tokens, shape.heads, shape.dim)
        keys, values = (
            out_of_cache(self._cache, part.reshape(-1, part.shape[-1]), shape.dim).reshape(*part.shape[:2], shape.dim)
            for part in (self.keys, self.values)
        )
        distance = shape.start + np.arange(shape.tokens)[:, None] - np.arange(keys.shape[1])
        seen = (distance >= 0) & ((distance < shape.window) | (shape.window == 0))
        attended = np.empty_like(queries)
        for head in range(shape.heads):
            kv_head = head * shape.kv_heads // shape.heads
            scores = np.where(seen, queries[:, head] @ keys[kv_head].T / np.sqrt(shape.dim), -np.inf)
            sink = -np.inf if self._sinks is None else float(self._sinks[head])
            most = np.maximum(scores.max(axis=-1, keepdims=True), sink)
            weights = np.exp(scores - most)
            weights /= weights.sum(axis=-1, keepdims=True) + np.exp(sink - most)
            attended[:, head] = weights @ values[kv_head]
        return np.asarray(hidden + attended.reshape(shape.tokens, -1) @ self._output.T)


def in_cache(name: str, values: NDArray[np.float32]) -> Bytes:
    """Rows [n, dim] as a cache holds them: [n, row bytes]."""
    if name == "F32":
        return values.view(np.uint8)
    if name == "F16":
        return values.astype("<f2").view(np.uint8)
    if name == "BF16":
        return as_bfloat16("F32", values.view(np.uint8).reshape(-1)).reshape(len(values), -1)
    rows, dim = values.shape
    groups = values.reshape(rows, -1, dim if dim % 32 else 32)
    scales = (np.abs(groups).max(axis=-1) / 127).astype("<f2")
    codes = np.rint(groups / scales[..., None].astype(np.float32)).clip(-127, 127).astype(np.int8)
    return np.concatenate([codes.reshape(rows, dim).view(np.uint8), scales.view(np.uint8)], axis=1)


def out_of_cache(name: str, rows: Bytes, dim: int) -> Floats:
    """The way back: [n, row bytes] -> [n, dim] in double precision."""
    if name in ("F32", "F16"):
        return rows.view("<f4" if name == "F32" else "<f2").astype(np.float64)
    if name == "BF16":
        return as_float32("BF16", rows.reshape(-1)).reshape(len(rows), dim).astype(np.float64)
    scales = np.ascontiguousarray(rows[:, dim:]).view("<f2").astype(np.float64)
    codes = np.ascontiguousarray(rows[:, :dim]).view(np.int8).reshape(len(rows), scales.shape[1], -1)
    return np.asarray((codes * scales[..., None]).reshape(len(rows), dim))


def tokens_of(shape: Shape) -> NDArray[np.float32]:
    """What enters the layer: [tokens, hidden]."""
    return np.random.default_rng(8).standard_normal((shape.tokens, HIDDEN)).astype(np.float32)


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention_is_that_of_double_precision(pool: CpuPool, shape: Shape, cache: str) -> None:
    layer, hidden = Layer(shape, cache), tokens_of(shape)
    before = layer.keys.copy()
    got, want = layer.run(pool, hidden), layer.by_hand(hidden)
    assert np.linalg.norm(got - want) < 5e-6 * np.linalg.norm(want - hidden)
    np.testing.assert_array_equal(layer.keys[:, : shape.start], before[:, : shape.start])
    assert not np.array_equal(layer.keys[:, shape.start :], before[:, shape.start :])


@pytest.mark.parametrize("shape", [SHAPES[2], SHAPES[3], SHAPES[5]], ids=str)
def test_threads_and_company_change_no_bit_of_attention(shape: Shape) -> None:
    if not available_isas():
        pytest.skip("no library")
    hidden, results = tokens_of(shape), []
    for threads in (1, 2, 5):
        with CpuPool(available_isas()[-1], threads) as pool:
            results += [
                Layer(shape, "BF16", weights="Q8_0").run(pool, hidden, sizes)
                for sizes in ((), (13, 2, shape.tokens - 15), (shape.tokens - 3, 3))
            ]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


@pytest.mark.parametrize("shape", SHAPES[-3:], ids=str)
def test_threads_change_no_bit_of_one_tokens_attention(shape: Shape) -> None:
    if not available_isas():
        pytest.skip("no library")
    results = []
    for threads in (1, 2, 5):
        with CpuPool(available_isas()[-1], threads) as pool:
            results.append(Layer(shape, "F16").run(pool, tokens_of(shape)))
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)
