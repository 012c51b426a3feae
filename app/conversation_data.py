"""Chats as plain data, for the database and for files, and back: what comes in is checked, not trusted."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

from app.conversation import Attachment, Conversation, Draft, Message, MessageState
from engine.messages import ErrorReport, FinishReason, Timings, Usage

MAX_SHORT_TEXT = 1000
MAX_LEFT_OUT = 1 << 20
_T = TypeVar("_T")


def clean_text(text: str) -> str:
    """A text without what UTF-8 and SQLite cannot hold: halves of surrogate pairs, and NULs."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")


def details_of(message: Message) -> dict[str, Any]:
    """What a message has besides its text, as JSON can hold it; what is absent is left out."""
    details: dict[str, Any] = {}
    if message.reason is not None:
        details["reason"] = message.reason
    for name in ("usage", "timings", "error"):
        value = getattr(message, name)
        if value is not None:
            details[name] = dataclasses.asdict(value)
    if message.attachments:
        details["attachments"] = files_data(message.attachments)
    if message.left_out:
        details["left_out"] = message.left_out
    return details


def files_data(files: Iterable[Attachment]) -> list[dict[str, str]]:
    """Attached files as JSON can hold them."""
    return [{"name": clean_text(file.name), "text": clean_text(file.text)} for file in files]


def files_from(data: object) -> tuple[Attachment, ...]:
    """Attached files from data of any origin; what is unsound is left out."""
    found = (_record(Attachment, file) for file in (data if isinstance(data, list) else []))
    return tuple(file for file in found if file is not None)


def message_data(message: Message) -> dict[str, Any]:
    """A message as JSON can hold it."""
    return {
        "key": message.key,
        "parent": message.parent,
        "role": message.role,
        "text": clean_text(message.text),
        "state": message.state,
        "created_s": message.created_s,
        **details_of(message),
    }


def conversation_data(conversation: Conversation) -> dict[str, Any]:
    """A chat with all its branches, as JSON can hold it."""
    return {
        "key": conversation.key,
        "title": clean_text(conversation.title),
        "pinned": conversation.pinned,
        "folder": clean_text(conversation.folder),
        "draft": clean_text(conversation.draft.text),
        "draft_files": files_data(conversation.draft.attachments),
        "options": clean_text(conversation.options),
        "created_s": conversation.created_s,
        "updated_s": conversation.updated_s,
        "chosen": conversation.chosen,
        "messages": [message_data(message) for message in conversation.all_messages],
    }


def message_from(data: Mapping[str, Any]) -> Message:
    """A message from data of any origin.

    Raises:
        ValueError: It has no role or no text of its own.
    """
    role, text = data.get("role"), data.get("text")
    if role not in {"user", "assistant"} or not isinstance(text, str):
        raise ValueError("a message without a role or a text")
    message = Message(role, clean_text(text))
    message.key = _text(data.get("key"), message.key) or message.key
    message.parent = _text(data.get("parent"), "")
    message.created_s = _number(data.get("created_s"), message.created_s)
    if data.get("state") in get_args(MessageState):
        message.state = data["state"]
    read_details(message, data)
    return message


def read_details(message: Message, data: Mapping[str, Any]) -> None:
    """Take what is sound of a message's details, and leave the rest out."""
    if data.get("reason") in get_args(FinishReason):
        message.reason = data["reason"]
    message.usage = _record(Usage, data.get("usage"))
    message.timings = _record(Timings, data.get("timings"))
    message.error = _record(ErrorReport, data.get("error"))
    left_out = data.get("left_out")
    if isinstance(left_out, int) and 0 < left_out < MAX_LEFT_OUT:
        message.left_out = left_out
    message.attachments = files_from(data.get("attachments"))


def conversation_from(data: Mapping[str, Any]) -> Conversation:
    """A chat from data of any origin, under its own key.

    Raises:
        ValueError: It holds no list of messages, or one of them cannot be used.
    """
    entries = data.get("messages")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("a chat without a list of messages")
    chat = Conversation()
    chat.key = _text(data.get("key"), chat.key) or chat.key
    for name in ("title", "folder"):
        setattr(chat, name, _text(data.get(name), ""))
    draft, options = (
        clean_text(value) if isinstance(value, str) else "" for value in (data.get("draft"), data.get("options"))
    )
    chat.draft, chat.options = Draft(draft, files_from(data.get("draft_files"))), options
    chat.pinned = data.get("pinned") is True
    add_messages(chat, [message_from(entry) for entry in entries])
    chat.created_s = _number(data.get("created_s"), chat.created_s)
    chat.updated_s = _number(data.get("updated_s"), chat.updated_s)
    chosen = data.get("chosen")
    if isinstance(chosen, dict):
        chat.choose_all({parent: key for parent, key in chosen.items() if isinstance(key, str)})
    return chat


def add_messages(chat: Conversation, messages: Iterable[Message]) -> None:
    """Build a chat's tree; messages may come in any order, and those whose parent is lost go to the end."""
    children: dict[str, list[Message]] = {}
    known: dict[str, Message] = {}
    for message in messages:
        if message.key not in known:
            known[message.key] = message
            children.setdefault(message.parent, []).append(message)
    waiting = children.pop("", [])[::-1]
    placed: set[str] = set()
    while True:
        while waiting:
            message = waiting.pop()
            chat.add(message)
            placed.add(message.key)
            waiting.extend(reversed(children.pop(message.key, [])))
        lost = next((message for message in known.values() if message.key not in placed), None)
        if lost is None:
            return
        siblings = children[lost.parent]
        siblings.remove(lost)
        lost.parent = _end_of(chat)
        waiting.append(lost)


def _end_of(chat: Conversation) -> str:
    path = chat.messages
    return path[-1].key if path else ""


def _record(kind: type[_T], data: object) -> _T | None:
    """A small frozen dataclass from a mapping with exactly fitting values, else None."""
    if not isinstance(data, dict):
        return None
    values = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        value = data.get(field.name)
        if field.type == "str":
            if not isinstance(value, str):
                return None
            value = clean_text(value)
        elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return None
        values[field.name] = value
    return kind(**values)


def _text(value: object, otherwise: str) -> str:
    """A short text, on one line."""
    return " ".join(clean_text(value).split())[:MAX_SHORT_TEXT] if isinstance(value, str) else otherwise


def _number(value: object, otherwise: float) -> float:
    """A time; anything else is replaced."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
        return otherwise
    return float(value)
