import pytest

from app.conversation import Message
from app.text_search import MAX_MATCHES, Needle, searchable, thought_blocks


@pytest.mark.parametrize(
    ("needle", "text", "spans"),
    [
        ("the", "The other", [(0, 3), (5, 8)]),
        ("a b", "a\nb a  b", [(0, 3), (4, 8)]),
        ("a.c", "abc a.c", [(4, 7)]),
        ("", "text", []),
        ("  ", "text", []),
        ("\U0001f600", "x\U0001f600y", [(1, 2)]),
    ],
)
def test_matches(needle: str, text: str, spans: list[tuple[int, int]]) -> None:
    assert Needle(needle).spans(text) == spans


def test_matches_are_bounded() -> None:
    assert len(Needle("a").spans("a" * 20_000)) == MAX_MATCHES


def test_what_is_shown_is_searched() -> None:
    message = Message("assistant", "<think>why</think>Hel**lo** [world](https://hidden.example)\n\n```\ncode\n```")
    assert searchable(message) == ["why\n", "Hello world\n", "code"]
    assert thought_blocks(message) == 1
    assert Needle("hello world").count(searchable(message)) == 1
    assert Needle("hidden").count(searchable(message)) == 0


def test_a_users_message_is_searched_as_it_is() -> None:
    assert searchable(Message("user", "**a**")) == ["**a**"]
    assert thought_blocks(Message("user", "<think>a</think>")) == 0
