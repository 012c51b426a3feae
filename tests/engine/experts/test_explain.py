from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import PolicyName
from engine.experts.explain import (
    MAX_SENTENCES,
    Rounding,
    explain_layer,
    explain_run,
    human_bytes,
    human_seconds,
    human_speed,
)
from engine.experts.planner import LayerPlan, layer_seconds, plan_layer
from engine.messages import CostCurve, CostModel, ExpertRun, LayerTrace
from tests.engine.experts.shapes import realistic_costs, routings

POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
COSTS = CostModel(CostCurve(1.1e-3, 2.4e-4, 0), CostCurve(2e-4, 0, 0), CostCurve(0, 4.2e-3, 0), None, 1e-4)


def trace_of(plan: LayerPlan, policy: PolicyName = "fiddler", *, tokens: int = 1, call_s: float = 0.0) -> LayerTrace:
    predicted_s = plan.predicted_cpu_s, plan.predicted_gpu_s
    return LayerTrace(7, tokens, plan.runs, *predicted_s, 1.2e-3, 3.4e-4, plan.activation_s, call_s, policy)


def explained(plan: LayerPlan, expert: int, policy: PolicyName = "fiddler", *, has_gpu: bool = True) -> str:
    run = next(run for run in plan.runs if run.expert == expert)
    return explain_run(run, trace_of(plan, policy), has_gpu=has_gpu)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"), (1, "1 byte"), (900, "900 bytes"), (1024, "1.0 KiB"), (536_870_912, "512 MiB"),
        (5_583_457_485, "5.2 GiB"),
        (123 << 30, "123 GiB"), (1 << 40, "1.0 TiB"), (5 << 50, "5120 TiB"),
    ],
)  # fmt: skip
def test_human_bytes(size: int, words: str) -> None:
    assert human_bytes(size) == words


@given(st.integers(0, 1 << 52), st.sampled_from(["nearest", "up", "down"]))
def test_human_bytes_round_as_asked(size: int, rounding: Rounding) -> None:
    number, unit = human_bytes(size, rounding).split()
    value = float(number) * 1024 ** ["byte", "KiB", "MiB", "GiB", "TiB"].index(unit.removesuffix("s"))
    assert value == pytest.approx(size, rel=0.1)
    if rounding == "up":
        assert value >= size * (1 - 1e-12)
    if rounding == "down":
        assert value <= size * (1 + 1e-12)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "0 µs"), (4.2e-5, "42.0 µs"), (1.1e-3, "1.1 ms"), (0.1234, "123 ms"), (3.5, "3.5 s"), (9.999e-4, "1.0 ms")],
)
def test_human_seconds(seconds: float, words: str) -> None:
    assert human_seconds(seconds) == words


def test_a_resident() -> None:
    plan = plan_layer([(5, 1)], {5}, COSTS, "fiddler")
    assert explained(plan, 5) == "Expert 5 on GPU: its weights live there (1 token, 200 µs)."


def test_a_part_is_called_by_its_expert() -> None:
    plan = plan_layer([(7, 1), (9, 1)], {7}, COSTS, "fiddler")
    trace = trace_of(plan)._replace(expert_parts=4)
    told = explain_layer(trace, has_gpu=True).splitlines()
    assert told[0] == "Layer 7, 1 token: of experts in 4 parts 1 on GPU, 1 on CPU."
    assert told[-2].startswith("Expert 1 (part 4 of 4) on GPU: ")
    assert told[-1].startswith("Expert 2 (part 2 of 4) on CPU: ")


def test_quicker_on_the_cpu() -> None:
    plan = plan_layer([(3, 1)], (), COSTS, "fiddler")
    assert explained(plan, 3) == "Expert 3 on CPU: 1.1 ms here, 4.2 ms to copy its weights (1 token)."


def test_quicker_streamed() -> None:
    plan = plan_layer([(2, 38)], (), COSTS, "fiddler")
    assert explained(plan, 2) == (
        "Expert 2 streamed to the GPU: 9.1 ms on the CPU, 4.2 ms to copy its weights and 200 µs there (38 tokens)."
    )


