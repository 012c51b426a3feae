"""Finding words in all chats, with SQLite's full-text index. Knows nothing of Qt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.conversation_data import clean_text

SNIPPET_WORDS = 14
MAX_FOUND_MESSAGES = 1000
MAX_FOUND_CHATS = 200
MATCH_START, MATCH_END = "\x02", "\x03"


@dataclass(frozen=True, slots=True)
class Found:
    """One chat that a search found.

    Attributes:
        key: The chat.
        name: Its name, matches between MATCH_START and MATCH_END.
        snippet: A part of a message with matches marked likewise; "" where only the name matches.
    """

    key: str
    name: str
    snippet: str


def search_chats(rows_of: Callable[[str, tuple[object, ...]], list[Any]], query: str) -> list[Found]:
    """Chats whose name or messages have words that begin with each of the query's words, best first.

    Args:
        rows_of: Runs a statement with its values.
        query: What the user wrote.
    """
    words = " ".join(f'"{word}"*' for word in _words(query))
    if not words:
        return []
    marks = (MATCH_START, MATCH_END)
    named = rows_of(
        "SELECT c.key, highlight(chat_words, 0, ?, ?) FROM chat_words JOIN chats c ON c.id = chat_words.rowid "
        "WHERE chat_words MATCH ? AND NOT c.deleted ORDER BY c.updated_s DESC LIMIT ?",
        (*marks, words, MAX_FOUND_CHATS),
    )
    written = rows_of(
        "SELECT c.key, c.name, snippet(message_words, 0, ?, ?, '…', ?) FROM message_words "
        "JOIN messages m ON m.id = message_words.rowid JOIN chats c ON c.key = m.chat "
        "WHERE message_words MATCH ? AND NOT c.deleted ORDER BY rank LIMIT ?",
        (*marks, SNIPPET_WORDS, words, MAX_FOUND_MESSAGES),
    )
    found = {key: Found(key, name, "") for key, name in named}
    for key, name, snippet in written:
        known = found.get(key)
        if known is None:
            found[key] = Found(key, name, snippet)
        elif not known.snippet:
            found[key] = Found(key, known.name, snippet)
    return list(found.values())[:MAX_FOUND_CHATS]


def _words(query: str) -> list[str]:
    """The words of a query, without what FTS5 would take as its syntax."""
    return [word for word in clean_text(query).replace('"', " ").split() if any(c.isalnum() for c in word)]
