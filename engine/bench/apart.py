"""Two engines on one file that memory does not hold twice: each has the machine to itself, one behind the other.

In every round each engine is started, loads the file, warms up on one sample that is not counted, and is measured once
for every metric, on the same tokens as the other. Minutes lie between the two halves of a pair, in which a shared
machine's memory may have changed its speed; so the ratio's spread is wider than where both are loaded at once.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from engine.bench.duel import AGREEMENT_TOKENS, Course, Prompts, cosine, sample
from engine.bench.models import Shape
from engine.bench.peer_process import PeerName, PeerProcess
from engine.bench.results import FileResult, Pairs, PeerFacts, goal_of

# Of a file's size: ours holds it once; llama.cpp maps it and packs most of it once more.
_BOTH = 3.2


def both_fit(path: Path) -> bool:
    """Whether RAM holds a file in both engines at once."""
    return _BOTH * path.stat().st_size < psutil.virtual_memory().total


@dataclass
class _Seen:
    """What one engine showed, round after round."""

    speeds: list[list[float]] = field(default_factory=list)  # by round, then metric
    load_s: list[float] = field(default_factory=list)
    peak_rss_bytes: int = 0
    details: str = ""
    logits: Sequence[float] = ()

    def facts(self) -> PeerFacts:
        """The typical load, and the most memory."""
        return PeerFacts(self.peak_rss_bytes, statistics.median(self.load_s), self.details, idle_share=0.0)


def compare_apart(path: Path, shape: Shape, mix: str, course: Course) -> FileResult:
    """Compare the engines on one file, never both at once.

    Args:
        path: The file.
        shape: What it holds.
        mix: Its mix of formats.
        course: How to compare; its meter and AVX2 are not asked for.

    Raises:
        EngineFailure: An engine refused the file, or its process ended.
    """
    prompts, ours, theirs = Prompts(shape.vocabulary), _Seen(), _Seen()
    same = prompts.draw(AGREEMENT_TOKENS)
    engines: tuple[tuple[PeerName, _Seen], ...] = (("rooftop", ours), ("llama.cpp", theirs))
    for number in range(1, course.repeat + 1):
        # The first metric twice: one sample warms up.
        tokens = [prompts.draw_for(metric) for metric in (course.metrics[0], *course.metrics)]
        for name, seen in engines:
            course.on_note(f"{shape.name} {mix}: round {number} of {course.repeat}, {name}")
            with PeerProcess(name, path, course.threads, course.context_tokens) as peer:
                seen.logits = seen.logits or peer.last_logits(same)
                seen.speeds.append([sample(peer, *drawn) for drawn in tokens][1:])
                seen.load_s.append(peer.load_s)
                seen.peak_rss_bytes, seen.details = max(seen.peak_rss_bytes, peer.peak_rss_bytes()), peer.details
    pairs = tuple(
        Pairs(metric.name, left, right, goal_of(metric.name, shape.name, mix))
        for metric, left, right in zip(
            course.metrics, zip(*ours.speeds, strict=True), zip(*theirs.speeds, strict=True), strict=True
        )
    )
    agreement = cosine(ours.logits, theirs.logits)
    return FileResult(shape.name, mix, path.stat().st_size, pairs, None, ours.facts(), theirs.facts(), agreement)
