"""The probe at start: every GPU kernel of a format against torch, on small random weights.

A compiler, driver or GPU that does something unexpected shall cost speed, never a wrong answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from engine.config import ExpertFormats
from engine.kernels.gpu_grouped_plans import Located, Visits, plan_group, plan_prepare_group, runs_groups
from engine.kernels.gpu_plans import LayerTable, experts_workspace_bytes, linear_workspace_bytes
from engine.kernels.grouping import group_bytes
from engine.kernels.packed import PackedMatrix
from engine.kernels.torch_expert import ExpertWeights
from engine.kernels.torch_unpack import unpack
from engine.quant.formats import FORMATS, TILE_ROWS, WeightFormat
from engine.quant.packing import HALF, LAYOUTS, tile_type
from engine.sentences import Number, say

if TYPE_CHECKING:
    from engine.kernels.gpu_kernels import GpuKernels

# What may be lost, of a result's length, against the same activations in int8. A product differs by the order of its
# sums; in an expert, an activation at the edge of two codes may fall to the other side.
LINEAR_ERROR, EXPERTS_ERROR = 1e-4, 5e-3

_TOKENS, _GROUP_TOKENS = (3, 9), 40
_HIDDEN, _INTERMEDIATE, _EXPERTS, _ABSENT = 256, 256, 4, 2


def find_mismatch(kernels: GpuKernels, name: str, device: torch.device) -> str:
    """What a format's kernels compute otherwise than torch: a sentence, empty if nothing.

    Args:
        kernels: On trial.
        name: The format.
        device: Where they run.
    """
    random = np.random.default_rng(FORMATS[name].native_id)
    for tokens in _TOKENS:
        for kind, error, limit in (
            (say("product"), _linear_error(kernels, name, tokens, device, random), LINEAR_ERROR),
            (say("experts"), _experts_error(kernels, (name,) * 3, tokens, device, random), EXPERTS_ERROR),
        ):
            if not error <= limit:  # nor what is no number
                return say(
                    "The GPU's {kind} in {format} with {tokens} tokens is off by {error}, the limit is {limit}.",
                    kind=kind,
                    format=name,
                    tokens=tokens,
                    error=Number(f"{error:.2g}"),
                    limit=Number(f"{limit:.2g}"),
                )
    if FORMATS[name].is_float:
        return ""
    if not _unpacks(kernels, name, device, random):
        return say("The GPU unpacks {format} to other weights than torch does.", format=name)
    return _group_mismatch(kernels, (name,) * 3, device, random)


def find_mixed_mismatch(kernels: GpuKernels, formats: ExpertFormats, device: torch.device) -> str:
    """What experts of several formats compute otherwise than torch: a sentence, empty if nothing.

    Args:
        kernels: On trial.
        formats: Of gate, up and down.
        device: Where they run.
    """
    random = np.random.default_rng([FORMATS[name].native_id for name in formats])
    for tokens in _TOKENS:
        error = _experts_error(kernels, formats, tokens, device, random)
        if not error <= EXPERTS_ERROR:  # nor what is no number
            return say(
                "The GPU's experts in {formats} with {tokens} tokens are off by {error}, the limit is {limit}.",
                formats=", ".join(formats),
                tokens=tokens,
                error=Number(f"{error:.2g}"),
                limit=Number(f"{EXPERTS_ERROR:.2g}"),
            )
    return _group_mismatch(kernels, formats, device, random)


def _group_mismatch(
    kernels: GpuKernels, formats: ExpertFormats, device: torch.device, random: np.random.Generator
) -> str:
    """What a group of experts computes otherwise than torch: a sentence, empty if nothing."""
    if not runs_groups(formats, _HIDDEN, _INTERMEDIATE):
        return ""
    error = _group_error(kernels, formats, device, random)
    if error <= EXPERTS_ERROR:
        return ""
    return say(
        "The GPU's experts in {formats} with {tokens} tokens are off by {error}, the limit is {limit}.",
        formats=", ".join(formats),
        tokens=_GROUP_TOKENS,
        error=Number(f"{error:.2g}"),
        limit=Number(f"{EXPERTS_ERROR:.2g}"),
    )


def as_seen(activations: torch.Tensor, weight_format: WeightFormat) -> torch.Tensor:
    """Activations [..., C] as a product with such weights sees them: in int8, 16 to a scale, or as they are.

    Args:
        activations: fp32.
        weight_format: Of the weights.
    """
    if weight_format.is_float:
        return activations
    groups = activations.unflatten(-1, (-1, 16))
    largest = groups.abs().amax(-1, keepdim=True)
    codes = (groups * (127 / largest)).round().nan_to_num()
    seen: torch.Tensor = (codes * (largest / 127)).flatten(-2)
    return seen


def random_weights(
    weight_format: WeightFormat, rows: int, columns: int, random: np.random.Generator, shift: int = 0
) -> torch.Tensor:
    """A packed matrix of usual size [packed_bytes]: any codes, scales between 2 ** (shift - 8) and 2 ** (shift - 4).

    Floats are about 1 / 16, whatever the shift.
    """
    size = weight_format.packed_bytes(rows, columns)
    if weight_format.is_float:
        values = torch.from_numpy(random.standard_normal((rows, columns), dtype=np.float32)) / 16
        types = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
        flat = torch.zeros(size, dtype=torch.uint8)
        held = values.to(types[weight_format.name]).view(torch.uint8).flatten()
        flat[: held.numel()] = held
        return flat
    packed = np.zeros(size, dtype=np.uint8)
    held_bytes = -(-rows // TILE_ROWS) * TILE_ROWS * weight_format.row_bytes(columns)
    packed[:held_bytes] = random.integers(0, 256, held_bytes, dtype=np.uint8)
    tiles = packed[:held_bytes].view(tile_type(weight_format))
    for field in LAYOUTS[weight_format.name]:
        shape = tiles[field.name].shape
        if field.entry_bytes == HALF:
            tiles[field.name] = (2.0 ** random.uniform(shift - 8, shift - 4, shape)).astype(np.float16).view(np.uint16)
        elif field.name == "e":
            tiles[field.name] = random.integers(119 + shift, 124 + shift, shape)
    return torch.from_numpy(packed)


def _matrix(name: str, rows: int, device: torch.device, random: np.random.Generator) -> PackedMatrix:
    """A random matrix whose last strip is not full."""
    data = random_weights(FORMATS[name], rows, _HIDDEN, random).to(device)
    return PackedMatrix(data, FORMATS[name], rows, _HIDDEN)


def _linear_error(
    kernels: GpuKernels, name: str, tokens: int, device: torch.device, random: np.random.Generator
) -> float:
    """How far `linear` is from torch, as a share of the result's length."""
    matrix = _matrix(name, 40, device, random)
    hidden = torch.from_numpy(random.standard_normal((tokens, _HIDDEN), dtype=np.float32)).to(device)
    buffer = torch.empty(linear_workspace_bytes(tokens, _HIDDEN), dtype=torch.uint8, device=device)
    out = torch.empty(tokens, matrix.rows, device=device)
    seen = as_seen(hidden, matrix.format)
    expected = seen @ unpack(matrix.format, matrix.rows, _HIDDEN, matrix.data, torch.float32).T
    return _error(kernels.linear(matrix, hidden, buffer, out), expected)


