"""Ratios are taken pair by pair, goals are data, and everything goes into JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from engine.bench.results import GOALS, Metric, Pairs, goal_of
from tests.engine.bench.reports import FILE, REPORT


def test_ratios_pair_neighbours_and_the_median_counts() -> None:
    # The machine slowed down in the middle: the ratio of medians would be 0.5, pair by pair it is 2.
    pairs = Pairs("decode", ours=(200.0, 20.0, 200.0), theirs=(100.0, 10.0, 400.0), goal=1.5)
    assert pairs.ratios == (2.0, 2.0, 0.5)
    assert pairs.ratio == 2.0
    assert pairs.reached is True
    assert replace(pairs, goal=2.5).reached is False
    assert replace(pairs, goal=None).reached is None


def test_samples_must_come_in_pairs() -> None:
    with pytest.raises(ValueError, match="shorter"):
        _ = Pairs("decode", (1.0, 2.0), (1.0,)).ratio


@pytest.mark.parametrize(
    ("metric", "shape", "mix", "least"),
    [
        ("decode", "mixtral", "Q4_0", 1.0),
        ("decode", "qwen3", "Q8_0", 1.15),
        ("prefill 512", "mixtral", "Q4_K_M", 3.0),
        ("prefill 512", "qwen3", "Q6_K", 1.5),
        ("prefill 32", "qwen3", "Q6_K", 2.5),
        ("decode, AVX2 only", "", "", 0.8),
        ("something else", "mixtral", "Q4_0", None),
    ],
)
def test_the_first_goal_that_fits_counts(metric: str, shape: str, mix: str, least: float | None) -> None:
    assert goal_of(metric, shape, mix) == least


def test_no_goal_is_hidden_by_another() -> None:
    for goal in GOALS:
        assert goal_of(goal.metric, goal.shape, goal.mix) == goal.least


def test_a_metric_knows_its_context() -> None:
    assert Metric("m", prompt_tokens=32, new_tokens=64).context_tokens == 97


def test_json_holds_every_sample_and_what_it_comes_to() -> None:
    value = json.loads(json.dumps(REPORT.as_json()))
    assert value.keys() == {
        "date", "cpu", "threads", "repeat", "versions", "read_bytes_per_s", "int8_operations_per_s", "files",
    }  # fmt: skip
    (file,) = value["files"]
    decode = file["metrics"][0]
    assert decode["ours_tokens_per_s"] == [90.0, 80.0, 100.0]
    assert decode["ratios"] == [1.5, 1.0, 2.0]
    assert (decode["ratio_min"], decode["ratio_median"], decode["ratio_max"]) == (1.0, 1.5, 2.0)
    assert decode["ours_share_of_limit"] == pytest.approx(0.8)  # of 90/120, 80/100 and 100/125
    assert decode["theirs_share_of_limit"] == pytest.approx(0.5)
    assert file["avx2"]["ratio_median"] == pytest.approx(0.5)
    assert file["avx2"]["ours_share_of_limit"] is None
    assert file["rss_reached"] is True
    assert file["rss_share_of_file"] == pytest.approx(1.2)


def test_memory_has_a_goal() -> None:
    assert FILE.rss_goal_bytes == pytest.approx(1.08e9 + 4e8)
    assert replace(FILE, ours=replace(FILE.ours, peak_rss_bytes=1_500_000_000)).as_json()["rss_reached"] is False
