"""The launches for packed matrices: the experts of a layer, products, unpacking.

The structures mirror those of the same kernels in `cuda/*.cuh`.

T tokens, A experts chosen by each, E experts, H hidden size, I intermediate size, s rows of activations.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_longlong, c_void_p
from dataclasses import dataclass

import torch

from engine.config import ExpertFormats
from engine.kernels.gpu_launch import LOAD_BYTES, THREADS, TYPES, WARPS, Launch, Program, aligned_bytes
from engine.kernels.packed import PackedMatrix
from engine.quant.formats import FORMATS, TILE_ROWS, WeightFormat

MAX_TOKENS = 16  # of one launch of `experts` or `linear`; more are worth unpacking for

_UNIT_COLUMNS = 128
_SMALL_TOKENS, _VISITS_PER_EIGHT = 8, 128  # kEights = 1 or 2, and Residents::kVisits


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


@dataclass(frozen=True, slots=True)
class LayerTable:
    """Where the experts of one layer lie on the GPU.

    Attributes:
        addresses: int64 [E] on the GPU: of each expert's run gate | up | down, 0 where it is not there. Whoever moves
            experts writes it in the stream that runs them.
        formats: Of gate, up and down.
        hidden_size: H.
        intermediate_size: I.
        biased: Whether the experts have biases, which no kernel knows.
    """

    addresses: torch.Tensor
    formats: ExpertFormats
    hidden_size: int
    intermediate_size: int
    biased: bool = False

    @property
    def programs(self) -> tuple[Program, Program]:
        """Of gate and up, of down."""
        gate, up, down = self.formats
        return matrix_program(gate, up), matrix_program(down)

    @property
    def offsets(self) -> tuple[int, int]:
        """Bytes from an expert's beginning to its up and to its down."""
        gate, up, _ = (FORMATS[name] for name in self.formats)
        up_begins = gate.packed_bytes(self.intermediate_size, self.hidden_size)
        return up_begins, up_begins + up.packed_bytes(self.intermediate_size, self.hidden_size)


def matrix_program(weight_format: str, up_format: str = "") -> Program:
    """The products with matrices of one format.

    Args:
        weight_format: Its name.
        up_format: Of an expert's up, where it differs from its gate.
    """
    macros = [("FORMAT", weight_format), ("UP_FORMAT", up_format or weight_format)]
    if FORMATS[weight_format].is_float:
        macros.append(("ROOFTOP_FLOATS", "1"))
    return Program("kernels.cu", tuple(macros))


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
    return aligned_bytes(4 * tokens * hidden_size) + aligned_bytes(4 * tokens * per_token * intermediate_size)


def linear_workspace_bytes(tokens: int, columns: int) -> int:
    """Bytes of the buffer that `linear` works in, for any format."""
    return aligned_bytes(4 * tokens * columns)


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
    ready, prepared = _prepare(layer.formats[0], gate_up, hidden, workspace)
    activations = workspace.data_ptr() + aligned_bytes(4 * tokens * layer.hidden_size)
    assert workspace.nbytes >= experts_workspace_bytes(tokens, per_token, layer.hidden_size, layer.intermediate_size)
    arguments = ExpertsArguments(
        layer.addresses.data_ptr(), top_experts.data_ptr(), top_weights.data_ptr(), prepared, activations,
        out.data_ptr(), *layer.offsets, layer.addresses.numel(), top_experts.element_size(), tokens, per_token,
        layer.hidden_size, layer.intermediate_size, int(not FORMATS[layer.formats[2]].is_float),
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
    program = matrix_program(matrix.format.name)
    ready, prepared = _prepare(matrix.format.name, program, hidden, workspace)
    arguments = LinearArguments(
        matrix.data.data_ptr(), prepared, out.data_ptr(), tokens, matrix.rows, matrix.columns, TYPES[out.dtype]
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
    assert out.data_ptr() % LOAD_BYTES == 0, "four floats are written at once"
    units = _strips(matrix.rows) * -(-matrix.columns // _UNIT_COLUMNS)
    arguments = UnpackArguments(matrix.data.data_ptr(), out.data_ptr(), matrix.rows, matrix.columns, TYPES[out.dtype])
    return Launch(matrix_program(matrix.format.name), "unpack_tiles", (-(-units // WARPS), 1), arguments)


def _prepare(
    weight_format: str, program: Program, hidden: torch.Tensor, workspace: torch.Tensor
) -> tuple[tuple[Launch, ...], int]:
    """What brings activations into the form that products with a format read, and where they are then."""
    as_int8 = not FORMATS[weight_format].is_float
    assert hidden.data_ptr() % LOAD_BYTES == workspace.data_ptr() % LOAD_BYTES == 0, "activations lie on no boundary"
    if not as_int8 and hidden.dtype == torch.float32:
        return (), hidden.data_ptr()
    rows, columns = hidden.shape
    assert workspace.nbytes >= linear_workspace_bytes(rows, columns), f"{workspace.nbytes} bytes are too few"
    arguments = PrepareArguments(
        hidden.data_ptr(), workspace.data_ptr(), rows, columns, TYPES[hidden.dtype], int(as_int8)
    )
    blocks = (-(-rows * columns // THREADS), 1)
    return (Launch(program, "prepare", blocks, arguments),), workspace.data_ptr()


def _eights(tokens: int) -> int:
    """Eights of tokens that a kernel has room for."""
    return 1 if tokens <= _SMALL_TOKENS else 2


def _strips(rows: int) -> int:
    """Strips of a matrix."""
    return -(-rows // TILE_ROWS)
