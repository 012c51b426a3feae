"""A peer in a process of its own, so that neither its memory nor its threads mix with another's.

The protocol is one JSON object per line, a request and its answer:

    {"do": "load", "path": ..., "threads": ..., "context_tokens": ..., **options}   {"load_s": ..., "details": ...}
    {"do": "prefill", "tokens": [...]}                                              {"tokens_per_s": ...}
    {"do": "decode", "prompt": [...], "tokens": [...]}                              {"tokens_per_s": ...}
    {"do": "logits", "tokens": [...]}                                               {"logits": [...]}
    {"do": "memory"}                                                                {"peak_rss_bytes": ...}

A refusal is {"refused": message, "remedy": ...}. The end of stdin ends the child. Between requests it must sleep: the
caller sees by `cpu_s` whether it does.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

import psutil

from engine.bench.accelerated import Accelerated
from engine.bench.peers import LlamaCpp, Peer, Rooftop
from engine.errors import EngineFailure, EngineStoppedError, RooftopError

PeerName = Literal["rooftop", "llama.cpp", "accelerate"]
PATIENCE_S = 900.0

_STOP_TIMEOUT_S = 10.0


class PeerProcess:
    """The caller's side of one peer.

    Args:
        name: Which engine.
        path: The file to load.
        threads: CPU threads.
        context_tokens: Length of the context.
        options: What else the peer's own class takes, such as `isa` or `cpu_layers`.

    Attributes:
        name: Which engine.
        load_s: Seconds of its load.
        details: What it says of itself.

    Raises:
        EngineFailure: It refused the file, or its process ended.
    """

    def __init__(self, name: PeerName, path: Path, threads: int, context_tokens: int, **options: str | int) -> None:
        """Start the child and load the file."""
        self.name = name
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close
        source = str(Path(__file__).resolve().parents[2])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "engine.bench.peer_process", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))},
        )
        try:
            fields = {"path": str(path), "threads": threads, "context_tokens": context_tokens}
            answer = self._ask("load", **fields, **options)
        except BaseException:
            self.close()
            raise
        self.load_s, self.details = float(answer["load_s"]), str(answer["details"])

    def prefill(self, tokens: Sequence[int]) -> float:
        """Tokens/s of a prompt."""
        return float(self._ask("prefill", tokens=list(tokens))["tokens_per_s"])

    def decode(self, prompt: Sequence[int], tokens: Sequence[int]) -> float:
        """Tokens/s after a prompt."""
        return float(self._ask("decode", prompt=list(prompt), tokens=list(tokens))["tokens_per_s"])

    def last_logits(self, tokens: Sequence[int]) -> list[float]:
        """Logits after the last of some tokens."""
        return [float(value) for value in self._ask("logits", tokens=list(tokens))["logits"]]

    def peak_rss_bytes(self) -> int:
        """The most memory that the child ever held, the file's mapped pages included."""
        return int(self._ask("memory")["peak_rss_bytes"])

    def cpu_s(self) -> float:
        """Seconds of CPU time that the child has used so far, all threads."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def close(self) -> None:
        """End the child; may be called again."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._reap()
        self._process.stdout.close()
        self._log.close()

    def __enter__(self) -> Self:
        """Nothing more to open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _ask(self, what: str, **fields: object) -> dict[str, Any]:
        """Send a request and wait for its answer; a child that takes too long is killed.

        Raises:
            EngineFailure: The child refused, or ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        watchdog = threading.Timer(PATIENCE_S, self._process.kill)
        watchdog.start()
        try:
            self._process.stdin.write(json.dumps({"do": what, **fields}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        finally:
            watchdog.cancel()
        if not line:
            raise self._ended(what)
        answer: dict[str, Any] = json.loads(line)
        if "refused" in answer:
            raise EngineFailure(f"{self.name}: {answer['refused']}", answer["remedy"])
        return answer

    def _reap(self) -> int:
        """The exit code of a child that is ending, by force after a while."""
        try:
            return self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _ended(self, what: str) -> EngineStoppedError:
        """The error for a child that is gone, with its last words."""
        code = self._reap()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        return EngineStoppedError(
            f"{self.name} ended at {what!r} with code {code}: {last[:200]}.", "Compare a smaller model, or repeat it."
        )


# ---- the child ------------------------------------------------------------------------------------------------------


def serve(name: str, requests: IO[str], answers: IO[str]) -> None:
    """Answer requests until they end.

    Args:
        name: Which peer to load.
        requests: Where they come from, one per line.
        answers: Where the answers go.
    """
    peer: Peer | None = None
    for line in requests:
        request = json.loads(line)
        try:
            if request["do"] == "load":
                started = time.perf_counter()
                peer = _load(name, request)
                answer: dict[str, object] = {"load_s": time.perf_counter() - started, "details": peer.details}
            else:
                assert peer is not None, "nothing is loaded"
                answer = _answer(peer, request)
        except RooftopError as error:
            answer = {"refused": error.message, "remedy": error.remedy}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    if peer is not None:
        peer.close()


def peak_rss_bytes() -> int:
    """The most memory that this process ever held; a parent's own, which Linux passes on elsewhere, is left out."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    memory = psutil.Process().memory_info()
    return int(getattr(memory, "peak_wset", memory.rss))


def _load(name: str, request: dict[str, Any]) -> Peer:
    """The peer, with everything that the request says."""
    peers: dict[str, Callable[..., Peer]] = {"rooftop": Rooftop, "llama.cpp": LlamaCpp, "accelerate": Accelerated}
    return peers[name](**{field: value for field, value in request.items() if field != "do"})


def _answer(peer: Peer, request: dict[str, Any]) -> dict[str, object]:
    """What a loaded peer answers."""
    match request["do"]:
        case "prefill":
            return {"tokens_per_s": peer.prefill(request["tokens"])}
        case "decode":
            return {"tokens_per_s": peer.decode(request["prompt"], request["tokens"])}
        case "logits":
            return {"logits": peer.last_logits(request["tokens"])}
        case _:
            return {"peak_rss_bytes": peak_rss_bytes()}


def _take_stdout() -> IO[str]:
    """The real stdout, whose place stderr then takes: what libraries print must not reach the caller."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    serve(sys.argv[1], sys.stdin, _take_stdout())
