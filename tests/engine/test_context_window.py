"""Leaving out turns, against a plain count of words."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.context_window import fit, reserved_tokens
from engine.messages import ChatMessage, Overflow, Role


def chat(*sizes: int, system: int = 0) -> list[ChatMessage]:
    """Messages of so many words, user and assistant by turns; each knows its number."""
    roles: tuple[Role, Role] = ("user", "assistant")
    messages = [ChatMessage(roles[n % 2], " ".join([f"m{n}"] * size)) for n, size in enumerate(sizes)]
    return [ChatMessage("system", "s " * system), *messages] if system else messages


def encode(messages: Sequence[ChatMessage]) -> list[int]:
    return [0] * sum(len(message.content.split()) for message in messages)


def kept(messages: list[ChatMessage], limit: int, overflow: Overflow) -> tuple[list[str], int, int]:
    seen: list[Sequence[ChatMessage]] = []

    def remembering(chosen: Sequence[ChatMessage]) -> list[int]:
        seen.append(chosen)
        return encode(chosen)

    fitted = fit(messages, remembering, limit, overflow)
    chosen = next(item for item in reversed(seen) if len(item) == len(messages) - fitted.left_out)
    assert len(encode(chosen)) == len(fitted.prompt)
    return [message.content.split()[0] for message in chosen], fitted.left_out, fitted.left_out_tokens


def test_what_fits_stays_whole() -> None:
    assert kept(chat(5, 5, 5), 15, "drop_oldest") == (["m0", "m1", "m2"], 0, 0)


def test_stop_leaves_nothing_out() -> None:
    assert len(fit(chat(50, 50, 50), encode, 20, "stop").prompt) == 150


def test_the_oldest_turns_go_and_the_system_message_stays() -> None:
    assert kept(chat(4, 4, 4, 4, 4, system=2), 16, "drop_oldest") == (["s", "m2", "m3", "m4"], 2, 8)


def test_the_middle_goes_and_the_first_exchange_stays() -> None:
    assert kept(chat(2, 2, 4, 4, 4, 4, 4), 16, "drop_middle") == (["m0", "m1", "m4", "m5", "m6"], 2, 8)


def test_where_the_first_exchange_is_too_long_it_goes_too() -> None:
    assert kept(chat(50, 2, 4, 4, 4), 16, "drop_middle") == (["m4"], 4, 60)


def test_the_question_stays_however_long_it_is() -> None:
    assert kept(chat(4, 4, 40), 10, "drop_oldest") == (["m2"], 2, 8)


def test_the_beginning_stays_the_same_over_several_questions() -> None:
    firsts = []
    for exchanges in range(20, 30):
        names, _, _ = kept(chat(*[2, 2] * exchanges, 2), 40, "drop_oldest")
        firsts.append(names[0])
    assert len(set(firsts)) <= 5, firsts


@pytest.mark.parametrize(("max_tokens", "capacity", "reserved"), [(64, 8192, 64), (4096, 8192, 2048), (1024, 2, 1)])
def test_the_reply_is_promised_its_limit_or_a_quarter(max_tokens: int, capacity: int, reserved: int) -> None:
    assert reserved_tokens(max_tokens, capacity) == reserved


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=15),
    st.integers(0, 5),
    st.integers(1, 80),
    st.sampled_from(["drop_oldest", "drop_middle"]),
)
def test_it_fits_wherever_that_is_possible(sizes: list[int], system: int, limit: int, overflow: Overflow) -> None:
    messages = chat(*sizes, system=system)
    fitted = fit(messages, encode, limit, overflow)
    last_turn = sizes[-1] if len(sizes) % 2 or len(sizes) == 1 else sum(sizes[-2:])
    assert len(fitted.prompt) <= max(limit, system + last_turn)
    assert len(fitted.prompt) + fitted.left_out_tokens == sum(sizes) + system
