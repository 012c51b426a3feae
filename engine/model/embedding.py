"""Rows of an embedding that is in RAM, or packed, for a decoder on a GPU.

No product is taken of an embedding, so it need not take VRAM unless it is lm_head too. What is in blocks is unpacked by
the GPU: the strips of 16 rows that hold the wanted ones go there as they lie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional as F

from engine.devices.gpu_products import GpuProducts
from engine.devices.step_tools import Work
from engine.experts.footprint import LOOKED_UP_STRIPS
from engine.kernels.gpu_launch import Launch
from engine.kernels.gpu_plans import plan_unpack
from engine.kernels.packed import PackedMatrix
from engine.quant.formats import TILE_ROWS


@dataclass(frozen=True, slots=True)
class LookedUp:
    """An embedding that is not a float tensor on the decoder's device.

    Attributes:
        matrix: [V, H], in blocks or floats, in RAM; or in blocks on the device.
        products: Unpacks blocks on the device.
        device: Of the decoder.
        dtype: Of its states.
        in_ram: Whether it is in RAM.
    """

    matrix: PackedMatrix
    products: GpuProducts
    device: torch.device
    dtype: torch.dtype
    in_ram: bool

    @property
    def host_bytes(self) -> int:
        """Bytes that it takes of RAM."""
        return self.matrix.data.nbytes if self.in_ram else 0

    def rows(self, tokens: list[int]) -> torch.Tensor:
        """The rows of some tokens: [T, H] on the device."""
        ids = torch.tensor(tokens)
        if self.matrix.values is not None:
            return self.matrix.values[ids].to(self.dtype).to(self.device)
        strips, places = torch.unique(ids // TILE_ROWS, return_inverse=True)
        rows = places * TILE_ROWS + ids % TILE_ROWS  # among those of all these strips
        out = torch.empty(len(tokens), self.matrix.columns, dtype=self.dtype, device=self.device)
        for first in range(0, len(strips), LOOKED_UP_STRIPS):
            wanted = strips[first : first + LOOKED_UP_STRIPS]
            floats = self.products.unpacked(self._packed(wanted), self.dtype)
            here = ((places >= first) & (places < first + len(wanted))).nonzero().flatten()
            out[here.to(self.device)] = floats[(rows[here] - first * TILE_ROWS).to(self.device)]
        return out

    def _packed(self, strips: torch.Tensor) -> PackedMatrix:
        """Some strips as a matrix on the device."""
        matrix = self.matrix
        data = matrix.strips[strips.to(matrix.data.device)].to(self.device).flatten()
        return PackedMatrix(data, matrix.format, len(strips) * TILE_ROWS, matrix.columns)


Embedding = torch.Tensor | LookedUp


def embed(embedding: Embedding, tokens: list[int]) -> torch.Tensor:
    """The rows of some tokens: [T, H], on the decoder's device.

    Args:
        embedding: [V, H].
        tokens: Their ids.
    """
    if isinstance(embedding, LookedUp):
        return embedding.rows(tokens)
    return F.embedding(torch.tensor(tokens, device=embedding.device), embedding)


@dataclass(frozen=True, slots=True)
class TokenRow:
    """The row of one token, by launches that never change.

    Attributes:
        works: They read what `find` wrote.
        find: Writes into pinned memory what they need for a token: what is in RAM of it, and the place of its row and
            of its strip, which the GPU has when they run.
    """

    works: tuple[Work, ...]
    find: Callable[[int], None]


def plan_token_row(
    embedding: Embedding,
    place_host: torch.Tensor,
    place: torch.Tensor,
    out: torch.Tensor,
    pinned: Callable[[int], torch.Tensor],
    launching: Callable[[Launch], Work],
) -> TokenRow:
    """Plan them.

    Args:
        embedding: [V, H].
        place_host: int64 [2], pinned.
        place: The same on the GPU, which is brought there before.
        out: [1, H].
        pinned: Makes pinned memory of so many bytes.
        launching: Makes a piece of work of a launch.
    """
    if isinstance(embedding, torch.Tensor):
        work = partial(torch.index_select, embedding, 0, place[1:], out=out)
        return TokenRow((work,), partial(_find_strip, place_host, 1))
    matrix = embedding.matrix
    if matrix.values is not None:
        row, values = pinned(out.nbytes).view(out.dtype).view(out.shape), matrix.values

        def find_floats(token: int) -> None:
            """The row itself."""
            row[0] = values[token]

        return TokenRow((partial(out.copy_, row, non_blocking=True),), find_floats)
    strips = matrix.strips
    strip = torch.empty(1, strips.shape[1], dtype=torch.uint8, device=out.device)
    floats = torch.empty(TILE_ROWS, matrix.columns, dtype=out.dtype, device=out.device)
    unpacking = plan_unpack(PackedMatrix(strip.flatten(), matrix.format, TILE_ROWS, matrix.columns), floats)
    choosing = partial(torch.index_select, floats, 0, place[:1], out=out)
    find = partial(_find_strip, place_host, TILE_ROWS)
    if not embedding.in_ram:
        fetching: Work = partial(torch.index_select, strips, 0, place[1:], out=strip)
        return TokenRow((fetching, launching(unpacking), choosing), find)
    held = pinned(strip.nbytes).view(strip.shape)

    def find_blocks(token: int) -> None:
        """The strip, and where the row is in it."""
        held[0] = strips[token // TILE_ROWS]
        find(token)

    return TokenRow((partial(strip.copy_, held, non_blocking=True), launching(unpacking), choosing), find_blocks)


def _find_strip(place_host: torch.Tensor, rows: int, token: int) -> None:
    """Which row of a strip, and which strip of so many rows."""
    place_host[0], place_host[1] = token % rows, token // rows
