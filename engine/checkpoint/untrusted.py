"""Reading what strangers wrote: bounded files, bounded JSON, bounded quotes in messages, plain file names.

Knows nothing about models. Nothing here believes a size, a count or a name before checking it against a limit.
"""

from __future__ import annotations

import json
import os
import re
import reprlib
import stat
from io import FileIO, RawIOBase
from pathlib import Path
from typing import Any, NoReturn

from engine.errors import CheckpointError
from engine.sentences import said_by, say

DOWNLOAD_AGAIN = say("Download this file again.")
MAX_QUOTE_CHARS = 80
MAX_FILE_NAME_CHARS = 200
MAX_JSON_VALUES = 200_000

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")  # as JSON writes one; a sound text has two together
_WINDOWS_DEVICES = re.compile(r"(CON|PRN|AUX|NUL|COM[0-9]|LPT[0-9])(\..*)?", re.ASCII | re.IGNORECASE)

_quotes = reprlib.Repr()
_quotes.maxstring = _quotes.maxother = _quotes.maxlong = MAX_QUOTE_CHARS
_quotes.maxlist = _quotes.maxtuple = 8
_quotes.maxlevel = _quotes.maxdict = 2


def quote(value: object) -> str:
    """A value from a file as a message may show it: in quotes where it is text, escaped where it must be, and short."""
    if isinstance(value, str | Path):
        text = str(value)
        half = MAX_QUOTE_CHARS // 2
        text = text if len(text) <= MAX_QUOTE_CHARS else f"{text[:half]}...{text[-half:]}"
        return f"'{text}'" if text.isprintable() else repr(text)
    text = _quotes.repr(value)
    return text if len(text) <= MAX_QUOTE_CHARS else f"{text[:MAX_QUOTE_CHARS]}..."


def open_regular(path: Path) -> FileIO:
    """Open a file for unbuffered reading; a pipe, device or folder is refused without waiting on it.

    Raises:
        CheckpointError: It is missing, not a regular file, or the system refuses it.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise CheckpointError(say("{file} is not a regular file.", file=quote(path.name)), DOWNLOAD_AGAIN)
        return FileIO(path, "rb")
    except FileNotFoundError as error:
        raise CheckpointError(
            say("{file} is missing from {parent}.", file=quote(path.name), parent=quote(path.parent)),
            say("Download it into that folder."),
        ) from error
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> CheckpointError:
    """The error for a file that the operating system would not read."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return CheckpointError(
        say("{file} cannot be read: {reason}.", file=quote(path.name), reason=quote(reason)),
        say("Check the drive and the file's permissions, then retry."),
    )


def fill(file: RawIOBase, path: Path, offset: int, into: memoryview) -> None:
    """Read exactly `len(into)` bytes (format "B") from a position.

    Raises:
        CheckpointError: The file ends too early, or the drive fails.
    """
    try:
        file.seek(offset)
        while into.nbytes:
            count = file.readinto(into)
            if not count:
                raise CheckpointError(
                    say(
                        "{file} is truncated: it ends {number} bytes too early.",
                        file=quote(path.name),
                        number=into.nbytes,
                    ),
                    DOWNLOAD_AGAIN,
                )
            into = into[count:]
    except OSError as error:
        raise unreadable(path, error) from error


def read_json_object(path: Path, max_bytes: int, max_values: int = MAX_JSON_VALUES) -> dict[str, Any]:
    """Parse a small JSON file.

    Args:
        path: The file.
        max_bytes: Refuse a larger one before reading it.
        max_values: See `parse_json_object`.

    Raises:
        CheckpointError: Missing, unreadable, too large, or not one well-formed JSON object.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise CheckpointError(
                say(
                    "{file} is {size} bytes long, over the limit of {most}.",
                    file=quote(path.name),
                    size=size,
                    most=max_bytes,
                ),
                DOWNLOAD_AGAIN,
            )
        content = bytearray(size)
        fill(file, path, 0, memoryview(content))
    return parse_json_object(content, quote(path.name), max_values)


def parse_json_object(content: bytes | bytearray, source: str, max_values: int = MAX_JSON_VALUES) -> dict[str, Any]:
    """Parse untrusted JSON text in bounded time and memory.

    Stricter than the standard library: UTF-8 only, no halves of surrogate pairs, no NaN or Infinity, no duplicate keys.

    Args:
        content: The text.
        source: Where it is from, as a message may show it.
        max_values: Most brackets, commas and colons: a bound on the objects that parsing makes.

    Raises:
        CheckpointError: It is not one well-formed JSON object within these limits.
    """
    values = sum(content.count(mark) for mark in (b"{", b"[", b",", b":"))
    if values > max_values:
        raise CheckpointError(
            say(
                "{source} holds {values} values, over the limit of {most}.",
                source=source,
                values=values,
                most=max_values,
            ),
            DOWNLOAD_AGAIN,
        )
    try:
        text = content.decode("utf-8")
        parsed = json.loads(text, object_pairs_hook=_distinct, parse_constant=_refuse_constant)
        if _HALF_PAIR.search(text):
            json.dumps(parsed, ensure_ascii=False).encode()  # which only whole characters can be
    except (ValueError, RecursionError) as error:
        reason = say("it nests too deeply") if isinstance(error, RecursionError) else said_by(error)
        raise CheckpointError(
            say("{source} is not valid JSON: {reason}.", source=source, reason=reason), DOWNLOAD_AGAIN
        ) from None
    if not isinstance(parsed, dict):
        raise CheckpointError(
            say("{source} holds {parsed} instead of a JSON object.", source=source, parsed=quote(parsed)),
            DOWNLOAD_AGAIN,
        )
    return parsed


def check_plain_file_name(name: object, suffix: str, source: str) -> str:
    """Hold that a name is one plain file name, on POSIX and on Windows alike.

    An allow-list (ASCII letters, digits, `.`, `_`, `-`), so separators, drive letters, streams, control characters
    and look-alikes are all out.

    Raises:
        CheckpointError: It could reach outside its folder, name a device, or has another suffix.
    """
    sound = (
        isinstance(name, str)
        and len(name) <= MAX_FILE_NAME_CHARS
        and _PLAIN_NAME.fullmatch(name)
        and name.endswith(suffix)
        and ".." not in name
        and not _WINDOWS_DEVICES.fullmatch(name)
    )
    if not sound:
        raise CheckpointError(
            say(
                "{source} names the file {name}, which is not a plain {suffix} file name.",
                source=source,
                name=quote(name),
                suffix=suffix,
            ),
            say("Do not use this download; get the model from its publisher."),
        )
    return str(name)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys are all different."""
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(say("the key {key} appears twice", key=quote(repeated)))
    return result


def _refuse_constant(constant: str) -> NoReturn:
    """NaN and Infinity are not JSON."""
    raise ValueError(say("{value} is not a JSON number", value=constant))
