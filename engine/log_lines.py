"""How log lines are written, in the window's process and in the engine's: without tokens, and without what was said.

An exception's message may quote anything, a message of a chat included. So a log has the places that an exception
passed, its kind, and its message without what stands in quotation marks. Our own errors are sentences made for the
screen, which name files and numbers, and stay whole.
"""

from __future__ import annotations

import logging
import re
import traceback
from typing import TYPE_CHECKING

from engine.errors import RooftopError

if TYPE_CHECKING:
    from types import TracebackType

MAX_MESSAGE_CHARS = 300
MAX_CHAIN = 8
HIDDEN = "<hidden>"

_SECRETS = (
    re.compile(r"\b(?:hf|sk|ghp|api)[_-][A-Za-z0-9_-]{8,}"),
    re.compile(r"(?i)(?<=bearer )[^\s\"',]+"),
    re.compile(r"(?i)(?<=://)[^\s/@]+(?=@)"),
    re.compile(r"(?i)(?:(?<=token=)|(?<=signature=)|(?<=password=)|(?<=secret=)|(?<=credential=))[^\s&\"',]+"),
)
_QUOTED = re.compile(r"(?s)(['\"`]).*\1")

_ExcInfo = tuple[type[BaseException], BaseException, "TracebackType | None"] | tuple[None, None, None]


class LogFormatter(logging.Formatter):
    """One line for each record, and the places of an exception below it."""

    def __init__(self) -> None:
        """Time, level, name and message."""
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatException(self, ei: _ExcInfo) -> str:
        """The places, the kind and the message without quotations."""
        return trace_text(ei[1]) if ei[1] is not None else ""

    def format(self, record: logging.LogRecord) -> str:
        """The lines of one record."""
        return without_secrets(super().format(record))


def without_secrets(text: str) -> str:
    """A text with what looks like a token, a password or a signed address hidden."""
    for secret in _SECRETS:
        text = secret.sub(HIDDEN, text)
    return text


def describe(error: BaseException) -> str:
    """An exception's kind and message on one line, without what it quotes unless the sentence is ours."""
    if isinstance(error, RooftopError):
        said = str(error)
    elif isinstance(error, OSError) and error.strerror:
        said = error.strerror
    else:
        said = _QUOTED.sub(r"\1...\1", str(error))
    return f"{type(error).__name__}: {' '.join(said.split())[:MAX_MESSAGE_CHARS]}".rstrip(": ")


def trace_text(error: BaseException) -> str:
    """Where an exception came from, and what led to it, oldest first."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain and len(chain) < MAX_CHAIN:
        chain.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "\n".join("".join(traceback.format_tb(one.__traceback__)) + describe(one) for one in reversed(chain))
