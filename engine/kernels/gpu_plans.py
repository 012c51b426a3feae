"""What is launched on the GPU: kernels of `cuda/`, their grids and their arguments, from tensors and shapes alone.

Who launches it is another matter: NVIDIA's driver (`engine.kernels.gpu_kernels`), or the emulation of the tests. The
structures here mirror those of the same kernels in `cuda/*.cuh`.

T tokens, A experts chosen by each, E experts, H hidden size, I intermediate size, s rows of activations.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_longlong, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from engine.config import ExpertFormats
from engine.kernels.nvrtc import Source
from engine.kernels.packed import PackedMatrix
from engine.quant.formats import ALIGNMENT_BYTES, FORMATS, TILE_ROWS, WeightFormat

MAX_TOKENS = 16  # of one launch of `experts` or `linear`; more are worth unpacking for
THREADS = 256  # of every block: kThreads

_FOLDER = Path(__file__).parent / "cuda"
_MAIN = "kernels.cu"
_WARPS, _UNIT_COLUMNS = THREADS // 32, 128
_LOAD_BYTES = 16  # the widest of the kernels' loads and stores
_SMALL_TOKENS, _VISITS_PER_EIGHT = 8, 128  # kEights = 1 or 2, and Residents::kVisits
_TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}


class PrepareArguments(ctypes.Structure):
    """Of `prepare`."""

    _fields_ = (
        ("hidden", c_void_p),
        ("activations", c_void_p),
        *((name, c_int) for name in ("rows", "columns", "type", "as_int8")),
    )


class ExpertsArguments(ctypes.Structure):
    """Of `gate_up` and `down`."""

    _fields_ = (
        *((name, c_void_p) for name in ("addresses", "ids", "weights", "hidden", "activations", "out")),
        ("up_offset", c_longlong),
        ("down_offset", c_longlong),
        *((name, c_int) for name in ("experts", "id_bytes", "tokens", "per_token", "hidden_size", "intermediate")),
        ("int8_activations", c_int),
    )


class LinearArguments(ctypes.Structure):
    """Of `linear`."""

    _fields_ = (
        *((name, c_void_p) for name in ("matrix", "activations", "out")),
        *((name, c_int) for name in ("tokens", "rows", "columns", "type")),
    )


class UnpackArguments(ctypes.Structure):
    """Of `unpack_tiles`."""

    _fields_ = (
        ("matrix", c_void_p),
        ("out", c_void_p),
        *((name, c_int) for name in ("rows", "columns", "type")),
    )


Arguments = PrepareArguments | ExpertsArguments | LinearArguments | UnpackArguments


@dataclass(frozen=True, slots=True)
class Program:
    """What is compiled at once.

    Attributes:
        format: Of the matrices.
        up_format: Of an expert's up, where it differs from its gate.
    """

    format: str
    up_format: str

    @classmethod
    def of(cls, weight_format: str) -> Program:
        """That of one format."""
        return cls(weight_format, weight_format)

    def source(self) -> Source:
        """Its text."""
        macros = {"FORMAT": self.format, "UP_FORMAT": self.up_format}
        if FORMATS[self.format].is_float:
            macros["ROOFTOP_FLOATS"] = "1"
        return Source(_MAIN, _files(), macros)


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel on its way; blocks have `THREADS` threads and no dynamic shared memory.

    Attributes:
        program: Where it is.
        kernel: Its name.
        blocks: The grid, x and y.
        arguments: Its only argument.
    """

    program: Program
    kernel: str
    blocks: tuple[int, int]
    arguments: Arguments


@dataclass(frozen=True, slots=True)
class LayerTable:
    """Where the experts of one layer lie on the GPU.

    Attributes:
        addresses: int64 [E] on the GPU: of each expert's run gate | up | down, 0 where it is not there. Whoever moves
            experts writes it in the stream that runs them.
        formats: Of gate, up and down.
        hidden_size: H.
        intermediate_size: I.
    """

    addresses: torch.Tensor
    formats: ExpertFormats
    hidden_size: int
    intermediate_size: int

    @property
    def programs(self) -> tuple[Program, Program]:
        """Of gate and up, of down."""
        gate, up, down = self.formats
        return Program(gate, up), Program.of(down)

    @property
    def offsets(self) -> tuple[int, int]:
        """Bytes from an expert's beginning to its up and to its down."""
        gate, up, _ = (FORMATS[name] for name in self.formats)
        up_begins = gate.packed_bytes(self.intermediate_size, self.hidden_size)
        return up_begins, up_begins + up.packed_bytes(self.intermediate_size, self.hidden_size)


