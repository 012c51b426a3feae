"""Layers with room beside transformers' own, which copy for each token."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

from engine.model.compatible_cache import FIRST_ROWS, GrowingLayer

CAPACITY = 300


def states(tokens: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values, not equally wide, as in DeepSeek's."""
    generator = torch.Generator().manual_seed(seed)
    keys, values = (torch.randn(1, 2, tokens, width, generator=generator) for width in (6, 4))
    return keys, values


def filled(tokens: int) -> Any:
    layer: Any = DynamicLayer()  # type: ignore[no-untyped-call]
    layer.update(*states(tokens, 0))
    return layer


def test_what_is_appended_and_cut_is_what_transformers_keeps() -> None:
    wanted, layer = filled(5), GrowingLayer(filled(5), CAPACITY)
    for seed, (tokens, kept) in enumerate([(1, 6), (100, 40), (1, 41), (70, 111), (1, 3), (297, 300)], start=1):
        for one in (wanted, layer):
            keys, values = one.update(*states(tokens, seed))
            one.keys, one.values = keys[..., :kept, :], values[..., :kept, :]
        assert layer.get_seq_length() == kept
        assert layer.get_mask_sizes(2) == wanted.get_mask_sizes(2)
        torch.testing.assert_close((layer.keys, layer.values), (wanted.keys, wanted.values), rtol=0, atol=0)


def test_room_doubles_up_to_the_capacity_and_is_copied_only_then() -> None:
    layer = GrowingLayer(filled(5), CAPACITY)
    moves, rows, place = 0, {layer.rows}, layer.keys.data_ptr()
    for token in range(CAPACITY - 5):
        keys, _ = layer.update(*states(1, token))
        moves += keys.data_ptr() != place
        place = keys.data_ptr()
        rows.add(layer.rows)
    assert rows == {5, FIRST_ROWS, 2 * FIRST_ROWS, 4 * FIRST_ROWS, CAPACITY}
    assert moves == 4
    assert keys.shape == (1, 2, CAPACITY, 6)
