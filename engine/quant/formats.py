"""Every weight format that the engine runs: how many bits, in what blocks, and how large a matrix of it is.

A matrix is [rows, columns], row by row on disk, each row cut into blocks of `block_columns`. Float formats stay row by
row in memory. Block formats are packed at load: tiles of 16 rows, whose bytes `engine.quant.packing` describes. Knows
nothing of files, and imports nothing: the window may use it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

TILE_ROWS = 16
ALIGNMENT_BYTES = 64


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """One way to store weights.

    Attributes:
        name: As GGUF calls it.
        native_id: Its number in `engine/kernels/native/formats.h`.
        gguf_id: Its number in a GGUF file (ggml_type).
        block_columns: Weights of one block, all of the same row.
        block_bytes: Bytes of one block.
    """

    name: str
    native_id: int
    gguf_id: int
    block_columns: int
    block_bytes: int

    @property
    def is_float(self) -> bool:
        """Whether each weight is a number by itself."""
        return self.block_columns == 1

    @property
    def bits(self) -> float:
        """Bits of one weight, scales included."""
        return 8 * self.block_bytes / self.block_columns

    def row_bytes(self, columns: int) -> int:
        """Bytes of one row on disk; `columns` must be a multiple of `block_columns`."""
        assert columns % self.block_columns == 0, f"{columns} columns are no whole blocks of {self.name}"
        return columns // self.block_columns * self.block_bytes

    def packed_bytes(self, rows: int, columns: int) -> int:
        """Bytes of a matrix in memory: block formats fill up their last tile, and all end on a 64-byte boundary."""
        held = rows if self.is_float else -(-rows // TILE_ROWS) * TILE_ROWS
        return -(-held * self.row_bytes(columns) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


_ALL = (
    WeightFormat("F32", 0, 0, 1, 4),
    WeightFormat("F16", 1, 1, 1, 2),
    WeightFormat("BF16", 2, 30, 1, 2),
    WeightFormat("Q8_0", 3, 8, 32, 34),
    WeightFormat("Q4_0", 4, 2, 32, 18),
    WeightFormat("Q4_1", 5, 3, 32, 20),
    WeightFormat("Q5_0", 6, 6, 32, 22),
    WeightFormat("Q5_1", 7, 7, 32, 24),
    WeightFormat("Q2_K", 8, 10, 256, 84),
    WeightFormat("Q3_K", 9, 11, 256, 110),
    WeightFormat("Q4_K", 10, 12, 256, 144),
    WeightFormat("Q5_K", 11, 13, 256, 176),
    WeightFormat("Q6_K", 12, 14, 256, 210),
    WeightFormat("IQ4_NL", 13, 20, 32, 18),
    WeightFormat("IQ4_XS", 14, 23, 256, 136),
    WeightFormat("MXFP4", 15, 39, 32, 17),
)
FORMATS: Mapping[str, WeightFormat] = MappingProxyType({entry.name: entry for entry in _ALL})
BY_GGUF_ID: Mapping[int, WeightFormat] = MappingProxyType({entry.gguf_id: entry for entry in _ALL})
