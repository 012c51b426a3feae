"""One file's bytes from the hub: a request, its redirects, and what the answer means.

The hub answers with a redirect to a machine that holds the bytes. The account's token goes to the hub's own address
and never any further. Knows nothing of disks or of other requests.
"""

from __future__ import annotations

import email.utils
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import quote as quote_url

import httpx2

from engine.checkpoint.untrusted import quote
from engine.errors import DamagedDownloadError, HubUnreachableError
from engine.hub.answer import SILENCE_S, Body, TryAgain
from engine.hub.api import refusal
from engine.hub.body import reader_of, socket_of
from engine.hub.connection import Client, reason_of
from engine.hub.repository import Choice, RemoteFile
from engine.sentences import say

CONNECT_TIMEOUT_S = 15.0
MAX_REDIRECTS = 6
MAX_RETRY_AFTER_S = 600.0

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_REDIRECTS = (301, 302, 303, 307, 308)
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


class Source:
    """Where the files of a choice come from; for several threads.

    Args:
        choice: What is fetched.
        endpoint: The hub's address.
        token: Of the user's account; None asks as a stranger.
        silence_s: After how long without a byte a connection counts as dead.
        connections: How many requests there may be at a time.
        address: Where a file is, for what lies on no hub; None asks the hub.
    """

    def __init__(
        self,
        choice: Choice,
        endpoint: str,
        token: str | None,
        silence_s: float = SILENCE_S,
        connections: int = 4,
        address: Callable[[RemoteFile], str] | None = None,
    ) -> None:
        """See the class."""
        self._choice = choice
        self._hub = httpx2.URL(endpoint)
        self._token = token
        self._elsewhere = address
        self._silence_s = silence_s
        self._places: dict[str, httpx2.URL] = {}
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._client = Client(
            timeout=httpx2.Timeout(silence_s, connect=min(silence_s, CONNECT_TIMEOUT_S)),
            limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
            headers={"User-Agent": "rooftop", "Accept-Encoding": "identity"},
        )

    @contextmanager
    def open(self, file: RemoteFile, start: int, stop: int, etag: str) -> Iterator[Body]:
        """Ask for bytes [start, stop) of a file.

        Args:
            file: Which.
            start: The first byte.
            stop: One past the last.
            etag: What the server called the version before; "" where nothing is kept of it.

        Raises:
            TryAgain: It may work next time.
            RooftopError: It will not.
        """
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        if etag:
            headers["If-Range"] = etag
        with ExitStack() as stack:
            try:
                answer = self._follow(file, headers, stack)
                watched = stack.enter_context(self._watched(answer))
                yield self._body(watched, file, start)
            except (httpx2.TimeoutException, TimeoutError) as error:
                self._places.pop(file.path, None)
                raise TryAgain(say("nothing came for a while"), silent=True) from error
            except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, OSError) as error:
                self._places.pop(file.path, None)
                raise TryAgain(reason_of(error)) from error
            except RuntimeError as error:
                if not self._closed:
                    raise
                raise TryAgain(say("closed")) from error  # as httpx2 says it of a client

    def close(self) -> None:
        """End every request at once, also those that wait for bytes."""
        with self._lock:
            self._closed = True
            for connected in self._sockets:
                _shut(connected)
        self._client.close()

    def _follow(self, file: RemoteFile, headers: dict[str, str], stack: ExitStack) -> httpx2.Response:
        """The answer at the end of all redirects; where they lead is remembered."""
        url = self._places.get(file.path) or self._address(file)
        for _ in range(MAX_REDIRECTS):
            sent = {**headers, **self._authorisation(url)}
            answer = stack.enter_context(self._client.stream("GET", url, headers=sent))
            if answer.status_code not in _REDIRECTS:
                self._judge(answer, file, url)
                self._places[file.path] = url
                return answer
            self._check_tag(answer, file)
            following = url.join(answer.headers.get("Location", ""))
            if url.scheme == "https" and following.scheme != "https":
                raise HubUnreachableError(
                    say("The hub sends {path} over a connection that is not private.", path=quote(file.path)),
                    say("Retry later."),
                )
            answer.close()
            url = following
        raise HubUnreachableError(say("The hub sends every request somewhere else."), say("Retry later."))

    def _address(self, file: RemoteFile) -> httpx2.URL:
        if self._elsewhere is not None:
            return httpx2.URL(self._elsewhere(file))
        path = f"/{self._choice.repo_id}/resolve/{self._choice.commit}/{quote_url(file.path)}"
        return self._hub.copy_with(raw_path=(self._hub.path.rstrip("/") + path).encode())

    def _authorisation(self, url: httpx2.URL) -> dict[str, str]:
        """The token, for the hub's own address alone."""
        return {"Authorization": " ".join(("Bearer", self._token))} if self._token and self._is_hub(url) else {}

    def _is_hub(self, url: httpx2.URL) -> bool:
        return (url.scheme, url.host, url.port) == (self._hub.scheme, self._hub.host, self._hub.port)

    def _judge(self, answer: httpx2.Response, file: RemoteFile, url: httpx2.URL) -> None:
        """Pass an answer with bytes; anything else is an error, or worth another try."""
        status = answer.status_code
        if status in (200, 206):
            self._check_tag(answer, file)
            return
        self._places.pop(file.path, None)
        if status in _TRANSIENT or not self._is_hub(url):  # what the hub pointed to may have run out: ask it again
            raise TryAgain(say("error {status}", status=status), _retry_after(answer.headers))
        if status == 416:
            raise DamagedDownloadError(
                say("{path} is shorter on the hub than it says.", path=quote(file.path)), say("Retry later.")
            )
        raise refusal(self._choice.repo_id, status, answer.headers)

    def _check_tag(self, answer: httpx2.Response, file: RemoteFile) -> None:
        """Hold that the hub still means the version that was looked up."""
        linked = answer.headers.get("X-Linked-Etag", "").strip('"')
        if linked and linked != file.etag:
            raise DamagedDownloadError(
                say("{path} is another one on the hub by now.", path=quote(file.path)),
                say("Remove this download and start it again."),
            )

    def _body(self, answer: httpx2.Response, file: RemoteFile, start: int) -> Body:
        etag = answer.headers.get("ETag", "")
        etag = "" if etag.startswith("W/") else etag
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise TryAgain(say("an answer that is packed"))
        total = answer.headers.get("Content-Length")
        if answer.status_code == 206:
            found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if not found or int(found[1]) != start:
                raise TryAgain(say("other bytes than were asked for"))
            total = found[3]
        elif "html" in answer.headers.get("Content-Type", ""):
            raise TryAgain(say("a page of text instead of the file"))
        if total not in (None, "*", str(file.size_bytes)):
            raise DamagedDownloadError(
                say(
                    "{path} is {total} bytes long on its server instead of {size_bytes}.",
                    path=quote(file.path),
                    total=total,
                    size_bytes=file.size_bytes,
                ),
                say("Retry later."),
            )
        read_into = reader_of(answer, self._silence_s, lambda: self._closed)
        return Body(start if answer.status_code == 206 else 0, etag, read_into)

    @contextmanager
    def _watched(self, answer: httpx2.Response) -> Iterator[httpx2.Response]:
        """Remember the connection while it is read from, so that `close` can end it."""
        connected = socket_of(answer)
        with self._lock:
            if self._closed:
                raise TryAgain(say("closed"))
            if connected is not None:
                self._sockets.add(connected)
        try:
            yield answer
        finally:
            with self._lock:
                self._sockets.discard(connected)


def _shut(connected: socket.socket) -> None:
    try:
        connected.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # closed by the other side already


def _retry_after(headers: httpx2.Headers) -> float | None:
    """How long a server asks to wait, in seconds or until a date."""
    text = headers.get("Retry-After", "")
    if text.isdecimal() and len(text) < 9:
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        moment = email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(moment - time.time(), 0.0), MAX_RETRY_AFTER_S)
