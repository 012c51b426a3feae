"""Files of GPT4All, written here by Qt's own QDataStream in the order of `Chat::serialize`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PySide6.QtCore import QByteArray, QDataStream, QIODevice

from app.chat_files import ChatFileError, chats_from_file

MAGIC = 0xF5D553CC
THINK = "<think>Hm, a fox.</think>"
CODE = "<javascript_interpret>\n```javascript\nprint(1 + 1)\n```\n</javascript_interpret>"


@dataclass
class Part:
    """A part of a reply: `ChatItem::serializeSubItems`."""

    name: str
    value: str = ""
    result: str | None = None
    parts: list["Part"] = field(default_factory=list)


@dataclass
class Item:
    """One message: `ChatItem::serialize`."""

    name: str
    value: str
    stopped: bool = False
    sources: int = 0
    files: list[tuple[str, bytes]] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)


def write_part(out: QDataStream, part: Part) -> None:
    out.writeQString(part.name)
    out.writeQString(part.value)
    if part.name == "Think: ":
        out.writeInt32(1234)
    if part.result is not None:
        out.writeQString("javascript_interpret")
        out.writeInt64(2)
        for name, value in (("code", "print(1 + 1)"), ("limit", 3)):
            out.writeQString(name)
            out.writeInt32(0)
            out.writeQVariant(value)
        out.writeQString(part.result)
        out.writeInt32(0)
        out.writeQString("")
    out.writeInt64(len(part.parts))
    for inner in part.parts:
        write_part(out, inner)


def write_item(out: QDataStream, item: Item, version: int) -> None:
    if version < 12:
        out.writeInt32(0)
    out.writeQString(item.name)
    out.writeQString(item.value)
    if version < 10:
        out.writeQString("deprecated")
    out.writeQString("")
    for flag in (False, item.stopped, False, False):
        out.writeBool(flag)
    if version >= 11 and item.name == "Response: ":
        out.writeBool(item.stopped)
    write_sources(out, item)
    if version >= 10:
        out.writeInt64(len(item.files))
        for url, content in item.files:
            out << QByteArray(url.encode()) << QByteArray(content)
    if version >= 12:
        out.writeInt64(len(item.parts))
        for part in item.parts:
            write_part(out, part)


def write_sources(out: QDataStream, item: Item) -> None:
    out.writeInt64(item.sources)
    for _ in range(item.sources):
        for text in ("collection", "/path", "file.txt", "title", "author", "date", "text"):
            out.writeQString(text)
        for number in (-1, 3, 4):
            out.writeInt32(number)


def write_state(out: QDataStream, version: int, *, kept: bool) -> None:
    """`ChatLLM::serialize` before version 11."""
    out.writeBool(kept)
    for number in (1, 0):
        out.writeInt32(number)
    out.writeQString("response")
    out.writeQString("name")
    out.writeUInt32(7)
    if kept:
        out.writeInt32(5)
        out.writeInt32(2048)
        if version < 9:
            out.writeUInt64(2)
            out.writeRawData(bytes(8))
        out.writeUInt64(3)
        out.writeRawData(bytes(12))
        out << QByteArray(b"state" * 100)


def chat_file(
    items: list[Item], version: int = 12, *, name: str = "New Chat", users_name: str = "", kept: bool = False
) -> bytes:
    content = QByteArray()
    out = QDataStream(content, QIODevice.OpenModeFlag.WriteOnly)
    out.writeUInt32(MAGIC)
    out.writeInt32(version)
    out.setVersion(QDataStream.Version.Qt_6_2)
    out.writeInt64(1_700_000_000)
    out.writeQString("an-id")
    out.writeQString(name)
    out.writeQString(users_name)
    out.writeQString("Llama 3")
    out.writeQStringList(["my documents"])
    if version < 11:
        write_state(out, version, kept=kept)
    out.writeInt32(len(items))
    for item in items:
        write_item(out, item, version)
    return bytes(content.data())


PLAIN = [
    Item("Prompt: ", "Wie heißt der 🦊?"),
    Item("Response: ", "Fox.", sources=2),
    Item("Prompt: ", "And?"),
    Item("Response: ", "It ru", stopped=True),
]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        path = tmp_path / "gpt4all-x.chat"
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("version", [8, 9, 10, 11, 12])
@pytest.mark.parametrize("kept", [True, False])
def test_a_chat_of_every_version(write: Callable[[bytes], Path], version: int, kept: bool) -> None:
    (chat,) = chats_from_file(write(chat_file(PLAIN, version, name="Foxes and more", kept=kept)))
    assert (chat.title, chat.created_s) == ("Foxes and more", 1_700_000_000)
    assert [(m.role, m.text) for m in chat.messages] == [
        ("user", "Wie heißt der 🦊?"),
        ("assistant", "Fox."),
        ("user", "And?"),
        ("assistant", "It ru"),
    ]
    assert [m.state for m in chat.messages] == ["complete", "complete", "complete", "stopped"]


def test_the_name_that_the_user_gave_comes_first(write: Callable[[bytes], Path]) -> None:
    (chat,) = chats_from_file(write(chat_file(PLAIN, users_name="Mine")))
    assert chat.title == "Mine"


def test_files_thoughts_and_code_that_was_run(write: Callable[[bytes], Path]) -> None:
    files = [("file:///home/me/my%20notes.txt", "süß".encode()), ("file:///home/me/table.xlsx", b"PK\3\4")]
    parts = [
        Part("Response: ", parts=[Part("Think: ", THINK)]),
        Part("Response: ", parts=[Part("Text: ", "I compute. "), Part("ToolCall: ", CODE, result="2\n")]),
        Part("ToolResponse: ", "2"),
    ]
    items = [Item("Prompt: ", "What is 1 + 1?", files=files), Item("Response: ", "It is 2.", parts=parts)]
    (chat,) = chats_from_file(write(chat_file(items)))
    question, reply = chat.messages
    assert [(file.name, file.text) for file in question.attachments] == [("my notes.txt", "süß")]
    assert reply.text == (
        "<think>\nHm, a fox.\n</think>\n\nI compute. \n\n```javascript\nprint(1 + 1)\n```\n\n```\n2\n```\n\nIt is 2."
    )


def test_every_way_to_cut_a_file_gets_one_sentence(write: Callable[[bytes], Path]) -> None:
    parts = [Part("Response: ", parts=[Part("ToolCall: ", CODE, result="2")])]
    whole = chat_file([Item("Prompt: ", "Hi", files=[("file:///a", b"x")]), Item("Response: ", "x", parts=parts)])
    for size in range(4, len(whole), 3):
        with pytest.raises(ChatFileError, match=r"cannot be imported: it holds a damaged chat of GPT4All\. Choose"):
            chats_from_file(write(whole[:size]))
    with pytest.raises(ChatFileError, match="damaged"):
        chats_from_file(write(whole + b"\0"))


def nested(depth: int) -> Part:
    return Part("Response: ", "x", parts=[nested(depth - 1)] if depth else [])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (chat_file(PLAIN, 13), "version 13 of its format, and 8 to 12 can be read"),
        (chat_file(PLAIN, 7), "version 7"),
        (chat_file([]), "no messages"),
        (chat_file([Item("Response: ", "x", parts=[nested(100)])]), "damaged"),
        (chat_file([Item("Response: ", "x", parts=[Part("Poem: ")])]), "damaged"),
        (chat_file(PLAIN)[:8] + b"\xff" * 200, "damaged"),
        (chat_file(PLAIN)[:8] + b"\x7f" * 200, "damaged"),
    ],
)
def test_what_cannot_be_read_is_refused(write: Callable[[bytes], Path], content: bytes, words: str) -> None:
    with pytest.raises(ChatFileError, match=words):
        chats_from_file(write(content))
