"""The native kernels against the NumPy reference: every format, every instruction set, awkward shapes."""

from __future__ import annotations

import _ctypes
import ctypes
import mmap
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.config import IsaName
from engine.errors import ConfigurationError
from engine.kernels import cpu_library, library_path
from engine.kernels.cpu_library import CpuPool, ExpertsRef, MatrixRef, available_isas, chosen_kernels
from engine.quant.formats import ALIGNMENT_BYTES, FORMATS, WeightFormat
from engine.quant.packing import pack
from engine.quant.reference import decode
from tests.quantised import random_blocks

Floats = NDArray[np.float32]

BLOCK_FORMATS = [name for name, entry in FORMATS.items() if not entry.is_float]
SHAPES = ((1, 1), (16, 1), (17, 2), (33, 3), (70, 9))  # rows, blocks of 32 or 256 columns
FLOAT_COLUMNS = {1: 1, 2: 37, 3: 48, 9: 260}
TOKENS = (1, 2, 3, 4, 5, 8, 9, 13, 100)
GUARD = "a guarded page needs mprotect"

needs_library = pytest.mark.skipif(not available_isas(), reason="the native library was not built: no C++ compiler")


class Matrix:
    """A random matrix: packed, and what it means.

    Attributes:
        reference: By address.
        weights: [rows, columns].
    """

    def __init__(self, weight_format: WeightFormat, rows: int, columns: int, seed: int = 0) -> None:
        """Draw one."""
        source = random_blocks(weight_format, rows, columns, np.random.default_rng([seed, rows, columns]))
        packed = pack(weight_format, rows, columns, source)
        self.weights = decode(weight_format, rows, columns, packed)
        self._guarded = guarded(packed)
        self.reference = MatrixRef.of(self._guarded.ctypes.data, weight_format, rows, columns)


