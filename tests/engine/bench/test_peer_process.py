"""A peer in a process of its own: the protocol, the memory that counts, and every way to end."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.bench import peer_process
from engine.bench.models import model_file
from engine.bench.peer_process import PeerProcess, peak_rss_bytes, serve
from engine.errors import EngineFailure, EngineStoppedError
from tests.checkpoints import write_mixtral
from tests.engine.bench.tiny import MIXTRAL, VOCABULARY

PROMPT = [5, 6, 7]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gguf")
    pytest.importorskip("llama_cpp")
    return model_file(tmp_path_factory.mktemp("process"), MIXTRAL, "Q4_0")


@pytest.fixture(scope="module")
def child(file: Path) -> Iterator[PeerProcess]:
    with PeerProcess("llama.cpp", file, 1, 64) as child:
        yield child


def test_a_child_answers_what_the_peer_does(child: PeerProcess) -> None:
    assert child.load_s > 0
    assert "CPU" in child.details
    assert child.prefill(PROMPT) > 0
    assert child.decode(PROMPT, [8, 9]) > 0
    assert len(child.last_logits(PROMPT)) == VOCABULARY


def test_memory_and_time_are_the_childs_own(child: PeerProcess, file: Path) -> None:
    ballast = bytearray(300_000_000)
    with PeerProcess("llama.cpp", file, 1, 64) as second:
        assert 10_000_000 < second.peak_rss_bytes() < len(ballast)
    assert 0 < child.cpu_s() < 60


def test_an_idle_child_sleeps(child: PeerProcess) -> None:
    child.prefill(PROMPT)
    time.sleep(0.05)
    before_s = child.cpu_s()
    time.sleep(0.3)
    assert child.cpu_s() - before_s < 0.1


def test_this_engine_runs_as_a_child_too(tmp_path: Path) -> None:
    with PeerProcess("rooftop", write_mixtral(tmp_path / "m"), 1, 64) as child:
        assert child.decode(PROMPT, [8, 9]) > 0
        time.sleep(0.05)
        before_s = child.cpu_s()
        time.sleep(0.3)
        assert child.cpu_s() - before_s < 0.1


def test_a_refusal_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    with pytest.raises(EngineFailure, match=r"llama\.cpp: .*cannot load") as caught:
        PeerProcess("llama.cpp", tmp_path / "nope.gguf", 1, 64)
    assert caught.value.remedy


def test_a_child_that_dies_tells_its_last_words(file: Path) -> None:
    with PeerProcess("llama.cpp", file, 1, 64) as child:
        with pytest.raises(EngineStoppedError, match="ended at 'prefill' with code 1: TypeError"):
            child.prefill(["no token"])  # type: ignore[list-item]
        child.close()


def test_a_child_that_hangs_is_killed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with PeerProcess("llama.cpp", file, 1, 64) as child:
        process = psutil.Process(child._process.pid)
        process.suspend()
        monkeypatch.setattr(peer_process, "PATIENCE_S", 0.2)
        with pytest.raises(EngineStoppedError, match="code -9"):
            child.prefill(PROMPT)
    assert not process.is_running()


def test_closing_ends_the_child(file: Path) -> None:
    with PeerProcess("llama.cpp", file, 1, 64) as child:
        process = psutil.Process(child._process.pid)
    assert not process.is_running()


def test_requests_are_lines_of_json(tmp_path: Path) -> None:
    model = write_mixtral(tmp_path / "m")
    requests: list[dict[str, Any]] = [
        {"do": "load", "path": str(tmp_path / "nope"), "threads": 1, "context_tokens": 64, "isa": "auto"},
        {"do": "load", "path": str(model), "threads": 1, "context_tokens": 64, "isa": "auto"},
        {"do": "prefill", "tokens": PROMPT},
        {"do": "decode", "prompt": PROMPT, "tokens": PROMPT},
        {"do": "logits", "tokens": PROMPT},
        {"do": "memory"},
    ]
    answers = io.StringIO()
    serve("rooftop", io.StringIO("".join(json.dumps(request) + "\n" for request in requests)), answers)
    keys = [set(json.loads(line)) for line in answers.getvalue().splitlines()]
    speed = {"tokens_per_s"}
    assert keys == [{"refused", "remedy"}, {"load_s", "details"}, speed, speed, {"logits"}, {"peak_rss_bytes"}]


def test_peak_memory_is_at_least_what_is_held() -> None:
    assert peak_rss_bytes() >= psutil.Process(os.getpid()).memory_info().rss * 0.9
