"""What can be wrong with the file of all chats, in sentences."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from app.history_schema import SCHEMA_VERSION
from engine.errors import RooftopError
from engine.sentences import say


class HistoryError(RooftopError):
    """The chats cannot be read or written."""

    code = "history"


class NewerHistoryError(HistoryError):
    """A newer version of the app wrote the file; it is left untouched."""

    code = "history-newer"


class DamagedHistoryError(HistoryError):
    """The file is not a sound database."""

    code = "history-damaged"


@contextlib.contextmanager
def in_sentences(path: Path | None) -> Iterator[None]:
    """Turn what SQLite and the system say into our errors."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        # Of SQLite's errors, only "malformed" and "not a database" come as a plain DatabaseError.
        if type(error) is sqlite3.DatabaseError:
            raise DamagedHistoryError(
                say("The file of your chats, {path}, is damaged ({reason}).", path=str(path), reason=str(error)),
                say("Restart Rooftop."),
            ) from error
        raise _cannot(path, str(error)) from error
    except OSError as error:
        raise _cannot(path, error.strerror or str(error)) from error


def _cannot(path: Path | None, why: str) -> HistoryError:
    return HistoryError(
        say(
            "Your chats cannot be saved in {folder} ({reason}).",
            folder=str(path.parent) if path else say("memory"),
            reason=why,
        ),
        say("Check the folder's permissions and the free space on its drive."),
    )


def refuse_newer(path: Path | None, version: int) -> None:
    """Raise where a newer version of the app wrote the file; 0 is that of a new file."""
    if version > SCHEMA_VERSION:
        raise NewerHistoryError(
            say(
                "Your chats in {path} were written by a newer version of Rooftop and are left untouched.",
                path=str(path),
            ),
            say("Update Rooftop to see them; chats of this session are not kept."),
        )
