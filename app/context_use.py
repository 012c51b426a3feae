"""What fills the context: counted by the engine's tokenizer a moment after something changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer, Signal

from app.attachments import with_attachments
from engine.messages import ChatMessage

if TYPE_CHECKING:
    from app.chat_session import ChatSession
    from app.conversation import Attachment
    from app.engine_client import EngineClient
    from engine.messages import TokensCounted

SETTLE_MS = 300
RESERVED_SHARE = 4  # as the engine reserves: the reply's limit, at most this part of the context


@dataclass(frozen=True, slots=True)
class ContextUse:
    """Tokens of the next prompt, by what they are.

    Attributes:
        context: What the context holds.
        total: The whole prompt.
        system: The system prompt.
        messages: What was said, without the files.
        attachments: Files of earlier messages and of the draft.
        draft: What is written but not sent.
        reserved: Kept free for the reply.
    """

    context: int
    total: int
    system: int
    messages: int
    attachments: int
    draft: int
    reserved: int

    @property
    def template(self) -> int:
        """What the model's chat template adds around the messages."""
        return max(0, self.total - self.system - self.messages - self.attachments - self.draft)

    @property
    def full(self) -> bool:
        """Whether the reply has less room than it is promised."""
        return self.total + self.reserved > self.context


class ContextCounter(QObject):
    """Asks the engine, at most once in a while.

    Args:
        client: The engine.
        session: The chat.
        parent: The owner.

    Signals:
        changed(ContextUse | None): The counts; None without a model.
        draft_files_counted(tuple[int, ...]): Tokens of each file of the draft.
    """

    changed = Signal(object)
    draft_files_counted = Signal(tuple)

    def __init__(self, client: EngineClient, session: ChatSession, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._client, self._session = client, session
        self._draft = ""
        self._files: tuple[Attachment, ...] = ()
        self._number = 0
        self._asked: _Asked | None = None
        self._timer = QTimer(self, singleShot=True, interval=SETTLE_MS)
        self._timer.timeout.connect(self._ask)
        client.counted.connect(self._take)
        client.state_changed.connect(lambda _state: self.refresh())
        session.message_added.connect(lambda _message: self.refresh())
        session.reply_changed.connect(lambda _message: self.refresh())
        session.chat_shown.connect(lambda _chat: self.refresh())
        session.path_changed.connect(lambda _place, _messages: self.refresh())

    def show_draft(self, text: str, files: tuple[Attachment, ...]) -> None:
        """The draft is this now."""
        self._draft, self._files = text.strip(), files
        self.refresh()

    def refresh(self) -> None:
        """Count again, soon."""
        if not self._timer.isActive():
            self._timer.start()

    def _ask(self) -> None:
        if not self._client.model_ready:
            self.changed.emit(None)
            return
        self._number += 1
        system, sampling = self._session.reply_options()
        turns = self._session.conversation.for_engine(system)
        prompt = with_attachments(self._draft, self._files)
        asked = (*turns, ChatMessage("user", prompt)) if prompt.strip() else turns
        sent = [file for message in self._session.conversation.messages for file in message.attachments]
        texts = (*(file.text for file in self._files), self._draft, *(file.text for file in sent))
        self._asked = _Asked(self._number, asked, len(self._files), bool(prompt.strip()), sampling.max_tokens)
        self._client.count_tokens(self._number, asked, texts)

    def _take(self, event: TokensCounted) -> None:
        asked = self._asked
        if asked is None or event.id != asked.number or not event.context_tokens:
            return
        own = asked.draft_files
        draft_files, draft, sent_files = event.per_text[:own], event.per_text[own], sum(event.per_text[own + 1 :])
        counted = list(zip(asked.messages, event.per_message, strict=True))
        history = counted[:-1] if asked.has_draft else counted
        said = sum(count for message, count in history if message.role != "system")
        self.draft_files_counted.emit(draft_files)
        self.changed.emit(
            ContextUse(
                context=event.context_tokens,
                total=event.total,
                system=sum(count for message, count in counted if message.role == "system"),
                messages=max(0, said - sent_files),
                attachments=sent_files + sum(draft_files),
                draft=draft,
                reserved=max(1, min(asked.max_tokens, event.context_tokens // RESERVED_SHARE)),
            )
        )


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the count under way is of."""

    number: int
    messages: tuple[ChatMessage, ...]
    draft_files: int
    has_draft: bool
    max_tokens: int
