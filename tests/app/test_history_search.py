"""Words are found in names and messages, whatever stands in the query."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.history import History
from app.history_search import MATCH_END, MATCH_START
from tests.app.test_history import make_chat, save


@pytest.mark.parametrize(
    ("query", "finds"),
    [
        ("expert", True),
        ("EXP", True),
        ("resume", True),
        ("Résumé", True),
        ("uber wien", True),
        ("experts nowhere", False),
        ('"', False),
        ('" OR NEAR( *', False),
        ("", False),
        ("title:x", False),
        ("router-first", True),
    ],
)
def test_search(tmp_path: Path, query: str, finds: bool) -> None:
    history = History(tmp_path / "chats.db")
    save(history, make_chat("Which experts run?", "My résumé: über Wien, router-first"))
    assert bool(history.search(query)) is finds
    history.close()


def test_search_marks_what_it_found_in_names_and_texts(tmp_path: Path) -> None:
    history = History(tmp_path / "chats.db")
    chat = make_chat("Tell me", "The café is open", title="Café life")
    save(history, chat, make_chat("Nothing"))
    (found,) = history.search("cafe")
    assert found.name == f"{MATCH_START}Café{MATCH_END} life"
    assert found.snippet == f"The {MATCH_START}café{MATCH_END} is open"
    chat.title = "Other"
    save(history, chat)
    assert history.search("life") == []
    history.close()
