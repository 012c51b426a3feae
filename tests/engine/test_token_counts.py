"""Counting with the guide's own tokenizer."""

from __future__ import annotations

import pytest

from engine.checkpoint.catalog import resolve_model
from engine.messages import ChatMessage
from engine.token_counts import MAX_REMEMBERED, TokenCounts
from engine.tokenizer import ChatTokenizer

CHAT = (ChatMessage("user", "What is an expert?"), ChatMessage("assistant", "A part."), ChatMessage("user", "Why?"))


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    return ChatTokenizer.open(resolve_model("guide"))


def test_the_total_is_the_prompt_that_would_be_computed(tokenizer: ChatTokenizer) -> None:
    counted = TokenCounts(tokenizer).answer(7, CHAT, ("some file",), 512)
    assert counted.total == len(tokenizer.encode_chat(CHAT))
    assert counted.per_message == tuple(len(tokenizer.encode(m.content, bos=False)) for m in CHAT)
    assert counted.per_text == (len(tokenizer.encode("some file", bos=False)),)
    assert (counted.id, counted.context_tokens) == (7, 512)
    assert sum(counted.per_message) < counted.total


def test_nothing_is_nothing(tokenizer: ChatTokenizer) -> None:
    assert TokenCounts(tokenizer).answer(1, (), (), 512).total == 0


def test_what_outgrew_the_context_is_not_rendered(tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "encode_chat", lambda _: pytest.fail("rendered"))
    counted = TokenCounts(tokenizer).answer(1, (ChatMessage("user", "word " * 100),), (), 10)
    assert counted.total == counted.per_message[0] > 10


def test_a_text_is_encoded_once(tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = TokenCounts(tokenizer)
    first = counts.answer(1, CHAT, (), 0)
    monkeypatch.setattr(tokenizer, "encode", lambda *_, **__: pytest.fail("encoded again"))
    assert counts.answer(2, CHAT, (), 0).per_message == first.per_message


def test_memory_is_bounded(tokenizer: ChatTokenizer) -> None:
    counts = TokenCounts(tokenizer)
    counts.answer(1, (), tuple(map(str, range(MAX_REMEMBERED + 10))), 512)
    assert len(counts._known) == MAX_REMEMBERED
