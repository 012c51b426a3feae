"""Takes what identifies a person out of a text that they may send: home folder, user name, host name, tokens.

Applied to diagnostics and crash reports as a whole, at the end, so that no part of them can be forgotten.
"""

from __future__ import annotations

import getpass
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from engine.log_lines import without_secrets

MIN_NAME_CHARS = 3  # a shorter name is hidden in paths only, or half the text would be
HOME, USER, HOST = "~", "<user>", "<host>"
NOBODY_IN_PARTICULAR = frozenset({"localhost", "root"})


@dataclass(frozen=True, slots=True)
class Redaction:
    """Whom to hide.

    Attributes:
        home: Their home folder.
        user: Their name on this computer, "" where it is not known.
        host: The computer's name.
    """

    home: str
    user: str
    host: str

    def clean(self, text: str) -> str:
        """The text without them, and without what looks like a token."""
        text = without_secrets(text)
        if len(self.home) > 1:
            text = _anywhere(self.home).sub(HOME, text)
            text = _anywhere(self.home.replace("\\", "/")).sub(HOME, text)
        text = _hide(text, self.user, USER)
        for name in (self.host, self.host.partition(".")[0]):
            text = _hide(text, name, HOST)
        return text


def this_user() -> Redaction:
    """The one who runs this."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # no such account, as in some containers
        user = ""
    return Redaction(str(Path.home()), user, socket.gethostname())


def _anywhere(folder: str) -> re.Pattern[str]:
    """A folder's path, which nothing that could be a longer name follows."""
    return re.compile(re.escape(folder.rstrip("/\\")) + r"(?![\w.-])", re.IGNORECASE)


def _hide(text: str, name: str, instead: str) -> str:
    if not name or name.lower() in NOBODY_IN_PARTICULAR:
        return text
    edges = (r"(?<![^\W_])", r"(?![^\W_])") if len(name) >= MIN_NAME_CHARS else (r"(?<=[/\\])", r"(?=[/\\]|$)")
    return re.sub(edges[0] + re.escape(name) + edges[1], instead, text, flags=re.IGNORECASE | re.MULTILINE)