def random_expert(
    formats: ExpertFormats, hidden_size: int, intermediate_size: int, random: np.random.Generator, shift: int = 0
) -> torch.Tensor:
    """A packed expert, one run.

    Args:
        formats: Of gate, up and down.
        hidden_size: H.
        intermediate_size: I.
        random: Drawn from.
        shift: As for `random_weights`.
    """
    wide, narrow = (intermediate_size, hidden_size), (hidden_size, intermediate_size)
    sizes = zip(formats, (wide, wide, narrow), strict=True)
    return torch.cat([random_weights(FORMATS[name], *size, random, shift) for name, size in sizes])


def _experts_error(
    kernels: GpuKernels, formats: ExpertFormats, tokens: int, device: torch.device, random: np.random.Generator
) -> float:
    """How far `experts` is from torch, with an expert that is not there."""
    slots = [random_expert(formats, _HIDDEN, _INTERMEDIATE, random).to(device) for _ in range(_EXPERTS)]
    addresses = [0 if expert == _ABSENT else slot.data_ptr() for expert, slot in enumerate(slots)]
    hidden = torch.from_numpy(random.standard_normal((tokens, _HIDDEN), dtype=np.float32)).to(device)
    chosen = np.argsort(random.random((tokens, _EXPERTS)))[:, :3].copy()
    ids = torch.from_numpy(chosen).to(device)
    weights = torch.from_numpy(random.random((tokens, 3), dtype=np.float32)).to(device)
    out, expected = torch.ones(tokens, _HIDDEN, device=device), torch.ones(tokens, _HIDDEN, device=device)
    for token, choice in np.ndindex(*chosen.shape):
        expert = int(chosen[token, choice])
        if expert != _ABSENT:
            said = _expert(
                hidden[token : token + 1], ExpertWeights.view(slots[expert], formats, _HIDDEN, _INTERMEDIATE)
            )
            expected[token] += weights[token, choice] * said[0]
    table = LayerTable(torch.tensor(addresses, device=device), formats, _HIDDEN, _INTERMEDIATE)
    size = experts_workspace_bytes(tokens, 3, _HIDDEN, _INTERMEDIATE)
    buffer = torch.empty(size, dtype=torch.uint8, device=device)
    kernels.experts(table, hidden, ids, weights, buffer, out)
    return _error(out, expected)


