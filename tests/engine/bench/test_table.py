"""The table says what was measured, which goals were missed, and which figures are doubtful."""

from __future__ import annotations

from dataclasses import replace

from engine.bench.table import as_table
from tests.engine.bench.reports import FILE, REPORT


def _line(table: str, words: str) -> str:
    return next(line for line in table.splitlines() if words in line)


def test_each_metric_has_its_line() -> None:
    table = as_table(REPORT)
    assert _line(table, " decode  ").split() == (
        ["mixtral", "Q4_0", "decode", "90.0", "60.0", "1.50x", "1.00..2.00", "1.00", "120.0", "80%", "50%"]
    )
    assert "A processor, 2 threads, pairs per metric: 3" in table
    assert "llama_cpp_python 0.3.36" in table
    assert "Rooftop: CPU, avx512 kernels\nllama.cpp: CPU : AVX512 = 1" in table
    assert "read 33.0 GB/s and did 680 int8 GOPS" in table


def test_a_missed_goal_is_marked() -> None:
    table = as_table(REPORT)
    assert "3.00 !" in _line(table, "prefill 512")
    assert "!" not in _line(table, " decode  ")
    assert "0.80 !" in _line(table, "decode, AVX2")


def test_memory_is_beside_its_goal() -> None:
    line = _line(as_table(REPORT), "peak RSS")
    assert "peak RSS 1.20 GB (goal 1.48), llama.cpp 1.10 GB, file 1.00 GB" in line
    large = replace(FILE, ours=replace(FILE.ours, peak_rss_bytes=1_600_000_000))
    assert "(goal 1.48 !)" in as_table(replace(REPORT, files=(large,)))


def test_doubtful_figures_are_named() -> None:
    sound = as_table(REPORT)
    assert "of a core" not in sound
    assert "say nothing" not in sound
    doubtful = replace(FILE, agreement=0.2, ours=replace(FILE.ours, idle_share=0.9))
    table = as_table(replace(REPORT, files=(doubtful,)))
    assert "Rooftop took 90% of a core while the other computed" in table
    assert "their speeds say nothing" in table


def test_what_was_not_measured_is_left_out() -> None:
    bare = replace(FILE, avx2=None, pairs=tuple(replace(pairs, limits=(), goal=None) for pairs in FILE.pairs))
    table = as_table(replace(REPORT, read_bytes_per_s=None, int8_operations_per_s=None, files=(bare,)))
    assert "AVX2" not in table
    assert "GOPS" not in table
    assert _line(table, " decode  ").split()[-1] == "-"


def test_long_names_stand_apart_from_figures() -> None:
    long = replace(FILE, shape="qwen3-30b-a3b", mix="Q4_K_M")
    table = as_table(replace(REPORT, files=(FILE, long)))
    assert f"{long.name} decode" in table
    assert len({line.index("peak RSS") for line in table.splitlines() if "peak RSS" in line}) == 1
