"""Memory that is used again."""

from __future__ import annotations

import numpy as np

from engine.convert.buffers import Buffers


def test_what_is_given_back_is_lent_again_in_any_length() -> None:
    buffers = Buffers(100)
    first, second = buffers.take(100), buffers.take(30)
    assert not np.shares_memory(first, second)
    buffers.give_back(first)
    third = buffers.take(70)
    assert third.nbytes == 70
    assert np.shares_memory(first, third)


def test_what_is_too_large_or_of_others_is_not_kept() -> None:
    buffers = Buffers(100)
    large, foreign = buffers.take(101), np.empty(100, np.uint8)
    for buffer in (large, foreign):
        buffers.give_back(buffer)
        assert not np.shares_memory(buffers.take(100), buffer)
    assert large.nbytes == 101
