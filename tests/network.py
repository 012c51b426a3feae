"""A hostile network on this machine: servers with our own certificates, and a proxy that tunnels, asks or refuses."""

from __future__ import annotations

import datetime
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

import trustme

Kind = Literal["sound", "expired", "early", "other"]


def certificate_of(authority: trustme.CA, kind: Kind = "sound") -> ssl.SSLContext:
    """What a server shows that calls itself "localhost"."""
    day = datetime.timedelta(days=1)
    now = datetime.datetime.now(datetime.UTC)
    begin, end = {"expired": (now - 9 * day, now - day), "early": (now + day, now + 9 * day)}.get(kind, (None, None))
    name = "elsewhere.example" if kind == "other" else "localhost"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name, not_before=begin, not_after=end).configure_cert(context)
    return context


class Proxy:
    """A proxy that makes tunnels.

    Attributes:
        account: What it asks for, "name:password" in Base64; "" asks for nothing.
        refuses: The status with which it refuses every tunnel; 0 for none.
        tunnels: Where tunnels were asked for.
    """

    def __init__(self) -> None:
        self.account, self.refuses = "", 0
        self.tunnels: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(self))
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_port}"


@contextmanager
def proxy_server() -> Iterator[Proxy]:
    proxy = Proxy()
    threading.Thread(target=proxy.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        proxy.server.server_close()


def _handler_for(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            proxy.tunnels.append(self.path)
            if not self._refused():
                host, _, port = self.path.rpartition(":")
                with socket.create_connection((host, int(port)), timeout=10) as there:
                    self.send_response(200)
                    self.end_headers()
                    _pump(self.connection, there)
            self.close_connection = True

        def do_GET(self) -> None:
            """Plain requests are only ever refused."""
            self._refused()

        def _refused(self) -> bool:
            known = self.headers.get("Proxy-Authorization") == f"Basic {proxy.account}"
            status = proxy.refuses or (407 if proxy.account and not known else 0)
            if status:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
            return bool(status)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    return Handler


def _pump(one: socket.socket, other: socket.socket) -> None:
    while True:
        for ready in select.select([one, other], [], [], 30)[0]:
            data = ready.recv(65536)
            if not data:
                return
            (other if ready is one else one).sendall(data)