def runs_experts(formats: ExpertFormats, hidden_size: int, intermediate_size: int) -> bool:
    """Whether the kernels know such experts: gate and up both floats or both not, float rows of whole 4 columns."""
    gate, up, down = (FORMATS[name] for name in formats)
    fits = _fits(gate, hidden_size) and _fits(up, hidden_size) and _fits(down, intermediate_size)
    return fits and gate.is_float == up.is_float


def runs_tokens(tokens: int, per_token: int) -> bool:
    """Whether one launch takes so many tokens with so many experts each."""
    return tokens <= MAX_TOKENS and tokens * per_token <= _VISITS_PER_EIGHT * _eights(tokens)


def runs_matrix(matrix: PackedMatrix) -> bool:
    """Whether `linear` knows such a matrix."""
    return _fits(matrix.format, matrix.columns)


def _fits(weight_format: WeightFormat, columns: int) -> bool:
    """Whether rows of so many columns can be read in whole words."""
    return columns % (4 if weight_format.is_float else weight_format.block_columns) == 0


def experts_workspace_bytes(tokens: int, per_token: int, hidden_size: int, intermediate_size: int) -> int:
    """Bytes of the buffer that `experts` works in, for any formats."""
    return _aligned(4 * tokens * hidden_size) + _aligned(4 * tokens * per_token * intermediate_size)


def linear_workspace_bytes(tokens: int, columns: int) -> int:
    """Bytes of the buffer that `linear` works in, for any format."""
    return _aligned(4 * tokens * columns)


def plan_experts(
    layer: LayerTable,
    hidden: torch.Tensor,
    top_experts: torch.Tensor,
    top_weights: torch.Tensor,
    workspace: torch.Tensor,
    out: torch.Tensor,
) -> tuple[Launch, ...]:
    """The launches that add a layer's experts; see `GpuKernels.experts`.

    Args:
        layer: Where they lie.
        hidden: [T, H].
        top_experts: int32 or int64 [T, A].
        top_weights: fp32 [T, A].
        workspace: uint8 [experts_workspace_bytes] or more, at a 16-byte boundary.
        out: fp32 [T, H].
    """
    tokens, per_token = top_experts.shape
    assert runs_experts(layer.formats, layer.hidden_size, layer.intermediate_size), f"no kernels for {layer}"
    assert runs_tokens(tokens, per_token), f"{tokens} tokens of {per_token} experts are too many"
    assert hidden.shape == out.shape == (tokens, layer.hidden_size), f"{hidden.shape} is not {out.shape}"
    assert top_weights.shape == top_experts.shape, f"{top_weights.shape} is not {top_experts.shape}"
    assert out.dtype == top_weights.dtype == torch.float32, "sums and router weights are fp32"
    for tensor in (hidden, top_experts, top_weights, out):
        assert tensor.is_contiguous(), f"{tensor.shape} does not lie in order"
    gate_up, down = layer.programs
    ready, prepared = _prepare(gate_up, hidden, workspace)
    activations = workspace.data_ptr() + _aligned(4 * tokens * layer.hidden_size)
    assert workspace.nbytes >= experts_workspace_bytes(tokens, per_token, layer.hidden_size, layer.intermediate_size)
    arguments = ExpertsArguments(
        layer.addresses.data_ptr(), top_experts.data_ptr(), top_weights.data_ptr(), prepared, activations,
        out.data_ptr(), *layer.offsets, layer.addresses.numel(), top_experts.element_size(), tokens, per_token,
        layer.hidden_size, layer.intermediate_size, int(not FORMATS[down.format].is_float),
    )  # fmt: skip
    size = _SMALL_TOKENS * _eights(tokens)
    strips, out_strips = _strips(layer.intermediate_size), _strips(layer.hidden_size)
    return (
        *ready,
        Launch(gate_up, f"gate_up_{size}", (strips, tokens * per_token), arguments),
        Launch(down, f"down_{size}", (out_strips, 1), arguments),
    )


