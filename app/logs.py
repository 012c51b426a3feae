"""The log files: where they lie, how they begin and how they end. Without Qt: the terminal chat writes them too.

`rooftop.log` is the window's and rotates by itself, `engine.log` is what the engine's process says, bounded by
`engine.host`. Neither holds a word of a chat, nor a token (`engine.log_lines`).
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
from typing import TYPE_CHECKING

import platformdirs

from engine.log_lines import LogFormatter

if TYPE_CHECKING:
    from pathlib import Path

FILE_BYTES = 1 << 20
OLDER_FILES = 3
ENGINE_LOG = "engine.log"
ROOTS = ("app", "engine")


class _LogFile(logging.handlers.RotatingFileHandler):
    """A log whose lines are lost while its drive is full or its file is held, without a word for each of them."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Keep quiet about the drive; our own mistakes are still shown."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def log_path() -> Path:
    """The window's log on this system."""
    return platformdirs.user_log_path("rooftop", appauthor=False) / "rooftop.log"


def start_logging(path: Path) -> str:
    """Log to a rotating file; a folder that cannot be written costs the log, not the start.

    Returns:
        Why there is no log, "" where there is one.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _LogFile(path, maxBytes=FILE_BYTES, backupCount=OLDER_FILES, encoding="utf-8")
    except OSError as error:
        return error.strerror or str(error)
    handler.setFormatter(LogFormatter())
    logging.getLogger().addHandler(handler)
    for name in ROOTS:
        logging.getLogger(name).setLevel(logging.INFO)
    return ""


def tail(path: Path, max_bytes: int) -> str:
    """The last whole lines of a file, "" where it cannot be read.

    Args:
        path: The file; where it has just been rotated, the older one gives what is missing.
        max_bytes: How much of it at most.
    """
    text = _end_of(path, max_bytes)
    if len(text) < max_bytes:
        text = _end_of(path.with_name(path.name + ".1"), max_bytes - len(text)) + text
    return text.decode("utf-8", errors="replace").strip()


def _end_of(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - max_bytes))
            text = file.read(max_bytes)
    except OSError:
        return b""
    return text if size <= max_bytes else text.partition(b"\n")[2]