def test_copied_while_the_layer_before_ran() -> None:
    plan = plan_layer([(2, 38)], (), COSTS, "fiddler", ahead={2: 0.0})
    words = "its weights were copied while the layer before ran, 200 µs there (38 tokens)."
    assert explained(plan, 2) == f"Expert 2 streamed to the GPU: {words}"


def test_the_copy_alone_is_quicker_but_not_with_the_compute() -> None:
    costs = replace(COSTS, gpu_expert=CostCurve(5e-3, 0, 0))
    plan = plan_layer([(2, 20)], (), costs, "fiddler")
    assert "4.8 ms here, 4.2 ms to copy its weights and 5.0 ms there" in explained(plan, 2)


def test_on_the_cpu_because_the_gpu_is_busy() -> None:
    plan = plan_layer([(1, 100), (2, 25)], (), COSTS, "fiddler")
    assert [run.place for run in plan.runs] == ["stream", "cpu"]
    assert "but the GPU is already busy for 4.4 ms (25 tokens)" in explained(plan, 2)


def test_streamed_because_the_cpu_is_busy() -> None:
    plan = plan_layer([(expert, 1) for expert in range(6)], (), COSTS, "fiddler")
    assert plan.runs[0].place == "stream"
    assert "while the CPU is busy for 5.5 ms with others" in explained(plan, 0)


def test_all_streamed_because_the_cpu_would_take_longer_together() -> None:
    costs = replace(COSTS, activation_copy=CostCurve(1.0, 0, 0), weight_copy=CostCurve(0, 1.2e-3, 0))
    plan = plan_layer([(0, 1), (1, 1)], (), replace(costs, gpu_expert=CostCurve(1e-5, 0, 0)), "fiddler")
    assert {run.place for run in plan.runs} == {"stream"}
    assert "to copy its weights" in explained(plan, 0)


@pytest.mark.parametrize(("policy", "words"), [("gpu_stream", "the policy streams"), ("cpu_only", "the policy uses")])
def test_the_policys_will(policy: PolicyName, words: str) -> None:
    resident = {0} if policy == "cpu_only" else set()
    plan = plan_layer([(0, 1)], resident, COSTS, policy)
    assert words in explained(plan, 0, policy)


def test_the_policys_will_against_a_quicker_copy() -> None:
    plan = plan_layer([(0, 100)], (), COSTS, "cpu_only")
    assert "the policy uses the CPU only" in explained(plan, 0, "cpu_only")


def test_no_room_to_stream_through() -> None:
    plan = plan_layer([(3, 1)], (), COSTS, "gpu_stream", staging_slots=0)
    words = "Expert 3 on CPU: 1.1 ms here, and VRAM has no room to stream its weights through (1 token)."
    assert explained(plan, 3) == words


def test_no_gpu() -> None:
    plan = plan_layer([(4, 2)], (), CostModel(COSTS.cpu_expert, None, None, None, 1e-4), "fiddler")
    assert explained(plan, 4, has_gpu=False) == "Expert 4 on CPU: there is no GPU (2 tokens, 1.1 ms)."


def test_a_layer() -> None:
    plan = plan_layer([(1, 1), (5, 1)], {5}, COSTS, "fiddler")
    lines = explain_layer(trace_of(plan), has_gpu=True).splitlines()
    assert lines == [
        "Layer 7, 1 token: 1 on GPU, 1 on CPU.",
        "CPU: 1.1 ms predicted, 1.2 ms measured.",
        "GPU: 200 µs predicted, 340 µs measured.",
        "Expert 5 on GPU: its weights live there (1 token, 200 µs).",
        "Expert 1 on CPU: 1.1 ms here, 4.2 ms to copy its weights (1 token).",
    ]


def test_a_layer_of_many_experts_is_cut() -> None:
    runs = tuple(ExpertRun(expert, 1, "cpu", 1e-3, 1e-4, 4e-3) for expert in range(20))
    lines = explain_layer(LayerTrace(0, 4, runs, 2e-2, 0.0, 2e-2, 0.0), has_gpu=True).splitlines()
    assert len(lines) == 2 + MAX_SENTENCES + 1
    assert lines[-1] == "and 8 more."


