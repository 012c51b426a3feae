"""All chats in one SQLite file: written so that what is committed outlives a crash and a power cut, and searchable.

Everything is in the tables of `app.history_schema`. A message is a row of its own, so that saving one writes no other.
Files of an older schema are brought up to date, those of a newer one are left untouched. Several processes may use the
file at once. Knows nothing of Qt; `app.history_thread` keeps the writing off the window's thread,
`app.history_search` finds words in it, and `app.history_rescue` deals with damaged files.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from app.conversation import BROKE_OFF, Attachment, Conversation, Draft, Message, fail_reply
from app.conversation_data import add_messages, clean_text, details_of, files_data, files_from, read_details
from app.history_errors import in_sentences, refuse_newer
from app.history_schema import INDEXES, SCHEMA_VERSION, bring_up_to_date, version_in_header
from app.history_search import Found, search_chats
from engine.held_files import rename
from engine.messages import ErrorReport
from engine.sentences import say

BUSY_TIMEOUT_S = 5.0
MOST_FREE_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class ChatEntry:
    """One chat as the list shows it."""

    key: str
    name: str
    pinned: bool
    folder: str
    updated_s: float


@dataclass(frozen=True, slots=True)
class Rows:
    """What `History.write` writes, taken from a chat at one moment, so that the chat may go on changing."""

    chat: tuple[object, ...]
    messages: tuple[tuple[object, ...], ...]
    draft_files: tuple[Attachment, ...]


def rows_of(chat: Conversation, messages: Iterable[Message]) -> Rows:
    """A chat's own data and some of its messages, as they are now."""
    texts = (name_of(chat), *(clean_text(t) for t in (chat.title, chat.folder, chat.draft.text, chat.options)))
    own = (chat.key, *texts, chat.pinned, json.dumps(chat.chosen), chat.created_s, chat.updated_s)
    return Rows(own, tuple(_row(chat.key, message) for message in messages), chat.draft.attachments)


def name_of(chat: Conversation) -> str:
    """The name in the list: the title, or what was asked first, or what is about to be; "" for an empty chat."""
    return clean_text(chat.shown_title or chat.draft.name)


def default_history_path() -> Path:
    """Where the chats are kept on this system."""
    return platformdirs.user_data_path("rooftop", appauthor=False) / "chats.db"


def entry_of(chat: Conversation) -> ChatEntry:
    """A chat as the list shows it."""
    return ChatEntry(chat.key, name_of(chat), chat.pinned, chat.folder, chat.updated_s)


