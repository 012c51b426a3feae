"""What of a conversation goes into the context: whole turns are left out until prompt and reply fit.

Pure: whoever asks counts the tokens. A turn is a user's message with the replies to it; system messages stay, and so
does the last turn, which is the question. Turns leave in steps of a quarter of the room: so the prompt's beginning, and
with it the KV cache, stays the same over several questions.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.messages import ChatMessage, Overflow

RESERVED_SHARE = 4  # a reply is promised its limit, but at most a quarter of the context
STEP_SHARE = 4


@dataclass(frozen=True, slots=True)
class Fitted:
    """A conversation as it is sent.

    Attributes:
        prompt: Its token ids.
        left_out: Messages that were left out.
        left_out_tokens: By how many tokens that made the prompt shorter.
    """

    prompt: list[int]
    left_out: int = 0
    left_out_tokens: int = 0


def reserved_tokens(max_tokens: int, capacity: int) -> int:
    """What is kept free for the reply: at least one token.

    Args:
        max_tokens: The reply's own limit.
        capacity: Tokens that the context holds.
    """
    return max(1, min(max_tokens, capacity // RESERVED_SHARE))


def fit(
    messages: Sequence[ChatMessage],
    encode: Callable[[Sequence[ChatMessage]], list[int]],
    limit: int,
    overflow: Overflow,
) -> Fitted:
    """Leave out whole turns until the prompt has at most `limit` tokens; the last turn stays, however long it is.

    Args:
        messages: The conversation, oldest first.
        encode: Token ids of a conversation.
        limit: Tokens of the longest prompt.
        overflow: What may go: nothing ("stop"), the oldest turns, or those after the first.
    """
    prompt = encode(messages)
    if overflow == "stop" or len(prompt) <= limit:
        return Fitted(prompt)
    keepers = _candidates(messages, overflow)
    excess, step = len(prompt) - limit, max(1, limit // STEP_SHARE)
    wanted = len(prompt) - -(-excess // step) * step
    sizes: dict[int, list[int]] = {}

    def fits(index: int, most: int) -> bool:
        sizes.setdefault(index, encode(keepers[index]))
        return len(sizes[index]) <= most

    most = wanted if fits(len(keepers) - 1, wanted) else limit
    first = bisect.bisect_left(range(len(keepers) - 1), 1, key=lambda index: fits(index, most))
    fits(first, most)
    return Fitted(sizes[first], len(messages) - len(keepers[first]), len(prompt) - len(sizes[first]))


def _candidates(messages: Sequence[ChatMessage], overflow: Overflow) -> list[list[ChatMessage]]:
    """The conversation with ever more turns left out; the last is the question alone."""
    system = [message for message in messages if message.role == "system"]
    turns = _turns([message for message in messages if message.role != "system"])
    head = 1 if overflow == "drop_middle" and len(turns) > 2 else 0
    kept = [[*turns[:head], *turns[first:]] for first in range(head, len(turns))]
    if head:
        kept.append(turns[-1:])
    return [system + [message for turn in choice for message in turn] for choice in kept]


def _turns(messages: Sequence[ChatMessage]) -> list[list[ChatMessage]]:
    """Messages in groups that each begin with one of the user's; what a chat begins with belongs to the first."""
    turns: list[list[ChatMessage]] = []
    for message in messages:
        if not turns or (message.role == "user" and any(item.role == "user" for item in turns[-1])):
            turns.append([])
        turns[-1].append(message)
    return turns
