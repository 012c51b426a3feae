"""Floats to GGUF's blocks with less error than rounding to the nearest code: the reference for the native encoder.

Knows three formats: Q8_0, Q4_K, and Q4_1 for rows that Q4_K's 256 columns do not divide. Scale and minimum of a group
of 32 are searched: some ranges are tried, each narrowed a little at its ends, each one's codes get the scale and the
minimum with the least squared error, and the best is kept. Q4_K's own 6-bit scales are then chosen by the error that
remains after their rounding. Every operation is float32 in a fixed order, so that the native encoder gives the same
bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from engine.quant.formats import FORMATS

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

GROUP = 32
LEVELS = np.float32(15)
# How much of a group's range is cut off below and above before it is divided into 15 steps.
CUTS = tuple((np.float32(low), np.float32(high)) for low in (0.0, 0.04, 0.08) for high in (0.0, 0.04, 0.08))
# What the largest magnitude of a group of Q8_0 is divided by, the first one plain rounding's.
Q8_STEPS = tuple(np.float32(127.0 - 0.5 * step) for step in (0, -1, 1, 2, 3, 4, 5, 6, 7))
SMALLEST_RANGE = np.float32(1e-30)  # narrower groups are flat


@dataclass(frozen=True, slots=True)
class Encoded:
    """Blocks and what they lost.

    Attributes:
        blocks: [rows, row_bytes], as in a GGUF file.
        squared_error: Sum over all weights.
        squared_weights: The same of the weights themselves.
    """

    blocks: Bytes
    squared_error: float
    squared_weights: float


def encode(name: str, weights: Floats, *, search: bool = True) -> Encoded:
    """Encode rows of a matrix.

    Args:
        name: One of `ENCODERS`.
        weights: [rows, columns]; columns a multiple of the format's `block_columns`. Finite.
        search: False for plain rounding: the measure of what the search gains.
    """
    weight_format = FORMATS[name]
    rows, columns = weights.shape
    row_bytes = weight_format.row_bytes(columns)
    by_group = np.ascontiguousarray(weights.reshape(-1, GROUP).T)  # [32, groups]
    blocks, decoded = ENCODERS[name](by_group, search)
    error = np.square(by_group - decoded).sum(dtype=np.float64)
    return Encoded(
        np.ascontiguousarray(blocks).reshape(rows, row_bytes),
        float(error),
        float(np.square(by_group).sum(dtype=np.float64)),
    )


def _q8_0(x: Floats, search: bool) -> tuple[Bytes, Floats]:
    """Weights [32, G] -> blocks [G, 34] and what they mean."""
    largest = np.abs(x).max(axis=0)
    best = scale = np.full_like(largest, np.inf)  # an infinite scale tells nothing: too large for every one
    codes = np.zeros_like(x)
    for steps in Q8_STEPS if search else Q8_STEPS[:1]:
        d = _half(largest / steps)
        q = np.clip(np.rint(x * _inverse(d)), np.float32(-127), np.float32(127))
        error = np.square(x - d * q).sum(axis=0)
        better = error < best
        best, scale, codes = np.where(better, error, best), np.where(better, d, scale), np.where(better, q, codes)
    blocks = np.concatenate([_half_bytes(scale), codes.astype(np.int8).T.view(np.uint8)], axis=1)
    return blocks, scale * codes


def _q4_1(x: Floats, search: bool) -> tuple[Bytes, Floats]:
    """Weights [32, G] -> blocks [G, 20] and what they mean."""
    scale, minimum = _search(x, x.min(axis=0), search, below_zero=False)
    d, m = _half(scale), _half(minimum)
    codes = _nearest((x - m) * _inverse(d))
    bits = codes.astype(np.uint8).T
    packed = bits[:, :16] | bits[:, 16:] << 4
    return np.concatenate([_half_bytes(d), _half_bytes(m), packed], axis=1), d * codes + m


def _q4_k(x: Floats, search: bool) -> tuple[Bytes, Floats]:
    """Weights [32, G], 8 groups for each block -> blocks [G / 8, 144] and what they mean."""
    scale, minimum = _search(x, np.minimum(x.min(axis=0), np.float32(0)), search, below_zero=True)
    offset = np.maximum(-minimum, np.float32(0))
    blocks = x.shape[1] // 8
    d, dmin = (_half(part.reshape(blocks, 8).max(axis=1) / np.float32(63)) for part in (scale, offset))
    d8, dmin8 = np.repeat(d, 8), np.repeat(dmin, 8)
    scales, mins = _six_bits(scale * _inverse(d8)), _six_bits(offset * _inverse(dmin8))
    codes, error = _codes_and_error(x, d8 * scales, dmin8 * mins)
    sums = x.sum(axis=0)
    for step in (0, -1, 1) if search else ():
        tried = np.clip(scales + np.float32(step), np.float32(0), np.float32(63))
        wanted = (d8 * tried * codes.sum(axis=0) - sums) * np.float32(1 / GROUP)
        least = _six_bits(wanted * _inverse(dmin8))
        q, e = _codes_and_error(x, d8 * tried, dmin8 * least)
        better = e < error
        scales, mins = np.where(better, tried, scales), np.where(better, least, mins)
        codes, error = np.where(better, q, codes), np.where(better, e, error)
    return _pack_q4_k(d, dmin, scales, mins, codes), d8 * scales * codes - dmin8 * mins


def _codes_and_error(x: Floats, scale: Floats, offset: Floats) -> tuple[Floats, Floats]:
    """The codes that come nearest to x with a scale and an offset for each group, and their squared error."""
    codes = _nearest((x + offset) * _inverse(scale))
    return codes, np.square(x - (scale * codes - offset)).sum(axis=0)


def _pack_q4_k(d: Floats, dmin: Floats, scales: Floats, mins: Floats, codes: Floats) -> Bytes:
    """As in block_q4_K of ggml."""
    blocks = len(d)
    sc, mn = (part.astype(np.uint8).reshape(blocks, 8) for part in (scales, mins))
    small = np.concatenate(
        [sc[:, :4] | sc[:, 4:] >> 4 << 6, mn[:, :4] | mn[:, 4:] >> 4 << 6, sc[:, 4:] & 15 | mn[:, 4:] << 4], axis=1
    )
    bits = codes.astype(np.uint8).T.reshape(blocks, 4, 2, GROUP)
    packed = (bits[:, :, 0] | bits[:, :, 1] << 4).reshape(blocks, 128)
    return np.concatenate([_half_bytes(d), _half_bytes(dmin), small, packed], axis=1)


def _search(x: Floats, low: Floats, search: bool, *, below_zero: bool) -> tuple[Floats, Floats]:
    """The scale and the minimum of each group [G] with which codes 0 to 15 tell x [32, G] best.

    Args:
        x: The weights.
        low: Where each group's range begins.
        search: False for that range as it is.
        below_zero: Whether a minimum above zero cannot be stored.
    """
    width = x.max(axis=0) - low
    wide = width > SMALLEST_RANGE
    width = np.where(wide, width, np.float32(1))
    if not search:
        return np.where(wide, width / LEVELS, np.float32(0)), low + np.float32(0)  # no negative zero
    y = x - low
    total = y.sum(axis=0)
    found = _Best(np.full_like(low, -np.inf), np.zeros_like(low), np.zeros_like(low))
    for cut_low, cut_high in CUTS:
        inverse = LEVELS / (width * (np.float32(1) - cut_low - cut_high))
        found = _fit(found, y, total, low, _nearest((y - cut_low * width) * inverse), below_zero)
    found = _fit(found, y, total, low, _nearest((y - found.minimum) * _inverse(found.scale)), below_zero)
    return np.where(wide, found.scale, np.float32(0)), low + np.where(wide, found.minimum, np.float32(0))


@dataclass(frozen=True, slots=True)
class _Best:
    """The best of each group so far: what it explains of the squares, its scale, its minimum above `low`; all [G]."""

    gain: Floats
    scale: Floats
    minimum: Floats


def _fit(best: _Best, y: Floats, total: Floats, low: Floats, codes: Floats, below_zero: bool) -> _Best:
    """The better of what there is and the least-squares fit of some codes [32, G]."""
    n, two = np.float32(GROUP), np.float32(2)
    q, qq, qy = codes.sum(axis=0), np.square(codes).sum(axis=0), (codes * y).sum(axis=0)
    spread = n * qq - q * q
    varied = spread > 0
    scale = (n * qy - q * total) / np.where(varied, spread, np.float32(1))
    minimum = (total - scale * q) * np.float32(1 / GROUP)
    sound = varied
    if below_zero:
        sound = qq > 0
        bound = (minimum > -low) | ~varied
        minimum = np.where(bound, -low, minimum)
        scale = np.where(bound, (qy + low * q) / np.where(sound, qq, np.float32(1)), scale)
    gain = two * (scale * qy + minimum * total) - (
        scale * scale * qq + two * scale * minimum * q + n * (minimum * minimum)
    )
    better = sound & (gain > best.gain)
    return _Best(
        np.where(better, gain, best.gain),
        np.where(better, scale, best.scale),
        np.where(better, minimum, best.minimum),
    )


def _nearest(values: Floats) -> Floats:
    """The nearest of the codes 0 to 15."""
    return np.clip(np.rint(values), np.float32(0), LEVELS)


def _six_bits(values: Floats) -> Floats:
    """The nearest of 0 to 63."""
    return np.clip(np.rint(values), np.float32(0), np.float32(63))


def _inverse(scale: Floats) -> Floats:
    """1 / scale, 0 where that is none."""
    positive = scale > 0
    return np.where(positive, np.float32(1) / np.where(positive, scale, np.float32(1)), np.float32(0))


def _half(values: Floats) -> Floats:
    """As fp16 keeps it; beyond its range infinite, which the error then tells."""
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)


def _half_bytes(values: Floats) -> Bytes:
    """[n] -> [n, 2]."""
    return values.astype("<f2").view(np.uint8).reshape(-1, 2)


Encoder = Callable[[Floats, bool], tuple[Bytes, Floats]]
ENCODERS: Mapping[str, Encoder] = MappingProxyType({"Q8_0": _q8_0, "Q4_1": _q4_1, "Q4_K": _q4_k})
