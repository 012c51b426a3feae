"""One chat at work: the conversation, the engine client between them, and a message that waits for the model.

Knows no widgets. The user's message is in the conversation before the engine hears of it, and a reply that stops or
fails keeps the text that it has.
"""

from __future__ import annotations

from PySide6.QtCore import QObject, Signal

from app.conversation import Attachment, Conversation, Message, fail_reply, finish_reply, stop_reply
from app.engine_client import EngineClient, EngineState
from engine.config import SamplingParams
from engine.messages import ErrorReport, Finished, LeftOut, Overflow, PromptProgress

WAITING_STATES = frozenset({EngineState.STARTING, EngineState.LOADING})


class ChatSession(QObject):
    """Turns what the user does into requests, and events into messages.

    Args:
        client: The engine.
        parent: The owner.

    Signals:
        message_added(Message): A message is in the chat; a reply begins empty.
        reply_progress(int, int): Prompt tokens read and in all, before the first token.
        reply_text(str): New text of the last message.
        reply_left_out(Message): The reply is written without some older messages.
        reply_changed(Message): A reply ended, or its numbers came.
        queued_changed(bool): A message waits for the model, or no longer does.
        busy_changed(bool): A reply is being written, or no longer is.
        cleared(): A new chat began.
        reply_dropped(): The last message was taken away, to be written anew.
    """

    message_added = Signal(object)
    reply_progress = Signal(int, int)
    reply_text = Signal(str)
    reply_left_out = Signal(object)
    reply_changed = Signal(object)
    queued_changed = Signal(bool)
    busy_changed = Signal(bool)
    cleared = Signal()
    reply_dropped = Signal()

    def __init__(self, client: EngineClient, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._client = client
        self._conversation = Conversation()
        self._reply: Message | None = None
        self._ending: Message | None = None
        self._queued = ""
        self._queued_attachments: tuple[Attachment, ...] = ()
        self._retry_when_ready = False
        self.overflow: Overflow = "stop"
        client.left_out.connect(self._on_left_out)
        client.prompt_progress.connect(self._on_progress)
        client.text.connect(self._on_text)
        client.finished.connect(self._on_finished)
        client.failed.connect(self._on_failed)
        client.ready.connect(self._on_ready)

    @property
    def conversation(self) -> Conversation:
        """The chat's data."""
        return self._conversation

    @property
    def busy(self) -> bool:
        """Whether a reply is being written."""
        return self._reply is not None

    @property
    def queued(self) -> str:
        """The message that waits for the model, "" for none."""
        return self._queued

    def submit(self, text: str, attachments: tuple[Attachment, ...] = ()) -> bool:
        """Send a message, or keep it until the model is loaded.

        Args:
            text: What the user wrote; may be empty where files go along.
            attachments: The files.

        Returns:
            Whether it is in the chat now; a draft that waits, or that cannot be sent, stays with the user.
        """
        text = text.strip()
        if not (text or attachments) or self.busy:
            return False
        if not self._client.model_ready:
            if self._client.state in WAITING_STATES:
                self._queued_attachments = attachments
                self._set_queued(text or attachments[0].name)
            return False
        self.message_added.emit(self._conversation.add_user(text, attachments))
        self._ask()
        return True

    def withdraw(self) -> None:
        """Take a waiting message back."""
        self._set_queued("")

    def stop(self) -> None:
        """Stop the reply; for the user it ends now."""
        reply = self._reply
        if reply is None:
            return
        self._client.cancel()
        stop_reply(reply)
        self._ending = reply
        self._end_reply(reply)

    def take_back(self) -> Message | None:
        """Take the last question out of the chat, with the reply to it; returns it, to be written anew."""
        if self.busy or not self._conversation.messages:
            return None
        if self._conversation.drop_last_reply() is not None:
            self.reply_dropped.emit()
        if not self._conversation.messages:
            return None
        question = self._conversation.messages.pop()
        self.reply_dropped.emit()
        return question

    def regenerate(self, overflow: Overflow | None = None) -> None:
        """Write the last reply anew; an engine that is gone is started first.

        Args:
            overflow: What may be left out this once; None for the setting.
        """
        if self.busy or self._conversation.last_reply is None:
            return
        if not self._client.model_ready:
            self._retry_when_ready = True
            if self._client.state not in WAITING_STATES:
                self._client.restart()
            return
        self._conversation.drop_last_reply()
        self.reply_dropped.emit()
        self._ask(overflow)

    def new_chat(self) -> None:
        """Begin anew; the model stays loaded."""
        self.stop()
        self._ending = None
        self._retry_when_ready = False
        self._set_queued("")
        self._conversation = Conversation()
        self.cleared.emit()

    def _ask(self, overflow: Overflow | None = None) -> None:
        turns = self._conversation.for_engine()
        self._reply = self._conversation.begin_reply()
        self.message_added.emit(self._reply)
        self.busy_changed.emit(True)  # noqa: FBT003 - a signal takes no names
        self._client.generate(turns, SamplingParams(), overflow or self.overflow)

    def _on_ready(self) -> None:
        retry, self._retry_when_ready = self._retry_when_ready, False
        if retry:
            self.regenerate()
        elif self._queued:
            text, attachments = self._queued, self._queued_attachments
            self._set_queued("")
            self.submit("" if attachments and text == attachments[0].name else text, attachments)

    def _on_left_out(self, event: LeftOut) -> None:
        if self._reply is not None:
            self._reply.left_out = event.messages
            self.reply_left_out.emit(self._reply)

    def _on_progress(self, event: PromptProgress) -> None:
        if self._reply is not None:
            self.reply_progress.emit(event.done_tokens, event.total_tokens)

    def _on_text(self, text: str) -> None:
        if self._reply is not None:
            self._reply.text += text
            self.reply_text.emit(text)

    def _on_finished(self, event: Finished) -> None:
        """A stopped reply gets its numbers here, even when the next one already waits."""
        if self._ending is not None:
            reply, self._ending = self._ending, None
            finish_reply(reply, event)
            self.reply_changed.emit(reply)
        elif self._reply is not None:
            reply = self._reply
            finish_reply(reply, event)
            self._end_reply(reply)

    def _on_failed(self, error: ErrorReport, what: str) -> None:
        if what in {"load", "engine"}:
            self._retry_when_ready = False
            self._set_queued("")
        if what == "reply" and self._ending is not None:
            self._ending = None
        elif what in {"reply", "engine"}:
            self._ending = None
            if self._reply is not None:
                reply = self._reply
                fail_reply(reply, error)
                self._end_reply(reply)

    def _end_reply(self, reply: Message) -> None:
        self._reply = None
        self.reply_changed.emit(reply)
        self.busy_changed.emit(False)  # noqa: FBT003

    def _set_queued(self, text: str) -> None:
        if text != self._queued:
            self._queued = text
            self.queued_changed.emit(bool(text))
