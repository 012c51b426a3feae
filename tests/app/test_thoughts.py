import re

import pytest

from app.conversation import Conversation, Message
from app.thoughts import Reply, split_thoughts, without_thoughts

HARMONY = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes"


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("Hello", Reply("", "Hello")),
        ("", Reply("", "")),
        ("<think>\nHm.\n</think>\n\nYes.", Reply("Hm.", "Yes.")),
        ("  <thinking>Hm.</thinking>Yes.", Reply("Hm.", "Yes.")),
        ("[THINK]Hm.[/THINK]Yes.", Reply("Hm.", "Yes.")),
        ("<think>Hm", Reply("Hm", "", thinking=True)),
        ("<th", Reply("", "")),
        ("<", Reply("", "")),
        ("<b> is a tag", Reply("", "<b> is a tag")),
        ("Hm.</think>Yes.", Reply("Hm.", "Yes.")),
        ("analysisThe user greets.assistantfinalHello!", Reply("The user greets.", "Hello!")),
        (HARMONY, Reply("Hm.", "Yes")),
        (HARMONY.removesuffix("Yes"), Reply("Hm.", "")),
        (HARMONY.partition("final")[0], Reply("Hm.", "", thinking=True)),
        (HARMONY.partition("<|end|>")[0], Reply("Hm.", "", thinking=True)),
        ("<|channel|>final<|message|>Say <|end|> here<|end|>", Reply("", "Say <|end|> here")),
        (
            "<|channel|>analysis<|message|>A<|end|><|start|>assistant<|channel|>commentary<|message|>B<|end|>"
            "<|start|>assistant<|channel|>final <|constrain|>json<|message|>{}",
            Reply("A\n\nB", "{}"),
        ),
        ("<|chan", Reply("", "")),
        ("<|channel|>analysis", Reply("", "", thinking=True)),
        ("analysis of the text", Reply("", "analysis of the text")),
        ("Write `</think>` at the end", Reply("", "Write `</think>` at the end")),
        ("An answer about <think> and </think>", Reply("", "An answer about <think> and </think>")),
        ("<think></think>Yes", Reply("", "Yes")),
    ],
)
def test_thoughts_stand_at_the_head(text: str, reply: Reply) -> None:
    assert split_thoughts(text) == reply


def test_channels_never_show_while_they_are_written() -> None:
    tokens = re.split(r"(<\|\w+\|>)", HARMONY)
    texts = ["".join(tokens[:count]) for count in range(1, len(tokens) + 1)]
    replies = [split_thoughts(text) for text in texts]
    assert not any("<|" in reply.thoughts + reply.answer or "final" in reply.thoughts for reply in replies)
    assert replies[-1] == Reply("Hm.", "Yes")


def test_without_thoughts_leaves_the_answer() -> None:
    assert without_thoughts("<think>a</think>b") == "b"


def _chat(messages: list[Message]) -> Conversation:
    chat = Conversation()
    for message in messages:
        message.parent = chat.messages[-1].key if chat.messages else ""
        chat.add(message)
    return chat


def test_thoughts_are_never_sent_back() -> None:
    messages = [Message("user", "Hi"), Message("assistant", "<think>secret</think>Hello"), Message("user", "<think>x")]
    sent = _chat(messages).for_engine()
    assert [turn.content for turn in sent] == ["Hi", "Hello", "<think>x"]


def test_a_reply_stopped_while_thinking_is_left_out() -> None:
    messages = [Message("user", "Hi"), Message("assistant", "<think>secret", "stopped"), Message("user", "Again")]
    assert [turn.content for turn in _chat(messages).for_engine()] == ["Hi\n\nAgain"]


def test_a_flood_of_tags_is_split_in_one_pass() -> None:
    text = "<think>" * 100_000
    assert split_thoughts(text).thinking
    assert split_thoughts("x" * 1_000_000 + "</think>").answer == ""
    assert split_thoughts("<|channel|>final" * 100_000).thinking
