"""What a reasoning model writes before its answer: split from it, so that it can be folded and is never sent back.

Thoughts stand at the head of a reply, between tags such as `<think>` and `</think>`. Templates that open the tag in the
prompt leave the closing one alone. gpt-oss names channels instead: all before the one called "final" are thoughts.
Where their special tokens decoded to nothing, what is left are the words "analysis" before the thoughts and
"assistantfinal" after them. Knows nothing of Qt.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAMES = ("think", "thinking", "thought", "reasoning")
_TAGS = {f"<{name}>": f"</{name}>" for name in _NAMES} | {"[THINK]": "[/THINK]"}
_LONE_CLOSERS = ("</think>", "</thinking>")
_CHANNEL, _MESSAGE, _END = "<|channel|>", "<|message|>", "<|end|>"
_FINAL = re.compile(r"<\|channel\|>final[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>")
_BARE_CHANNELS = re.compile(r"\s*analysis(.*?)assistantfinal", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply in its two parts.

    Attributes:
        thoughts: What was thought, "" for nothing.
        answer: The rest.
        thinking: Whether the thoughts are not closed yet.
    """

    thoughts: str
    answer: str
    thinking: bool = False


def split_thoughts(text: str) -> Reply:
    """Split a reply, also one that is still being written; an opening tag that is not complete shows nothing."""
    head = text.lstrip()
    for opening, closing in _TAGS.items():
        if head.startswith(opening):
            thoughts, found, answer = head[len(opening) :].partition(closing)
            return Reply(thoughts.strip(), answer.lstrip(), thinking=not found)
    if head and any(opening.startswith(head) for opening in (*_TAGS, _CHANNEL)):
        return Reply("", "")
    if head.startswith(_CHANNEL):
        return _channels(head)
    if head.startswith("analysis") and (channels := _BARE_CHANNELS.match(text)):
        return Reply(channels[1].strip(), text[channels.end() :].lstrip())
    return _lone_closer(text)


def without_thoughts(text: str) -> str:
    """The answer alone: what later turns of a conversation hold of a reply."""
    return split_thoughts(text).answer


def _channels(text: str) -> Reply:
    """A reply in channels, of which the last may still be written."""
    final = _FINAL.search(text)
    before = text[: final.start()] if final else text
    parts = [part.partition(_MESSAGE)[2].partition(_END)[0].strip() for part in before.split(_CHANNEL)]
    answer = text[final.end() :].removesuffix(_END).lstrip() if final else ""
    return Reply("\n\n".join(filter(None, parts)), answer, thinking=final is None)


def _lone_closer(text: str) -> Reply:
    for closing in _LONE_CLOSERS:
        thoughts, found, answer = text.partition(closing)
        if found and "`" not in thoughts and f"<{closing[2:]}" not in thoughts:
            return Reply(thoughts.strip(), answer.lstrip())
    return Reply("", text)
