"""Chats of GPT4All: its binary `gpt4all-*.chat` files, in the versions that GPT4All 3 has written.

The layout follows `Chat::serialize` and `ChatItem::serialize` in nomic-ai/gpt4all (`gpt4all-chat/src`): Qt's
QDataStream, so numbers are big-endian, a text is its length in bytes and UTF-16, and a list its length and its parts.
What is no message is read past: the model's state, sources of LocalDocs, ratings.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from app.conversation import Attachment, Conversation, Message
from app.conversation_data import clean_text
from app.language import tr

MAGIC = bytes.fromhex("f5d553cc")
VERSIONS = range(8, 13)
MAX_TITLE_CHARS = 200
MAX_DEPTH = 8
MAX_CREATED_S = 1e11
_NULL = 0xFFFFFFFF
_TAGS = re.compile(r"</?(?:think|javascript_interpret)>")
_VARIANTS = {1: ">b", 2: ">i", 3: ">I", 4: ">q", 5: ">Q", 6: ">d"}  # QMetaType: bool, whole numbers, double
_TEXT_VARIANT = 10


def chat_from_gpt4all(content: bytes) -> Conversation:
    """The chat of a file that begins with `MAGIC`.

    Raises:
        ValueError: The file is cut off, damaged, of another version or without messages; in words that go on after
            "it holds".
    """
    stream = _Stream(content[len(MAGIC) :])
    try:
        version = stream.number(">i")
        if version in VERSIONS:
            return _read_chat(stream, version)
    except struct.error as error:
        raise ValueError(tr("a damaged chat of GPT4All")) from error
    raise ValueError(
        tr("a chat of GPT4All in version {version} of its format, and {first} to {last} can be read").format(
            version=version, first=VERSIONS[0], last=VERSIONS[-1]
        )
    )


class _Stream:
    """Reads what QDataStream wrote; what is not there raises `struct.error`."""

    def __init__(self, content: bytes) -> None:
        self._content, self._place = content, 0

    @property
    def at_end(self) -> bool:
        return self._place == len(self._content)

    def take(self, size: int) -> bytes:
        part = self._content[self._place : self._place + size]
        if size < 0 or len(part) < size:
            raise struct.error("cut off")
        self._place += size
        return part

    def number(self, kind: str) -> Any:  # noqa: ANN401 - as the kind says
        return struct.unpack(kind, self.take(struct.calcsize(kind)))[0]

    def flag(self) -> bool:
        return bool(self.number(">b"))

    def data(self) -> bytes:
        size = self.number(">I")
        return b"" if size == _NULL else self.take(size)

    def text(self) -> str:
        return clean_text(self.data().decode("utf-16-be", "replace"))

    def skip_texts(self, count: int) -> None:
        for _ in range(count):
            self.data()

    def variant(self) -> None:
        """Read past a QVariant of a plain kind."""
        kind, _null = self.number(">I"), self.flag()
        if kind == _TEXT_VARIANT:
            self.data()
        elif kind in _VARIANTS:
            self.number(_VARIANTS[kind])
        elif kind:
            raise struct.error("a value of an unknown kind")


@dataclass(slots=True)
class _Item:
    """A message, or a part of a reply."""

    kind: str
    text: str
    stopped: bool = False
    files: tuple[Attachment, ...] = ()


def _read_chat(stream: _Stream, version: int) -> Conversation:
    created_s = stream.number(">q")
    stream.data()  # its id
    name, users_name = stream.text(), stream.text()
    stream.data()  # the model
    stream.skip_texts(stream.number(">I"))  # collections of LocalDocs
    if version < 11:
        _skip_model_state(stream, version)
    items = [_read_item(stream, version) for _ in range(stream.number(">i"))]
    if not stream.at_end:
        raise struct.error("more than a chat")
    chat = Conversation(title=" ".join((users_name or name).split())[:MAX_TITLE_CHARS])
    chat.created_s = float(created_s) if 0 < created_s < MAX_CREATED_S else chat.created_s
    parent = ""
    for number, item in enumerate(items):
        if item.kind in {"Prompt: ", "Response: "}:
            message = Message("user" if item.kind == "Prompt: " else "assistant", item.text.strip())
            message.state = "stopped" if item.stopped and message.role == "assistant" else "complete"
            message.attachments = item.files
            message.parent, message.created_s = parent, chat.created_s + number
            parent = chat.add(message).key
    if not chat.messages:
        raise ValueError(tr("no messages"))
    return chat


def _skip_model_state(stream: _Stream, version: int) -> None:
    """The state of llama.cpp, which GPT4All gave up in version 11."""
    kept = stream.flag()
    stream.take(8)  # kind and version
    stream.skip_texts(2)
    stream.take(4)
    if not kept:
        return
    stream.take(8)  # tokens so far, and room for
    if version < 9:
        stream.take(4 * stream.number(">Q"))  # logits
    stream.take(4 * stream.number(">Q"))  # tokens
    stream.data()


def _read_item(stream: _Stream, version: int) -> _Item:
    if version < 12:
        stream.take(4)
    item = _Item(stream.text(), stream.text())
    if version < 10:
        stream.data()
    stream.data()  # a reply that the user suggested
    stream.flag()
    item.stopped = stream.flag()
    stream.take(2)  # thumbs up, thumbs down
    if version >= 11 and item.kind == "Response: ":
        stream.flag()
    for _ in range(stream.number(">q")):  # sources of LocalDocs
        stream.skip_texts(7)
        stream.take(12)
    if version >= 10:
        files = [_read_file(stream) for _ in range(stream.number(">q"))]
        item.files = tuple(file for file in files if file is not None)
    if version >= 12:
        item.text = _read_parts(stream, 1) + item.text
    return item


def _read_file(stream: _Stream) -> Attachment | None:
    """A file that went along with a prompt; None for a spreadsheet, which is no text."""
    name = clean_text(unquote(stream.data().decode("ascii", "replace")).rsplit("/", 1)[-1])
    content = stream.data()
    if name.lower().endswith(".xlsx"):
        return None
    return Attachment(name, clean_text(content.decode("utf-8", "replace")))


def _read_parts(stream: _Stream, depth: int) -> str:
    """What the parts of a reply say, one after the other: texts, thoughts, code that was run."""
    if depth > MAX_DEPTH:
        raise struct.error("nested too deeply")
    parts = []
    for _ in range(stream.number(">q")):
        kind, text = stream.text(), stream.text()
        if kind == "Think: ":
            stream.take(4)
            text = f"<think>\n{_TAGS.sub('', text).strip()}\n</think>\n\n"
        elif kind == "ToolCall: ":
            text = f"\n\n{_TAGS.sub('', text).strip()}\n\n```\n{_read_result(stream).strip()}\n```\n\n"
        elif kind == "ToolResponse: ":
            text = ""
        elif kind not in {"Text: ", "Response: "}:
            raise struct.error("a part of an unknown kind")
        parts.append(_read_parts(stream, depth + 1) + text)
    return "".join(parts)


def _read_result(stream: _Stream) -> str:
    """What the code that a reply ran has printed."""
    stream.data()
    for _ in range(stream.number(">q")):
        stream.data()
        stream.take(4)
        stream.variant()
    result, _code, problem = stream.text(), stream.take(4), stream.text()
    return result or problem
