"""Counts the tokens of a conversation and of the files in it; what was counted once is remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from engine.errors import RooftopError
from engine.messages import ChatMessage, TokensCounted
from engine.tokenizer import ChatTokenizer

MAX_REMEMBERED = 4096


class TokenCounts:
    """Answers `CountTokens`.

    Args:
        tokenizer: The model's.
    """

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        """See the class."""
        self._tokenizer = tokenizer
        self._known: OrderedDict[tuple[int, int], int] = OrderedDict()  # a text's length and hash -> its tokens

    def answer(
        self, number: int, messages: Sequence[ChatMessage], texts: Sequence[str], context_tokens: int
    ) -> TokensCounted:
        """Count; arguments and answer as in `CountTokens` and `TokensCounted`."""
        per_message = tuple(self._count(message.content) for message in messages)
        per_text = tuple(map(self._count, texts))
        total = sum(per_message)
        if messages and total <= context_tokens:
            total = self._whole(messages, total)
        return TokensCounted(number, per_message, per_text, total, context_tokens)

    def _whole(self, messages: Sequence[ChatMessage], otherwise: int) -> int:
        """Tokens of the rendered conversation; a template may refuse one that no question ends yet."""
        try:
            return len(self._tokenizer.encode_chat(messages))
        except RooftopError:
            return otherwise

    def _count(self, text: str) -> int:
        key = (len(text), hash(text))
        if key not in self._known:
            self._known[key] = len(self._tokenizer.encode(text, bos=False))
            if len(self._known) > MAX_REMEMBERED:
                self._known.popitem(last=False)
        return self._known[key]
