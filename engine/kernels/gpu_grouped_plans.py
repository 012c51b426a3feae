"""The launches for experts of a layer with any number of tokens, some experts at once (`cuda/grouped.cuh`).

T tokens, A experts chosen by each, H hidden size, I intermediate size, V visits in the order of the experts.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_int, c_longlong, c_void_p
from dataclasses import dataclass

import torch

from engine.config import ExpertFormats
from engine.kernels.gpu_launch import LOAD_BYTES, THREADS, TYPES, WARPS, Launch, Program
from engine.kernels.gpu_plans import PrepareArguments, matrix_program, runs_experts
from engine.kernels.grouping import GROUP_EXPERTS, group_bytes, prepared_bytes
from engine.quant.formats import FORMATS, TILE_ROWS

TILE_VISITS = 16  # kTileVisits

_ADDED_AT_ONCE = 4


class _Share(ctypes.Structure):
    """An expert of a group."""

    _fields_ = (("address", c_longlong), ("end", c_int), ("tile_end", c_int))


class GroupedArguments(ctypes.Structure):
    """Of `group_gate_up`, `group_down` and `group_add`."""

    _fields_ = (
        *((name, c_void_p) for name in ("hidden", "order", "places", "weights", "activations", "said", "out")),
        ("up_offset", c_longlong),
        ("down_offset", c_longlong),
        *((name, c_int) for name in ("tokens", "per_token", "begin", "visits", "hidden_size", "intermediate")),
        *((name, c_int) for name in ("type", "experts")),
        ("shares", _Share * GROUP_EXPERTS),
    )


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Visits:
    """Who visits which expert of a layer, sorted by expert; the experts in the order in which they run.

    Attributes:
        spans: Expert -> (first, end) in that order, only experts with tokens.
        order: Of each visit, token * A + choice: int64 [V], on the experts' device.
        places: Where each visit is in that order, -1 where it is not: int64 [T, A], likewise.
        hidden: Normed hidden states [T, H], likewise.
        weights: Router weights [T, A], fp32, likewise.
        out: The layer's sum [T, H], fp32, changed in place.
    """

    spans: dict[int, tuple[int, int]]
    order: torch.Tensor
    places: torch.Tensor
    hidden: torch.Tensor
    weights: torch.Tensor
    out: torch.Tensor

    @property
    def per_token(self) -> int:
        """Experts chosen by each token (A)."""
        return self.weights.shape[1]

    def rows(self, expert: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens of one expert [s], each once, and their router weights [s, 1]."""
        first, end = self.spans[expert]
        mine = self.order[first:end]
        return mine // self.per_token, self.weights.reshape(-1)[mine, None]

    def count(self, expert: int) -> int:
        """Tokens of one expert."""
        first, end = self.spans[expert]
        return end - first


@dataclass(frozen=True, slots=True)
class Located:
    """An expert in the GPU's memory.

    Attributes:
        expert: Its index.
        address: Of its run gate | up | down.
    """

    expert: int
    address: int


def runs_groups(formats: ExpertFormats, hidden_size: int, intermediate_size: int) -> bool:
    """Whether the kernels know such experts: all three matrices in blocks."""
    blocks = not any(FORMATS[name].is_float for name in formats)
    return blocks and runs_experts(formats, hidden_size, intermediate_size)


