"""The bytes of an answer, straight from its connection into the buffer where they are wanted.

httpx2 makes the connection and reads the head, through every proxy and redirect. It would also hand out the body, in
pieces of 64 KiB that are copied four times on their way. So the first piece, whatever came along with the head,
is taken from httpx2, and all the rest from the socket: `docs/decisions/0049-what-a-byte-costs.md`.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from itertools import islice

import httpx2

from engine.hub.answer import TryAgain
from engine.sentences import say

ReadInto = Callable[[memoryview], int]


def reader_of(answer: httpx2.Response, silence_s: float, is_closed: Callable[[], bool]) -> ReadInto:
    """What reads an answer's body, as `Body.read_into` has it.

    Args:
        answer: Its head has been read, of its body nothing.
        silence_s: After how long without a byte a connection counts as dead.
        is_closed: Whether the connection was shut from another thread: what comes then is not to be trusted, as a
            shut connection forgets that it was encrypted.
    """
    connected, length = socket_of(answer), answer.headers.get("Content-Length", "")
    if connected is None or not _is_plain_body(answer, connected) or not length.isdecimal():
        return LibraryReader(answer.iter_raw()).read_into
    return SocketReader(answer.iter_raw(), connected, int(length), silence_s, is_closed).read_into


def socket_of(answer: httpx2.Response) -> socket.socket | None:
    """The connection that an answer comes over."""
    stream = answer.extensions.get("network_stream")
    found = stream.get_extra_info("socket") if stream is not None else None
    return found if isinstance(found, socket.socket) else None


def _is_plain_body(answer: httpx2.Response, connected: socket.socket) -> bool:
    """Whether the socket gives the body's bytes as they are: no frames, no chunks, no encryption but its own."""
    stream = answer.extensions["network_stream"]
    encrypted_above = stream.get_extra_info("ssl_object") is not None and not isinstance(connected, ssl.SSLSocket)
    return (
        answer.http_version.startswith("HTTP/1") and "Transfer-Encoding" not in answer.headers and not encrypted_above
    )


class LibraryReader:
    """Reads a body of any kind, as httpx2 hands it out; what `SocketReader` is held against.

    Args:
        chunks: The body.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        """See the class."""
        self._chunks = chunks
        self._left = memoryview(b"")

    def read_into(self, buffer: memoryview) -> int:
        """As `Body.read_into`."""
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = memoryview(chunk)
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


class SocketReader:
    """Reads a body of known length, all but its first piece from the socket.

    Args:
        chunks: The body; only its beginning is taken from here.
        connected: Where the rest comes from.
        length: Of the whole body.
        silence_s: As in `reader_of`.
        is_closed: As in `reader_of`.
    """

    def __init__(
        self,
        chunks: Iterator[bytes],
        connected: socket.socket,
        length: int,
        silence_s: float,
        is_closed: Callable[[], bool],
    ) -> None:
        """See the class."""
        self._chunks = chunks  # let go of before the end, it would close the connection
        self._first: LibraryReader | None = LibraryReader(islice(chunks, 1))
        self._connected = connected
        self._left = length
        self._silence_s = silence_s
        self._is_closed = is_closed

    def read_into(self, buffer: memoryview) -> int:
        """As `Body.read_into`.

        Raises:
            TryAgain: The connection ended.
            OSError: It failed, or nothing came for too long.
        """
        if not self._left:
            return 0
        count = self._from_first(buffer) or self._from_socket(buffer[: self._left])
        self._left -= count
        return count

    def _from_first(self, buffer: memoryview) -> int:
        if self._first is None:
            return 0
        count = self._first.read_into(buffer)
        if not count:
            self._first = None
            self._connected.settimeout(self._silence_s)
        return count

    def _from_socket(self, buffer: memoryview) -> int:
        count = self._connected.recv_into(buffer)
        if not count or self._is_closed():
            raise TryAgain(say("the connection was closed too early"))
        return count