def guarded(content: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy at the very end of a page, with a page after it that must not be touched."""
    if sys.platform != "linux":
        return content.copy()
    page = mmap.PAGESIZE
    size = -(-content.size // page) * page
    memory = mmap.mmap(-1, size + page, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    every = np.frombuffer(memory, dtype=np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    status = libc.mprotect(ctypes.c_void_p(every.ctypes.data + size), ctypes.c_size_t(page), 0)
    assert status == 0, GUARD
    held = every[size - content.size : size]
    held[:] = content
    return held


def as_int8(x: Floats) -> Floats:
    """Activations as the kernels see them: groups of 32 with one scale, rounded to -127..127."""
    tokens, columns = x.shape
    groups = x.reshape(tokens, columns // 32, 32)
    scales = np.abs(groups).max(axis=-1, keepdims=True) / np.float32(127)
    with np.errstate(divide="ignore", invalid="ignore"):
        codes = np.where(scales > 0, np.rint(groups / scales), 0)
    return np.asarray((codes * scales).reshape(tokens, columns), dtype=np.float32)


def multiply(pool: CpuPool, matrix: Matrix, x: Floats) -> Floats:
    """Through the library; the activations end at a page that must not be touched, too."""
    y = np.full((len(x), matrix.reference.rows), np.nan, dtype=np.float32)
    held = guarded(np.ascontiguousarray(x).view(np.uint8).reshape(-1))
    pool.matmul(matrix.reference, held.ctypes.data, len(x), y.ctypes.data)
    return y


def columns_of(weight_format: WeightFormat, blocks: int) -> int:
    """Columns of a test shape."""
    return FLOAT_COLUMNS.get(blocks, 48) if weight_format.is_float else blocks * weight_format.block_columns


def relative_error(got: Floats, want: NDArray[np.floating], scale: NDArray[np.floating]) -> float:
    """Largest error in units of what the sum could be: |w| . |x|."""
    return float(np.max(np.abs(got - want) / np.maximum(scale, 1e-30)))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_are_exact_for_the_activations_that_the_kernels_see(
    pool: CpuPool, name: str, shape: tuple[int, int]
) -> None:
    weight_format, (rows, blocks) = FORMATS[name], shape
    columns = columns_of(weight_format, blocks)
    matrix = Matrix(weight_format, rows, columns)
    generator = np.random.default_rng(1)
    for tokens in TOKENS:
        x = generator.standard_normal((tokens, columns), dtype=np.float32)
        seen = (x if weight_format.is_float else as_int8(x)).astype(np.float64)
        want = seen @ matrix.weights.T.astype(np.float64)
        scale = np.abs(seen) @ np.abs(matrix.weights.T.astype(np.float64))
        # An activation on the edge between two codes may fall on either side: one code is 1/127 of the largest.
        assert relative_error(multiply(pool, matrix, x), want, scale) < (1e-6 if weight_format.is_float else 1e-3)


@pytest.mark.parametrize("name", [name for name, entry in FORMATS.items() if entry.is_float])
def test_long_rows_of_floats(pool: CpuPool, name: str) -> None:
    matrix = Matrix(FORMATS[name], 37, 4133)
    generator = np.random.default_rng(6)
    for tokens in (1, 2, 5, 17, 200):
        x = generator.standard_normal((tokens, 4133), dtype=np.float32)
        want = x.astype(np.float64) @ matrix.weights.T.astype(np.float64)
        scale = np.abs(x) @ np.abs(matrix.weights.T)
        assert relative_error(multiply(pool, matrix, x), want, scale) < 1e-6


@pytest.mark.parametrize("name", FORMATS)
def test_error_against_fp32(pool: CpuPool, name: str) -> None:
    weight_format = FORMATS[name]
    matrix = Matrix(weight_format, 96, 1024)
    x = np.random.default_rng(2).standard_normal((16, 1024), dtype=np.float32)
    want = x @ matrix.weights.T
    error = np.linalg.norm(multiply(pool, matrix, x) - want) / np.linalg.norm(want)
    assert error < (1e-3 if weight_format.is_float else 1e-2)


@pytest.mark.parametrize("name", FORMATS)
def test_threads_and_company_change_no_bit(name: str) -> None:
    if not available_isas():
        pytest.skip("no library")
    matrix = Matrix(FORMATS[name], 200, 512)
    x = np.random.default_rng(3).standard_normal((40, 512), dtype=np.float32)
    results = []
    for threads in (1, 2, 5):
        with CpuPool(available_isas()[-1], threads) as pool:
            results.append(multiply(pool, matrix, x))
            if not FORMATS[name].is_float:  # floats sum in another order for few tokens, never by thread
                results.append(np.concatenate([multiply(pool, matrix, x[i : i + 1]) for i in range(len(x))]))
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


@pytest.mark.parametrize("name", FORMATS)
def test_rows_are_read_back(pool: CpuPool, name: str) -> None:
    columns = columns_of(FORMATS[name], 2)
    matrix = Matrix(FORMATS[name], 35, columns)
    for row in (0, 1, 15, 16, 34):
        out = np.empty(columns, dtype=np.float32)
        pool.read_row(matrix.reference, row, out.ctypes.data)
        np.testing.assert_allclose(out, matrix.weights[row], rtol=1e-5, atol=1e-7)


def test_zeros_and_huge_numbers_stay_finite(pool: CpuPool) -> None:
    matrix = Matrix(FORMATS["Q4_K"], 32, 512)
    x = np.zeros((3, 512), dtype=np.float32)
    x[1] = 1e30
    x[2, :32] = 1e-40
    y = multiply(pool, matrix, x)
    assert np.all(y[0] == 0)
    assert np.all(np.isfinite(y))


# ---- experts --------------------------------------------------------------------------------------------------------


class Layer:
    """Random experts of one layer.

    Attributes:
        reference: By address.
        matrices: Per expert gate [I, H], up [I, H] and down [H, I] as floats.
        biases: Per expert those of gate, up and down, one behind the other.
    """

    def __init__(
        self, formats: tuple[str, str, str], experts: int, hidden: int, width: int, *, biased: bool = False
    ) -> None:
        """Draw them."""
        shapes = ((width, hidden), (width, hidden), (hidden, width))
        self.matrices: list[list[Floats]] = []
        self.biases: list[Floats] = []
        parts: list[list[NDArray[np.uint8]]] = []
        for expert in range(experts):
            packed = []
            for turn, (name, (rows, columns)) in enumerate(zip(formats, shapes, strict=True)):
                generator = np.random.default_rng([expert, turn])
                source = random_blocks(FORMATS[name], rows, columns, generator)
                packed.append(pack(FORMATS[name], rows, columns, source))
            biases = np.random.default_rng([expert, 3]).standard_normal(2 * width + hidden, dtype=np.float32)
            self.biases.append(biases)
            padding = np.zeros(-biases.nbytes % ALIGNMENT_BYTES, dtype=np.uint8)
            parts.append([*packed, biases.view(np.uint8), padding] if biased else packed)
            self.matrices.append(
                [decode(FORMATS[name], *shape, part) for name, shape, part in zip(formats, shapes, packed, strict=True)]
            )
        self._bytes = guarded(np.concatenate([part for packed in parts for part in packed]))
        sizes = [part.size for part in parts[0]]
        offsets = (0, sizes[0], sizes[0] + sizes[1])
        refs = [
            MatrixRef.of(offset, FORMATS[name], *shape)
            for offset, name, shape in zip(offsets, formats, shapes, strict=True)
        ]
        begin = offsets[2] + sizes[2] if biased else 0
        self.reference = ExpertsRef(self._bytes.ctypes.data, sum(sizes), *refs, begin, SLOPE, LIMIT)


def expert_by_hand(hidden: Floats, matrices: list[Floats]) -> NDArray[np.float64]:
    """down(silu(gate(x)) * up(x)) in double precision."""
    x, (gate, up, down) = hidden.astype(np.float64), (matrix.astype(np.float64) for matrix in matrices)
    g = x @ gate.T
    return np.asarray((g / (1 + np.exp(-g)) * (x @ up.T)) @ down.T)


def biased_by_hand(hidden: Floats, matrices: list[Floats], biases: Floats) -> NDArray[np.float64]:
    """gpt-oss's expert in double precision."""
    x, (gate, up, down) = hidden.astype(np.float64), (matrix.astype(np.float64) for matrix in matrices)
    gate_bias, up_bias, down_bias = np.split(biases.astype(np.float64), [len(gate), 2 * len(gate)])
    g, u = np.minimum(x @ gate.T + gate_bias, LIMIT), np.clip(x @ up.T + up_bias, -LIMIT, LIMIT)
    return np.asarray((u + 1) * g / (1 + np.exp(-SLOPE * g)) @ down.T + down_bias)


SLOPE, LIMIT = 1.7, 0.8
MIXES = (
    ("F32", "F32", "F32", 48, 40, 2e-6),
    ("BF16", "BF16", "BF16", 64, 72, 2e-6),
    ("Q4_0", "Q4_0", "Q4_0", 64, 96, 0.02),
    ("Q4_K", "Q4_K", "Q6_K", 256, 512, 0.02),
    ("Q4_K", "Q5_K", "Q5_0", 256, 96, 0.02),
    ("Q8_0", "F16", "MXFP4", 64, 32, 0.03),
)


@pytest.mark.parametrize("biased", [False, True], ids=["plain", "biased"])
@pytest.mark.parametrize("mix", MIXES, ids=lambda mix: "-".join(mix[:3]))
def test_experts_of_a_layer(pool: CpuPool, mix: tuple[str, str, str, int, int, float], biased: bool) -> None:
    *names, hidden_size, width, tolerance = mix
    layer = Layer((names[0], names[1], names[2]), 5, hidden_size, width, biased=biased)
    generator = np.random.default_rng(4)
    x = generator.standard_normal((11, hidden_size), dtype=np.float32)
    visits = {3: [0, 2, 3, 10], 0: [5], 4: list(range(11))}  # expert -> tokens
    weights = {expert: generator.random(len(tokens), dtype=np.float32) for expert, tokens in visits.items()}
    before = generator.standard_normal(x.shape, dtype=np.float32)
    want = before.astype(np.float64)
    for expert, tokens in visits.items():
        matrices, biases = layer.matrices[expert], layer.biases[expert]
        said = biased_by_hand(x[tokens], matrices, biases) if biased else expert_by_hand(x[tokens], matrices)
        want[tokens] += weights[expert][:, None] * said

    experts = np.array(list(visits), dtype=np.int32)
    first = np.cumsum([0, *map(len, visits.values())], dtype=np.int32)
    token = np.concatenate([np.array(tokens, dtype=np.int32) for tokens in visits.values()])
    weight = np.concatenate(list(weights.values()))
    out = before.copy()
    arrays = (len(visits), *(array.ctypes.data for array in (experts, first, token, weight)))
    pool.run_experts(layer.reference, x.ctypes.data, len(x), arrays, out.ctypes.data, lambda: None)
    error = np.linalg.norm(out - want) / np.linalg.norm(want - before)
    assert error < tolerance
    untouched = [row for row in range(11) if all(row not in tokens for tokens in visits.values())]
    np.testing.assert_array_equal(out[untouched], before[untouched])


# ---- threads and choices --------------------------------------------------------------------------------------------


class StoppedError(Exception):
    """What a user's wish to stop raises."""


@needs_library
def test_a_long_call_can_be_stopped() -> None:
    matrix = Matrix(FORMATS["F32"], 4096, 2048)
    x = np.zeros((512, 2048), dtype=np.float32)
    y = np.empty((512, 4096), dtype=np.float32)
    asked = []

    def check() -> None:
        asked.append(True)
        raise StoppedError

    with CpuPool("scalar", 2) as pool:
        with pytest.raises(StoppedError):
            pool.matmul(matrix.reference, x.ctypes.data, 512, y.ctypes.data, check)
        assert len(asked) == 1
        small = Matrix(FORMATS["Q4_0"], 32, 64)
        assert np.all(np.isfinite(multiply(pool, small, np.ones((1, 64), dtype=np.float32))))  # still of use


@needs_library
def test_many_short_calls_on_more_threads_than_cores() -> None:
    matrix = Matrix(FORMATS["Q8_0"], 64, 64)
    x = np.random.default_rng(5).standard_normal((1, 64), dtype=np.float32)
    with CpuPool(available_isas()[-1], 7) as pool:
        want = multiply(pool, matrix, x)
        for _ in range(200):
            np.testing.assert_array_equal(multiply(pool, matrix, x), want)


@needs_library
def test_measurements_are_plausible() -> None:
    memory = np.ones(64 << 20, dtype=np.uint8)
    with CpuPool(available_isas()[-1], 1) as pool:
        assert 1e8 < pool.measure_bandwidth(memory.ctypes.data, memory.nbytes) < 1e13
        assert 1e8 < pool.measure_int8(0.02) < 1e14


@needs_library
def test_a_pool_that_gets_no_other_threads_goes_on_with_its_own() -> None:
    matrix, x = Matrix(FORMATS["Q8_0"], 64, 64), np.ones((1, 64), dtype=np.float32)
    with CpuPool(available_isas()[-1], 2) as pool:
        want = multiply(pool, matrix, x)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pool._library, "rooftop_pool_create", lambda *_: None)
            with pytest.raises(ConfigurationError, match="did not give 3 threads"):
                pool.resize(3)
        assert (pool.threads, bool(pool._pool)) == (2, True)
        np.testing.assert_array_equal(multiply(pool, matrix, x), want)
        pool.resize(3)
        assert pool.threads == 3
        np.testing.assert_array_equal(multiply(pool, matrix, x), want)


