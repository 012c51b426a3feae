"""Chats as files: out as JSON with all branches or as Markdown of what is shown, in from our JSON and others' files.

A file that comes in is somebody else's data: its size, its depth and the type of every value are checked.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.conversation import Conversation, Message
from app.conversation_data import clean_text, conversation_data, conversation_from
from app.gpt4all_chats import MAGIC, chat_from_gpt4all
from app.language import tr
from app.presets import MAX_PROMPT_CHARS, ChatOptions
from engine.errors import InputError
from engine.held_files import rename

FORMAT, FORMAT_VERSION = "rooftop-chats", 1
MAX_FILE_BYTES = 256 << 20
_THOUGHT = "<think>\n{text}\n</think>\n\n"


class ChatFileError(InputError):
    """A file of chats cannot be read or written."""

    code = "chat-file"


def chats_as_json(chats: list[Conversation]) -> str:
    """Chats with all their branches."""
    content = {"format": FORMAT, "version": FORMAT_VERSION, "chats": [conversation_data(chat) for chat in chats]}
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def chats_as_markdown(chats: list[Conversation]) -> str:
    """What is shown of chats, to read."""
    parts: list[str] = []
    for chat in chats:
        parts.append(f"# {' '.join(chat.shown_title.split())}")
        for message in chat.messages:
            speaker = tr("You") if message.role == "user" else tr("Reply")
            files = "".join(f"*{file.name}*\n\n" for file in message.attachments)
            parts.append(f"## {speaker}\n\n{files}{message.text.strip()}")
    return clean_text("\n\n".join(parts)) + "\n"


def write_file(path: Path, text: str) -> None:
    """Write a text so that a failure leaves what was there before.

    Raises:
        ChatFileError: It cannot be written.
    """
    temporary = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-"[:50], suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        rename(temporary, path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise ChatFileError(
            tr("{path} cannot be written ({reason}).").format(path=path, reason=error.strerror or error),
            tr("Choose another folder, or make room on its drive."),
        ) from error


def chats_from_file(path: Path) -> list[Conversation]:
    """The chats of a file of ours, of LM Studio's or GPT4All's, as new ones.

    Raises:
        ChatFileError: It cannot be read, or holds no chats.
    """
    content = _read(path)
    try:
        if content.startswith(MAGIC):
            return [chat_from_gpt4all(content)]
        return [_as_copy(chat) for chat in _chats(_parsed(content, path), path)]
    except ValueError as error:
        raise _refused(path, tr("it holds {what}").format(what=error)) from error


def _chats(data: Any, path: Path) -> list[Conversation]:  # noqa: ANN401 - whatever JSON holds
    if not isinstance(data, dict):
        raise ValueError(tr("no chats"))  # noqa: TRY004 - bad data, not a bad call
    if data.get("format") == FORMAT:
        version = data.get("version")
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise ValueError(tr("chats of a newer version of Rooftop"))
        entries = data.get("chats")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(tr("no list of chats"))
        return [conversation_from(entry) for entry in entries]
    if isinstance(data.get("messages"), list):
        return [_from_lm_studio(data, path)]
    raise ValueError(tr("no chats of Rooftop, LM Studio or GPT4All"))


def _as_copy(chat: Conversation) -> Conversation:
    """A chat under keys of its own: nothing that is there already is overwritten by it."""
    data = conversation_data(chat)
    names = {message["key"]: Message("user").key for message in data["messages"]}
    for message in data["messages"]:
        message["key"], message["parent"] = names[message["key"]], names.get(message["parent"], "")
    data["chosen"] = {names.get(parent, ""): names[key] for parent, key in data["chosen"].items()}
    data["key"] = Conversation().key
    return conversation_from(data)


def _from_lm_studio(data: Mapping[str, Any], path: Path) -> Conversation:
    """LM Studio: a list of turns, each with versions, of which one is selected; what follows, follows that one."""
    name = data.get("name")
    chat = Conversation(title=" ".join(clean_text(name).split())[:200] if isinstance(name, str) else path.stem)
    created = data.get("createdAt")
    if isinstance(created, int | float) and not isinstance(created, bool) and 0 < created < 1e14:
        chat.created_s = created / 1000
    chat.options = ChatOptions(system_prompt=_lm_studio_prompt(data)).to_json()
    parent = ""
    for number, turn in enumerate(data["messages"]):
        versions = turn.get("versions") if isinstance(turn, dict) else None
        if not isinstance(versions, list):
            raise ValueError(tr("a message that is none"))  # noqa: TRY004 - bad data, not a bad call
        read = [message for version in versions if (message := _lm_studio_version(version)) is not None]
        if not read:
            continue
        for message in read:
            message.parent, message.created_s = parent, chat.created_s + number
            chat.add(message)
        selected = turn.get("currentlySelected")
        index = selected if isinstance(selected, int) and 0 <= selected < len(read) else len(read) - 1
        chat.choose(read[index])
        parent = read[index].key
    if not chat.messages:
        raise ValueError(tr("no messages"))
    return chat


def _lm_studio_prompt(data: Mapping[str, Any]) -> str | None:
    """The chat's own system prompt; None where it has none."""
    config = data.get("perChatPredictionConfig")
    fields = config.get("fields") if isinstance(config, dict) else None
    found = [
        field.get("value")
        for field in (fields if isinstance(fields, list) else [])
        if isinstance(field, dict) and field.get("key") == "llm.prediction.systemPrompt"
    ]
    for prompt in (*found, data.get("systemPrompt")):
        if isinstance(prompt, str) and prompt.strip():
            return clean_text(prompt)[:MAX_PROMPT_CHARS]
    return None


def _lm_studio_version(version: object) -> Message | None:
    """One version of a turn; None for what is neither the user's nor the model's."""
    if not isinstance(version, dict) or version.get("role") not in {"user", "assistant"}:
        return None
    text = _lm_studio_text(version.get("content"))
    steps = version.get("steps")
    for step in steps if isinstance(steps, list) else []:
        if isinstance(step, dict) and step.get("type") == "contentBlock":
            part = _lm_studio_text(step.get("content"))
            style = step.get("style")
            thinks = isinstance(style, dict) and style.get("type") == "thinking"
            text += _THOUGHT.format(text=part.strip()) if thinks else part
    return Message(version["role"], clean_text(text))


def _lm_studio_text(content: object) -> str:
    """The texts of a list of parts; files and pictures are left out."""
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text")
    return "".join(text for text in texts if isinstance(text, str))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _refused(path, str(error.strerror or error)) from error
    if len(content) > MAX_FILE_BYTES:
        raise _refused(path, tr("it is larger than {limit} MiB").format(limit=MAX_FILE_BYTES >> 20))
    return content


def _parsed(content: bytes, path: Path) -> Any:  # noqa: ANN401 - whatever JSON holds
    try:
        return json.loads(content)
    except RecursionError as error:
        raise _refused(path, tr("it is nested too deeply")) from error
    except ValueError as error:
        raise _refused(path, tr("it is not JSON")) from error


def _refused(path: Path, why: str) -> ChatFileError:
    return ChatFileError(
        tr("{name} cannot be imported: {why}.").format(name=path.name, why=why),
        tr("Choose a file that Rooftop, LM Studio or GPT4All wrote."),
    )
