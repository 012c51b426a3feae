"""A comparison as text: one line per metric and file, then memory, agreement and whatever makes a figure doubtful."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from engine.bench.results import AGREEMENT_LEAST, FileResult, Pairs, Report

IDLE_SHARE_MOST = 0.05

_GB = 1e9
_NAME = 18  # characters


def as_table(report: Report) -> str:
    """The whole report, ready to print."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    """Its lines."""
    wide = max([_NAME, *(len(file.name) + 1 for file in report.files)])
    yield f"{report.cpu}, {report.threads} threads, pairs per metric: {report.repeat}, {report.date}"
    yield ", ".join(f"{name} {version}" for name, version in report.versions.items())
    if report.read_bytes_per_s and report.int8_operations_per_s:
        yield (
            f"this machine read {report.read_bytes_per_s / _GB:.1f} GB/s and did "
            f"{report.int8_operations_per_s / _GB:.0f} int8 GOPS at the beginning; limits are measured before each pair"
        )
    for name, details in _details(report):
        yield f"{name}: {details}"
    yield ""
    yield (
        f"{'tokens/s':{wide}}{'':14}{'ours':>9}{'llama.cpp':>11}{'ratio':>8}  {'min..max':14}{'goal':>7}"
        f"{'limit':>10}{'ours':>7}{'theirs':>8}"
    )
    for file in report.files:
        for pairs in file.pairs:
            yield f"{file.name:{wide}}{_row(pairs)}"
    avx2 = [(file.name, file.avx2) for file in report.files if file.avx2]
    if avx2:
        yield ""
        yield f"{'tokens/s':{wide}}{'':14}{'AVX2':>9}{'best':>11}{'ratio':>8}  {'min..max':14}{'goal':>7}"
        for name, pairs in avx2:
            yield f"{name:{wide}}{_row(pairs)}"
    yield ""
    for file in report.files:
        yield from _facts(file, wide)
    yield "! a goal missed, or a figure to doubt"


def _details(report: Report) -> list[tuple[str, str]]:
    """What each engine says of itself; the same for every file unless something is odd."""
    said = [pair for file in report.files for pair in (("Rooftop", file.ours), ("llama.cpp", file.theirs))]
    return list(dict.fromkeys((name, facts.details) for name, facts in said))


def _row(pairs: Pairs) -> str:
    """One metric's figures; a missed goal is marked."""
    ours, theirs = statistics.median(pairs.ours), statistics.median(pairs.theirs)
    spread = f"{min(pairs.ratios):.2f}..{max(pairs.ratios):.2f}"
    row = f"{pairs.metric:14.13}{ours:9.1f}{theirs:11.1f}{pairs.ratio:7.2f}x  {spread:14}"
    goal = "-" if pairs.goal is None else f"{pairs.goal:.2f}{'' if pairs.reached else ' !'}"
    row += f"{goal:>7}"
    if pairs.limit and pairs.shares:
        row += f"{pairs.limit:10.1f}{pairs.shares[0]:7.0%}{pairs.shares[1]:8.0%}"
    return row


def _facts(file: FileResult, wide: int) -> Iterator[str]:
    """Memory, agreement and doubts of one file, its name so many characters wide."""
    ours, theirs = file.ours.peak_rss_bytes, file.theirs.peak_rss_bytes
    missed = "" if ours <= file.rss_goal_bytes else " !"
    yield (
        f"{file.name:{wide}}peak RSS {ours / _GB:.2f} GB (goal {file.rss_goal_bytes / _GB:.2f}{missed}), "
        f"llama.cpp {theirs / _GB:.2f} GB, file {file.file_bytes / _GB:.2f} GB; "
        f"load {file.ours.load_s:.1f} s, llama.cpp {file.theirs.load_s:.1f} s; logits' cosine {file.agreement:.4f}"
    )
    if file.agreement < AGREEMENT_LEAST:
        yield f"{'':{wide}}! The engines do not compute the same: their speeds say nothing."
    for name, facts in (("Rooftop", file.ours), ("llama.cpp", file.theirs)):
        if facts.idle_share > IDLE_SHARE_MOST:
            yield f"{'':{wide}}! {name} took {facts.idle_share:.0%} of a core while the other computed."
