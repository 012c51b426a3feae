"""All policies, devices and budgets give the same logits; the trace tells what really ran."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from engine import Engine, EngineConfig, SamplingParams
from engine.checkpoint.model_config import read_model_config
from engine.experts.assumed_costs import simulated_gpu_costs
from engine.experts.cost_model import predict
from engine.messages import CostCurve, Snapshot
from tests.checkpoints import write_mixtral
from tests.engine.shapes import simulated_budget

SIMULATED = EngineConfig(
    device="simulated", context_tokens=128, cpu_threads=1, simulated_vram_bytes=1 << 30, prefill_chunk_tokens=16
)
TOKENS = [int(token) for token in np.random.default_rng(3).integers(0, 300, 40)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mixtral(tmp_path_factory.mktemp("model") / "m", layers=3, experts=6)


def budget_for(model: Path, residents: int) -> int:
    """A budget that holds exactly so many residents."""
    return simulated_budget(read_model_config(model), SIMULATED, residents)


@pytest.mark.parametrize("policy", ["fiddler", "gpu_stream", "cpu_only"])
@pytest.mark.parametrize("residents", [0, 1, 7, 18])
def test_policies_and_budgets_give_the_same_logits(model: Path, policy: Any, residents: int) -> None:
    with Engine.load(str(model), EngineConfig(device="cpu", context_tokens=128, cpu_threads=1)) as engine:
        expected = engine.logits(TOKENS)
    config = replace(SIMULATED, policy=policy, vram_budget_bytes=budget_for(model, residents))
    with Engine.load(str(model), config) as engine:
        assert engine.plan.resident_experts == residents
        np.testing.assert_allclose(engine.logits(TOKENS), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("policy", "places"), [("gpu_stream", {"gpu", "stream"}), ("cpu_only", {"cpu"})])
def test_a_policy_runs_experts_only_where_it_says(model: Path, policy: Any, places: set[str]) -> None:
    config = replace(SIMULATED, policy=policy, vram_budget_bytes=budget_for(model, 7))
    with Engine.load(str(model), config) as engine:
        engine.logits(TOKENS)
        traces = engine.snapshot().layers
        assert {run.place for trace in traces for run in trace.runs} == places
        resident = engine.snapshot().resident_by_layer
        on_gpu = {(trace.layer, run.expert) for trace in traces for run in trace.runs if run.place == "gpu"}
        assert all(expert in resident[layer] for layer, expert in on_gpu)


def test_the_trace_accounts_for_every_visit(model: Path) -> None:
    with Engine.load(str(model), replace(SIMULATED, vram_budget_bytes=budget_for(model, 7))) as engine:
        list(engine.generate(TOKENS, SamplingParams(max_tokens=5, temperature=0.0, ignore_eos=True)))
        snapshot = engine.snapshot()
        passes = len(TOKENS) + 4  # the last drawn token is not computed
        assert snapshot.visits == passes * 3 * 2
        assert 0 < snapshot.hits < snapshot.visits
        for trace in snapshot.layers:
            assert trace.tokens == 1
            assert sum(run.tokens for run in trace.runs) == 2
            on_cpu = any(run.place == "cpu" for run in trace.runs)
            assert (trace.measured_cpu_s > 0) == on_cpu
            assert (trace.predicted_cpu_s > 0) == on_cpu


def test_streaming_costs_time_and_bytes_on_a_slow_link(model: Path) -> None:
    budget = budget_for(model, 0)
    config = replace(SIMULATED, policy="gpu_stream", vram_budget_bytes=budget, simulated_link_bytes_per_s=1e6)
    with Engine.load(str(model), config) as engine:
        events = list(engine.generate(TOKENS[:4], SamplingParams(max_tokens=2, temperature=0.0, ignore_eos=True)))
        last = [event for event in events if isinstance(event, Snapshot)][-1]
        assert last.streamed_bytes == last.streamed * engine.model.expert_bytes > 0
        copies_s = engine.model.expert_bytes * 2 / 1e6  # two experts a layer, one after the other
        assert all(trace.measured_gpu_s >= copies_s for trace in last.layers)


def test_the_cost_model_learns_from_what_running_shows(model: Path) -> None:
    with Engine.load(str(model), replace(SIMULATED, vram_budget_bytes=budget_for(model, 7))) as engine:
        before = engine.ready.planning.costs
        list(engine.generate(TOKENS, SamplingParams(max_tokens=20, temperature=0.0, ignore_eos=True)))
        engine.reconfigure(replace(SIMULATED, vram_budget_bytes=budget_for(model, 7)))
        assert engine.ready.planning.costs.cpu_correction != before.cpu_correction


@pytest.mark.parametrize("residents", [0, 7, 18])
def test_the_simulated_gpu_takes_what_the_planner_predicted(model: Path, residents: int) -> None:
    config = replace(SIMULATED, policy="gpu_stream", vram_budget_bytes=budget_for(model, residents))
    with Engine.load(str(model), config) as engine:
        engine.logits(TOKENS)
        for trace in engine.snapshot().layers:
            assert trace.measured_gpu_s == pytest.approx(trace.predicted_gpu_s, rel=0.1)


def test_what_copies_were_expected_to_take_from_the_cpu_is_no_surprise(model: Path) -> None:
    """A CPU that is exactly as slow beside a copy as predicted leaves the correction as it is."""
    config = replace(
        SIMULATED, adaptive=False, vram_budget_bytes=budget_for(model, 0),
        simulated_link_bytes_per_s=read_model_config(model).expert_bytes / 2.5,
    )  # fmt: skip
    with Engine.load(str(model), config) as engine:
        record, drag = engine.loaded.record, 0.1
        costs = simulated_gpu_costs(engine.model, config, CostCurve(3.0, 0.0, 0.0))
        assert costs.weight_copy is not None
        record.costs = replace(costs, copy_drag=drag)
        beside_s = 3.0 + drag * predict(costs.weight_copy, 1)
        clock = itertools.count()
        with mock.patch("engine.experts.executor.time") as time:
            time.perf_counter = lambda: next(clock) * beside_s
            engine.logits(TOKENS[:1])
        for trace in record.traces:
            assert trace is not None
            assert sorted(run.place for run in trace.runs) == ["cpu", "stream"]
            assert trace.measured_cpu_s == pytest.approx(beside_s)
        assert record.costs.cpu_correction == pytest.approx(1.0)
