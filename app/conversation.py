"""One chat as data: who said what, and how each reply ended. Knows nothing of Qt or of the screen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from app.thoughts import without_thoughts
from engine.messages import ChatMessage, ErrorReport, Finished, FinishReason, Timings, Usage

MessageState = Literal["complete", "partial", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file whose text goes to the model with a message.

    Attributes:
        name: The file's name, without its folder.
        text: What was read from it.
    """

    name: str
    text: str


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
    left_out: int = 0


@dataclass(slots=True)
class Conversation:
    """The messages of one chat, oldest first."""

    messages: list[Message] = field(default_factory=list)

    @property
    def last_reply(self) -> Message | None:
        """The reply at the end, if the chat ends with one."""
        return self.messages[-1] if self.messages and self.messages[-1].role == "assistant" else None

    def add_user(self, text: str, attachments: tuple[Attachment, ...] = ()) -> Message:
        """The user said something."""
        message = Message("user", text, attachments=attachments)
        self.messages.append(message)
        return message

    def begin_reply(self) -> Message:
        """Open an empty reply that text is appended to."""
        message = Message("assistant", state="partial")
        self.messages.append(message)
        return message

    def drop_last_reply(self) -> Message | None:
        """Remove the reply at the end, to write it anew; returns what was removed."""
        reply = self.last_reply
        if reply is not None:
            self.messages.pop()
        return reply

    def for_engine(self) -> tuple[ChatMessage, ...]:
        """The chat as `Generate` takes it: empty replies left out, turns of one speaker joined.

        Chat templates such as Mixtral's insist on alternating turns, which a failed reply would break.
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
        return tuple(turns)


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
