"""A damaged file of chats: set aside, never deleted, and whatever can still be read of it is taken over."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from pathlib import Path

from app.history import History
from app.history_errors import DamagedHistoryError
from engine.sentences import say

log = logging.getLogger(__name__)

BACKUP_AFTER_S = 24 * 3600
LONGEST_STEP = 1 << 20
_COLUMNS = {
    "chats": "key, name, title, pinned, folder, draft, options, chosen, created_s, updated_s, deleted",
    "messages": "key, chat, parent, role, text, state, details, created_s",
    "notes": "name, value",
    "draft_files": "chat, files",
}


def open_history(path: Path) -> tuple[History, str]:
    """Open the chats, whatever state the file is in.

    Args:
        path: The file; it need not exist.

    Returns:
        The open file, and a sentence for the user where it had to be repaired, else "".

    Raises:
        HistoryError: It cannot be opened, or a newer version wrote it.
    """
    try:
        return History(path), ""
    except DamagedHistoryError as error:
        log.warning("%s", error)
    aside = set_aside(path)
    history = History(path)
    count = sum(_take_over(source, path) for source in (aside, backup_path(path)))
    history.close()
    history = History(path)
    found = len(history.entries())
    log.warning("%d rows recovered, %d chats", count, found)
    if not found:
        words = say(
            "The file of your chats was damaged; nothing of it could be read, and the damaged file is kept as {name}.",
            name=aside.name,
        )
        return history, words
    return history, say(
        "The file of your chats was damaged; what could be read of it, {number} chats, is in the list, "
        "and the damaged file is kept as {name}.",
        number=found,
        name=aside.name,
    )


def backup_path(path: Path) -> Path:
    """Where the copy of the chats is kept that helps when the file is damaged."""
    return path.with_name(path.stem + ".backup" + path.suffix)


def back_up_if_old(history: History) -> None:
    """Renew the copy once a day."""
    assert history.path is not None
    target = backup_path(history.path)
    try:
        old = time.time() - target.stat().st_mtime > BACKUP_AFTER_S
    except OSError:
        old = True
    if old:
        history.back_up(target)


def set_aside(path: Path) -> Path:
    """Rename a damaged file and what SQLite keeps beside it; returns the new place."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    names = (
        path.with_name(f"{path.stem}.damaged-{stamp}{n}{path.suffix}") for n in ("", *(f"-{i}" for i in range(2, 99)))
    )
    aside = next(name for name in names if not name.exists())
    path.replace(aside)
    for ending in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + ending).replace(aside.with_name(aside.name + ending))
    return aside


def _take_over(source: Path, target: Path) -> int:
    """Copy every readable row that is not there yet; returns how many."""
    if not source.exists():
        return 0
    into = sqlite3.connect(target, isolation_level=None)
    count = 0
    try:
        reader = sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)
        try:
            reader.execute("PRAGMA writable_schema = ON")  # read a file that is shorter than it says
            into.execute("BEGIN")
            for table, columns in _COLUMNS.items():
                count += _copy_table(reader, into, table, columns)
            into.execute("COMMIT")
        finally:
            reader.close()
    except sqlite3.Error as error:
        log.warning("Cannot read on in %s: %s", source.name, error)
        with contextlib.suppress(sqlite3.Error):
            into.execute("COMMIT")
    finally:
        into.close()
    return count


def purge(history: History, *, also_messages: bool = False) -> None:
    """Remove deleted chats for good, also from the copy, which is made anew at the next start."""
    if (history.purge() or also_messages) and history.path is not None:
        backup_path(history.path).unlink(missing_ok=True)
        history.scrub()


def _copy_table(reader: sqlite3.Connection, into: sqlite3.Connection, table: str, columns: str) -> int:
    """Read in order of rowid; where a page is unreadable, jump ahead in growing steps."""
    places = ", ".join("?" for _ in columns.split(","))
    insert = f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({places})"  # noqa: S608 - our own names
    select = f"SELECT rowid, {columns} FROM {table} WHERE rowid > ? ORDER BY rowid"  # noqa: S608
    count, last, step = 0, 0, 1
    while step <= LONGEST_STEP:
        try:
            for rowid, *values in reader.execute(select, (last,)):
                with contextlib.suppress(sqlite3.IntegrityError):
                    count += into.execute(insert, values).rowcount
                last, step = rowid, 1
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            log.info("%s after row %d: %s", table, last, error)
            last, step = last + step, 2 * step
        else:
            break
    return count
