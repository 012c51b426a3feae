"""A reply that goes on where it ended is the reply that would have been written at once."""

from collections.abc import Iterator

import pytest

from engine import Engine, EngineConfig, SamplingParams
from engine.messages import ChatMessage, Finished, Token

QUESTION = ChatMessage("user", "What is an expert?")


@pytest.fixture(scope="module")
def guide() -> Iterator[Engine]:
    with Engine.load("guide", EngineConfig(device="cpu", context_tokens=512)) as engine:
        yield engine


def write(engine: Engine, messages: list[ChatMessage], tokens: int, *, continues: bool = False) -> tuple[str, Finished]:
    sampling = SamplingParams(max_tokens=tokens, temperature=0.0)
    events = list(engine.generate(messages, sampling, continue_reply=continues))
    last = events[-1]
    assert isinstance(last, Finished)
    return "".join(event.text for event in events if isinstance(event, Token)), last


@pytest.mark.parametrize("first_tokens", [3, 6, 9, 14])
def test_the_guide_goes_on_as_if_it_had_not_been_stopped(guide: Engine, first_tokens: int) -> None:
    whole, _ = write(guide, [QUESTION], 30)
    begun, finished = write(guide, [QUESTION], first_tokens)
    assert finished.reason == "length"
    rest, again = write(guide, [QUESTION, ChatMessage("assistant", begun)], 30 - first_tokens, continues=True)
    assert begun + rest == whole
    assert again.usage.cached_tokens > 0
