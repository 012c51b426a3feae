"""Promises beside what followed, and the errors of single layers, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.bench.predictions import LayerErrors, LayerWatch, Pair, as_lines, layer_errors, predictions
from engine.messages import ExpertRun, LayerTrace, PromptProgress
from tests.engine.fake_engine import SNAPSHOT

RUN = ExpertRun(0, 1, "cpu", 1e-3, 0.0, 0.0)
TRACE = LayerTrace(0, 1, (RUN,), 1e-3, 0.0, 2e-3, 0.0)
NONE: dict[str, LayerErrors | None] = {"decode": None, "prompt": None}


def test_an_error_is_a_share_of_what_was_measured_on_the_longer_side() -> None:
    traces = [
        TRACE,
        TRACE._replace(predicted_cpu_s=1e-3, predicted_gpu_s=4e-3, measured_cpu_s=0.0, measured_gpu_s=5e-3),
        TRACE._replace(predicted_cpu_s=4e-3, measured_cpu_s=4e-3),
        TRACE._replace(measured_cpu_s=0.0),
    ]
    found = layer_errors(traces)
    assert found is not None
    assert found.median == pytest.approx(0.2)
    assert found.p90 == pytest.approx(0.44)
    assert found.layers == 3
    assert layer_errors(traces[3:]) is None


def test_each_trace_counts_once_by_kind() -> None:
    watch = LayerWatch()
    prompt = TRACE._replace(layer=1, tokens=64, predicted_cpu_s=2e-3)
    for event in (replace(SNAPSHOT, layers=(TRACE,)), PromptProgress(1, 2), replace(SNAPSHOT, layers=(TRACE, prompt))):
        watch(event)
    assert watch.errors() == {"decode": LayerErrors(0.5, 0.5, 1), "prompt": LayerErrors(0.0, 0.0, 1)}
    assert LayerWatch().errors() == NONE


def test_the_ratio_is_the_median_of_the_pairs_own() -> None:
    pairs = [Pair(90, 100, 50, 100), Pair(120, 100, 60, 30), Pair(300, 200, 90, 100)]
    found = predictions(pairs, {"decode": LayerErrors(0.5, 0.9, 3), "prompt": None})
    assert found["promised_over_measured"] == {"decode": 1.2, "prompt": 0.9}
    assert found["layer_errors"] == {"decode": {"median": 0.5, "p90": 0.9, "layers": 3}, "prompt": None}
    assert found["pairs"] == [
        {"promised_decode": a, "decode": b, "promised_prefill": c, "prefill": d}
        for a, b, c, d in ((90, 100, 50, 100), (120, 100, 60, 30), (300, 200, 90, 100))
    ]


def test_the_table_says_what_there_is() -> None:
    head, decode, prompt = as_lines([Pair(90, 100, 50, 0)], {"decode": LayerErrors(0.05, 0.125, 8), "prompt": None})
    assert head.split() == ["predictions", "promised", "measured", "off", "layers", "off", "9", "in", "10", "layers"]
    assert decode.split() == ["decode", "90.0", "100.0", "-10.0%", "5.0%", "12.5%", "8"]
    assert prompt.split() == ["prompt", "-", "-", "-", "-", "-", "0"], "a prompt that was cached took no time"
    assert predictions([Pair(1, 0, 1, 0)], NONE)["promised_over_measured"] == {"decode": None, "prompt": None}
