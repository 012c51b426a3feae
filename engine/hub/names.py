"""Which names of strangers become names of files here.

A repository may call its files what it likes; only names that mean the same file inside the same folder on POSIX,
Windows and macOS are taken. Knows nothing of the hub.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from engine.checkpoint.untrusted import MAX_FILE_NAME_CHARS, quote
from engine.errors import UnsafeRepositoryError
from engine.sentences import Sentence, say

MAX_PATH_CHARS = 500
CHOOSE_ANOTHER = say("Choose another repository of this model.")

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")

_FORBIDDEN = re.compile(r'[\\:*?"<>|]')
_WINDOWS_DEVICES = re.compile(
    r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9\u00b9\u00b2\u00b3]) *(\..*)?", re.IGNORECASE
)


def check_path(path: str) -> str:
    """Hold that a path inside a repository stays inside a folder, on every system.

    Args:
        path: As the hub gives it, with `/` between its parts.

    Raises:
        UnsafeRepositoryError: It leads elsewhere, names a device, or cannot be a file name everywhere.
    """
    reason = _fault(path)
    if reason:
        raise UnsafeRepositoryError(
            say("The repository holds a file called {path}, {reason}.", path=quote(path), reason=reason), CHOOSE_ANOTHER
        )
    return path


def check_distinct(paths: Iterable[str]) -> None:
    """Hold that no two paths are the same file where case or composition of letters do not count.

    Raises:
        UnsafeRepositoryError: Two of them are.
    """
    seen: dict[str, str] = {}
    for path in paths:
        other = seen.setdefault(unicodedata.normalize("NFC", path).casefold(), path)
        if other is not path:
            raise UnsafeRepositoryError(
                say(
                    "The repository's files {other} and {path} are one and the same on many drives.",
                    other=quote(other),
                    path=quote(path),
                ),
                CHOOSE_ANOTHER,
            )


def _fault(path: str) -> Sentence | None:
    """Why a path cannot be taken; None where it can."""
    parts = path.split("/")
    too_long = len(path) > MAX_PATH_CHARS or any(len(part) > MAX_FILE_NAME_CHARS for part in parts)
    faults = (
        (too_long, say("which is too long")),
        (not path.isprintable(), say("with characters that no name should hold")),
        (bool(_FORBIDDEN.search(path)), say("which is no file name on Windows")),
        (bool({"", ".", ".."} & set(parts)), say("which could lead outside its folder")),
        (any(part.strip(" ").rstrip(".") != part for part in parts), say("which is another name on Windows")),
        (any(_WINDOWS_DEVICES.fullmatch(part) for part in parts), say("which is a device on Windows")),
    )
    return next((reason for is_bad, reason in faults if is_bad), None)
