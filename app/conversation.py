"""One chat as data: a tree of messages of which one path is shown. Knows nothing of Qt, of the screen or of files.

Every message follows another one, its parent. Messages with the same parent are versions of each other: a reply that
was written anew, a question that was edited. Where there are versions, the chat remembers which one is shown.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from app.thoughts import without_thoughts
from engine.messages import ChatMessage, ErrorReport, Finished, FinishReason, Timings, Usage

MessageState = Literal["complete", "partial", "stopped", "failed"]
TITLE_CHARS = 80
BROKE_OFF = "broke-off"  # the code of a reply that the app did not live to see finished


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file whose text goes to the model with a message.

    Attributes:
        name: The file's name, without its folder.
        text: What was read from it.
    """

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Draft:
    """What the user has written and not sent; false where that is nothing.

    Attributes:
        text: The words.
        attachments: The files that are to go along.
    """

    text: str = ""
    attachments: tuple[Attachment, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is something to send."""
        return bool(self.text.strip() or self.attachments)

    @property
    def name(self) -> str:
        """What to call it in a list: its first words, or else its first file."""
        return title_from(self.text) or next((file.name for file in self.attachments), "")


def _new_key() -> str:
    return uuid.uuid4().hex


@dataclass(slots=True, eq=False)
class Message:
    """One turn.

    Attributes:
        role: Who speaks.
        text: Markdown of a reply, plain text of the user.
        state: "partial" while it is being written; "stopped" and "failed" keep what there was.
        reason: Why the engine ended it, once it did.
        usage: Token counts of a reply.
        timings: Speed of a reply.
        error: What went wrong, for a failed one.
        attachments: Files that the user sent along.
        key: Its name, unlike any other message's.
        parent: The key of the message that it follows, "" at the beginning of the chat.
        created_s: When it began, in seconds since 1970.
        left_out: Messages that this reply was written without, because the conversation outgrew the context.
    """

    role: Literal["user", "assistant"]
    text: str = ""
    state: MessageState = "complete"
    reason: FinishReason | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    error: ErrorReport | None = None
    attachments: tuple[Attachment, ...] = ()
    key: str = field(default_factory=_new_key)
    parent: str = ""
    created_s: float = field(default_factory=time.time)
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Removed:
    """Messages that were taken out of a chat, and what `Conversation.restore` needs to put them back.

    Attributes:
        messages: The message that was removed and all that follow it, parents first.
        index: Its place among its versions.
        chosen: The versions that were shown among them, and their own place.
    """

    messages: tuple[Message, ...]
    index: int
    chosen: dict[str, str]


@dataclass(slots=True, eq=False, weakref_slot=True)
class Conversation:
    """The messages of one chat and what the user decided about it.

    Attributes:
        key: Its name, unlike any other chat's.
        title: The name that the user gave it, "" for none.
        pinned: Whether it stays at the top of the list.
        folder: The folder it lies in, "" for none.
        draft: What the user has written and not sent.
        options: Settings of this chat alone, as JSON text; whoever makes them reads them.
        created_s: When it began, in seconds since 1970.
        updated_s: When it was last written in.
    """

    key: str = field(default_factory=_new_key)
    title: str = ""
    pinned: bool = False
    folder: str = ""
    draft: Draft = Draft()
    options: str = ""
    created_s: float = field(default_factory=time.time)
    updated_s: float = field(default_factory=time.time)
    _by_key: dict[str, Message] = field(default_factory=dict)
    _children: dict[str, list[Message]] = field(default_factory=dict)
    _chosen: dict[str, str] = field(default_factory=dict)

    @property
    def messages(self) -> list[Message]:
        """The path that is shown, oldest first."""
        path: list[Message] = []
        message = self._shown_after("")
        while message is not None:
            path.append(message)
            message = self._shown_after(message.key)
        return path

    @property
    def all_messages(self) -> list[Message]:
        """Every message of every branch, parents before what follows them."""
        return list(self._by_key.values())

    @property
    def chosen(self) -> dict[str, str]:
        """For each parent with several versions after it, the key of the one that is shown."""
        several = {parent for parent, versions in self._children.items() if len(versions) > 1}
        return {parent: key for parent, key in self._chosen.items() if parent in several}

    @property
    def last_reply(self) -> Message | None:
        """The reply at the end of the shown path, if it ends with one."""
        path = self.messages
        return path[-1] if path and path[-1].role == "assistant" else None

    @property
    def shown_title(self) -> str:
        """The title, or else what the first message begins with; "" while there is none."""
        if self.title:
            return self.title
        first = self._shown_after("")
        return Draft(first.text, first.attachments).name if first is not None else ""

    def __contains__(self, message: Message) -> bool:
        """Whether a message is in any of the branches."""
        return self._by_key.get(message.key) is message

    def add_user(self, text: str, attachments: tuple[Attachment, ...] = ()) -> Message:
        """The user said something, at the end of the shown path."""
        return self.add(Message("user", text, attachments=attachments, parent=self._end()))

    def edit_user(self, message: Message, text: str) -> Message:
        """The user says something else in a message's place: a new branch beside it, which is shown from now on."""
        return self.add(Message("user", text, attachments=message.attachments, parent=message.parent))

    def begin_reply(self, beside: Message | None = None) -> Message:
        """Open an empty reply that text is appended to: at the end, or as another version of a reply."""
        parent = self._end() if beside is None else beside.parent
        return self.add(Message("assistant", state="partial", parent=parent))

    def add(self, message: Message) -> Message:
        """Put a message where its parent says, as the version that is shown; an unknown parent means the end."""
        if message.parent and message.parent not in self._by_key:
            message.parent = self._end()
        self._by_key[message.key] = message
        self._children.setdefault(message.parent, []).append(message)
        self._chosen[message.parent] = message.key
        self.updated_s = max(self.updated_s, message.created_s)
        return message

    def versions(self, message: Message) -> list[Message]:
        """A message and its other versions, oldest first."""
        return list(self._children.get(message.parent, []))

    def choose(self, message: Message) -> None:
        """Show a version, and after it what was shown there last."""
        self._chosen[message.parent] = message.key

    def choose_all(self, chosen: dict[str, str]) -> None:
        """Show what was shown before, as `chosen` said; keys that are not there are passed over."""
        for parent, key in chosen.items():
            if key in self._by_key and self._by_key[key].parent == parent:
                self._chosen[parent] = key

    def remove(self, message: Message) -> Removed:
        """Take a message and all that follows it out of the chat; another version takes its place, if there is one."""
        versions = self._children[message.parent]
        index = versions.index(message)
        gone = list(self._subtree(message))
        chosen = {parent: key for parent, key in self._chosen.items() if parent in {one.key for one in gone}}
        if message.parent in self._chosen:
            chosen[message.parent] = self._chosen[message.parent]
        versions.remove(message)
        for one in gone:
            del self._by_key[one.key]
            self._children.pop(one.key, None)
            self._chosen.pop(one.key, None)
        if self._chosen.get(message.parent) == message.key:
            del self._chosen[message.parent]
            if versions:
                self._chosen[message.parent] = versions[min(index, len(versions) - 1)].key
        return Removed(tuple(gone), index, chosen)

    def restore(self, removed: Removed) -> bool:
        """Undo `remove`; returns False where what it followed has gone too."""
        top = removed.messages[0]
        if top.parent and top.parent not in self._by_key:
            return False
        for message in removed.messages:
            self.add(message)
        versions = self._children[top.parent]
        versions.remove(top)
        versions.insert(removed.index, top)
        self.choose_all(removed.chosen)
        return True

    def for_engine(self, system: str = "") -> tuple[ChatMessage, ...]:
        """The shown path as `Generate` takes it: empty replies left out, turns of one speaker joined.

        Chat templates such as Mixtral's insist on alternating turns, which a failed reply would break.

        Args:
            system: A system prompt to begin with, "" for none.
        """
        turns: list[ChatMessage] = []
        for message in self.messages:
            content = engine_text(message)
            if not content.strip():
                continue
            if turns and turns[-1].role == message.role:
                turns[-1] = ChatMessage(message.role, f"{turns[-1].content}\n\n{content}")
            else:
                turns.append(ChatMessage(message.role, content))
        if system.strip():
            turns.insert(0, ChatMessage("system", system.strip()))
        return tuple(turns)

    def _shown_after(self, key: str) -> Message | None:
        """The version that is shown after a message."""
        if key in self._chosen:
            return self._by_key[self._chosen[key]]
        versions = self._children.get(key)
        return versions[-1] if versions else None

    def _end(self) -> str:
        path = self.messages
        return path[-1].key if path else ""

    def _subtree(self, message: Message) -> Iterable[Message]:
        """A message and all that follows it, parents first; a chat may be longer than Python's stack is deep."""
        waiting = [message]
        while waiting:
            one = waiting.pop()
            yield one
            waiting.extend(reversed(self._children.get(one.key, [])))


def title_from(text: str) -> str:
    """The first line with words in it, cut where it is too long for a list."""
    line = next((line.strip() for line in text.split("\n") if line.strip()), "")
    return line if len(line) <= TITLE_CHARS else line[: TITLE_CHARS - 1].rstrip() + "…"


def engine_text(message: Message) -> str:
    """A message as the model reads it: files before what the user wrote, replies without what was thought first."""
    from app.attachments import with_attachments

    if message.role == "assistant":
        return without_thoughts(message.text)
    return with_attachments(message.text, message.attachments)


def finish_reply(message: Message, event: Finished) -> None:
    """The engine ended the reply; one that the user stopped stays stopped."""
    if message.state == "partial":
        message.state = "stopped" if event.reason == "cancelled" else "complete"
    message.reason = event.reason
    message.usage = event.usage
    message.timings = event.timings


def stop_reply(message: Message) -> None:
    """The user stopped the reply; what was written stays."""
    if message.state == "partial":
        message.state = "stopped"


def fail_reply(message: Message, error: ErrorReport) -> None:
    """The reply broke off; what was written stays."""
    if message.state == "partial":
        message.state = "failed"
        message.error = error


def resume_reply(message: Message) -> None:
    """A reply that ended early goes on in the same message."""
    message.state = "partial"
    message.reason = message.error = None


def can_continue(message: Message) -> bool:
    """Whether a reply ended before the model was done."""
    ended_early = message.state in {"stopped", "failed"} or (message.state == "complete" and message.reason == "length")
    return message.role == "assistant" and bool(message.text.strip()) and ended_early