def plan_prepare_group(formats: ExpertFormats, hidden: torch.Tensor, workspace: torch.Tensor) -> Launch:
    """The launch that makes a pass's hidden states ready for all groups of a layer.

    Args:
        formats: Of the experts.
        hidden: [T, H].
        workspace: As for `plan_group`.
    """
    rows, columns = hidden.shape
    assert hidden.is_contiguous(), "hidden states lie in order"
    assert hidden.data_ptr() % LOAD_BYTES == workspace.data_ptr() % LOAD_BYTES == 0, "activations lie on no boundary"
    assert workspace.nbytes >= prepared_bytes(rows, columns), f"{workspace.nbytes} bytes are too few"
    arguments = PrepareArguments(hidden.data_ptr(), workspace.data_ptr(), rows, columns, TYPES[hidden.dtype], 1)
    blocks = (-(-rows * columns // THREADS), 1)
    return Launch(_programs(formats)[0], "prepare", blocks, arguments)


def plan_group(
    formats: ExpertFormats, visits: Visits, experts: Sequence[Located], workspace: torch.Tensor, intermediate_size: int
) -> tuple[Launch, ...]:
    """The launches that add what some experts say to their tokens, whose hidden states are prepared.

    Args:
        formats: Of the experts.
        visits: Of the layer.
        experts: Up to `GROUP_EXPERTS`, each right behind the one before in the order of the visits.
        workspace: uint8 [group_bytes] or more, at a 16-byte boundary.
        intermediate_size: I.
    """
    tokens, hidden_size = visits.hidden.shape
    begin, end = visits.spans[experts[0].expert][0], visits.spans[experts[-1].expert][1]
    size = group_bytes(tokens, end - begin, hidden_size, intermediate_size, visits.hidden.element_size())
    assert runs_groups(formats, hidden_size, intermediate_size), f"no kernels for {formats}"
    assert len(experts) <= GROUP_EXPERTS, f"{len(experts)} experts are too many"
    assert workspace.nbytes >= size, f"{workspace.nbytes} bytes are too few, {size} are needed"
    for tensor, dtype in (
        (visits.order, torch.int64), (visits.places, torch.int64), (visits.weights, torch.float32),
        (visits.out, torch.float32),
    ):  # fmt: skip
        assert tensor.is_contiguous(), f"{tensor.shape} does not lie in order"
        assert tensor.dtype == dtype, f"{tensor.dtype} is not {dtype}"
    shares, tiles = _shares(visits, experts, begin)
    inside = workspace.data_ptr() + prepared_bytes(tokens, hidden_size)
    said = inside + prepared_bytes(end - begin, intermediate_size)
    up_begins = FORMATS[formats[0]].packed_bytes(intermediate_size, hidden_size)
    down_begins = up_begins + FORMATS[formats[1]].packed_bytes(intermediate_size, hidden_size)
    arguments = GroupedArguments(
        workspace.data_ptr(), visits.order.data_ptr(), visits.places.data_ptr(), visits.weights.data_ptr(), inside,
        said, visits.out.data_ptr(), up_begins, down_begins, tokens, visits.per_token, begin, end - begin,
        hidden_size, intermediate_size, TYPES[visits.hidden.dtype], len(experts), shares,
    )  # fmt: skip
    gate_up, down = _programs(formats)
    added = -(-tokens * hidden_size // _ADDED_AT_ONCE)
    return (
        Launch(gate_up, "group_gate_up", (tiles, _blocks(intermediate_size)), arguments),
        Launch(down, "group_down", (tiles, _blocks(hidden_size)), arguments),
        Launch(down, "group_add", (-(-added // THREADS), 1), arguments),
    )


def _shares(visits: Visits, experts: Sequence[Located], begin: int) -> tuple[ctypes.Array[_Share], int]:
    """What each expert has of the visits and of the tiles, and all tiles."""
    shares = (_Share * GROUP_EXPERTS)()
    behind, tiles = begin, 0
    for index, located in enumerate(experts):
        first, end = visits.spans[located.expert]
        assert first == behind, f"expert {located.expert} does not follow the one before"
        behind, tiles = end, tiles - (first - end) // TILE_VISITS
        shares[index] = _Share(located.address, end, tiles)
    return shares, tiles


def _blocks(rows: int) -> int:
    """Blocks that rows of a matrix are shared out among, a strip for each warp."""
    return -(-rows // (TILE_ROWS * WARPS))


def _programs(formats: ExpertFormats) -> tuple[Program, Program]:
    """Of gate and up, of down."""
    gate, up, down = formats
    return matrix_program(gate, up), matrix_program(down)
