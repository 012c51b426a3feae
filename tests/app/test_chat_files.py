import json
from pathlib import Path
from typing import Any

import pytest

import app.chat_files
from app.chat_files import ChatFileError, chats_as_json, chats_as_markdown, chats_from_file, write_file
from app.conversation import Attachment, Conversation, Draft
from app.conversation_data import conversation_data
from app.presets import ChatOptions
from tests.app.test_history import make_chat


def shape(chat: Conversation) -> dict[str, Any]:
    """A chat without its keys: parents as places in the list of messages."""
    data = conversation_data(chat)
    data["messages"].sort(key=lambda message: message["created_s"])
    places = {message["key"]: i for i, message in enumerate(data["messages"])} | {"": -1}
    for message in data["messages"]:
        message["parent"] = places[message["parent"]]
        del message["key"]
    data["chosen"] = {places[parent]: places[key] for parent, key in data["chosen"].items()}
    del data["key"]
    return data


def branching() -> Conversation:
    chat = make_chat("One?", "one", "Two?", "two", title="Über alles")
    chat.pinned, chat.folder, chat.options = True, "Work", '{"a": 1}'
    chat.draft = Draft("more", (Attachment("b.txt", "y"),))
    old = chat.messages[1]
    chat.begin_reply(beside=old).text = "another one"
    chat.edit_user(chat.messages[0], "Zero? 😀")
    chat.choose(chat.all_messages[0])
    chat.choose(old)
    chat.add_user("With", (Attachment("a.txt", "x"),))
    return chat


def test_json_loses_nothing(tmp_path: Path) -> None:
    chats = [branching(), make_chat("Hi")]
    path = tmp_path / "chats.json"
    write_file(path, chats_as_json(chats))
    back = chats_from_file(path)
    assert [shape(chat) for chat in back] == [shape(chat) for chat in chats]
    assert [m.text for m in back[0].messages] == [m.text for m in chats[0].messages]


def test_imported_chats_are_new_ones(tmp_path: Path) -> None:
    chat = branching()
    path = tmp_path / "chats.json"
    write_file(path, chats_as_json([chat]))
    (one,), (two,) = chats_from_file(path), chats_from_file(path)
    keys = [m.key for m in (*chat.all_messages, *one.all_messages, *two.all_messages)]
    assert len(set(keys)) == len(keys)
    assert len({chat.key, one.key, two.key}) == 3


def test_markdown_is_what_is_shown() -> None:
    text = chats_as_markdown([branching()])
    assert text.startswith("# Über alles\n\n## You\n\nOne?\n\n## Reply\n\none\n\n## You\n\nTwo?")
    assert "*a.txt*\n\nWith" in text
    assert "another" not in text


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ChatFileError, match="cannot be written"):
        write_file(tmp_path / "nowhere" / "x.json", "text")
    assert list(tmp_path.iterdir()) == []


LM_STUDIO = {
    "name": "Foxes",
    "createdAt": 1_700_000_000_000,
    "messages": [
        {
            "versions": [{"role": "user", "type": "singleStep", "content": [{"type": "text", "text": "Hi"}]}],
            "currentlySelected": 0,
        },
        {
            "versions": [
                {
                    "role": "assistant",
                    "type": "multiStep",
                    "steps": [
                        {"type": "contentBlock", "content": [{"type": "text", "text": "Hel"}]},
                        {"type": "debugInfoBlock", "debugInfo": "x"},
                        {"type": "contentBlock", "content": [{"type": "text", "text": "lo"}]},
                    ],
                },
                {
                    "role": "assistant",
                    "type": "multiStep",
                    "steps": [
                        {
                            "type": "contentBlock",
                            "style": {"type": "thinking"},
                            "content": [{"type": "text", "text": "Hm"}],
                        },
                        {"type": "contentBlock", "content": [{"type": "text", "text": "Second"}]},
                    ],
                },
            ],
            "currentlySelected": 0,
        },
        {
            "versions": [{"role": "user", "type": "singleStep", "content": [{"type": "text", "text": "And?"}]}],
            "currentlySelected": 0,
        },
    ],
}


