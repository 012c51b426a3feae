"""The tables of the file of all chats, and how an older file gets them.

Chats and messages have a full-text index each, which triggers keep. The files of a draft lie apart from its chat, which
is written every second while a reply grows. `user_version` is the schema's number.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

SCHEMA_VERSION = 2
INDEXES = ("chat_words", "message_words")
IMPLAUSIBLE_VERSION = 10_000  # damage, not a number that we ever gave

_MIGRATIONS = (
    """
    CREATE TABLE chats (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, name TEXT NOT NULL, title TEXT NOT NULL,
        pinned INTEGER NOT NULL, folder TEXT NOT NULL, draft TEXT NOT NULL, options TEXT NOT NULL,
        chosen TEXT NOT NULL, created_s REAL NOT NULL, updated_s REAL NOT NULL, deleted INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, chat TEXT NOT NULL, parent TEXT NOT NULL, role TEXT NOT NULL,
        text TEXT NOT NULL, state TEXT NOT NULL, details TEXT NOT NULL, created_s REAL NOT NULL);
    CREATE INDEX messages_of_chat ON messages (chat);
    CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE VIRTUAL TABLE chat_words USING fts5(
        name, content='chats', content_rowid='id', tokenize='unicode61 remove_diacritics 2', prefix='2 3');
    CREATE VIRTUAL TABLE message_words USING fts5(
        text, content='messages', content_rowid='id', tokenize='unicode61 remove_diacritics 2', prefix='2 3');
    CREATE TRIGGER chat_added AFTER INSERT ON chats BEGIN
        INSERT INTO chat_words (rowid, name) VALUES (new.id, new.name); END;
    CREATE TRIGGER chat_gone AFTER DELETE ON chats BEGIN
        INSERT INTO chat_words (chat_words, rowid, name) VALUES ('delete', old.id, old.name); END;
    CREATE TRIGGER chat_renamed AFTER UPDATE OF name ON chats WHEN old.name IS NOT new.name BEGIN
        INSERT INTO chat_words (chat_words, rowid, name) VALUES ('delete', old.id, old.name);
        INSERT INTO chat_words (rowid, name) VALUES (new.id, new.name); END;
    CREATE TRIGGER message_added AFTER INSERT ON messages BEGIN
        INSERT INTO message_words (rowid, text) VALUES (new.id, new.text); END;
    CREATE TRIGGER message_gone AFTER DELETE ON messages BEGIN
        INSERT INTO message_words (message_words, rowid, text) VALUES ('delete', old.id, old.text); END;
    CREATE TRIGGER message_changed AFTER UPDATE OF text ON messages WHEN old.text IS NOT new.text BEGIN
        INSERT INTO message_words (message_words, rowid, text) VALUES ('delete', old.id, old.text);
        INSERT INTO message_words (rowid, text) VALUES (new.id, new.text); END;
    """,
    """
    CREATE TABLE draft_files (chat TEXT PRIMARY KEY, files TEXT NOT NULL);
    CREATE TRIGGER draft_gone AFTER DELETE ON chats BEGIN
        DELETE FROM draft_files WHERE chat = old.key; END;
    """,
)


def bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Take the steps that a file still lacks, within the caller's transaction."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    for script in _MIGRATIONS[version:]:
        for statement in _statements(script):
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def version_in_header(path: Path) -> int:
    """The schema's number as the file's first page has it, read without touching the file; 0 for a new one."""
    try:
        with path.open("rb") as file:
            header = file.read(64)
    except FileNotFoundError:
        return 0
    version = int.from_bytes(header[60:64], "big") if header.startswith(b"SQLite format 3\0") else 0
    return version if version < IMPLAUSIBLE_VERSION else 0


def _statements(script: str) -> Iterator[str]:
    """The single statements of a script; `executescript` would commit in between."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
