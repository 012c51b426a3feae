"""How many visits of experts one group of launches takes, and the buffer that it works in.

Torch-free, as plans are made from it. T tokens, H hidden size, I intermediate size.
"""

from __future__ import annotations

from engine.quant.formats import ALIGNMENT_BYTES

GROUP_EXPERTS = 128  # of one group at most: kShares
GROUP_BYTES = 32 << 20  # that a group may work in, or what all tokens of a pass take

# An int8 activation with its part of the record that 32 of them share (`cuda/activations.cuh`): 3 / 2 bytes.
_PREPARED_HALVES = 3


def group_visits(tokens: int, per_token: int, hidden_size: int, intermediate_size: int, state_bytes: int) -> int:
    """Visits that one group takes: all tokens of a pass at least, as one expert may have them all.

    Args:
        tokens: Of the pass (T).
        per_token: Experts chosen by each.
        hidden_size: H.
        intermediate_size: I.
        state_bytes: Of a number of the hidden states.
    """
    room = GROUP_BYTES - prepared_bytes(tokens, hidden_size)
    held = room // _visit_bytes(hidden_size, intermediate_size, state_bytes)
    return max(tokens, min(tokens * per_token, held))


def group_bytes(tokens: int, visits: int, hidden_size: int, intermediate_size: int, state_bytes: int) -> int:
    """Bytes of the buffer for so many visits: the pass's prepared states, then each visit's inside and outcome.

    Args:
        tokens: Of the pass (T).
        visits: Of the group.
        hidden_size: H.
        intermediate_size: I.
        state_bytes: Of a number of the hidden states.
    """
    inside = prepared_bytes(visits, intermediate_size)
    return prepared_bytes(tokens, hidden_size) + inside + visits * hidden_size * state_bytes


def prepared_bytes(rows: int, columns: int) -> int:
    """Bytes of activations as products with block formats read them.

    Args:
        rows: How many.
        columns: Of each, in groups of 32.
    """
    size = rows * columns * _PREPARED_HALVES // 2
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _visit_bytes(hidden_size: int, intermediate_size: int, state_bytes: int) -> int:
    """Bytes of a visit, rounded up."""
    return intermediate_size * _PREPARED_HALVES // 2 + hidden_size * state_bytes + 1
