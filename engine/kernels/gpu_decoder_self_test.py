"""The probe at start: what a decoder layer does around its products, by GPU kernels and by torch, on random tensors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from engine.kernels.gpu_decoder_plans import MAX_STEP_TOKENS, HeadNorms, attend_workspace_bytes, runs_attention
from engine.sentences import Number, say

if TYPE_CHECKING:
    from engine.kernels.gpu_kernels import GpuKernels

# What may be lost of a result's length beyond its type's rounding: sums in another order, functions off by units in
# the last place. Attention rounds its weights to the cache's type as well.
ERROR = 1e-5

_HIDDEN, _EXPERTS, _PER_TOKEN = 256, 60, 6
_CAPACITY, _WINDOW, _EPSILON = 300, 70, 1e-6
_POSITION = 201  # of the first token: in the second part of the cache, and in no tile's beginning


def find_decoder_mismatch(
    kernels: GpuKernels, heads: int, kv_heads: int, head_dim: int, cache_type: torch.dtype, device: torch.device
) -> str:
    """What the kernels compute otherwise than torch: a sentence, empty if nothing.

    Args:
        kernels: On trial.
        heads: Query heads.
        kv_heads: Key/value heads.
        head_dim: Columns of a head.
        cache_type: Of keys and values.
        device: Where they run.
    """
    random = torch.Generator().manual_seed(heads)
    rounding = torch.finfo(cache_type).eps
    for tokens in (1, 3, MAX_STEP_TOKENS):
        if not runs_attention(tokens, heads, kv_heads, head_dim):
            break
        heads_of = torch.randn(tokens, heads + 2 * kv_heads, head_dim, generator=random).to(device)
        cache = torch.randn(2, kv_heads, _CAPACITY, head_dim, generator=random).to(device, cache_type)
        for kind, error, limit in (
            (say("norm"), _norm_error(kernels, tokens, random, device), ERROR),
            (say("choice of experts"), _route_error(kernels, tokens, random, device), ERROR),
            (say("rotation"), _rotation_error(kernels, heads_of, cache, heads), ERROR + rounding),
            (
                say("attention"),
                _attention_error(kernels, heads_of[:, :heads].to(cache_type).contiguous(), cache),
                ERROR + rounding,
            ),
        ):
            if not error <= limit:  # nor what is no number
                return say(
                    "The GPU's {kind} with {tokens} tokens is off by {error}, the limit is {limit}.",
                    kind=kind,
                    tokens=tokens,
                    error=Number(f"{error:.2g}"),
                    limit=Number(f"{limit:.2g}"),
                )
    return ""


def _norm_error(kernels: GpuKernels, tokens: int, random: torch.Generator, device: torch.device) -> float:
    """How far `join_norm` is from torch, as a share of the result's length."""
    residual, first, second = torch.randn(3, tokens, _HIDDEN, generator=random).to(device)
    weight = torch.rand(_HIDDEN, generator=random).to(device)
    sums = residual + first + second
    out = kernels.join_norm(residual, (first, second), weight, _EPSILON, torch.empty_like(residual))
    return max(_error(residual, sums), _error(out, _normed(sums, _EPSILON) * weight))


def _route_error(kernels: GpuKernels, tokens: int, random: torch.Generator, device: torch.device) -> float:
    """How far the weights of `route` are from torch, infinitely where other experts were chosen."""
    logits = torch.randn(tokens, _EXPERTS, generator=random).to(device)
    ids = torch.empty(tokens, _PER_TOKEN, dtype=torch.int32, device=device)
    weights = torch.empty(tokens, _PER_TOKEN, device=device)
    expected, chosen = logits.softmax(-1).topk(_PER_TOKEN)
    worst = 0.0
    for normalise, said in ((False, expected), (True, expected / expected.sum(-1, keepdim=True))):
        kernels.route(logits, normalise, ids, weights)
        worst = max(worst, _error(weights, said)) if torch.equal(ids.long(), chosen) else math.inf
    return worst


def _rotation_error(kernels: GpuKernels, heads_of: torch.Tensor, cache: torch.Tensor, heads: int) -> float:
    """How far `rotate_store` is from torch, with norms, in queries and in the cache."""
    tokens, _, head_dim = heads_of.shape
    kv_heads, device = cache.shape[1], cache.device
    norms = HeadNorms(torch.rand(head_dim, device=device) + 0.5, torch.rand(head_dim, device=device) + 0.5, _EPSILON)
    frequencies = 10_000.0 ** (torch.arange(0, head_dim, 2, device=device) / -head_dim)
    queries = torch.empty(tokens, heads, head_dim, dtype=cache.dtype, device=device)
    keys, values = cache.clone()
    position = torch.tensor([_POSITION], dtype=torch.int32, device=device)
    kernels.rotate_store(heads_of.flatten(1), norms, frequencies, position, queries, keys, values)
    angles = torch.outer(torch.arange(_POSITION, _POSITION + tokens, device=device).float(), frequencies)
    turns = torch.polar(torch.ones_like(angles), angles)[:, None]
    turned = []
    for part, weight in ((heads_of[:, :heads], norms.query), (heads_of[:, heads : heads + kv_heads], norms.key)):
        halves = (_normed(part, _EPSILON) * weight).unflatten(-1, (2, -1)).transpose(-1, -2)
        turned.append(
            torch.view_as_real(torch.view_as_complex(halves.contiguous()) * turns).transpose(-1, -2).flatten(2)
        )
    end = _POSITION + tokens
    expected = cache.clone()
    expected[0, :, _POSITION:end] = turned[1].transpose(0, 1).to(cache.dtype)
    expected[1, :, _POSITION:end] = heads_of[:, heads + kv_heads :].transpose(0, 1).to(cache.dtype)
    return max(_error(queries, turned[0]), _error(keys, expected[0]), _error(values, expected[1]))


def _attention_error(kernels: GpuKernels, queries: torch.Tensor, cache: torch.Tensor) -> float:
    """How far `attend` is from torch, with a window and without."""
    tokens, heads, head_dim = queries.shape
    kv_heads, device = cache.shape[1], cache.device
    keys, values = cache
    size = attend_workspace_bytes(tokens, heads, kv_heads, head_dim, _CAPACITY)
    workspace = torch.empty(size, dtype=torch.uint8, device=device)
    position = torch.tensor([_POSITION], dtype=torch.int64, device=device)
    own = torch.arange(_POSITION, _POSITION + tokens, device=device)[:, None]
    places = torch.arange(_CAPACITY, device=device)
    grouped = queries.float().unflatten(1, (kv_heads, -1))
    scores = torch.einsum("tkgd,ksd->kgts", grouped, keys.float()) / math.sqrt(head_dim)
    worst = 0.0
    for window in (None, _WINDOW):
        seen = (places <= own) & (places > own - (window or _CAPACITY))
        shares = scores.masked_fill(~seen, -math.inf).softmax(-1)
        expected = torch.einsum("kgts,ksd->tkgd", shares, values.float()).flatten(1, 2)
        out = torch.empty(tokens, heads, head_dim, device=device)
        kernels.attend(queries, keys, values, position, window, workspace, out)
        worst = max(worst, _error(out, expected))
    return worst


def _normed(rows: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Rows [..., C] at a root mean square of 1."""
    return rows * torch.rsqrt(rows.square().mean(-1, keepdim=True) + epsilon)


def _error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The length of the difference over the length of what was expected."""
    return float((found.float() - expected.float()).norm() / expected.float().norm())
