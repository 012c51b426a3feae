"""What a comparison found, as data: samples, ratios, goals and limits. Knows nothing of how they were measured."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any

RSS_GOAL_SHARE = 1.08
RSS_GOAL_BYTES = 400_000_000
AGREEMENT_LEAST = 0.95


@dataclass(frozen=True, slots=True)
class Metric:
    """One thing to measure.

    Attributes:
        name: What it is called.
        prompt_tokens: Length of the prompt.
        new_tokens: Tokens decoded after it, which are what is timed; 0 times the prompt.
    """

    name: str
    prompt_tokens: int
    new_tokens: int = 0

    @property
    def context_tokens(self) -> int:
        """Context that it needs."""
        return self.prompt_tokens + self.new_tokens + 1


DECODE = Metric("decode", prompt_tokens=32, new_tokens=64)
PREFILL_LONG = Metric("prefill 512", prompt_tokens=512)
PREFILL_SHORT = Metric("prefill 32", prompt_tokens=32)
AVX2_DECODE = Metric("decode, AVX2 only", prompt_tokens=32, new_tokens=64)
METRICS = (DECODE, PREFILL_LONG, PREFILL_SHORT)


@dataclass(frozen=True, slots=True)
class Goal:
    """The least ratio that a metric shall have.

    Attributes:
        metric: A metric's name.
        least: The ratio.
        shape: Only for this shape; "" for all.
        mix: Only for this mix of formats; "" for all.
    """

    metric: str
    least: float
    shape: str = ""
    mix: str = ""


GOALS = (  # the first that fits counts
    Goal(DECODE.name, 1.15, shape="qwen3"),
    Goal(DECODE.name, 1.0),
    Goal(PREFILL_LONG.name, 1.5, mix="Q6_K"),
    Goal(PREFILL_LONG.name, 3.0),
    Goal(PREFILL_SHORT.name, 2.5),
    Goal(AVX2_DECODE.name, 0.8),
)


def goal_of(metric: str, shape: str, mix: str) -> float | None:
    """The least ratio for a metric of a file; None where there is no goal."""
    fitting = (
        goal.least for goal in GOALS if goal.metric == metric and goal.shape in ("", shape) and goal.mix in ("", mix)
    )
    return next(fitting, None)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Two engines' speeds, measured in turn: sample i of one right before sample i of the other.

    Attributes:
        metric: What was measured.
        ours: Tokens/s of the first engine.
        theirs: Tokens/s of the second.
        goal: The least ratio that is wanted, None for no goal.
        limits: Tokens/s that the machine allowed right before each pair; empty where that was not measured.
    """

    metric: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    goal: float | None = None
    limits: tuple[float, ...] = ()

    @property
    def ratios(self) -> tuple[float, ...]:
        """Ours by theirs, pair by pair."""
        return tuple(ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True))

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)

    @property
    def limit(self) -> float | None:
        """The median of the limits, None without any."""
        return statistics.median(self.limits) if self.limits else None

    @property
    def shares(self) -> tuple[float, float] | None:
        """The shares of the limit that ours and theirs reach, each the median of the pairs' own; None without one."""
        if not self.limits:
            return None
        ours, theirs = (
            statistics.median(speed / limit for speed, limit in zip(speeds, self.limits, strict=True))
            for speeds in (self.ours, self.theirs)
        )
        return ours, theirs

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        return None if self.goal is None else self.ratio >= self.goal

    def as_json(self) -> dict[str, Any]:
        """All samples, with what they come to."""
        ours, theirs = statistics.median(self.ours), statistics.median(self.theirs)
        return {
            "metric": self.metric,
            "ours_tokens_per_s": list(self.ours),
            "theirs_tokens_per_s": list(self.theirs),
            "ours_median": ours,
            "theirs_median": theirs,
            "ratios": list(self.ratios),
            "ratio_median": self.ratio,
            "ratio_min": min(self.ratios),
            "ratio_max": max(self.ratios),
            "goal": self.goal,
            "reached": self.reached,
            "limits_tokens_per_s": list(self.limits),
            "ours_share_of_limit": self.shares[0] if self.shares else None,
            "theirs_share_of_limit": self.shares[1] if self.shares else None,
        }


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """What one engine's process showed beside its speed.

    Attributes:
        peak_rss_bytes: The most memory that it ever held, mapped pages of the file included.
        load_s: Seconds of its load.
        details: What it says of itself.
        idle_share: CPU time that it took while the other computed, in cores; near 0 unless it spins.
    """

    peak_rss_bytes: int
    load_s: float
    details: str
    idle_share: float


@dataclass(frozen=True, slots=True)
class FileResult:
    """One file, both engines.

    Attributes:
        shape: Name of its shape.
        mix: Its mix of formats.
        file_bytes: Its size.
        pairs: The metrics.
        avx2: Our decode without AVX-512 against our decode with it; None where it was not measured.
        ours: This engine's process.
        theirs: llama.cpp's process.
        agreement: Cosine of both engines' logits after the same prompt: that they compute the same.
    """

    shape: str
    mix: str
    file_bytes: int
    pairs: tuple[Pairs, ...]
    avx2: Pairs | None
    ours: PeerFacts
    theirs: PeerFacts
    agreement: float

    @property
    def name(self) -> str:
        """What to call it."""
        return f"{self.shape} {self.mix}"

    @property
    def rss_goal_bytes(self) -> float:
        """The most memory that our process shall hold."""
        return RSS_GOAL_SHARE * self.file_bytes + RSS_GOAL_BYTES

    def as_json(self) -> dict[str, Any]:
        """Everything."""
        return {
            "shape": self.shape,
            "format": self.mix,
            "file_bytes": self.file_bytes,
            "metrics": [pairs.as_json() for pairs in self.pairs],
            "avx2": self.avx2.as_json() if self.avx2 else None,
            "ours": asdict(self.ours),
            "theirs": asdict(self.theirs),
            "rss_share_of_file": self.ours.peak_rss_bytes / self.file_bytes,
            "rss_goal_bytes": self.rss_goal_bytes,
            "rss_reached": self.ours.peak_rss_bytes <= self.rss_goal_bytes,
            "agreement": self.agreement,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """A whole comparison.

    Attributes:
        date: When it began, ISO 8601.
        cpu: The processor.
        threads: Threads of each engine.
        repeat: Pairs per metric.
        versions: Package versions by name.
        read_bytes_per_s: Memory bandwidth measured at the beginning, None where it was not.
        int8_operations_per_s: Arithmetic measured at the beginning, None where it was not.
        files: What was found.
    """

    date: str
    cpu: str
    threads: int
    repeat: int
    versions: dict[str, str]
    read_bytes_per_s: float | None
    int8_operations_per_s: float | None
    files: tuple[FileResult, ...]

    def as_json(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "date": self.date,
            "cpu": self.cpu,
            "threads": self.threads,
            "repeat": self.repeat,
            "versions": self.versions,
            "read_bytes_per_s": self.read_bytes_per_s,
            "int8_operations_per_s": self.int8_operations_per_s,
            "files": [file.as_json() for file in self.files],
        }
