"""Engines take turns: who computes when, on which tokens, and what the other does meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from engine.bench import duel
from engine.bench.duel import Course, Duel, Prompts, cosine
from engine.bench.models import FIRST_WORD_ID
from engine.bench.peer_process import PeerProcess
from engine.bench.results import AVX2_DECODE, DECODE, METRICS, Metric


class _FakePeer:
    """Notes what it is asked and answers from a list of speeds."""

    def __init__(self, name: str, diary: list[tuple[str, str, int, int]], speeds: Sequence[float]) -> None:
        self.name, self.load_s, self.details = name, 1.5, f"{name}'s details"
        self.prompts: list[Sequence[int]] = []
        self.used_s = 0.0
        self._diary, self._speeds = diary, iter(speeds)

    def prefill(self, tokens: Sequence[int]) -> float:
        return self._note("prefill", tokens, ())

    def decode(self, prompt: Sequence[int], tokens: Sequence[int]) -> float:
        return self._note("decode", prompt, tokens)

    def peak_rss_bytes(self) -> int:
        return 1000

    def cpu_s(self) -> float:
        return self.used_s

    def _note(self, what: str, prompt: Sequence[int], tokens: Sequence[int]) -> float:
        self._diary.append((self.name, what, len(prompt), len(tokens)))
        self.prompts.append(prompt)
        return next(self._speeds)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duel, "_PAUSE_S", 0.0)


def _duel(left: _FakePeer, right: _FakePeer) -> Duel:
    return Duel(cast("PeerProcess", left), cast("PeerProcess", right), Prompts(1000))


def test_turns_alternate_and_the_first_pair_warms_up() -> None:
    diary: list[tuple[str, str, int, int]] = []
    left, right = _FakePeer("left", diary, [1, 10, 20]), _FakePeer("right", diary, [2, 5, 5])
    assert _duel(left, right).measure(Metric("m", 32, 8), 2) == ((10, 20), (5, 5))
    assert diary == [("left", "decode", 32, 8), ("right", "decode", 32, 8)] * 3


def test_every_pair_is_announced() -> None:
    diary: list[tuple[str, str, int, int]] = []
    left, right = _FakePeer("left", diary, [1, 1]), _FakePeer("right", diary, [1, 1])
    _duel(left, right).measure(Metric("m", 4), 1, lambda: diary.append(("", "before", 0, 0)))
    assert [(name, what) for name, what, *_ in diary] == [("", "before"), ("left", "prefill"), ("right", "prefill")] * 2


def test_a_pair_has_the_same_prompt_and_the_next_another() -> None:
    left, right = (_FakePeer(name, [], [1, 1, 1]) for name in ("left", "right"))
    _duel(left, right).measure(Metric("m", 16), 2)
    assert left.prompts == right.prompts
    assert len({prompt[0] for prompt in left.prompts}) == 3
    assert all(FIRST_WORD_ID <= token < 1000 for prompt in left.prompts for token in prompt)


def test_a_spinning_peer_is_found_out() -> None:
    class _Spinning(_FakePeer):
        def cpu_s(self) -> float:
            self.used_s += 1.0
            return self.used_s

    left, right = _Spinning("left", [], [1, 1]), _FakePeer("right", [], [1, 1])
    duel = _duel(left, right)
    duel.measure(Metric("m", 4), 1)
    ours, theirs = duel.facts()
    assert ours.idle_share > 1
    assert theirs.idle_share == 0
    assert (ours.peak_rss_bytes, ours.load_s, ours.details) == (1000, 1.5, "left's details")


def test_every_metric_fits_into_the_context() -> None:
    course = Course(threads=1, repeat=1)
    assert course.context_tokens == max(metric.context_tokens for metric in METRICS) == 513
    assert Course(threads=1, repeat=1, metrics=(Metric("m", 4),)).context_tokens == AVX2_DECODE.context_tokens
    assert AVX2_DECODE.new_tokens == DECODE.new_tokens


@pytest.mark.parametrize(
    ("left", "right", "alike"),
    [([1, 2], [2, 4], 1.0), ([1, 0], [0, 3], 0.0), ([1, 1], [-1, -1], -1.0), ([0, 0], [1, 1], 0.0)],
)
def test_logits_are_compared_by_their_direction(left: list[float], right: list[float], alike: float) -> None:
    assert cosine(left, right) == pytest.approx(alike)


def test_logits_that_are_not_finite_agree_with_nothing() -> None:
    assert cosine([1.0, float("nan")], [1.0, 1.0]) == 0.0
    assert cosine([1.0, float("inf")], [1.0, 1.0]) == 0.0
