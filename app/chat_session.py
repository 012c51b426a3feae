"""The chat that is shown, at work: the conversation, the engine client, and a message that waits for the model.

Knows no widgets. A message is saved before the engine hears of it, and a reply that stops or fails keeps the text that
it has. A reply belongs to its conversation: it goes on while another one is shown. The engine writes one reply at a
time, so a message in another chat waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from PySide6.QtCore import QObject, QTimer, Signal

from app.conversation import (
    Attachment,
    Conversation,
    Draft,
    Message,
    Removed,
    can_continue,
    fail_reply,
    finish_reply,
    resume_reply,
    stop_reply,
)
from app.engine_client import EngineClient, EngineState
from app.language import tr
from engine.config import SamplingParams
from engine.messages import ErrorReport, Finished, LeftOut, Overflow, PromptProgress

WAITING_STATES = frozenset({EngineState.STARTING, EngineState.LOADING})
PARTIAL_SAVE_MS = 1000

ReplyOptions = Callable[[Conversation], tuple[str, SamplingParams]]
Done = Callable[[], None]
Save = Callable[[Conversation, Iterable[Message], Done], None]
Forget = Callable[[Conversation, Iterable[Message]], None]


class ChatSession(QObject):
    """Turns what the user does into requests, and events into messages.

    Args:
        client: The engine.
        parent: The owner.

    Signals:
        message_added(Message): A message is at the end of the shown chat; a reply begins empty.
        reply_progress(int, int): Prompt tokens read and in all, before the first token of the last message.
        reply_text(str): New text of the last message.
        reply_left_out(Message): The reply is written without some older messages.
        reply_changed(Message): A reply ended, or its numbers came, in whatever chat.
        queued_changed(bool): A message waits for the model, or no longer does.
        busy_changed(bool): A reply is being written in whatever chat, or no longer is.
        chat_shown(Conversation): Another chat is shown.
        path_changed(int, list): From this place on, these messages are shown.
        removed(Removed): Messages were deleted; `restore` brings them back.
        refused(str): A sentence: why nothing happened.
    """

    message_added = Signal(object)
    reply_progress = Signal(int, int)
    reply_text = Signal(str)
    reply_left_out = Signal(object)
    reply_changed = Signal(object)
    queued_changed = Signal(bool)
    busy_changed = Signal(bool)
    chat_shown = Signal(object)
    path_changed = Signal(int, list)
    removed = Signal(object)
    refused = Signal(str)

    def __init__(self, client: EngineClient, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._client = client
        self._conversation = Conversation()
        self._reply: Message | None = None
        self._reply_chat: Conversation | None = None
        self._asked = False
        self._ending: tuple[Conversation, Message] | None = None
        self._queued = Draft()
        self._retry_when_ready = False
        self._options: ReplyOptions = lambda _chat: ("", SamplingParams())
        self._save: Save = lambda _chat, _messages, done: done()
        self._forget: Forget = lambda _chat, _messages: None
        self._save_timer = QTimer(self, interval=PARTIAL_SAVE_MS)
        self._save_timer.timeout.connect(self._save_reply)
        self.overflow: Overflow = "stop"
        client.left_out.connect(self._on_left_out)
        client.prompt_progress.connect(self._on_progress)
        client.text.connect(self._on_text)
        client.finished.connect(self._on_finished)
        client.failed.connect(self._on_failed)
        client.ready.connect(self._go_on)
        client.state_changed.connect(self._on_state)

    @property
    def conversation(self) -> Conversation:
        """The chat that is shown."""
        return self._conversation

    @property
    def answering(self) -> Conversation | None:
        """The chat that a reply is being written in."""
        return self._reply_chat

    @property
    def busy(self) -> bool:
        """Whether a reply is being written, in whatever chat."""
        return self._reply is not None

    @property
    def writing_here(self) -> bool:
        """Whether a reply is being written in the chat that is shown."""
        return self._reply is not None and self._reply_chat is self._conversation

    @property
    def queued(self) -> Draft:
        """The message that waits for the model; an empty one for none."""
        return self._queued

    def set_reply_options(self, options: ReplyOptions) -> None:
        """Ask this for the system prompt and the sampling of every reply."""
        self._options = options

    def reply_options(self) -> tuple[str, SamplingParams]:
        """System prompt and sampling of the next reply in the shown chat."""
        return self._options(self._conversation)

    def set_storage(self, save: Save, forget: Forget) -> None:
        """Keep messages with `save`, which calls back when they are safe, or cannot be; `forget` drops deleted ones."""
        self._save, self._forget = save, forget

    # ---- the user -----------------------------------------------------------------------------------------------

    def submit(self, text: str, attachments: tuple[Attachment, ...] = ()) -> bool:
        """Send a message, or keep it until the model is free.

        Args:
            text: What the user wrote; may be empty where files go along.
            attachments: The files.

        Returns:
            Whether it is in the chat now; a draft that waits, or that cannot be sent, stays with the user.
        """
        draft = Draft(text.strip(), attachments)
        if not draft or self.writing_here:
            return False
        if self.busy or not self._client.model_ready:
            if self.busy or self._client.state in WAITING_STATES:
                self._set_queued(draft)
            return False
        self.message_added.emit(self._conversation.add_user(draft.text, draft.attachments))
        self._ask()
        return True

    def withdraw(self) -> None:
        """Take a waiting message back."""
        self._set_queued(Draft())

    def stop(self) -> None:
        """Stop the reply, wherever it is written; for the user it ends now."""
        reply, chat = self._reply, self._reply_chat
        if reply is None or chat is None:
            return
        self._client.cancel()
        stop_reply(reply)
        if self._asked:
            self._ending = chat, reply
        self._end_reply(chat, reply)

    def take_back(self) -> Message | None:
        """Take the last question out of the chat, with the reply to it; returns it, to be written anew."""
        question = next((one for one in reversed(self._conversation.messages) if one.role == "user"), None)
        if self.busy or question is None:
            return None
        place = self._conversation.messages.index(question)
        self._remove(question)
        self.path_changed.emit(place, self._conversation.messages[place:])
        return question

    def regenerate(self, overflow: Overflow | None = None) -> None:
        """Write another version of the last reply; an engine that is gone is started first.

        Args:
            overflow: What may be left out this once; None for the setting.
        """
        reply = self._conversation.last_reply
        if self._refuses() or reply is None or not self._model_or_retry():
            return
        place = len(self._conversation.messages) - 1
        if reply.text.strip():
            self.path_changed.emit(place, [])
            self._ask(reply, overflow)
            return
        self._remove(reply)
        self.path_changed.emit(place, [])
        self._ask(overflow=overflow)

    def continue_reply(self) -> None:
        """Let the last reply go on where it ended early, in the same message."""
        reply = self._conversation.last_reply
        if self._refuses() or reply is None or not can_continue(reply) or not self._needs_model():
            return
        resume_reply(reply)
        self.path_changed.emit(len(self._conversation.messages) - 1, [reply])
        self._begin(reply, continues=True)

    def edit(self, message: Message, text: str) -> bool:
        """Say something else in place of a message; returns whether the new branch is there now."""
        text = text.strip()
        if not text or self._refuses() or message not in self._conversation or not self._needs_model():
            return False
        self.path_changed.emit(self._conversation.messages.index(message), [])
        self.message_added.emit(self._conversation.edit_user(message, text))
        self._ask()
        return True

    def choose_version(self, message: Message, step: int) -> None:
        """Show the version before (-1) or after (1) a message in its place."""
        versions = self._conversation.versions(message)
        index = versions.index(message) + step
        if 0 <= index < len(versions):
            self.show_version(versions[index])

    def show_version(self, version: Message) -> None:
        """Show a message in place of the version that is shown, and what follows it."""
        path = self._conversation.messages
        place = next((i for i, message in enumerate(path) if message.parent == version.parent), None)
        if self._refuses() or version not in self._conversation or place is None:
            return
        self._conversation.choose(version)
        self.path_changed.emit(place, self._conversation.messages[place:])
        self._keep(self._conversation, [])

    def delete_message(self, message: Message) -> None:
        """Take a message and what follows it out of the chat."""
        if self._refuses() or message not in self._conversation:
            return
        place = self._conversation.messages.index(message)
        removed = self._remove(message)
        self.path_changed.emit(place, self._conversation.messages[place:])
        self.removed.emit(removed)

    def restore(self, chat: Conversation, removed: Removed) -> None:
        """Bring deleted messages back."""
        if not chat.restore(removed):
            self.refused.emit(tr("The message before these is gone, so they cannot come back."))
            return
        self._keep(chat, removed.messages)
        if chat is self._conversation:
            path = chat.messages
            place = min((i for i, message in enumerate(path) if message in removed.messages), default=len(path))
            self.path_changed.emit(place, path[place:])

    def show_chat(self, chat: Conversation) -> None:
        """Show another chat; a reply that is being written goes on in its own."""
        self._retry_when_ready = False
        self._set_queued(Draft())
        self._conversation = chat
        self.chat_shown.emit(chat)

    def new_chat(self) -> None:
        """Show an empty chat; the model stays loaded."""
        self.show_chat(Conversation())

    # ---- a reply ------------------------------------------------------------------------------------------------

    def _refuses(self) -> bool:
        """Whether the chat has to stay as it is while a reply is being written; says why when that is elsewhere."""
        if self.busy and not self.writing_here:
            self.refused.emit(tr("A reply is being written in another chat. Wait for its end, or stop it there."))
        return self.busy

    def _needs_model(self) -> bool:
        if not self._client.model_ready:
            self.refused.emit(tr("No model is loaded, so nothing can be written."))
        return self._client.model_ready

    def _model_or_retry(self) -> bool:
        """Whether the model is there; if not, it is loaded and the last reply written then."""
        if not self._client.model_ready:
            self._retry_when_ready = True
            if self._client.state not in WAITING_STATES:
                self._client.restart()
        return self._client.model_ready

    def _ask(self, beside: Message | None = None, overflow: Overflow | None = None) -> None:
        reply = self._conversation.begin_reply(beside)
        self.message_added.emit(reply)
        self._begin(reply, overflow)

    def _begin(self, reply: Message, overflow: Overflow | None = None, *, continues: bool = False) -> None:
        """Save what there is, then let the engine write."""
        chat = self._conversation
        self._reply, self._reply_chat, self._asked = reply, chat, False
        self.busy_changed.emit(True)  # noqa: FBT003 - a signal takes no names
        system, sampling = self._options(chat)
        turns = chat.for_engine(system)

        def generate() -> None:
            if self._reply is reply:
                self._asked = True
                self._save_timer.start()
                self._client.generate(turns, sampling, overflow or self.overflow, continue_reply=continues)

        path = chat.messages
        self._save(chat, path[-2:], generate)

    def _remove(self, message: Message) -> Removed:
        removed = self._conversation.remove(message)
        self._forget(self._conversation, removed.messages)
        return removed

    def _keep(self, chat: Conversation, messages: Iterable[Message]) -> None:
        self._save(chat, messages, lambda: None)

    def _save_reply(self) -> None:
        if self._reply is not None and self._reply_chat is not None:
            self._keep(self._reply_chat, [self._reply])

    def _end_reply(self, chat: Conversation, reply: Message) -> None:
        self._reply = self._reply_chat = None
        self._save_timer.stop()
        self._keep(chat, [reply])
        self.reply_changed.emit(reply)
        self.busy_changed.emit(False)  # noqa: FBT003

    # ---- the engine ---------------------------------------------------------------------------------------------

    def _on_state(self, state: EngineState) -> None:
        if state is EngineState.READY:
            self._go_on()

    def _go_on(self) -> None:
        """The model is free: what waits for it is next."""
        if self.busy or not self._client.model_ready:
            return
        retry, self._retry_when_ready = self._retry_when_ready, False
        if retry:
            self.regenerate()
        elif self._queued:
            draft = self._queued
            self._set_queued(Draft())
            self.submit(draft.text, draft.attachments)

    def _on_left_out(self, event: LeftOut) -> None:
        if self._reply is not None:
            self._reply.left_out = event.messages
            self.reply_left_out.emit(self._reply)

    def _on_progress(self, event: PromptProgress) -> None:
        if self.writing_here:
            self.reply_progress.emit(event.done_tokens, event.total_tokens)

    def _on_text(self, text: str) -> None:
        if self._reply is not None:
            self._reply.text += text
            if self.writing_here:
                self.reply_text.emit(text)

    def _on_finished(self, event: Finished) -> None:
        """A stopped reply gets its numbers here, even when the next one already waits."""
        if self._ending is not None:
            (chat, reply), self._ending = self._ending, None
            finish_reply(reply, event)
            if reply in chat:
                self._keep(chat, [reply])
            self.reply_changed.emit(reply)
        elif self._reply is not None and self._reply_chat is not None:
            finish_reply(self._reply, event)
            self._end_reply(self._reply_chat, self._reply)

    def _on_failed(self, error: ErrorReport, what: str) -> None:
        if what in {"load", "engine"}:
            self._retry_when_ready = False
            self._set_queued(Draft())
        if what == "reply" and self._ending is not None:
            self._ending = None
        elif what in {"reply", "engine"}:
            self._ending = None
            if self._reply is not None and self._reply_chat is not None:
                fail_reply(self._reply, error)
                self._end_reply(self._reply_chat, self._reply)

    def _set_queued(self, draft: Draft) -> None:
        if draft != self._queued:
            self._queued = draft
            self.queued_changed.emit(bool(draft))
