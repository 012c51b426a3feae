"""All chats: which there are, which one is shown, and that nothing of them is lost.

Joins the session (what happens in the shown chat) to the history (what is on the disk). While the file cannot be
written, chats go on in memory, a sentence says so, and `retry` writes everything that waits.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

from PySide6.QtCore import QObject, QTimer, Signal

from app.chat_session import ChatSession, Done
from app.conversation import Conversation, Draft, Message
from app.history import ChatEntry, History, entry_of, name_of, rows_of
from app.history_errors import HistoryError, NewerHistoryError
from app.history_rescue import back_up_if_old, open_history, purge
from app.history_thread import HistoryThread
from app.language import error_text, tr, translated

log = logging.getLogger(__name__)
T = TypeVar("T")

DRAFT_SAVE_MS = 800
SETTLED_MS = 3000
MOST_CRASHES = 2
LAST_CHAT, RESTORING = "last-chat", "restoring"


class Chats(QObject):
    """Opens, lists, changes and finds chats.

    Args:
        session: Shows one of them.
        parent: The owner.

    Signals:
        listed(list): The list changed; `ChatEntry`s, the one written in last first.
        found(str, list): What a search found: the query and `Found`s.
        deleted(int): So many chats were deleted; `undo_delete` brings them back.
        trouble(str, str): A sentence for the user, "" when all is well again, and what helps: "retry", "open_folder"
            (the one in which the chats lie), or "".
    """

    listed = Signal(list)
    found = Signal(str, list)
    deleted = Signal(int)
    trouble = Signal(str, str)

    def __init__(self, session: ChatSession, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._path: Path | None = None
        self._reader = History(None)
        self._thread = HistoryThread(self._reader, self)
        self._alive: weakref.WeakValueDictionary[str, Conversation] = weakref.WeakValueDictionary()
        self._entries: dict[str, ChatEntry] = {}
        self._deleted: list[tuple[str, ...]] = []
        self._messages_removed = False
        self._unsaved: dict[str, Conversation] = {}
        self._seen_changes = 0
        self._closed = False
        self._draft_timer = QTimer(self, singleShot=True, interval=DRAFT_SAVE_MS)
        self._draft_timer.timeout.connect(self._save_draft)
        session.set_storage(self.save, self._forget)
        self._alive[session.conversation.key] = session.conversation

    @property
    def path(self) -> Path | None:
        """The file of all chats, also where it cannot be opened; None in memory."""
        return self._path

    @property
    def entries(self) -> list[ChatEntry]:
        """All chats, the one written in last first."""
        return sorted(self._entries.values(), key=lambda entry: entry.updated_s, reverse=True)

    @property
    def unsaved(self) -> int:
        """How many chats are in memory only, though there is a file that they belong in."""
        in_memory = self._path is not None and self._reader.path is None
        return len(self._entries) if in_memory else len(self._unsaved)

    @property
    def folders(self) -> list[str]:
        """The folders that chats lie in, by name."""
        return sorted({entry.folder for entry in self._entries.values() if entry.folder}, key=str.casefold)

    @property
    def can_undo_delete(self) -> bool:
        """Whether chats that were deleted in this session can come back."""
        return bool(self._deleted)

    # ---- the file -----------------------------------------------------------------------------------------------

    def start(self, path: Path | None, *, reopen: bool = True) -> None:
        """Open the file of all chats and list them.

        Args:
            path: The file; None stays in memory.
            reopen: Show the chat that was shown last.
        """
        self._path = path
        if path is not None and self._open(path) and reopen:
            self._restore_last()
        self._list()

    def retry(self, done: Done | None = None) -> None:
        """Write what could not be written; `done` is called when that went well, or did not."""
        if self._path is not None and self._reader.path is None:
            self._move_to_file(self._path)
        for chat in list(self._unsaved.values()):
            self.save(chat, chat.all_messages)
        if done is not None:
            self._thread.run(lambda _history: None, lambda *_: done())

    def refresh(self) -> None:
        """List anew where another window of the app has written."""
        if self._reader.path is None:
            return
        changes = self._read(self._reader.change_count, self._seen_changes)
        if changes != self._seen_changes:
            self._seen_changes = changes
            self._list()

    def close(self) -> None:
        """Save what is open, remove what was deleted, and close the file; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._save_draft()
        if self._reader.path is not None:
            self.retry()
            self._thread.run(lambda history: history.set_note(RESTORING, ""))
            self._thread.run(partial(purge, also_messages=self._messages_removed))
        self._thread.close()
        self._reader.close()

    def _open(self, path: Path) -> bool:
        """Open the file for reading here and for writing in the thread; without it go on in memory."""
        try:
            writer, notice = open_history(path)
            reader = History(path)
        except HistoryError as error:
            log.warning("%s", error)
            self._tell_memory_only(error)
            return False
        self._thread.close()
        self._reader, self._thread = reader, HistoryThread(writer, self)
        self._thread.run(purge)
        self._thread.run(back_up_if_old)
        self._seen_changes = self._read(reader.change_count, 0)
        self.trouble.emit(translated(notice), "open_folder" if notice else "")
        return True

    def _move_to_file(self, path: Path) -> None:
        """The file can be opened at last: write what is in memory."""
        memory = self._reader
        chats = [chat for entry in memory.entries() if (chat := self._chat(entry.key)) is not None]
        if self._open(path):
            for chat in chats:
                self.save(chat, chat.all_messages)
            self._list()

    def _tell_memory_only(self, error: HistoryError) -> None:
        sentence = error_text(error)
        if not isinstance(error, NewerHistoryError):
            sentence = tr("{problem} Until then your chats stay in memory.").format(problem=sentence)
        self.trouble.emit(sentence, "open_folder" if isinstance(error, NewerHistoryError) else "retry")

    # ---- saving -------------------------------------------------------------------------------------------------

    def save(self, chat: Conversation, messages: Iterable[Message], done: Done | None = None) -> None:
        """Write a chat and some of its messages; `done` is called when they are safe, or cannot be."""
        if chat.key in self._unsaved:
            messages = chat.all_messages
        self._alive[chat.key] = chat
        rows = rows_of(chat, messages)
        self._show_entry(chat)

        def saved(_: object, error: HistoryError | None) -> None:
            self._saved(chat, error)
            if done is not None:
                done()

        self._thread.run(lambda history: history.write(rows), saved)

    def keep_draft(self, draft: Draft) -> None:
        """The user writes in the shown chat."""
        chat = self._session.conversation
        if draft != chat.draft:
            chat.draft = draft
            self._draft_timer.start()

    def _save_draft(self) -> None:
        self._draft_timer.stop()
        chat = self._session.conversation
        if name_of(chat):
            self.save(chat, [])
        elif chat.key in self._entries:
            del self._entries[chat.key]
            self._thread.run(lambda history: history.remove(chat.key))
            self.listed.emit(self.entries)

    def _saved(self, chat: Conversation, error: HistoryError | None) -> None:
        if error is not None:
            self._unsaved[chat.key] = chat
            problem = error_text(error)
            self.trouble.emit(tr("{problem} Until then your chats stay in memory.").format(problem=problem), "retry")
        elif self._unsaved.pop(chat.key, None) is not None:
            if self._unsaved:
                self.retry()
            else:
                self.trouble.emit("", "")

    def _forget(self, chat: Conversation, messages: Iterable[Message]) -> None:
        keys = [message.key for message in messages]
        self._thread.run(lambda history: history.remove_messages(keys))
        self._messages_removed = True
        self.save(chat, [])

    # ---- which chat is shown ------------------------------------------------------------------------------------

    def open(self, key: str) -> bool:
        """Show a chat; returns whether it is there."""
        if key == self._session.conversation.key:
            return True
        chat = self._chat(key)
        if chat is None:
            return False
        self._show(chat)
        return True

    def new(self) -> None:
        """Show an empty chat; one that is empty already will do."""
        if self._session.conversation.messages or self._session.conversation.draft:
            self._show(Conversation())

    def open_next(self, step: int) -> None:
        """Show the chat below (1) or above (-1) the one that is shown."""
        keys = [entry.key for entry in self.entries]
        shown = self._session.conversation.key
        index = keys.index(shown) + step if shown in keys else 0
        if 0 <= index < len(keys):
            self.open(keys[index])

    def _show(self, chat: Conversation) -> None:
        self._save_draft()
        self._alive[chat.key] = chat
        self._session.show_chat(chat)
        self._remember_shown()

    def _remember_shown(self) -> None:
        key = self._session.conversation.key
        self._thread.run(lambda history: history.set_note(LAST_CHAT, key))

    def _chat(self, key: str) -> Conversation | None:
        """A chat: the object that is in use, if there is one, else from the file."""
        chat = self._alive.get(key) or self._read(lambda: self._reader.load(key), None)
        if chat is not None:
            self._alive[key] = chat
        return chat

    def _restore_last(self) -> None:
        """Show the chat that was shown last, unless showing it has ended the app more than once."""
        last = self._read(lambda: self._reader.note(LAST_CHAT), "")
        crashes = len(self._read(lambda: self._reader.note(RESTORING), ""))
        if not last:
            return
        if crashes >= MOST_CRASHES:
            self._thread.run(lambda history: history.set_note(RESTORING, ""))
            self.trouble.emit(
                tr("Rooftop ended unexpectedly when it opened your last chat, so it was not opened this time."),
                "",
            )
            return

        def show(_: object, _error: HistoryError | None) -> None:
            current = self._session.conversation
            if not self._closed and not current.messages and not current.draft and not self._session.queued:
                self.open(last)
            QTimer.singleShot(SETTLED_MS, self, self._settled)

        self._thread.run(lambda history: history.set_note(RESTORING, "x" * (crashes + 1)), show)

    def _settled(self) -> None:
        if not self._closed:
            self._thread.run(lambda history: history.set_note(RESTORING, ""))

    # ---- changing chats -----------------------------------------------------------------------------------------

    def rename(self, key: str, title: str) -> None:
        """Give a chat a name; an empty one takes the first message again."""
        self._change(key, lambda chat: setattr(chat, "title", " ".join(title.split())[:200]))

    def set_pinned(self, key: str, *, pinned: bool) -> None:
        """Keep a chat at the top, or no longer."""
        self._change(key, lambda chat: setattr(chat, "pinned", pinned))

    def move(self, key: str, folder: str) -> None:
        """Put a chat into a folder; "" takes it out of its own."""
        self._change(key, lambda chat: setattr(chat, "folder", " ".join(folder.split())[:200]))

    def delete(self, key: str) -> None:
        """Delete a chat, which can be undone until the app is closed; its reply is stopped first."""
        if key in self._entries:
            self._delete((key,))

    def delete_all(self) -> None:
        """Delete every chat that is listed, as `delete` does one."""
        if self._entries:
            self._delete(tuple(entry.key for entry in self.entries))

    def _delete(self, keys: tuple[str, ...]) -> None:
        answering = self._session.answering
        if answering is not None and answering.key in keys:
            self._session.stop()
        below = [entry.key for entry in self.entries]
        for key in keys:
            del self._entries[key]
        self._deleted.append(keys)
        shown = self._session.conversation.key
        if shown in keys:
            rest = [key for key in below if key in self._entries]
            if not (rest and self.open(rest[min(below.index(shown), len(rest) - 1)])):
                self._show(Conversation())
        self._thread.run(lambda history: history.set_deleted(keys, deleted=True))
        self.listed.emit(self.entries)
        self.deleted.emit(len(keys))

    def undo_delete(self) -> None:
        """Bring back what was deleted last, and show it."""
        if not self._deleted:
            return
        keys = self._deleted.pop()

        def show(_: object, _error: HistoryError | None) -> None:
            self._list()
            self.open(keys[0])

        self._thread.run(lambda history: history.set_deleted(keys, deleted=False), show)

    def add(self, chats: list[Conversation]) -> None:
        """Take in chats from elsewhere, and show the first."""
        for chat in chats:
            self.save(chat, chat.all_messages)
        if chats:
            self._show(chats[0])

    def every_chat(self) -> list[Conversation]:
        """All chats with all their messages."""
        return [chat for entry in self.entries if (chat := self._chat(entry.key)) is not None]

    def search(self, query: str) -> None:
        """Look for words; `found` answers."""

        def tell(result: list[object] | None, _error: HistoryError | None) -> None:
            self.found.emit(query, result or [])

        self._thread.run(lambda history: history.search(query), tell)

    def _change(self, key: str, change: Callable[[Conversation], None]) -> None:
        chat = self._chat(key)
        if chat is not None:
            change(chat)
            self.save(chat, [])

    def _show_entry(self, chat: Conversation) -> None:
        """Put what the list says of a chat up to date."""
        entry = entry_of(chat)
        if not self._is_deleted(chat.key) and entry.name and self._entries.get(chat.key) != entry:
            if chat.key not in self._entries and chat is self._session.conversation:
                self._remember_shown()
            self._entries[chat.key] = entry
            self.listed.emit(self.entries)

    def _list(self) -> None:
        unsaved = [entry_of(chat) for chat in self._unsaved.values()]
        entries: list[ChatEntry] = self._read(self._reader.entries, [])
        self._entries = {entry.key: entry for entry in (*entries, *unsaved) if not self._is_deleted(entry.key)}
        self.listed.emit(self.entries)

    def _is_deleted(self, key: str) -> bool:
        return any(key in keys for keys in self._deleted)

    def _read(self, read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except HistoryError as error:
            log.warning("%s", error)
            self.trouble.emit(error_text(error), "open_folder")
            return otherwise
