"""Engines that memory does not hold together: one process at a time, pairs from the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import psutil
import pytest

from engine.bench import apart, comparison
from engine.bench.apart import both_fit, compare_apart
from engine.bench.duel import Course
from engine.bench.models import SIZES
from engine.bench.results import METRICS, FileResult

SHAPE = SIZES["small"][0]
ROUNDS = 3


class _FakeProcess:
    """Notes what it is asked; its speeds tell the round, the engine and the sample."""

    running = 0
    diary: ClassVar[list[tuple[str, str, tuple[int, ...]]]] = []
    started: ClassVar[list[str]] = []

    def __init__(self, name: str, path: Path, threads: int, context_tokens: int) -> None:
        assert (threads, context_tokens) == (2, 513)
        _FakeProcess.running += 1
        assert _FakeProcess.running == 1, "both engines at once"
        self.name, self.details = name, f"{name}'s details"
        self._round = _FakeProcess.started.count(name)
        _FakeProcess.started.append(name)
        self.load_s = (5.0, 1.0, 9.0)[self._round]
        self._samples = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _FakeProcess.running -= 1

    def prefill(self, tokens: Sequence[int]) -> float:
        return self._note("prefill", tokens)

    def decode(self, prompt: Sequence[int], tokens: Sequence[int]) -> float:
        return self._note("decode", [*prompt, *tokens])

    def last_logits(self, tokens: Sequence[int]) -> list[float]:
        self.diary.append((self.name, "logits", tuple(tokens)))
        return [1.0, 2.0]

    def peak_rss_bytes(self) -> int:
        return (100, 300, 200)[self._round]

    def _note(self, what: str, tokens: Sequence[int]) -> float:
        self.diary.append((self.name, what, tuple(tokens)))
        speed = 100.0 * (self.name == "rooftop") + 10 * self._round + self._samples
        self._samples += 1
        return speed


@pytest.fixture
def result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FileResult:
    """A comparison in three rounds."""
    monkeypatch.setattr(apart, "PeerProcess", _FakeProcess)
    monkeypatch.setattr(_FakeProcess, "diary", [])
    monkeypatch.setattr(_FakeProcess, "started", [])
    path = tmp_path / "model.gguf"
    path.write_bytes(b"12345")
    return compare_apart(path, SHAPE, "Q4_0", Course(2, ROUNDS))


def test_rounds_of_one_engine_after_the_other(result: FileResult) -> None:
    assert _FakeProcess.started == ["rooftop", "llama.cpp"] * ROUNDS
    assert [pairs.metric for pairs in result.pairs] == [metric.name for metric in METRICS]
    # Sample 0 of every process warms up.
    assert [pairs.ours for pairs in result.pairs] == [(101, 111, 121), (102, 112, 122), (103, 113, 123)]
    assert [pairs.theirs for pairs in result.pairs] == [(1, 11, 21), (2, 12, 22), (3, 13, 23)]
    assert not any(pairs.limits for pairs in result.pairs)


def test_both_get_the_same_tokens_and_each_sample_others(result: FileResult) -> None:
    ours, theirs = (
        [(what, tokens) for name, what, tokens in _FakeProcess.diary if name == engine]
        for engine in ("rooftop", "llama.cpp")
    )
    assert ours == theirs
    assert [what for what, _ in ours] == ["logits", *["decode", "decode", "prefill", "prefill"] * ROUNDS]
    assert len({tokens[0] for _, tokens in ours}) == len(ours)


def test_facts_are_of_all_rounds(result: FileResult) -> None:
    assert (result.ours.load_s, result.ours.peak_rss_bytes, result.ours.details) == (5.0, 300, "rooftop's details")
    assert result.ours.idle_share == result.theirs.idle_share == 0
    assert result.agreement == pytest.approx(1)
    assert result.avx2 is None
    assert result.file_bytes == 5


@pytest.mark.parametrize(("ram", "apart_"), [(31, True), (33, False)])
def test_memory_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ram: int, apart_: bool) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"1234567890")
    memory = psutil.virtual_memory()._replace(total=ram)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert both_fit(path) is not apart_

    def chosen(name: str) -> None:
        raise RuntimeError(name)

    monkeypatch.setattr(comparison, "_empty_report", lambda *_: None)  # which tells llama.cpp's version
    monkeypatch.setattr(comparison, "_made", lambda *_: path)
    monkeypatch.setattr(comparison, "compare_apart", lambda *_: chosen("apart"))
    monkeypatch.setattr(comparison, "compare_file", lambda *_: chosen("together"))
    with pytest.raises(RuntimeError, match="apart" if apart_ else "together"):
        comparison.compare([SHAPE], ["Q4_0"], tmp_path, tmp_path, Course(1, 1))
