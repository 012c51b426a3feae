"""What a search found is seen in its row, however narrow that is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.history_search import MATCH_END, MATCH_START
from app.widgets.chat_row import from_match


def marked(text: str) -> str:
    return text.replace("[", MATCH_START).replace("]", MATCH_END)


def plain(text: str) -> str:
    return text.replace(MATCH_START, "").replace(MATCH_END, "")


@pytest.mark.parametrize(
    ("text", "room", "shown"),
    [
        ("no match at all here", 5, "no match at all here"),
        ("[found] at once", 4, "[found] at once"),
        ("[found] at once", 6, "[found] at once"),
        ("some words before [found] and after", 40, "some words before [found] and after"),
        ("some words before [found] and after", 20, "…words before [found] and after"),
        ("some words before [found] and after", 13, "…before [found] and after"),
        ("some words before [found] and after", 3, "…[found] and after"),
        ("one [match], another [one]", 4, "…[match], another [one]"),
    ],
)
def test_a_line_begins_near_its_first_match(text: str, room: int, shown: str) -> None:
    assert from_match(marked(text), lambda seen: len(seen) <= room) == marked(shown)


@given(
    st.text(" ab", max_size=40), st.text("xyz", min_size=1, max_size=8), st.text(" ab", max_size=20), st.integers(1, 60)
)
def test_the_match_is_within_the_room_wherever_it_can_be(before: str, match: str, after: str, room: int) -> None:
    line = from_match(f"{before}{MATCH_START}{match}{MATCH_END}{after}", lambda seen: len(seen) <= room)
    assert line.endswith(f"{MATCH_START}{match}{MATCH_END}{after}")
    until = plain(line[: line.index(MATCH_END)])
    assert len(until) <= room or until in (match, "…" + match)
