"""Whether a newer Rooftop has been released: asked only for those who turned it on, once a day; never installed.

What is asked is a list of releases as GitHub's API gives it, at the address that the package's own metadata names (in
`pyproject.toml`, `Releases-API`). A package without one asks nobody, and its settings do not offer it. Whatever answers
is believed as little as can be: its size and time are bounded, and all that is taken of it is a version and the address
of a page, which only the user opens.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from packaging.version import InvalidVersion, Version
from PySide6.QtCore import QObject, Signal

from engine.errors import RooftopError
from engine.sentences import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

log = logging.getLogger(__name__)

ADDRESS_LABEL = "Releases-API"
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
DAY_S = 24 * 3600.0
MAX_ANSWER_BYTES = 4 << 20
MAX_RELEASES = 1000
MAX_ADDRESS_CHARS = 500
MAX_VERSION_CHARS = 40
SILENCE_S = 10.0
MAX_ASKING_S = 30.0
MAX_REDIRECTS = 3


class UpdateError(RooftopError):
    """Whether there is a newer version could not be found out."""

    code = "updates"


@dataclass(frozen=True, slots=True)
class Release:
    """A release.

    Attributes:
        version: As people write it, e.g. "0.2".
        page: The address of its page.
    """

    version: str
    page: str


def release_list_address() -> str:
    """Where the list of releases is; "" where nobody has said."""
    for line in metadata.metadata("rooftop").get_all("Project-URL") or ():
        label, _, address = line.partition(",")
        if label.strip() == ADDRESS_LABEL:
            return str(address).strip()
    return ""


def is_due(asked_s: float, now_s: float) -> bool:
    """Whether a day has gone by; so it has where the clock was set back to before the last time."""
    return not 0 <= now_s - asked_s < DAY_S


def newer_release(answer: bytes, current: str) -> Release | None:
    """The newest release in an answer, if it is newer than this version; pre-releases and drafts do not count.

    Raises:
        UpdateError: The answer is no list of releases.
    """
    try:
        listed = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise _no_list() from error
    if not isinstance(listed, list) or len(listed) > MAX_RELEASES:
        raise _no_list()
    found = [(version, page) for entry in listed for version, page in _usable(entry) if version > Version(current)]
    if not found:
        return None
    version, page = max(found)
    return Release(str(version), page)


def fetch(address: str) -> bytes:
    """What is at an address.

    Raises:
        RooftopError: It cannot be had, or not over a private connection.
    """
    import httpx2

    from engine.hub.connection import Client, reason_of

    host = urlsplit(address).hostname or ""
    headers = {"User-Agent": f"rooftop/{metadata.version('rooftop')}", "Accept": "application/json"}
    hooks = {"request": [_require_private]}
    try:
        with (
            Client(timeout=SILENCE_S, max_redirects=MAX_REDIRECTS, follow_redirects=True, event_hooks=hooks) as client,
            client.stream("GET", address, headers=headers) as answer,
        ):
            if answer.status_code != 200:
                raise UpdateError(
                    say("{host} answered with error {status}.", host=host, status=answer.status_code),
                    say("Retry later."),
                )
            return _read(answer)
    except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, OSError) as error:
        raise UpdateError(
            say("{host} cannot be reached: {reason}.", host=host, reason=reason_of(error)),
            say("Check your connection, then retry."),
        ) from error


def _read(answer: httpx2.Response) -> bytes:
    """All of an answer that is neither too long nor too slow."""
    end_s, parts, count = time.monotonic() + MAX_ASKING_S, [], 0
    for part in answer.iter_bytes():
        parts.append(part)
        count += len(part)
        if count > MAX_ANSWER_BYTES or time.monotonic() > end_s:
            raise _no_list()
    return b"".join(parts)


def _require_private(request: httpx2.Request) -> None:
    if request.url.scheme != "https" and request.url.host not in LOCAL_HOSTS:
        raise UpdateError(
            say("The list of releases is not on a private connection: {host}.", host=request.url.host),
            say("Look for a new version yourself, and tell whoever made this package."),
        )


def _usable(entry: Any) -> Iterator[tuple[Version, str]]:  # noqa: ANN401 - whatever the answer holds
    """A release's version and page; nothing where it is none for everybody, or not written as one."""
    if not isinstance(entry, dict) or entry.get("draft") is not False or entry.get("prerelease") is not False:
        return
    tag, page = entry.get("tag_name"), entry.get("html_url")
    if not isinstance(tag, str) or len(tag) > MAX_VERSION_CHARS or not isinstance(page, str) or not _is_page(page):
        return
    try:
        version = Version(tag)
    except InvalidVersion:
        return
    if not version.is_prerelease:
        yield version, page


def _is_page(page: str) -> bool:
    """Whether an address may be opened in the browser."""
    if len(page) > MAX_ADDRESS_CHARS or not page.isascii() or not page.isprintable():
        return False
    try:
        parts = urlsplit(page)
    except ValueError:
        return False
    private = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOCAL_HOSTS)
    return private and bool(parts.hostname) and parts.username is None and " " not in page


def _no_list() -> UpdateError:
    return UpdateError(
        say("What answers where the releases should be listed is no list of them."),
        say("Check that you are online, without a sign-in page in between, then retry."),
    )


class UpdateCheck(QObject):
    """Asks on a thread of its own.

    Args:
        address: Where the list of releases is.
        parent: The owner.

    Signals:
        answered(Release | None, RooftopError | None): A newer release, or none, or why nobody knows.
    """

    answered = Signal(object, object)

    def __init__(self, address: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._address = address

    def ask(self) -> None:
        """Begin; `answered` tells."""
        threading.Thread(target=self._ask, name="update-check", daemon=True).start()

    def _ask(self) -> None:
        release, problem = None, None
        try:
            release = newer_release(fetch(self._address), metadata.version("rooftop"))
        except RooftopError as error:
            log.info("Whether there is a newer version is unknown: %s", error)
            problem = error
        try:
            self.answered.emit(release, problem)
        except RuntimeError:  # the window is gone, and this object with it
            return