def test_choosing(monkeypatch: pytest.MonkeyPatch) -> None:
    here: tuple[IsaName, ...] = ("scalar", "avx2")
    monkeypatch.setattr(cpu_library, "available_isas", lambda: here)
    assert chosen_kernels("auto") == "avx2"
    assert chosen_kernels("scalar") == "scalar"
    assert chosen_kernels("torch") == "torch"
    with pytest.raises(ConfigurationError, match=r"no avx512 kernels.*Choose one of scalar, avx2, torch, auto"):
        chosen_kernels("avx512")
    monkeypatch.setattr(cpu_library, "available_isas", lambda: ())
    assert chosen_kernels("auto") == "torch"


@needs_library
def test_what_is_tested_is_the_build_that_was_asked_for() -> None:
    library = cpu_library._library()
    assert library is not None
    assert Path(library._name) == library_path.find_library()  # with --native-library: a sanitized one, say


@needs_library
def test_a_library_of_other_sources_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = cpu_library._library.__wrapped__
    assert fresh() is not None
    with monkeypatch.context() as patch:
        # Loads, and has none of our functions.
        patch.setattr(library_path, "find_library", lambda: Path(_ctypes.__file__))
        assert fresh() is None
    larger = type("Larger", (ctypes.Structure,), {"_fields_": (*cpu_library.LayerRef._fields_, ("more", ctypes.c_int))})
    monkeypatch.setattr(cpu_library, "LayerRef", larger)
    assert fresh() is None
