"""Two engines on one file that both hold in memory: same tokens, same threads, strictly in turn.

Each engine has a process of its own. A pair is one engine, then the other, on the same tokens; what the machine does
meanwhile meets both, so a ratio is taken pair by pair. The first pair of a metric warms up and is not counted. Only one
process computes at a time, and the CPU time of the other tells whether it really sleeps.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.bench.limits import LimitMeter, MachineLimits, Work, work_of
from engine.bench.models import FIRST_WORD_ID, Shape
from engine.bench.peer_process import PeerProcess
from engine.bench.results import AVX2_DECODE, METRICS, FileResult, Metric, Pairs, PeerFacts, goal_of

SEED = 0
AGREEMENT_TOKENS = 32

_PAUSE_S = 0.05  # until the threads of the one that has just computed are asleep


def no_note(note: str) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Course:
    """How to compare.

    Attributes:
        threads: CPU threads of each engine.
        repeat: Counted pairs per metric, at least 1.
        metrics: What to measure.
        meter: Measures what the machine does at most; None where that cannot be known.
        avx2: Whether to measure our decode without AVX-512 too.
        on_note: Hears what is being done.
    """

    threads: int
    repeat: int
    metrics: tuple[Metric, ...] = METRICS
    meter: LimitMeter | None = None
    avx2: bool = True
    on_note: Callable[[str], None] = no_note

    @property
    def context_tokens(self) -> int:
        """Context that every metric fits into."""
        return max(metric.context_tokens for metric in (*self.metrics, AVX2_DECODE))


def compare_file(path: Path, shape: Shape, mix: str, course: Course) -> FileResult:
    """Compare the engines on one file.

    Args:
        path: The file.
        shape: What it holds.
        mix: Its mix of formats.
        course: How to compare.

    Raises:
        EngineFailure: An engine refused the file, or its process ended.
    """
    prompts = Prompts(shape.vocabulary)
    work = work_of(path, shape.experts_per_token / shape.experts)
    with PeerProcess("rooftop", path, course.threads, course.context_tokens) as ours:
        with PeerProcess("llama.cpp", path, course.threads, course.context_tokens) as theirs:
            same = prompts.draw(AGREEMENT_TOKENS)
            agreement = cosine(ours.last_logits(same), theirs.last_logits(same))
            duel = Duel(ours, theirs, prompts)
            pairs = []
            for metric in course.metrics:
                course.on_note(f"{shape.name} {mix}: {metric.name}")
                pairs.append(_compare_metric(duel, metric, work, course, goal_of(metric.name, shape.name, mix)))
            facts = duel.facts()
        if course.avx2:
            course.on_note(f"{shape.name} {mix}: {AVX2_DECODE.name}")
        avx2 = _compare_avx2(ours, path, prompts, course) if course.avx2 else None
    return FileResult(shape.name, mix, path.stat().st_size, tuple(pairs), avx2, *facts, agreement)


def _compare_avx2(best: PeerProcess, path: Path, prompts: Prompts, course: Course) -> Pairs:
    """Our decode without AVX-512 against the best that this CPU has."""
    with PeerProcess("rooftop", path, course.threads, course.context_tokens, isa="avx2") as narrow:
        narrow_samples, best_samples = Duel(narrow, best, prompts).measure(AVX2_DECODE, course.repeat)
    return Pairs(AVX2_DECODE.name, narrow_samples, best_samples, goal_of(AVX2_DECODE.name, "", ""))


def _compare_metric(duel: Duel, metric: Metric, work: Work, course: Course, goal: float | None) -> Pairs:
    """One metric, the machine's limit measured before every pair; what precedes the first pair is not counted."""
    limits: list[float] = []
    meter = course.meter
    take = None if meter is None else lambda: limits.append(_limit(work, meter.measure(), metric))
    ours, theirs = duel.measure(metric, course.repeat, take)
    return Pairs(metric.name, ours, theirs, goal, tuple(limits[1:]))


def _limit(work: Work, limits: MachineLimits, metric: Metric) -> float:
    """Tokens/s that the machine allows."""
    return work.decode_limit(limits) if metric.new_tokens else work.prefill_limit(limits, metric.prompt_tokens)


class Prompts:
    """Draws random prompts, no two of which begin alike: nothing is found in an engine's cache.

    Args:
        vocabulary: Tokens of the model.
    """

    def __init__(self, vocabulary: int) -> None:
        """See the class."""
        self._vocabulary, self._random, self._drawn = vocabulary, random.Random(SEED), 0

    def draw(self, count: int) -> list[int]:
        """So many token ids."""
        words = self._vocabulary - FIRST_WORD_ID
        first = FIRST_WORD_ID + self._drawn % words
        self._drawn += 1
        return [first, *(FIRST_WORD_ID + self._random.randrange(words) for _ in range(count - 1))]

    def draw_for(self, metric: Metric) -> tuple[list[int], list[int]]:
        """A prompt, and the tokens to decode after it."""
        return self.draw(metric.prompt_tokens), self.draw(metric.new_tokens + 1)[1:]


def sample(peer: PeerProcess, prompt: Sequence[int], tokens: Sequence[int]) -> float:
    """Tokens/s of an engine: of decoding the tokens, or of the prompt where there are none."""
    return peer.decode(prompt, tokens) if tokens else peer.prefill(prompt)


class Duel:
    """Two loaded engines that take turns.

    Args:
        left: Computes first.
        right: Computes second.
        prompts: Where their tokens come from.
    """

    def __init__(self, left: PeerProcess, right: PeerProcess, prompts: Prompts) -> None:
        """See the class."""
        self._peers, self._prompts = (left, right), prompts
        self._idle_cpu_s, self._idle_s = [0.0, 0.0], [0.0, 0.0]

    def measure(
        self, metric: Metric, repeat: int, before_pair: Callable[[], None] | None = None
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Tokens/s of both, pair by pair, the first pair left out; `before_pair` is called before that one too."""
        samples = []
        for _ in range(repeat + 1):
            if before_pair is not None:
                before_pair()
            prompt, tokens = self._prompts.draw_for(metric)
            samples.append((self._turn(0, prompt, tokens), self._turn(1, prompt, tokens)))
        left, right = zip(*samples[1:], strict=True)
        return left, right

    def facts(self) -> tuple[PeerFacts, PeerFacts]:
        """What the processes showed until now."""
        left, right = (
            PeerFacts(
                peak_rss_bytes=peer.peak_rss_bytes(),
                load_s=peer.load_s,
                details=peer.details,
                idle_share=self._idle_cpu_s[index] / self._idle_s[index] if self._idle_s[index] else 0.0,
            )
            for index, peer in enumerate(self._peers)
        )
        return left, right

    def _turn(self, index: int, prompt: Sequence[int], tokens: Sequence[int]) -> float:
        """One sample of one engine, while the CPU time of the other is watched."""
        peer, other = self._peers[index], self._peers[1 - index]
        time.sleep(_PAUSE_S)
        started_s, started_cpu_s = time.perf_counter(), other.cpu_s()
        tokens_per_s = sample(peer, prompt, tokens)
        self._idle_s[1 - index] += time.perf_counter() - started_s
        self._idle_cpu_s[1 - index] += other.cpu_s() - started_cpu_s
        return tokens_per_s


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    """How alike two rows of logits are: 1 for the same direction, 0 where either is empty or not finite."""
    product = sum(a * b for a, b in zip(left, right, strict=True))
    scale = math.hypot(*left) * math.hypot(*right)
    return product / scale if scale and math.isfinite(product) else 0.0