def test_a_chat_of_lm_studio(tmp_path: Path) -> None:
    path = tmp_path / "1.conversation.json"
    path.write_text(json.dumps(LM_STUDIO))
    (chat,) = chats_from_file(path)
    assert (chat.title, chat.created_s) == ("Foxes", 1_700_000_000)
    assert [(m.role, m.text) for m in chat.messages] == [("user", "Hi"), ("assistant", "Hello"), ("user", "And?")]
    assert [m.text for m in chat.versions(chat.messages[1])] == ["Hello", "<think>\nHm\n</think>\n\nSecond"]


@pytest.mark.parametrize(
    ("extra", "prompt"),
    [
        ({}, None),
        ({"systemPrompt": " "}, None),
        ({"systemPrompt": "Be brief."}, "Be brief."),
        (
            {
                "systemPrompt": "Be brief.",
                "perChatPredictionConfig": {
                    "fields": [
                        {"key": "llm.prediction.temperature", "value": 0.7},
                        {"key": "llm.prediction.systemPrompt", "value": "Be a fox."},
                    ]
                },
            },
            "Be a fox.",
        ),
        ({"systemPrompt": 3, "perChatPredictionConfig": {"fields": [3, {"key": "llm.prediction.systemPrompt"}]}}, None),
    ],
)
def test_the_system_prompt_of_lm_studio_comes_along(
    tmp_path: Path, extra: dict[str, object], prompt: str | None
) -> None:
    path = tmp_path / "1.conversation.json"
    path.write_text(json.dumps({**LM_STUDIO, **extra}))
    (chat,) = chats_from_file(path)
    assert ChatOptions.from_json(chat.options).system_prompt == prompt


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,
        b"[]",
        b"{}",
        b"nonsense",
        b'{"messages": 3}',
        b'{"messages": [3]}',
        b'{"messages": []}',
        b'{"messages": [{"versions": [{"role": "tool"}]}]}',
        b'{"format": "rooftop-chats"}',
        b'{"format": "rooftop-chats", "version": 2, "chats": []}',
        b'{"format": "rooftop-chats", "version": 1, "chats": [3]}',
        b'{"format": "rooftop-chats", "version": 1, "chats": [{"messages": [{}]}]}',
        b'{"format": "rooftop-chats", "version": 1, "chats": [{"messages": [{"role": "user", "text": 3}]}]}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_hostile_files_get_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ChatFileError, match=r"^x\.json cannot be imported: .*\. Choose a file"):
        chats_from_file(path)


def test_files_that_are_too_large_or_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.chat_files, "MAX_FILE_BYTES", 10)
    path = tmp_path / "x.json"
    path.write_bytes(b" " * 11)
    with pytest.raises(ChatFileError, match="larger than"):
        chats_from_file(path)
    with pytest.raises(ChatFileError, match="cannot be imported"):
        chats_from_file(tmp_path / "none.json")


def test_values_of_the_wrong_kind_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    message = {
        "role": "assistant", "text": "t\ud800", "state": 5, "usage": {"prompt_tokens": "x"}, "timings": [], "error": {},
        "attachments": [{"name": 3}], "parent": "lost", "key": ["x"], "created_s": "now", "reason": "x",
    }  # fmt: skip
    loop = [
        {"role": "user", "text": "a", "key": "a", "parent": "b"},
        {"role": "user", "text": "b", "key": "b", "parent": "a"},
        {"role": "user", "text": "again", "key": "b"},
    ]
    chat = {"title": 3, "pinned": "yes", "chosen": {"": 3, "x": "y"}, "messages": [message, *loop], "updated_s": 1e300}
    path.write_text(json.dumps({"format": "rooftop-chats", "version": 1, "chats": [chat]}))
    (found,) = chats_from_file(path)
    assert {m.text for m in found.all_messages} == {"t?", "a", "b"}
    assert len(found.messages) == 3
    read = next(m for m in found.messages if m.text == "t?")
    assert (read.state, read.usage, read.error, read.attachments) == ("complete", None, None, ())
    assert not found.pinned
