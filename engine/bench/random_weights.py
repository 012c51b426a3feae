"""Random weights in any block format, fast enough to fill files of gigabytes.

A pool of random blocks is made once per format; its scales are set so that the decoded weights have the spread that is
asked for, as the reference decoder of the `gguf` package sees them. A matrix is the pool from some block on, repeated.
The pool's length is prime, so that rows and experts differ from each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from engine.quant.formats import FORMATS

Bytes = NDArray[np.uint8]

_POOL_BLOCKS = {1: 4194301, 32: 524287, 256: 65521}  # by columns of a block; primes
_SAMPLE_BLOCKS = 64
_SPREAD = 0.25  # how much the scales of blocks differ


@dataclass(frozen=True, slots=True)
class _Fields:
    """Where a block keeps its float16 scale, and its offset where it has one.

    Attributes:
        scale: Byte where the scale begins.
        offset: Byte where the offset begins; None where there is none.
        offset_ratio: The offset in scales that centres the weights on zero.
    """

    scale: int = 0
    offset: int | None = None
    offset_ratio: float = 0.0


_FIELDS: Mapping[str, _Fields] = MappingProxyType(
    {
        "Q8_0": _Fields(),
        "Q4_0": _Fields(),
        "Q4_1": _Fields(offset=2, offset_ratio=-7.5),
        "Q5_0": _Fields(),
        "Q5_1": _Fields(offset=2, offset_ratio=-15.5),
        "Q3_K": _Fields(scale=108),
        "Q4_K": _Fields(offset=2, offset_ratio=7.5),
        "Q5_K": _Fields(offset=2, offset_ratio=15.5),
        "Q6_K": _Fields(scale=208),
        "IQ4_NL": _Fields(),
        "IQ4_XS": _Fields(),
    }
)


class RandomWeights:
    """Makes random matrices.

    Args:
        seed: The same seed makes the same matrices, asked for in the same order.
    """

    def __init__(self, seed: int = 0) -> None:
        """See the class."""
        self._generator = np.random.default_rng(seed)
        self._pools: dict[tuple[str, float], Bytes] = {}

    def matrix(self, name: str, rows: int, columns: int, rms: float) -> Bytes:
        """A matrix as it lies in a file: bytes [rows, bytes of a row].

        Args:
            name: A format: F32, F16 or one of the block formats with float16 scales.
            rows: Its rows.
            columns: Its columns, whole blocks.
            rms: Root mean square of the decoded weights.
        """
        entry = FORMATS[name]
        pool = self._pool(name, rms)
        first = int(self._generator.integers(len(pool)))
        blocks = rows * columns // entry.block_columns
        return np.resize(np.roll(pool, -first, axis=0), (rows, blocks // rows * entry.block_bytes))

    def _pool(self, name: str, rms: float) -> Bytes:
        """The blocks of one format and spread."""
        if (name, rms) not in self._pools:
            self._pools[name, rms] = self._floats(name, rms) if FORMATS[name].is_float else self._blocks(name, rms)
        return self._pools[name, rms]

    def _floats(self, name: str, rms: float) -> Bytes:
        """Normally distributed numbers, as bytes [pool, bytes of one]."""
        entry = FORMATS[name]
        values = self._generator.standard_normal(_POOL_BLOCKS[1], dtype=np.float32) * np.float32(rms)
        return values.astype({"F32": "<f4", "F16": "<f2"}[name]).view(np.uint8).reshape(-1, entry.block_bytes)

    def _blocks(self, name: str, rms: float) -> Bytes:
        """Random blocks [pool, bytes of a block] whose scales make the weights as large as asked."""
        entry = FORMATS[name]
        count = _POOL_BLOCKS[entry.block_columns]
        blocks = self._generator.integers(0, 256, (count, entry.block_bytes), dtype=np.uint8)
        scales = self._generator.uniform(1 - _SPREAD, 1 + _SPREAD, count).astype(np.float32)
        sample = blocks[:_SAMPLE_BLOCKS].copy()
        _set_scales(name, sample, scales[:_SAMPLE_BLOCKS])
        _set_scales(name, blocks, scales * np.float32(rms / _decoded_rms(name, sample)))
        return blocks


def _set_scales(name: str, blocks: Bytes, scales: NDArray[np.float32]) -> None:
    """Write the scale of every block, and the offset that belongs to it."""
    fields = _FIELDS[name]
    blocks[:, fields.scale : fields.scale + 2] = _float16_bytes(scales)
    if fields.offset is not None:
        blocks[:, fields.offset : fields.offset + 2] = _float16_bytes(scales * np.float32(fields.offset_ratio))


def _float16_bytes(values: NDArray[np.float32]) -> Bytes:
    return values.astype("<f2").view(np.uint8).reshape(-1, 2)


def _decoded_rms(name: str, blocks: Bytes) -> float:
    """Root mean square of the weights in some blocks."""
    import gguf

    decoded = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType(FORMATS[name].gguf_id))
    return float(np.sqrt(np.mean(np.square(decoded, dtype=np.float64))))
