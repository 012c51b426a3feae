"""Random weight matrices in every format, as they lie in a GGUF file, and ggml's own account of what they mean.

Codes and sub-scales are random bytes, so that every code comes up, the edges among them; scales are such that weights
come out near columns ** -0.5, as in a trained model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from engine.quant.formats import WeightFormat

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

# Per format with an fp16 scale: its first byte in the block, and how many scales a random weight is (root mean square).
_SCALES: Mapping[str, tuple[int, float]] = {
    "Q8_0": (0, 73.0),
    "Q4_0": (0, 4.6),
    "Q4_1": (0, 4.6),
    "Q5_0": (0, 9.2),
    "Q5_1": (0, 9.2),
    "Q2_K": (80, 11.0),
    "Q3_K": (108, 43.0),
    "Q4_K": (0, 190.0),
    "Q5_K": (0, 380.0),
    "Q6_K": (208, 1360.0),
    "IQ4_NL": (0, 69.0),
    "IQ4_XS": (0, 1280.0),
}
# Per format with a minimum: its first byte, and how many scales it must be for weights to be centred.
_MINIMA: Mapping[str, tuple[int, float]] = {
    "Q4_1": (2, -7.5),
    "Q5_1": (2, -15.5),
    "Q2_K": (82, 1.5),
    "Q4_K": (2, 7.5),
    "Q5_K": (2, 15.5),
}
_MXFP4_RMS = 5.6  # of the doubled values; a step of the exponent is a factor of 2
_EDGE_BYTES = (0x00, 0xFF, 0x0F, 0xF0, 0x7F)


def random_blocks(weight_format: WeightFormat, rows: int, columns: int, generator: np.random.Generator) -> Bytes:
    """A random matrix [rows, row_bytes] as in a file.

    One block in eight has the same extreme byte in all of its codes and sub-scales; scales are of both signs.
    """
    if weight_format.is_float:
        return _random_floats(weight_format.name, rows, columns, generator)
    count = rows * columns // weight_format.block_columns
    blocks = generator.integers(0, 256, (count, weight_format.block_bytes), dtype=np.uint8)
    extreme = generator.random(count) < 1 / 8
    blocks[extreme] = generator.choice(np.array(_EDGE_BYTES, dtype=np.uint8), (int(extreme.sum()), 1))
    _set_scales(weight_format.name, blocks, columns**-0.5, generator)
    return blocks.reshape(rows, weight_format.row_bytes(columns))


def dequantise(weight_format: WeightFormat, source: Bytes, columns: int) -> Floats:
    """What ggml makes of a matrix [rows, row_bytes]: [rows, columns]."""
    weights: Any = gguf.dequantize(np.ascontiguousarray(source), gguf.GGMLQuantizationType(weight_format.gguf_id))
    decoded: Floats = weights.reshape(source.shape[0], columns)
    return decoded


def _set_scales(name: str, blocks: Bytes, magnitude: float, generator: np.random.Generator) -> None:
    """Give blocks [n, block_bytes] scales that make weights of about `magnitude`."""
    if name == "MXFP4":
        middle = round(np.log2(magnitude / _MXFP4_RMS)) + 128
        blocks[:, 0] = generator.integers(middle - 2, middle + 2, len(blocks))
        return
    if name == "Q8_0":  # quantisers write -127 at least
        blocks[:, 2:][blocks[:, 2:] == 0x80] = 0x81
    start, size = _SCALES[name]
    scales = magnitude / size * generator.uniform(0.5, 1.5, len(blocks)) * generator.choice((-1, 1), len(blocks))
    blocks[:, start : start + 2] = _halves(scales)
    if name in _MINIMA:
        start, centre = _MINIMA[name]
        blocks[:, start : start + 2] = _halves(scales * centre * generator.uniform(0.9, 1.1, len(blocks)))


def _halves(numbers: NDArray[np.float64]) -> Bytes:
    """Numbers [n] as fp16 bytes [n, 2]."""
    return numbers.astype("<f2").view(np.uint8).reshape(-1, 2)


def _random_floats(name: str, rows: int, columns: int, generator: np.random.Generator) -> Bytes:
    """Normal weights in a float format [rows, row_bytes]."""
    weights = (generator.standard_normal((rows, columns)) * columns**-0.5).astype(np.float32)
    if name == "BF16":
        return np.ascontiguousarray(weights.view(np.uint16)[:, 1::2]).view(np.uint8)
    held: NDArray[Any] = weights.astype(np.float16) if name == "F16" else weights
    return held.view(np.uint8)