def _group_error(
    kernels: GpuKernels, formats: ExpertFormats, device: torch.device, random: np.random.Generator
) -> float:
    """How far a group of two experts is from torch, with tokens that visit one of them, both, or neither."""
    slots = [random_expert(formats, _HIDDEN, _INTERMEDIATE, random).to(device) for _ in range(2)]
    hidden = torch.from_numpy(random.standard_normal((_GROUP_TOKENS, _HIDDEN), dtype=np.float32)).to(device)
    weights = torch.from_numpy(random.random((_GROUP_TOKENS, 2), dtype=np.float32)).to(device)
    chosen = np.argsort(random.random((_GROUP_TOKENS, 4)))[:, :2].flatten()
    order = np.concatenate([np.flatnonzero(chosen == expert) for expert in range(2)])
    places = np.full(chosen.size, -1)
    places[order] = np.arange(order.size)
    first = int((chosen == 0).sum())
    out, expected = (torch.ones(_GROUP_TOKENS, _HIDDEN, device=device) for _ in range(2))
    visits = Visits(
        {0: (0, first), 1: (first, order.size)}, torch.from_numpy(order).to(device),
        torch.from_numpy(places.reshape(-1, 2)).to(device), hidden, weights, out,
    )  # fmt: skip
    size = group_bytes(_GROUP_TOKENS, order.size, _HIDDEN, _INTERMEDIATE, hidden.element_size())
    buffer = torch.empty(size, dtype=torch.uint8, device=device)
    located = [Located(expert, slot.data_ptr()) for expert, slot in enumerate(slots)]
    for launch in (
        plan_prepare_group(formats, hidden, buffer), *plan_group(formats, visits, located, buffer, _INTERMEDIATE)
    ):  # fmt: skip
        kernels.launch(launch)
    for expert, slot in enumerate(slots):
        rows, scales = visits.rows(expert)
        expected[rows] += scales * _expert(hidden[rows], ExpertWeights.view(slot, formats, _HIDDEN, _INTERMEDIATE))
    return _error(out, expected)


def _expert(hidden: torch.Tensor, weights: ExpertWeights) -> torch.Tensor:
    """An expert in fp32, from activations as the kernels see them."""
    gate, up, down = (matrix.dense(torch.float32) for matrix in (weights.gate, weights.up, weights.down))
    seen = as_seen(hidden, weights.gate.format)
    return as_seen(F.silu(seen @ gate.T) * (seen @ up.T), weights.down.format) @ down.T


def _unpacks(kernels: GpuKernels, name: str, device: torch.device, random: np.random.Generator) -> bool:
    """Whether `unpack` gives the bits that torch gives."""
    matrix = _matrix(name, 40, device, random)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        out = torch.empty(matrix.rows, matrix.columns, dtype=dtype, device=device)
        if not torch.equal(kernels.unpack(matrix, out), matrix.dense(dtype)):
            return False
    return True


def _error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The length of the difference over the length of what was expected."""
    return float((found - expected).norm() / expected.norm())
