"""A hub on this machine: metadata, pinned files behind a redirect, ranges, and every way in which they can fail.

Two servers, as in reality: the hub knows the accounts and redirects; the storage beside it, on another port, has the
bytes. A test scripts faults per file: each is used up by one request to the storage, in order.
"""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SEND_BYTES = 16 << 10


@dataclass
class Fault:
    """What one request to the storage gets instead.

    Attributes:
        status: Answer with this instead of bytes.
        headers: In addition.
        after_bytes: Close the connection after so many.
        silent: Say nothing more after `after_bytes`, until the hub is closed.
        flip: Spoil the first byte that is sent.
        whole: Ignore the range.
        etag: Call the version so.
        page: Send a page of HTML instead.
        before: Called when the request comes.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    after_bytes: int | None = None
    silent: bool = False
    flip: bool = False
    whole: bool = False
    etag: str | None = None
    page: bool = False
    before: Callable[[], None] | None = None


@dataclass
class FakeRepository:
    """A repository; what is not in `small` is in LFS."""

    files: dict[str, bytes]
    small: frozenset[str] = frozenset()
    gated: bool = False
    token: str = ""
    tags: tuple[str, ...] = ("license:apache-2.0",)
    moved_to: str = ""
    gone: bool = False
    commit: str = COMMIT


class FakeHub:
    """Both servers and all that they were asked.

    Attributes:
        repositories: By "owner/name".
        faults: For each path of a file, those to come.
        always: For each path of a file, the fault of every request.
        requests: (server, path, headers) of every request, in order.
        sent: Bytes that the storage has sent, by path.
        bytes_per_s: How fast the storage sends, for each connection; None for no limit.

    Args:
        context: Speak TLS, as "localhost"; None for plain HTTP.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.repositories: dict[str, FakeRepository] = {}
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.always: dict[str, Fault] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.sent: dict[str, int] = defaultdict(int)
        self.bytes_per_s: float | None = None
        self.lock = threading.Lock()
        self.progressed = threading.Condition(self.lock)
        self.closed = threading.Event()
        self._servers = [_Server(self, _HubHandler), _Server(self, _StorageHandler)]
        if context is None:
            self.endpoint, self.storage = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)
        else:
            self.endpoint, self.storage = (f"https://localhost:{server.server_port}" for server in self._servers)
            for server in self._servers:
                server.socket = context.wrap_socket(server.socket, server_side=True)
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self.closed.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def next_fault(self, path: str) -> Fault:
        with self.lock:
            return self.faults[path].pop(0) if self.faults[path] else self.always.get(path, Fault())

    def wait_until_sent(self, path: str, count: float) -> None:
        with self.progressed:
            assert self.progressed.wait_for(lambda: self.sent[path] >= count, timeout=30)

    def asked(self, server: str) -> list[tuple[str, dict[str, str]]]:
        with self.lock:
            return [(path, headers) for kind, path, headers in self.requests if kind == server]


