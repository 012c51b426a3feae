"""The launches of a decoder layer around its products: residual and norm, positions, attention, the router.

Nothing of a launch depends on a position, or on what is in the cache: the kernels read the position from the GPU's
memory, and grids are those of the whole cache. So a CUDA graph of a step holds for every step. The structures mirror
those of the same kernels in `cuda/*.cuh`.

T tokens of one sequence at neighbouring positions, H hidden size, N query heads, K key/value heads, D head width, S the
cache's capacity, E experts, A chosen of them.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from ctypes import c_float, c_int, c_void_p
from dataclasses import dataclass

import torch

from engine.kernels.gpu_launch import LOAD_BYTES, TYPES, WARPS, Launch, Program, aligned_bytes

MAX_STEP_TOKENS = 8  # of one pass
MAX_HEAD_DIM = 256
MAX_EXPERTS, MAX_PER_TOKEN = 512, 16  # 32 lanes x kLaneLogits; a warp's half

_TILE = 16  # kTile: queries that a warp takes along the keys
_MAX_QUERIES = _TILE * WARPS  # of a key/value head
_PART_KEYS = 128  # of a block at least, if there are as many: 8 warps with 16
_BLOCKS = 128  # that read the cache: about as many as large cards have multiprocessors
_CACHE_TYPES = {torch.float32: "Float32", torch.float16: "Float16", torch.bfloat16: "Bfloat16"}
_PROGRAM = Program("decoder.cu")


class JoinNormArguments(ctypes.Structure):
    """Of `join_norm`."""

    _fields_ = (
        *((name, c_void_p) for name in ("residual", "first", "second", "weight", "out")),
        ("epsilon", c_float),
        *((name, c_int) for name in ("hidden_size", "first_type", "second_type", "weight_type", "type")),
    )


class RotateStoreArguments(ctypes.Structure):
    """Of `rotate_store`."""

    _fields_ = (
        *((name, c_void_p) for name in ("position", "qkv", "query_norm", "key_norm", "inverse_frequencies")),
        *((name, c_void_p) for name in ("queries", "keys", "values")),
        ("epsilon", c_float),
        *((name, c_int) for name in ("position_bytes", "tokens", "heads", "kv_heads", "head_dim", "capacity")),
        *((name, c_int) for name in ("qkv_type", "norm_type", "type")),
    )


class AttendArguments(ctypes.Structure):
    """Of `attend` and `combine`."""

    _fields_ = (
        *((name, c_void_p) for name in ("position", "queries", "keys", "values", "sums", "extents", "out")),
        ("scale", c_float),
        *((name, c_int) for name in ("position_bytes", "tokens", "heads", "kv_heads", "capacity", "window")),
        *((name, c_int) for name in ("splits", "tiles", "type")),
    )


class RouteArguments(ctypes.Structure):
    """Of `route`."""

    _fields_ = (
        *((name, c_void_p) for name in ("logits", "ids", "weights")),
        *((name, c_int) for name in ("tokens", "experts", "per_token", "type", "over_all", "parts")),
    )


@dataclass(frozen=True, slots=True)
class HeadNorms:
    """RMS norms of each query and each key head before they are rotated.

    Attributes:
        query: Weights [D].
        key: Weights [D], of the same type.
        epsilon: Added to the mean square.
    """

    query: torch.Tensor
    key: torch.Tensor
    epsilon: float


def decoder_programs(head_dim: int, cache_type: torch.dtype) -> tuple[Program, Program]:
    """All that the plans here launch, for heads of D columns in a cache of that type."""
    return _PROGRAM, _attention_program(head_dim, cache_type)


def runs_attention(tokens: int, heads: int, kv_heads: int, head_dim: int) -> bool:
    """Whether `rotate_store` and `attend` know such heads, in passes of so many tokens."""
    fits = head_dim % 8 == 0 and head_dim <= MAX_HEAD_DIM and heads % kv_heads == 0
    return fits and tokens <= MAX_STEP_TOKENS and tokens * (heads // kv_heads) <= _MAX_QUERIES


def runs_routing(experts: int, per_token: int) -> bool:
    """Whether `route` knows so many."""
    return per_token <= experts <= MAX_EXPERTS and per_token <= MAX_PER_TOKEN


def attend_workspace_bytes(tokens: int, heads: int, kv_heads: int, head_dim: int, capacity: int) -> int:
    """Bytes of the buffer that `attend` works in."""
    entries = tokens * heads * _splits(kv_heads, capacity)
    return aligned_bytes(4 * entries * head_dim) + aligned_bytes(8 * entries)


def plan_join_norm(
    residual: torch.Tensor,
    additions: Sequence[torch.Tensor],
    weight: torch.Tensor,
    epsilon: float,
    out: torch.Tensor,
) -> Launch:
    """The launch of a norm; see `GpuKernels.join_norm`.

    Args:
        residual: fp32 [T, H], H in fours.
        additions: Up to two [T, H]; page-locked memory of the host will do.
        weight: [H].
        epsilon: Added to the mean square.
        out: [T, H].
    """
    tokens, hidden_size = residual.shape
    assert hidden_size % 4 == 0, f"{hidden_size} columns cannot be read in fours"
    assert len(additions) <= 2, f"{len(additions)} additions are too many"
    assert residual.dtype == torch.float32, "the residual stream is fp32"
    assert weight.shape == (hidden_size,), f"{weight.shape} does not fit {residual.shape}"
    for tensor in (*additions, out):
        assert tensor.shape == residual.shape, f"{tensor.shape} is not {residual.shape}"
    for tensor in additions:
        assert tensor.device == residual.device or tensor.is_pinned(), "the GPU cannot read what is not page-locked"
    _check_lies_in_order(residual, *additions, weight, out)
    first, second = ([(tensor.data_ptr(), TYPES[tensor.dtype]) for tensor in additions] + [(0, 0)] * 2)[:2]
    arguments = JoinNormArguments(
        residual.data_ptr(), first[0], second[0], weight.data_ptr(), out.data_ptr(), epsilon,
        hidden_size, first[1], second[1], TYPES[weight.dtype], TYPES[out.dtype],
    )  # fmt: skip
    return Launch(_PROGRAM, "join_norm", (tokens, 1), arguments)


def plan_rotate_store(
    qkv: torch.Tensor,
    norms: HeadNorms | None,
    inverse_frequencies: torch.Tensor,
    position: torch.Tensor,
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
) -> Launch:
    """The launch that brings queries and keys to their positions; see `GpuKernels.rotate_store`.

    Args:
        qkv: [T, (N + 2 K) * D].
        norms: Of the heads, where there are any.
        inverse_frequencies: fp32 [D / 2].
        position: int32 or int64 [1], of the first token.
        queries: [T, N, D], of the cache's type.
        keys: [K, S, D].
        values: [K, S, D].
    """
    (tokens, heads, head_dim), (kv_heads, capacity, _) = queries.shape, keys.shape
    _check_cache(queries, keys, values, position)
    assert qkv.shape == (tokens, (heads + 2 * kv_heads) * head_dim), f"{qkv.shape} does not fit {queries.shape}"
    assert inverse_frequencies.shape == (head_dim // 2,), f"{inverse_frequencies.shape} does not fit {queries.shape}"
    assert inverse_frequencies.dtype == torch.float32, "frequencies are fp32"
    _check_lies_in_order(qkv, inverse_frequencies)
    query_norm, key_norm, epsilon, norm_type = 0, 0, 0.0, 0
    if norms is not None:
        assert norms.query.shape == norms.key.shape == (head_dim,), f"{norms.query.shape} does not fit {queries.shape}"
        assert norms.query.dtype == norms.key.dtype, "the norms' weights are of one type"
        _check_lies_in_order(norms.query, norms.key)
        query_norm, key_norm, epsilon = norms.query.data_ptr(), norms.key.data_ptr(), norms.epsilon
        norm_type = TYPES[norms.query.dtype]
    arguments = RotateStoreArguments(
        position.data_ptr(), qkv.data_ptr(), query_norm, key_norm, inverse_frequencies.data_ptr(), queries.data_ptr(),
        keys.data_ptr(), values.data_ptr(), epsilon, position.element_size(), tokens, heads, kv_heads, head_dim,
        capacity, TYPES[qkv.dtype], norm_type, TYPES[keys.dtype],
    )  # fmt: skip
    return Launch(_PROGRAM, "rotate_store", (-(-tokens * (heads + 2 * kv_heads) // WARPS), 1), arguments)


def plan_attend(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    position: torch.Tensor,
    window: int | None,
    workspace: torch.Tensor,
    out: torch.Tensor,
) -> tuple[Launch, Launch]:
    """The launches of attention; see `GpuKernels.attend`.

    Args:
        queries: [T, N, D], of the cache's type.
        keys: [K, S, D].
        values: [K, S, D].
        position: int32 or int64 [1], of the first token.
        window: Keys that a token sees, its own among them; None for all before it.
        workspace: uint8 [attend_workspace_bytes] or more, at a 16-byte boundary.
        out: [T, N, D].
    """
    (tokens, heads, head_dim), (kv_heads, capacity, _) = queries.shape, keys.shape
    _check_cache(queries, keys, values, position)
    assert out.shape == queries.shape, f"{out.shape} is not {queries.shape}"
    assert window is None or window > 0, f"a window of {window} shows nothing"
    needed = attend_workspace_bytes(tokens, heads, kv_heads, head_dim, capacity)
    assert workspace.nbytes >= needed, f"{workspace.nbytes} bytes are fewer than {needed}"
    _check_lies_in_order(workspace, out)
    splits = _splits(kv_heads, capacity)
    extents = workspace.data_ptr() + aligned_bytes(4 * tokens * heads * splits * head_dim)
    # 1, 2, 4 or 8 of them, so that a block's warps can be shared out evenly
    tiles = 1 << (-(-tokens * (heads // kv_heads) // _TILE) - 1).bit_length()
    arguments = AttendArguments(
        position.data_ptr(), queries.data_ptr(), keys.data_ptr(), values.data_ptr(), workspace.data_ptr(), extents,
        out.data_ptr(), math.log2(math.e) / math.sqrt(head_dim), position.element_size(), tokens, heads, kv_heads,
        capacity, window or 0, splits, tiles, TYPES[out.dtype],
    )  # fmt: skip
    program = _attention_program(head_dim, keys.dtype)
    return (
        Launch(program, "attend", (splits, kv_heads), arguments),
        Launch(program, "combine", (tokens * heads, 1), arguments),
    )


def plan_route(
    logits: torch.Tensor, normalise_top_k: bool, ids: torch.Tensor, weights: torch.Tensor, parts: int = 1
) -> Launch:
    """The launch of the router's choice; see `GpuKernels.route`.

    Args:
        logits: [T, E].
        normalise_top_k: Whether softmax is over the chosen alone.
        ids: int32 [T, A * P].
        weights: fp32 [T, A * P].
        parts: P.
    """
    (tokens, experts), per_token = logits.shape, ids.shape[1] // parts
    assert runs_routing(experts, per_token), f"no kernel chooses {per_token} of {experts}"
    assert ids.shape == weights.shape == (tokens, per_token * parts), f"{ids.shape} does not fit {logits.shape}"
    assert ids.dtype == torch.int32, "experts are int32"
    assert weights.dtype == torch.float32, "router weights are fp32"
    _check_lies_in_order(logits, ids, weights)
    arguments = RouteArguments(
        logits.data_ptr(), ids.data_ptr(), weights.data_ptr(), tokens, experts, per_token, TYPES[logits.dtype],
        int(not normalise_top_k), parts,
    )  # fmt: skip
    return Launch(_PROGRAM, "route", (-(-tokens // WARPS), 1), arguments)


def _attention_program(head_dim: int, cache_type: torch.dtype) -> Program:
    """Attention over one kind of cache."""
    return Program("attention.cu", (("HEAD_DIM", str(head_dim)), ("CACHE", _CACHE_TYPES[cache_type])))


def _check_cache(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, position: torch.Tensor) -> None:
    """That queries, one layer's cache and a position are such as the kernels know."""
    (tokens, heads, head_dim), (kv_heads, _, _) = queries.shape, keys.shape
    assert runs_attention(tokens, heads, kv_heads, head_dim), f"no kernels for {queries.shape} over {keys.shape}"
    assert keys.shape == values.shape, f"{keys.shape} is not {values.shape}"
    assert keys.shape[2] == head_dim, f"{keys.shape} does not fit {queries.shape}"
    assert queries.dtype == keys.dtype == values.dtype, f"{queries.dtype} is not {keys.dtype}"
    assert position.shape == (1,), f"{position.shape} is not one position"
    assert position.dtype in {torch.int32, torch.int64}, f"{position.dtype} is no position"
    _check_lies_in_order(queries, keys, values)


def _check_lies_in_order(*tensors: torch.Tensor) -> None:
    """That tensors are contiguous and begin at a boundary."""
    for tensor in tensors:
        assert tensor.is_contiguous(), f"{tensor.shape} does not lie in order"
        assert tensor.data_ptr() % LOAD_BYTES == 0, f"{tensor.shape} lies on no boundary"


def _splits(kv_heads: int, capacity: int) -> int:
    """Parts that the keys of a head are cut into."""
    return max(1, min(-(-_BLOCKS // kv_heads), -(-capacity // _PART_KEYS)))
