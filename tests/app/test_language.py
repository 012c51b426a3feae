"""The translation function: English as it is, where no translator is installed."""

from __future__ import annotations

from app.language import tr


def test_without_a_translator_the_text_is_itself() -> None:
    assert tr("Keep {name}") == "Keep {name}"


def test_the_count_takes_its_place() -> None:
    assert tr("%n chats", 3) == "3 chats"
