"""Indexes of Python packages: which files a project has there, and where. PEP 503 (HTML) and PEP 691 (JSON)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit

from engine.checkpoint.untrusted import quote
from engine.errors import ConfigurationError, HubUnreachableError, NotOnHubError
from engine.sentences import say

if TYPE_CHECKING:
    import httpx2

ANSWER_TIMEOUT_S = 20.0
MAX_PAGE_BYTES = 64 << 20
JSON_TYPE = "application/vnd.pypi.simple.v1+json"
ACCEPTED = f"{JSON_TYPE}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """A file as an index has it.

    Attributes:
        name: The file's.
        url: Where it is.
        sha256: Of its bytes, "" where the index does not tell.
        size_bytes: Its length, None where the index does not tell.
    """

    name: str
    url: str
    sha256: str = ""
    size_bytes: int | None = None


def check_index(address: str) -> str:
    """Hold that a text is the address of an index; returns it without a slash at its end.

    Raises:
        ConfigurationError: It is not.
    """
    address = address.strip().rstrip("/")
    parts = urlsplit(address)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ConfigurationError(
            say("{address} is not the address of a package index.", address=quote(address)),
            say("Write one that begins with https://, or leave it empty."),
        )
    return address


def project_files(index: str, project: str) -> tuple[IndexedFile, ...]:
    """The files of a project.

    Args:
        index: The index's address, e.g. "https://pypi.org/simple".
        project: Its normalised name.

    Raises:
        HubUnreachableError: The index does not answer as one.
        NotOnHubError: It does not have the project.
    """
    import httpx2

    from engine.hub.connection import Client, reason_of

    url = f"{check_index(index)}/{project}/"
    host = urlsplit(url).hostname or ""
    try:
        with Client(follow_redirects=True, timeout=ANSWER_TIMEOUT_S) as client:
            answer = client.get(url, headers={"Accept": ACCEPTED})
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise HubUnreachableError(
            say("{host} cannot be reached: {reason}.", host=host, reason=reason_of(error)),
            say("Check your connection, then retry."),
        ) from error
    if answer.status_code in (404, 410):
        raise NotOnHubError(
            say("{host} does not have {name}.", host=host, name=quote(project)),
            say("Take another mirror, or none."),
        )
    if answer.status_code != 200 or len(answer.content) > MAX_PAGE_BYTES:
        raise HubUnreachableError(
            say("{host} answered with error {status}.", host=host, status=answer.status_code), say("Retry later.")
        )
    try:
        return _files(answer)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise HubUnreachableError(
            say("What answers at {host} is not a package index.", host=host),
            say("Check that you are online, without a sign-in page in between, then retry."),
        ) from error


def _files(answer: httpx2.Response) -> tuple[IndexedFile, ...]:
    base = str(answer.url)
    if "json" in answer.headers.get("Content-Type", ""):
        return tuple(_from_json(base, file) for file in json.loads(answer.content)["files"])
    page = _Page(base)
    page.feed(answer.text)
    return tuple(page.files)


def _from_json(base: str, file: dict[str, Any]) -> IndexedFile:
    size = file.get("size")
    sha256 = str(file.get("hashes", {}).get("sha256", ""))
    return IndexedFile(
        str(file["filename"]), urljoin(base, file["url"]), sha256, size if isinstance(size, int) else None
    )


class _Page(HTMLParser):
    """The links of an index's page."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.files: list[IndexedFile] = []
        self._base = base

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A link is a file."""
        href = dict(attrs).get("href") if tag == "a" else None
        if href:
            url, _, fragment = urljoin(self._base, href).partition("#")
            name = unquote(urlsplit(url).path.rpartition("/")[2])
            found = re.search(r"sha256=([0-9a-f]{64})", fragment)
            self.files.append(IndexedFile(name, url, found[1] if found else ""))