@contextmanager
def fake_hub(context: ssl.SSLContext | None = None) -> Iterator[FakeHub]:
    hub = FakeHub(context)
    try:
        yield hub
    finally:
        hub.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, hub: FakeHub, handler: type[BaseHTTPRequestHandler]) -> None:
        self.hub = hub
        super().__init__(("127.0.0.1", 0), handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    kind = ""

    @property
    def hub(self) -> FakeHub:
        return self.server.hub

    def log_message(self, *args: Any) -> None:
        """Tests are quiet."""

    def note(self) -> None:
        with self.hub.lock:
            self.hub.requests.append((self.kind, self.path, dict(self.headers.items())))

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class _HubHandler(_Handler):
    kind = "hub"

    def do_GET(self) -> None:
        self.note()
        parts = urlsplit(self.path)
        if parts.path == "/api/models":
            self._search(parse_qs(parts.query).get("search", [""])[0])
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/.+)?", parts.path):
            self._info(found[1])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", parts.path):
            self._resolve(found[1], found[2], unquote(found[3]))
        else:
            self.answer(404)

    def _open(self, repo_id: str) -> FakeRepository | None:
        repository = self.hub.repositories.get(repo_id)
        if repository is None or repository.gone:
            self.answer(404, headers={"X-Error-Code": "RepoNotFound"})
            return None
        if repository.moved_to:
            self.answer(307, headers={"Location": self.path.replace(repo_id, repository.moved_to)})
            return None
        return repository

    def _search(self, text: str) -> None:
        found = [
            self._summary(name, item) for name, item in self.hub.repositories.items() if text.lower() in name.lower()
        ]
        self.answer(200, json.dumps(found).encode(), {"Content-Type": "application/json"})

    def _summary(self, repo_id: str, repository: FakeRepository) -> dict[str, Any]:
        return {
            "id": repo_id,
            "modelId": repo_id,
            "sha": repository.commit,
            "gated": "manual" if repository.gated else False,
            "private": False,
            "downloads": 1234,
            "likes": 5,
            "tags": list(repository.tags),
            "siblings": [{"rfilename": path} for path in repository.files],
        }

    def _info(self, repo_id: str) -> None:
        repository = self._open(repo_id)
        if repository is None:
            return
        siblings = []
        for path, content in repository.files.items():
            sibling: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": _blob(content)}
            if path not in repository.small:
                sha256 = hashlib.sha256(content).hexdigest()
                sibling["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 130}
            siblings.append(sibling)
        body = json.dumps({**self._summary(repo_id, repository), "siblings": siblings}).encode()
        self.answer(200, body, {"Content-Type": "application/json"})

    def _resolve(self, repo_id: str, commit: str, path: str) -> None:
        repository = self._open(repo_id)
        if repository is None:
            return
        if repository.gated and self.headers.get("Authorization") != f"Bearer {repository.token}":
            self.answer(403 if self.headers.get("Authorization") else 401, headers={"X-Error-Code": "GatedRepo"})
        elif commit != repository.commit or path not in repository.files:
            self.answer(404, headers={"X-Error-Code": "EntryNotFound"})
        elif path in repository.small:
            content = repository.files[path]
            self.answer(200, content, {"ETag": f'"{_blob(content)}"'})
        else:
            sha256 = hashlib.sha256(repository.files[path]).hexdigest()
            location = f"{self.hub.storage}/{repo_id}/{path}"
            self.answer(302, headers={"Location": location, "X-Linked-Etag": f'"{sha256}"', "X-Repo-Commit": commit})


class _StorageHandler(_Handler):
    kind = "storage"

    def do_GET(self) -> None:
        self.note()
        owner, name, path = unquote(self.path).lstrip("/").split("/", 2)
        repository = self.hub.repositories[f"{owner}/{name}"]
        fault = self.hub.next_fault(path)
        if fault.before is not None:
            fault.before()
        if repository.gone or path not in repository.files:
            self.answer(404)
        elif fault.status:
            self.answer(fault.status, headers=fault.headers)
        elif fault.page:
            self.answer(200, b"<html>Sign in</html>", {"Content-Type": "text/html; charset=utf-8"})
        else:
            self._send(path, repository.files[path], fault)

    def _send(self, path: str, content: bytes, fault: Fault) -> None:
        etag = f'"{fault.etag or hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if self.headers.get("If-Range") not in (None, etag) or fault.whole:
            asked = None
        start, stop = (int(asked[1]), min(int(asked[2]) + 1, len(content))) if asked else (0, len(content))
        if start >= len(content) and content:
            self.answer(416, headers={"Content-Range": f"bytes */{len(content)}"})
            return
        self.send_response(206 if asked else 200)
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(stop - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        for header, value in fault.headers.items():
            self.send_header(header, value)
        self.end_headers()
        body = content[start:stop]
        if fault.flip and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        self._pour(path, body, fault)

    def _pour(self, path: str, body: bytes, fault: Fault) -> None:
        """Send, as fast as is allowed, and break off where the fault says."""
        stop = len(body) if fault.after_bytes is None else fault.after_bytes
        size = SEND_BYTES if self.hub.bytes_per_s or fault.after_bytes is not None else 1 << 20
        with suppress(OSError):
            for position in range(0, min(stop, len(body)), size):
                piece = body[position : min(position + size, stop)]
                with self.hub.progressed:  # before it goes out: who has it all may look at once
                    self.hub.sent[path] += len(piece)
                    self.hub.progressed.notify_all()
                self.wfile.write(piece)
                if self.hub.bytes_per_s:
                    time.sleep(len(piece) / self.hub.bytes_per_s)  # the speed of a line, not a wait for something
            if fault.silent:
                self.hub.closed.wait()
        if fault.after_bytes is not None:
            self.close_connection = True


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