def plan_linear(
    matrix: PackedMatrix, hidden: torch.Tensor, workspace: torch.Tensor, out: torch.Tensor
) -> tuple[Launch, ...]:
    """The launches of one product; see `GpuKernels.linear`.

    Args:
        matrix: [rows, columns].
        hidden: [s, columns].
        workspace: uint8 [linear_workspace_bytes] or more, at a 16-byte boundary.
        out: [s, rows].
    """
    tokens = hidden.shape[0]
    assert runs_matrix(matrix), f"no kernels for {matrix}"
    assert tokens <= MAX_TOKENS, f"{tokens} rows are too many"
    assert hidden.shape == (tokens, matrix.columns), f"{hidden.shape} does not fit {matrix}"
    assert out.shape == (tokens, matrix.rows), f"{out.shape} does not fit {matrix}"
    assert hidden.is_contiguous(), "activations lie in order"
    assert out.is_contiguous(), "results lie in order"
    program = Program.of(matrix.format.name)
    ready, prepared = _prepare(program, hidden, workspace)
    arguments = LinearArguments(
        matrix.data.data_ptr(), prepared, out.data_ptr(), tokens, matrix.rows, matrix.columns, _TYPES[out.dtype]
    )
    kernel = f"linear_{_SMALL_TOKENS * _eights(tokens)}"
    return (*ready, Launch(program, kernel, (_strips(matrix.rows), 1), arguments))


def plan_unpack(matrix: PackedMatrix, out: torch.Tensor) -> Launch:
    """The launch that unpacks a matrix in a block format; see `GpuKernels.unpack`.

    Args:
        matrix: [rows, columns].
        out: [rows, columns].
    """
    assert not matrix.format.is_float, f"{matrix.format.name} is not packed"
    assert out.shape == (matrix.rows, matrix.columns), f"{out.shape} does not fit {matrix}"
    assert out.is_contiguous(), "results lie in order"
    assert out.data_ptr() % _LOAD_BYTES == 0, "four floats are written at once"
    units = _strips(matrix.rows) * -(-matrix.columns // _UNIT_COLUMNS)
    arguments = UnpackArguments(matrix.data.data_ptr(), out.data_ptr(), matrix.rows, matrix.columns, _TYPES[out.dtype])
    return Launch(Program.of(matrix.format.name), "unpack_tiles", (-(-units // _WARPS), 1), arguments)


def _prepare(program: Program, hidden: torch.Tensor, workspace: torch.Tensor) -> tuple[tuple[Launch, ...], int]:
    """What brings activations into the form that a program's format reads, and where they are then."""
    as_int8 = not FORMATS[program.format].is_float
    assert hidden.data_ptr() % _LOAD_BYTES == workspace.data_ptr() % _LOAD_BYTES == 0, "activations lie on no boundary"
    if not as_int8 and hidden.dtype == torch.float32:
        return (), hidden.data_ptr()
    rows, columns = hidden.shape
    assert workspace.nbytes >= linear_workspace_bytes(rows, columns), f"{workspace.nbytes} bytes are too few"
    arguments = PrepareArguments(
        hidden.data_ptr(), workspace.data_ptr(), rows, columns, _TYPES[hidden.dtype], int(as_int8)
    )
    blocks = (-(-rows * columns // THREADS), 1)
    return (Launch(program, "prepare", blocks, arguments),), workspace.data_ptr()


def _eights(tokens: int) -> int:
    """Eights of tokens that a kernel has room for."""
    return 1 if tokens <= _SMALL_TOKENS else 2


def _strips(rows: int) -> int:
    """Strips of a matrix."""
    return -(-rows // TILE_ROWS)


def _aligned(size_bytes: int) -> int:
    """Up to the next boundary."""
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


@cache
def _files() -> dict[str, str]:
    """The sources by name."""
    return {path.name: path.read_text() for path in sorted(_FOLDER.iterdir()) if path.suffix in {".cu", ".cuh"}}
