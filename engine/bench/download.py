"""`python -m engine.bench.download`: our transfer beside curl, from the same server on this machine.

Prints the speeds of both, alternating, and of curl with a SHA-256 beside it, which is what ours has to do, too; the
same from a server that sends no more than `--rate`, with the processor time that both take; and how much is fetched
twice when connections drop and when the process is killed. The server is a process of its own that
sends a file from memory with `sendfile`; all clients write to the same drive, and ours compares the SHA-256, too, while
it writes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import numpy as np

from engine.hub.blocks import CONNECTIONS
from engine.hub.places import key_of, unfinished_folder
from engine.hub.record import MANIFEST, bytes_here, read_choice, write_choice
from engine.hub.repository import Choice, RemoteFile
from engine.hub.transfer import Patience, Transfer
from engine.sizes import parse_bytes

FILE = "model.Q4_0.gguf"
SMALL_BUFFER_BYTES = 128 << 10
PIECE_BYTES = 4 << 20
LATE_S = 0.02  # what a sleep took too long is made up for, up to here
DROPS = 20
KILLS = (0.3, 0.6, 0.9)
HASTY = Patience(first_wait_s=0.01, longest_wait_s=0.1)


def main() -> int:
    """Measure and print; or, as its own child, serve or fetch."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    add = parser.add_argument
    add("--size", default="1GiB", help="of the file")
    add("--repeat", type=int, default=5, metavar="N", help="pairs of downloads")
    add("--folder", help="on the drive that is meant; else the system's for temporary files")
    add("--rate", action="append", default=[], metavar="SIZE", help="also from a server that sends so much a second")
    add("--connections", type=int, default=CONNECTIONS)
    add("--json", action="store_true", help="print one JSON object")
    add("--serve", nargs=3, metavar=("FILE", "DROP", "RATE"), help=argparse.SUPPRESS)
    add("--fetch", nargs=2, metavar=("ENDPOINT", "MODELS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(Path(options.serve[0]), int(options.serve[1]), int(options.serve[2]))
        return 0
    if options.fetch:
        fetch(options.fetch[0], Path(options.fetch[1]), options.connections)
        return 0
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        rates = [parse_bytes(rate) for rate in options.rate]
        figures = measure(Path(name), parse_bytes(options.size), options.repeat, options.connections, rates)
    if options.json:
        print(json.dumps(figures))
    else:
        print("\n".join(f"{title:32} {value:.4g}" for title, value in figures.items()))
    return 0


def measure(
    folder: Path, size_bytes: int, repeat: int, connections: int, rates: Sequence[int] = ()
) -> dict[str, float]:
    """All figures; speeds in bytes per second, shares of 1."""
    served = folder / FILE
    choice = _write_file(served, size_bytes)
    ours, curl, checked = [], [], []
    with _server(served) as endpoint:
        for _ in range(repeat):
            curl.append(size_bytes / _timed(lambda: _curl(endpoint, folder)))
            checked.append(size_bytes / _timed(lambda: _curl_and_sum(endpoint, folder)))
            ours.append(size_bytes / _timed(lambda: _ours(endpoint, folder, choice, connections)))
    paced = [_paced(served, folder, choice, connections, rate, repeat) for rate in rates]
    return {
        "size_bytes": size_bytes,
        "curl_bytes_per_s": statistics.median(curl),
        "curl_and_sha256_bytes_per_s": statistics.median(checked),
        "ours_bytes_per_s": statistics.median(ours),
        "share_of_curl": statistics.median(a / b for a, b in zip(ours, curl, strict=True)),
        "share_of_curl_and_sha256": statistics.median(a / b for a, b in zip(ours, checked, strict=True)),
        **{title: value for figures in paced for title, value in figures.items()},
        "refetched_after_drops": _refetched_after_drops(served, folder, choice, connections),
        "refetched_per_kill": _refetched_per_kill(served, folder, choice, connections),
    }


def _paced(served: Path, folder: Path, choice: Choice, connections: int, rate: int, repeat: int) -> dict[str, float]:
    """Both from a server that sends so many bytes a second; processor time as a share of one core."""
    curl, ours = [], []
    with _server(served, rate=rate) as endpoint:
        for _ in range(repeat):
            curl.append(_used(lambda: _curl(endpoint, folder), resource.RUSAGE_CHILDREN))
            ours.append(_used(lambda: _ours(endpoint, folder, choice, connections), resource.RUSAGE_SELF))
    title = f"at_{rate / 1e6:.0f}_mb_per_s"
    return {
        f"curl_bytes_per_s_{title}": choice.total_bytes / statistics.median(seconds for seconds, _ in curl),
        f"share_of_curl_{title}": statistics.median(a / b for (a, _), (b, _) in zip(curl, ours, strict=True)),
        f"curl_cores_{title}": statistics.median(used / seconds for seconds, used in curl),
        f"ours_cores_{title}": statistics.median(used / seconds for seconds, used in ours),
    }


def _used(work: Callable[[], object], whose: int) -> tuple[float, float]:
    """Seconds that work takes, and those of processor time."""
    before = resource.getrusage(whose)
    seconds = _timed(work)
    after = resource.getrusage(whose)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


# ---- the clients ----------------------------------------------------------------------------------------------------


def _curl(endpoint: str, folder: Path) -> None:
    target = folder / "curl.gguf"
    subprocess.run(["curl", "-sS", "-o", str(target), f"{endpoint}/a/b/resolve/0/{FILE}"], check=True)
    target.unlink()


def _curl_and_sum(endpoint: str, folder: Path) -> None:
    """As curl, and the checksum of what comes at the same time, by the system's own programs."""
    target = folder / "curl.gguf"
    words = 'set -o pipefail; curl -sS "$1" | tee "$2" | sha256sum > /dev/null'
    subprocess.run(
        ["bash", "-c", words, "bash", f"{endpoint}/a/b/resolve/0/{FILE}", str(target)],
        check=True,
    )
    target.unlink()


def _ours(endpoint: str, folder: Path, choice: Choice, connections: int) -> float:
    """Download with ours; returns how many bytes came for each that was wanted."""
    models = folder / "models"
    moving = Transfer(choice, models, endpoint=endpoint, connections=connections, patience=HASTY)
    moving.run()
    shutil.rmtree(models)
    return moving.meter.fetched_bytes / choice.total_bytes


def _refetched_after_drops(served: Path, folder: Path, choice: Choice, connections: int) -> float:
    """What came twice, as a share of the file, where the server drops connections all the time."""
    with _server(served, drop_bytes=choice.total_bytes // DROPS) as endpoint:
        return _ours(endpoint, folder, choice, connections) - 1


def _refetched_per_kill(served: Path, folder: Path, choice: Choice, connections: int) -> float:
    """What was sent twice, as a share of the file, for each kill -9; what lay in the connections counts as sent."""
    models = folder / "killed"
    part = unfinished_folder(models, key_of(choice))
    part.mkdir(parents=True)
    write_choice(part / MANIFEST, choice)
    with _server(served, rate=choice.total_bytes // 10) as endpoint:
        for share in KILLS:
            command = [sys.executable, "-m", "engine.bench.download", "--fetch", endpoint, str(models)]
            child = subprocess.Popen([*command, "--connections", str(connections)])
            while bytes_here(part, choice) < share * choice.total_bytes and child.poll() is None:
                time.sleep(0.01)
            child.kill()
            child.wait()
        fetch(endpoint, models, connections)
        with urlopen(f"{endpoint}/sent") as answer:  # noqa: S310 - our own server
            sent_bytes = int(answer.read())
    shutil.rmtree(models)
    return (sent_bytes / choice.total_bytes - 1) / len(KILLS)


def fetch(endpoint: str, models: Path, connections: int) -> None:
    """Go on with the one download that is there."""
    manifest = next((models / ".downloads").glob(f"*/{MANIFEST}"))
    choice = read_choice(manifest)
    assert choice is not None
    Transfer(choice, models, endpoint=endpoint, connections=connections).run()


def _timed(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def _write_file(path: Path, size_bytes: int) -> Choice:
    """Random bytes, and the choice that they are."""
    digest, random = hashlib.sha256(), np.random.default_rng(1)
    with path.open("wb") as file:
        for start in range(0, size_bytes, PIECE_BYTES):
            piece = random.bytes(min(PIECE_BYTES, size_bytes - start))
            digest.update(piece)
            file.write(piece)
    remote = RemoteFile(FILE, size_bytes, digest.hexdigest(), digest.hexdigest())
    return Choice("Q4_0", "GGUF", (remote,), size_bytes, "a/b", "0" * 40)


# ---- the server -----------------------------------------------------------------------------------------------------


@contextmanager
def _server(path: Path, drop_bytes: int = 0, rate: int = 0) -> Iterator[str]:
    command = [sys.executable, "-m", "engine.bench.download", "--serve", str(path), str(drop_bytes), str(rate)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


def serve(path: Path, drop_bytes: int, rate: int) -> None:
    """Serve a file until killed.

    Args:
        path: The file; every address is it, but `/sent`, which tells how many bytes were sent.
        drop_bytes: Each connection breaks off after so many; 0 for never.
        rate: Bytes per second of all connections together, roughly; 0 for no limit.
    """
    sent, due_s = [0], [0.0]
    lock = threading.Lock()
    size_bytes = path.stat().st_size

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_values: object) -> None:
            """No news."""

        def do_GET(self) -> None:
            """Answer."""
            if self.path == "/sent":
                self._head(200, len(str(sent[0])), {})
                self.wfile.write(str(sent[0]).encode())
                return
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            start, stop = (int(found[1]), int(found[2]) + 1) if found else (0, size_bytes)
            content_range = {"Content-Range": f"bytes {start}-{stop - 1}/{size_bytes}"} if found else {}
            self._head(206 if found else 200, stop - start, content_range)
            with suppress(OSError):
                self._pour(start, min(stop, start + drop_bytes) if drop_bytes else stop)
            self.close_connection = bool(drop_bytes)

        def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(length), "ETag": '"v1"', **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def _pour(self, start: int, stop: int) -> None:
            if rate:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER_BYTES)
            with path.open("rb") as file:
                while start < stop:
                    count = min(stop - start, SMALL_BUFFER_BYTES if rate else PIECE_BYTES)
                    sent_bytes = os.sendfile(self.connection.fileno(), file.fileno(), start, count)
                    start += sent_bytes
                    with lock:
                        sent[0] += sent_bytes
                        if rate:
                            due_s[0] = max(due_s[0], time.monotonic() - LATE_S) + sent_bytes / rate
                    time.sleep(max(0.0, due_s[0] - time.monotonic()) if rate else 0.0)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