def test_a_layer_without_experts() -> None:
    assert explain_layer(LayerTrace(0, 1, (), 0, 0, 0, 0), has_gpu=True) == "Layer 0, 1 token: no experts."


@given(
    routings(),
    realistic_costs(),
    st.sampled_from(POLICIES),
    st.integers(0, 3),
    st.frozensets(st.integers(0, 15)),
    st.dictionaries(st.integers(0, 15), st.just(0.0) | st.floats(1e-6, 1e-2), max_size=3),
)
def test_the_policy_is_only_named_where_it_decided(
    routing: tuple[list[tuple[int, int]], frozenset[int]],
    costs: CostModel,
    policy: PolicyName,
    slots: int,
    pageable: frozenset[int],
    ahead: dict[int, float],
) -> None:
    counts, resident = routing
    ahead = ahead if slots and policy != "cpu_only" else {}
    plan = plan_layer(counts, resident, costs, policy, staging_slots=slots, pageable=pageable, ahead=ahead)
    trace = trace_of(plan, policy, call_s=costs.cpu_call_s)
    assert len(explain_layer(trace, has_gpu=True).splitlines()) <= 3 + MAX_SENTENCES + 1
    why = {run: explain_run(run, trace, has_gpu=True) for run in plan.runs}
    deciding = {"gpu": None, "stream": "gpu_stream", "cpu": "cpu_only"}
    assert not [words for run, words in why.items() if "policy" in words and deciding[run.place] != policy]
    if any("all streamed experts would take the CPU" in words for words in why.values()):
        all_s = plan.activation_s + costs.cpu_call_s + sum(run.cpu_s for run in plan.runs if run.place == "stream")
        _, gpu_s = layer_seconds(counts, resident, costs, policy, staging_slots=slots, pageable=pageable, ahead=ahead)
        assert all_s >= gpu_s * (1 - 1e-9)


def test_streaming_because_calling_the_cpu_takes_its_time_too() -> None:
    costs = replace(COSTS, cpu_expert=CostCurve(4.3e-3, 0, 0), cpu_call_s=2e-4)
    plan = plan_layer([(3, 1)], (), costs, "fiddler")
    (run,) = plan.runs
    assert explain_run(run, trace_of(plan, call_s=costs.cpu_call_s), has_gpu=True) == (
        "Expert 3 streamed to the GPU: 4.3 ms on the CPU and 200 µs to call it and to bring activations "
        "there and back, 4.2 ms to copy its weights and 200 µs there (1 token)."
    )


def test_on_the_cpu_though_its_copy_was_begun() -> None:
    plan = plan_layer(
        [(0, 1), (1, 1)], {1}, replace(COSTS, gpu_expert=CostCurve(2e-3, 0, 0)), "fiddler", ahead={0: 0.0}
    )
    words = "1.1 ms here, 0 µs to copy its weights and 2.0 ms there"
    assert explained(plan, 0) == f"Expert 0 on CPU: {words} (1 token)."


def test_streaming_because_the_way_to_the_cpu_is_long() -> None:
    run = ExpertRun(3, 1, "stream", cpu_s=91e-6, gpu_s=21e-6, copy_s=77e-6)
    trace = LayerTrace(1, 1, (run,), 0.0, 98e-6, 0.0, 98e-6, activation_s=40e-6)
    assert explain_run(run, trace, has_gpu=True) == (
        "Expert 3 streamed to the GPU: 91.0 µs on the CPU and 40.0 µs to call it and to bring activations "
        "there and back, 77.0 µs to copy its weights and 21.0 µs there (1 token)."
    )


@pytest.mark.parametrize(
    ("tokens_per_s", "words"),
    [(0.0371, "0.037"), (0.37, "0.37"), (1.26, "1.3"), (12.3, "12"), (99.4, "99"), (99.6, "100"), (1234.5, "1234")],
)
def test_speeds_in_words(tokens_per_s: float, words: str) -> None:
    assert human_speed(tokens_per_s) == f"{words} tokens/s"
