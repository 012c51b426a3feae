"""Finding words in a chat: what a message shows as plain text, and where a needle is in it. Knows nothing of Qt.

Matches are counted in what the window shows, not in the Markdown: markup splits no match, and hidden addresses hold
none. The plain text of a message agrees with that of its widgets block by block: a match has one number in both.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from app.markdown import plain_blocks
from app.thoughts import split_thoughts

if TYPE_CHECKING:
    from app.conversation import Message

MAX_NEEDLE_CHARS = 200
MAX_MATCHES = 9999


class Needle:
    """What is looked for, without regard to case.

    Args:
        text: As it was typed; spaces match any white space.
    """

    def __init__(self, text: str) -> None:
        words = text[:MAX_NEEDLE_CHARS].split()
        self._pattern = re.compile(r"\s+".join(map(re.escape, words)), re.IGNORECASE) if words else None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to look for."""
        return self._pattern is None

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Begin and end of every match, at most `MAX_MATCHES`."""
        found: list[tuple[int, int]] = []
        if self._pattern is not None:
            for match in self._pattern.finditer(text):
                found.append(match.span())
                if len(found) == MAX_MATCHES:
                    break
        return found

    def count(self, blocks: list[str]) -> int:
        """Matches in all blocks of a message."""
        return sum(len(self.spans(block)) for block in blocks)


def searchable(message: Message) -> list[str]:
    """The plain text of a message's blocks, those of its thoughts first."""
    if message.role == "user":
        return [message.text]
    reply = split_thoughts(message.text)
    return [*(plain_blocks(reply.thoughts) if reply.thoughts else []), *plain_blocks(reply.answer)]


def thought_blocks(message: Message) -> int:
    """How many of the searchable blocks are thoughts."""
    thoughts = split_thoughts(message.text).thoughts if message.role == "assistant" else ""
    return len(plain_blocks(thoughts)) if thoughts else 0