class History:
    """One connection to the file of all chats; for one thread at a time.

    Args:
        path: The file, which need not exist; None keeps everything in memory.

    Raises:
        NewerHistoryError: A newer version wrote it.
        DamagedHistoryError: It is damaged.
        HistoryError: It cannot be opened or written.
    """

    def __init__(self, path: Path | None) -> None:
        """See the class."""
        self._path = path
        with in_sentences(path):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                refuse_newer(path, version_in_header(path))
            self._connection = sqlite3.connect(
                ":memory:" if path is None else path,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    @property
    def path(self) -> Path | None:
        """The file, None in memory."""
        return self._path

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        self._connection.close()

    # ---- writing ------------------------------------------------------------------------------------------------

    def save(self, chat: Conversation, messages: Iterable[Message]) -> None:
        """Write a chat's own data and some of its messages; errors as in `write`."""
        self.write(rows_of(chat, messages))

    def write(self, rows: Rows) -> None:
        """Write a chat's own data and some of its messages, all or nothing; on return they are on the disk.

        Raises:
            HistoryError: Nothing of it was written.
        """
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO chats (key, name, title, folder, draft, options, pinned, chosen, created_s, updated_s) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET name = excluded.name, "
                "title = excluded.title, folder = excluded.folder, draft = excluded.draft, options = excluded.options, "
                "pinned = excluded.pinned, chosen = excluded.chosen, updated_s = excluded.updated_s",
                rows.chat,
            )
            connection.executemany(
                "INSERT INTO messages (key, chat, parent, role, text, state, details, created_s) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET text = excluded.text, "
                "state = excluded.state, details = excluded.details, parent = excluded.parent",
                rows.messages,
            )
            _write_draft_files(connection, str(rows.chat[0]), rows.draft_files)

    def remove_messages(self, keys: Iterable[str]) -> None:
        """Take messages out for good."""
        with self._transaction() as connection:
            connection.executemany("DELETE FROM messages WHERE key = ?", [(key,) for key in keys])

    def remove(self, key: str) -> None:
        """Remove a chat for good."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM messages WHERE chat = ?", (key,))
            connection.execute("DELETE FROM chats WHERE key = ?", (key,))

    def set_deleted(self, keys: Iterable[str], *, deleted: bool) -> None:
        """Put chats aside as deleted, or bring them back."""
        with self._transaction() as connection:
            connection.executemany("UPDATE chats SET deleted = ? WHERE key = ?", [(deleted, key) for key in keys])

    def purge(self) -> int:
        """Remove the deleted chats for good; returns how many there were."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM messages WHERE chat IN (SELECT key FROM chats WHERE deleted)")
            return connection.execute("DELETE FROM chats WHERE deleted").rowcount

    def scrub(self) -> None:
        """Leave no trace in the file of what was removed from it.

        SQLite writes zeros over what it removes, but the words of a removed message stay in the index until its parts
        are merged, and what an older version of the app removed lies in free pages: a file that is mostly free is
        written anew.
        """
        with in_sentences(self._path):
            for index in INDEXES:
                self._connection.execute(f"INSERT INTO {index} ({index}) VALUES ('optimize')")  # noqa: S608 - our names
            free, pages = (self._rows(f"PRAGMA {count}")[0][0] for count in ("freelist_count", "page_count"))
            if free > MOST_FREE_SHARE * pages:
                self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def set_note(self, name: str, value: str) -> None:
        """Remember a small fact, e.g. which chat was open."""
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))

    def back_up(self, target: Path) -> None:
        """Copy everything into another file, replacing it when the copy is complete."""
        beside = target.with_name(target.name + ".new")
        with in_sentences(target):
            beside.unlink(missing_ok=True)
            copy = sqlite3.connect(beside)
            try:
                self._connection.backup(copy)
            finally:
                copy.close()
            rename(beside, target)

    # ---- reading ------------------------------------------------------------------------------------------------

    def note(self, name: str) -> str:
        """A fact that was remembered, "" for none."""
        row = self._rows("SELECT value FROM notes WHERE name = ?", (name,))
        return str(row[0][0]) if row else ""

    def change_count(self) -> int:
        """A number that is another one after another connection has written."""
        return int(self._rows("PRAGMA data_version")[0][0])

    def entries(self) -> list[ChatEntry]:
        """All chats, the one written in last first."""
        rows = self._rows(
            "SELECT key, name, pinned, folder, updated_s FROM chats WHERE NOT deleted ORDER BY updated_s DESC"
        )
        return [ChatEntry(key, name, bool(pinned), folder, updated_s) for key, name, pinned, folder, updated_s in rows]

    def load(self, key: str) -> Conversation | None:
        """One chat with all its branches, None where there is no such; a reply that nobody finished has broken off."""
        rows = self._rows(
            "SELECT title, pinned, folder, draft, options, chosen, created_s, updated_s FROM chats WHERE key = ?",
            (key,),
        )
        if not rows:
            return None
        title, pinned, folder, draft, options, chosen, created_s, updated_s = rows[0]
        files = self._rows("SELECT files FROM draft_files WHERE chat = ?", (key,))
        unsent = Draft(draft, files_from(_json(files[0][0])) if files else ())
        chat = Conversation(key, title, bool(pinned), folder, unsent, options, created_s)
        found = self._rows(
            "SELECT key, parent, role, text, state, details, created_s FROM messages WHERE chat = ? "
            "ORDER BY created_s, id",
            (key,),
        )
        add_messages(chat, [_message(*row) for row in found])
        chat.choose_all(_json_object(chosen))
        chat.updated_s = updated_s
        return chat

    def search(self, query: str) -> list[Found]:
        """Chats whose name or messages have words that begin with each of the query's words, best first."""
        return search_chats(self._rows, query)

    # ---- the connection -----------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        connection = self._connection
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        refuse_newer(self._path, version)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA synchronous = FULL")  # a commit is on the disk, not on its way there
        problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise sqlite3.DatabaseError(str(problem))
        if version < SCHEMA_VERSION:
            self._migrate()

    def _migrate(self) -> None:
        """Bring the schema up to date in one transaction; another process may have done it meanwhile."""
        with self._transaction() as connection:
            bring_up_to_date(connection)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with in_sentences(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def _rows(self, sql: str, values: tuple[object, ...] = ()) -> list[Any]:
        with in_sentences(self._path):
            return self._connection.execute(sql, values).fetchall()


def _write_draft_files(connection: sqlite3.Connection, chat: str, files: tuple[Attachment, ...]) -> None:
    """Keep the files of a draft; those that are there already are not written again."""
    if not files:
        connection.execute("DELETE FROM draft_files WHERE chat = ?", (chat,))
        return
    connection.execute(
        "INSERT INTO draft_files VALUES (?, ?) ON CONFLICT (chat) DO UPDATE SET files = excluded.files "
        "WHERE files IS NOT excluded.files",
        (chat, json.dumps(files_data(files))),
    )


def _row(chat: str, message: Message) -> tuple[object, ...]:
    text, details = clean_text(message.text), json.dumps(details_of(message))
    return message.key, chat, message.parent, message.role, text, message.state, details, message.created_s


def _message(key: str, parent: str, role: Any, text: str, state: Any, details: str, created_s: float) -> Message:  # noqa: ANN401
    message = Message(role, text, state, key=key, parent=parent, created_s=created_s)
    read_details(message, _json_object(details))
    if message.state == "partial":
        fail_reply(message, ErrorReport(BROKE_OFF, say("Broke off: Rooftop was closed."), say("Write the reply anew.")))
    return message


def _json_object(text: str) -> dict[str, Any]:
    """A JSON object; anything else is an empty one."""
    value = _json(text)
    return value if isinstance(value, dict) else {}


def _json(text: str) -> object:
    """What a text says in JSON; None where it does not."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
