from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import PAGEABLE_SLOWDOWN, PolicyName
from engine.experts.cost_model import predict
from engine.experts.footprint import LAUNCHED_TOKENS
from engine.experts.planner import (
    STAGING_BYTES,
    STAGING_SLOTS,
    LayerPlan,
    copies_ahead,
    groups,
    layer_seconds,
    left_of_copies,
    plan_layer,
    staging_slots_of,
)
from engine.kernels.grouping import GROUP_EXPERTS
from engine.messages import CostCurve, CostModel, ExpertRun
from tests.engine.experts.shapes import MIXTRAL, QWEN, QWEN_Q4_K_M, realistic_costs, routings, wild_costs
from tests.engine.experts.work import calls_of
from tests.examples import examples

Counts = list[tuple[int, int]]
Routing = tuple[Counts, frozenset[int]]

PARTS = 20
POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
COSTS = CostModel(
    cpu_expert=CostCurve(1.0e-3, 3.0e-5, 0.0),
    gpu_expert=CostCurve(2.0e-4, 1.0e-6, 0.0),
    weight_copy=CostCurve(0.0, 4.0e-3, 0.0),
    activation_copy=CostCurve(1e-5, 0.0, 0.0),
    dense_layer_s=1e-4,
)


def pipeline(runs: Sequence[ExpertRun], slots: int, shared_s: float) -> float:
    """The GPU side, step by step and in order: the reference of the planner's increments."""
    compute_free, copy_free, slot_free = -shared_s, 0.0, [0.0] * slots
    for run in runs:
        assert run.gpu_s >= -1e-12, "what sharing a call saves is not more than the run takes"
        if run.place == "stream":
            slot = slot_free.index(min(slot_free))
            copy_free = max(copy_free, slot_free[slot]) + run.copy_s
            compute_free = max(compute_free, copy_free) + run.gpu_s
            slot_free[slot] = compute_free
        else:
            compute_free += run.gpu_s
    return compute_free


def sides(runs: Sequence[ExpertRun], costs: CostModel, slots: int, group_visits: int = 1 << 62) -> tuple[float, float]:
    """Both sides of any assignment, by reference."""
    cpu = [run.cpu_s for run in runs if run.place == "cpu"]
    activation = costs.activation_copy if costs.gpu_expert else None
    copy_s = predict(activation, max(run.tokens for run in runs)) if activation and cpu else 0.0
    copy_s += costs.cpu_call_s if cpu else 0.0
    if cpu and few(runs):
        copy_s += costs.copy_drag * sum(run.copy_s for run in runs if run.place == "stream")
    residents = [run for run in runs if run.place == "gpu"]
    on_gpu, shared_s, call_s = [run for run in runs if run.place != "cpu"], 0.0, gpu_call_s(costs)
    if residents and few(runs):
        shared_s = (len(residents) - 1) * call_s
    else:
        calls = list(groups(on_gpu, group_visits))
        on_gpu = [run._replace(gpu_s=run.gpu_s - call_s * bool(at)) for call in calls for at, run in enumerate(call)]
    return copy_s + sum(cpu), pipeline(on_gpu, slots, shared_s)


def gpu_call_s(costs: CostModel) -> float:
    """What launching takes of an expert's time."""
    return costs.gpu_expert.overhead_s * costs.gpu_correction if costs.gpu_expert else 0.0


def few(runs: Sequence[ExpertRun]) -> bool:
    """Whether all residents are launched at once, before all else."""
    return max(run.tokens for run in runs) <= LAUNCHED_TOKENS


def grain_s(plan: LayerPlan) -> float:
    """What a schedule of whole residents may take more than one of divisible ones."""
    return 0.0 if few(plan.runs) else max((run.gpu_s for run in plan.runs if run.place == "gpu"), default=0.0)


def best_orders(residents: list[ExpertRun], streamed: Sequence[ExpertRun], call_s: float) -> Iterator[list[ExpertRun]]:
    """Residents first; in a longer pass also everywhere else, each cut into small parts, of which any can be a call."""
    yield [*residents, *streamed]
    if not streamed or few([*residents, *streamed]):
        return
    parts = [run._replace(gpu_s=(run.gpu_s - call_s) / PARTS + call_s) for run in residents for _ in range(PARTS)]
    order: list[ExpertRun] = []
    for run in streamed:
        while parts and pipeline(order, 8, 0.0) < (sum(done.copy_s for done in order) + run.copy_s):
            order.append(parts.pop())
        order.append(run)
    yield order + parts


def best_plan_brute_force(plan: LayerPlan, costs: CostModel, slots: int) -> float:
    """The least longer side over every choice and every order of the experts that are not resident."""
    residents = [run for run in plan.runs if run.place == "gpu"]
    others = [run for run in plan.runs if run.place != "gpu"]
    best = float("inf")
    for count in range(len(others) + 1):
        for streamed in itertools.permutations(others, count):
            names = {run.expert for run in streamed}
            on_cpu = [run._replace(place="cpu") for run in others if run.expert not in names]
            runs = [run._replace(place="stream") for run in streamed]
            for order in best_orders(residents, runs, gpu_call_s(costs)):
                best = min(best, max(sides([*order, *on_cpu], costs, slots)))
    return best


@given(routings(), realistic_costs() | wild_costs(), st.sampled_from(POLICIES), st.integers(1, 4))
def test_every_active_expert_runs_exactly_once_in_order(
    routing: Routing, costs: CostModel, policy: PolicyName, slots: int
) -> None:
    counts, resident = routing
    plan = plan_layer(counts, resident, costs, policy, staging_slots=slots)
    assert sorted((run.expert, run.tokens) for run in plan.runs) == sorted(counts)
    ranks = {"gpu": 0, "stream": 1 if few(plan.runs) else 0, "cpu": 2}
    assert [ranks[run.place] for run in plan.runs] == sorted(ranks[run.place] for run in plan.runs)
    streamed = [run.tokens for run in plan.runs if run.place == "stream"]
    assert streamed == sorted(streamed, reverse=True)


@given(routings(), realistic_costs() | wild_costs(), st.sampled_from(POLICIES))
def test_residents_run_where_the_policy_says(routing: Routing, costs: CostModel, policy: PolicyName) -> None:
    counts, resident = routing
    assert costs.weight_copy is not None
    copy_s = predict(costs.weight_copy, 1)
    for run in plan_layer(counts, resident, costs, policy).runs:
        if policy == "cpu_only":
            assert run.place == "cpu"
        else:
            assert (run.place == "gpu") == (run.expert in resident)
        if policy == "gpu_stream":
            assert run.place != "cpu"
        assert (run.copy_s == 0.0) == (run.expert in resident or copy_s == 0.0)


@given(
    routings(),
    realistic_costs() | wild_costs(),
    st.sampled_from(POLICIES),
    st.integers(1, 4),
    st.sampled_from([1, 300, 1 << 62]),
)
def test_predicted_sides_are_those_of_the_reference(
    routing: Routing, costs: CostModel, policy: PolicyName, slots: int, group_visits: int
) -> None:
    counts, resident = routing
    group_visits = max(group_visits, *(tokens for _, tokens in counts))  # one expert may have all tokens of a pass
    plan = plan_layer(counts, resident, costs, policy, staging_slots=slots, group_visits=group_visits)
    expected = sides(plan.runs, costs, slots, group_visits)
    assert (plan.predicted_cpu_s, plan.predicted_gpu_s) == pytest.approx(expected, rel=1e-9)
    cpu_s, gpu_s = layer_seconds(counts, resident, costs, policy, staging_slots=slots, group_visits=group_visits)
    assert cpu_s == plan.predicted_cpu_s
    assert gpu_s <= plan.predicted_gpu_s * (1 + 1e-9)
    calls = len(plan.runs) * gpu_call_s(costs)
    assert slots == 1 or plan.predicted_gpu_s <= (gpu_s + 2 * grain_s(plan) + calls) * (1 + 1e-9)


def test_calls_take_residents_that_follow_each_other_as_many_as_there_is_room_for() -> None:
    runs = [
        ExpertRun(expert, tokens, "gpu" if expert % 10 else "stream", 1.0, 1.0, 0.0)
        for expert, tokens in enumerate([5, 90, 10, 1, 200, 3, 4, 5, 6, 7, 8, 9])
    ]
    calls = [[run.expert for run in call] for call in groups(runs, 100)]
    assert calls == [[0], [1, 2], [3], [4], [5, 6, 7, 8, 9], [10], [11]]
    many = [ExpertRun(expert, 1, "gpu", 1.0, 1.0, 0.0) for expert in range(300)]
    assert [len(call) for call in groups(many, 1 << 62)] == [GROUP_EXPERTS, GROUP_EXPERTS, 300 - 2 * GROUP_EXPERTS]
    assert list(groups([], 100)) == []


@given(routings(), realistic_costs() | wild_costs(), st.integers(1, 4))
def test_fiddler_is_never_worse_than_either_pure_plan(routing: Routing, costs: CostModel, slots: int) -> None:
    counts, resident = routing
    plan = plan_layer(counts, resident, costs, "fiddler", staging_slots=slots)
    on_cpu = [run._replace(place="cpu") if run.place == "stream" else run for run in plan.runs]
    streamed = plan_layer(counts, resident, costs, "gpu_stream", staging_slots=slots)
    best = min(max(sides(on_cpu, costs, slots)), streamed.predicted_s)
    assert plan.predicted_s <= best * (1 + 1e-8) + len(counts) * grain_s(plan)


@given(realistic_costs(), st.integers(1, 512), st.booleans())
def test_one_expert_follows_the_papers_rule(costs: CostModel, tokens: int, resident: bool) -> None:
    costs = replace(costs, activation_copy=None, cpu_call_s=0.0)
    (run,) = plan_layer([(3, tokens)], {3} if resident else set(), costs, "fiddler").runs
    by_the_paper = "gpu" if resident else "stream" if run.cpu_s > run.gpu_s + run.copy_s else "cpu"
    margin = abs(run.cpu_s - run.gpu_s - run.copy_s) / max(run.cpu_s, run.gpu_s + run.copy_s)
    assert run.place == by_the_paper or margin < 1e-6


@given(routings(), realistic_costs())
def test_fiddler_is_never_worse_than_the_papers_rule_expert_by_expert(routing: Routing, costs: CostModel) -> None:
    counts, resident = routing
    plan = plan_layer(counts, resident, costs, "fiddler")
    paper = [
        run._replace(place="stream" if run.cpu_s > run.gpu_s + run.copy_s else "cpu") if run.place != "gpu" else run
        for run in sorted(plan.runs, key=lambda run: -run.tokens)
    ]
    assert plan.predicted_s <= max(sides(paper, costs, 2)) * (1 + 1e-8) + 2 * grain_s(plan)


@given(routings(most=5), realistic_costs(), st.integers(1, 3))
@examples(150)
def test_near_the_optimum_of_all_choices_and_orders(routing: Routing, costs: CostModel, slots: int) -> None:
    counts, resident = routing
    plan = plan_layer(counts, resident, costs, "fiddler", staging_slots=slots)
    optimum = best_plan_brute_force(plan, costs, slots)
    assert plan.predicted_s <= optimum * 1.15 + grain_s(plan), "3000 random ones: 0.03 % on average, 11 % at worst"


@given(routings(most=4), wild_costs(), st.integers(1, 3))
@examples(50)
def test_never_promises_more_than_the_optimum(routing: Routing, costs: CostModel, slots: int) -> None:
    counts, resident = [(expert, min(tokens, LAUNCHED_TOKENS)) for expert, tokens in routing[0]], routing[1]
    plan = plan_layer(counts, resident, costs, "fiddler", staging_slots=slots)
    assert plan.predicted_s >= best_plan_brute_force(plan, costs, slots) * (1 - 1e-9)


@given(routings(), realistic_costs(), st.sampled_from(POLICIES))
def test_without_a_gpu_everything_is_on_the_cpu(routing: Routing, costs: CostModel, policy: PolicyName) -> None:
    counts, resident = routing
    costs = replace(costs, gpu_expert=None, weight_copy=None, activation_copy=None)
    plan = plan_layer(counts, resident, costs, policy)
    assert {run.place for run in plan.runs} == {"cpu"}
    assert all(run.gpu_s == run.copy_s == 0.0 for run in plan.runs)
    assert plan.predicted_gpu_s == 0.0
    assert plan.predicted_s == pytest.approx(
        sum(predict(costs.cpu_expert, n) for _, n in counts) * costs.cpu_correction + costs.cpu_call_s
    )


def test_decode_stays_on_the_cpu_and_a_long_prompt_is_streamed() -> None:
    decode = plan_layer([(0, 1), (1, 1)], frozenset(), COSTS, "fiddler")
    assert [run.place for run in decode.runs] == ["cpu", "cpu"]
    prefill = plan_layer([(0, 1), (1, 500), (2, 700)], frozenset(), COSTS, "fiddler")
    assert [(run.expert, run.place) for run in prefill.runs] == [(2, "stream"), (1, "stream"), (0, "cpu")]


def test_both_sides_work_at_once() -> None:
    """Five equal experts: one copy costs as much as four on the CPU, so exactly one is streamed."""
    plan = plan_layer([(expert, 1) for expert in range(6)], frozenset(), COSTS, "fiddler")
    assert [run.place for run in plan.runs].count("stream") == 1
    assert plan.predicted_s == pytest.approx(5 * 1.0e-3 + 1e-5)


def test_residents_of_a_long_pass_do_not_keep_the_link_waiting() -> None:
    """Thirty experts of a prompt of 2,048 tokens, half of them in VRAM: copies follow each other without a gap."""
    costs = CostModel(CostCurve(1e-3, 1e-3, 0.0), CostCurve(1e-5, 2e-7, 2e-5), CostCurve(0.0, 1e-4, 2e-5), None, 1e-4)
    counts = [(expert, 60 + expert) for expert in range(30)]
    plan = plan_layer(counts, frozenset(range(0, 30, 2)), costs, "gpu_stream", pass_tokens=2048)
    copies_s, last_s = 15 * 1.2e-4, plan.runs[-1].gpu_s
    assert plan.predicted_gpu_s < copies_s + 3 * last_s
    first = sum(run.gpu_s for run in plan.runs if run.place == "gpu")
    assert plan.predicted_gpu_s < 0.85 * (copies_s + first)


def test_what_was_copied_ahead_comes_first_and_waits_for_what_is_left_of_its_copy() -> None:
    counts = [(0, 300), (1, 400), (2, 500), (3, 600)]
    copy_s = predict(COSTS.weight_copy, 1) if COSTS.weight_copy else 0.0
    usual = plan_layer(counts, frozenset(), COSTS, "gpu_stream")
    plan = plan_layer(counts, frozenset(), COSTS, "gpu_stream", ahead={1: 0.0, 0: copy_s / 2, 9: copy_s})
    assert [(run.expert, run.copy_s) for run in plan.runs] == [(1, 0.0), (0, copy_s / 2), (3, copy_s), (2, copy_s)]
    assert plan.predicted_gpu_s < usual.predicted_gpu_s - copy_s
    assert plan.predicted_gpu_s == pytest.approx(pipeline(plan.runs, 2, 0.0))
    sides_s = layer_seconds(counts, frozenset(), COSTS, "gpu_stream", ahead={1: 0.0, 0: copy_s / 2, 9: copy_s})
    assert sides_s == pytest.approx((0.0, plan.predicted_gpu_s))
    few = plan_layer([(0, 20), (1, 2000)], frozenset(), COSTS, "fiddler")
    assert [run.place for run in few.runs] == ["stream", "cpu"]
    sunk = plan_layer([(0, 20), (1, 2000)], frozenset(), COSTS, "fiddler", ahead={0: 0.0})
    assert [(run.expert, run.place) for run in sunk.runs] == [(0, "stream"), (1, "stream")], (
        "its copy costs nothing now"
    )


def test_copies_ahead_fill_the_time_that_the_link_would_stand_still() -> None:
    assert copies_ahead(streamed=40, slots=16, copy_s=1.0, lead_s=2.5) == 3
    assert copies_ahead(streamed=2, slots=16, copy_s=1.0, lead_s=2.5) == 2
    assert copies_ahead(streamed=40, slots=2, copy_s=1.0, lead_s=2.5) == 2
    assert copies_ahead(streamed=40, slots=2, copy_s=0.0, lead_s=2.5) == 2
    assert copies_ahead(streamed=0, slots=2, copy_s=1.0, lead_s=2.5) == 0
    assert left_of_copies([7, 3, 5], 1.0, 1.25) == {7: 0.0, 3: 0.75, 5: 1.0}
    assert left_of_copies([], 1.0, 1.25) == {}


def test_slots_are_two_and_more_where_experts_are_small_and_many() -> None:
    assert staging_slots_of(MIXTRAL) == STAGING_SLOTS
    assert staging_slots_of(QWEN_Q4_K_M) == 16
    assert staging_slots_of(QWEN) == 5, "a sixth of 9 MiB would be beyond what they may take"
    assert 16 * QWEN_Q4_K_M.expert_bytes <= STAGING_BYTES


def test_residents_are_one_launch_however_many_tokens_they_have() -> None:
    costs = replace(COSTS, gpu_expert=CostCurve(2e-4, 1e-6, 5e-5))
    counts = [(expert, 1) for expert in range(8)]
    assert plan_layer(counts, range(8), costs, "fiddler").predicted_gpu_s == pytest.approx(8 * 2e-4 + 5e-5)
    many = plan_layer(counts, range(8), costs, "fiddler", pass_tokens=LAUNCHED_TOKENS + 1)
    assert many.predicted_gpu_s == pytest.approx(8 * 2e-4 + 5e-5)
    in_two = plan_layer(counts, range(8), costs, "fiddler", pass_tokens=LAUNCHED_TOKENS + 1, group_visits=4)
    assert in_two.predicted_gpu_s == pytest.approx(8 * 2e-4 + 2 * 5e-5)


def test_copies_take_from_the_cpu_what_they_take_of_ram_where_that_bounds_it() -> None:
    alone = replace(COSTS, weight_copy=CostCurve(0.0, 1.1e-3, 0.0))
    shared = replace(alone, copy_drag=0.2)
    counts = [(0, 1), (1, 1), (2, 1)]
    first, second = (plan_layer(counts, frozenset(), costs, "fiddler") for costs in (alone, shared))
    assert [run.place for run in first.runs] == [run.place for run in second.runs] == ["stream", "cpu", "cpu"]
    assert second.predicted_cpu_s == pytest.approx(first.predicted_cpu_s + 0.2 * 1.1e-3)
    assert second.predicted_gpu_s == first.predicted_gpu_s
    greedy = plan_layer(counts, frozenset(), replace(alone, copy_drag=1.0), "fiddler")
    assert {run.place for run in greedy.runs} == {"cpu"}, "nothing is won where the CPU waits as long as the copy takes"
    long = [(expert, 40) for expert in range(3)]
    assert plan_layer(long, frozenset(), shared, "fiddler") == plan_layer(long, frozenset(), alone, "fiddler")


def test_what_is_not_page_locked_is_streamed_last_and_only_where_even_that_is_quicker() -> None:
    counts = [(0, 2000), (1, 1000), (2, 500)]
    copy_s = COSTS.weight_copy.per_unit_s if COSTS.weight_copy else 0.0
    locked = plan_layer(counts, frozenset(), COSTS, "fiddler")
    assert {run.place for run in locked.runs} == {"stream"}
    some = plan_layer(counts, frozenset(), COSTS, "fiddler", pageable={0})
    assert [(run.expert, run.place) for run in some.runs] == [(1, "stream"), (2, "stream"), (0, "stream")]
    assert some.runs[-1].copy_s == PAGEABLE_SLOWDOWN * copy_s
    assert some.predicted_cpu_s == PAGEABLE_SLOWDOWN * copy_s, "the host is kept waiting meanwhile"
    assert some.predicted_gpu_s == pytest.approx((2 + PAGEABLE_SLOWDOWN) * copy_s + some.runs[-1].gpu_s)
    few = plan_layer([(0, 100), (1, 1000)], frozenset(), COSTS, "fiddler", pageable={0})
    assert [(run.expert, run.place) for run in few.runs] == [(1, "stream"), (0, "cpu")]
    sides_s = layer_seconds(counts, frozenset(), COSTS, "fiddler", pageable={0})
    assert sides_s == pytest.approx((some.predicted_cpu_s, some.predicted_gpu_s))


def test_ties_go_to_the_cpu() -> None:
    free = replace(COSTS, weight_copy=CostCurve(0.0, 8.0e-4, 0.0), activation_copy=None)
    assert plan_layer([(0, 1)], frozenset(), free, "fiddler").runs[0].place == "cpu"


def test_one_staging_slot_makes_copies_wait_for_computes() -> None:
    counts = [(0, 4000), (1, 4000), (2, 4000)]
    two = plan_layer(counts, frozenset(), COSTS, "gpu_stream", staging_slots=2)
    one = plan_layer(counts, frozenset(), COSTS, "gpu_stream", staging_slots=1)
    assert two.predicted_gpu_s == pytest.approx(4e-3 + 3 * 4e-3)
    assert one.predicted_gpu_s == pytest.approx(3 * (4e-3 + 4e-3))


def test_corrections_move_the_choice() -> None:
    counts = [(0, 100)]
    assert plan_layer(counts, frozenset(), COSTS, "fiddler").runs[0].place == "cpu"
    slow_cpu = replace(COSTS, cpu_correction=3.0)
    (run,) = plan_layer(counts, frozenset(), slow_cpu, "fiddler").runs
    assert run.place == "stream"
    assert run.cpu_s == pytest.approx(3 * 100 * 3.0e-5)


def test_activations_of_the_whole_pass_count_once() -> None:
    costs = replace(COSTS, activation_copy=CostCurve(0.0, 1e-6, 0.0))
    plan = plan_layer([(0, 3), (1, 5)], frozenset(), costs, "cpu_only", pass_tokens=7)
    assert plan.predicted_cpu_s == pytest.approx(2e-3 + 7e-6)
    assert plan_layer([(0, 3), (1, 5)], frozenset(), costs, "cpu_only").predicted_cpu_s == pytest.approx(2e-3 + 5e-6)


def test_a_call_on_the_cpu_counts_once_and_only_if_there_is_one() -> None:
    costs = replace(COSTS, activation_copy=None, cpu_call_s=1e-4)
    assert plan_layer([(0, 3), (1, 5)], frozenset(), costs, "cpu_only").predicted_cpu_s == pytest.approx(2.1e-3)
    assert plan_layer([(0, 3)], {0}, costs, "fiddler").predicted_cpu_s == 0.0
    alone = replace(costs, gpu_expert=None, weight_copy=None)
    assert plan_layer([(0, 3), (1, 5)], frozenset(), alone, "fiddler").predicted_s == pytest.approx(2.1e-3)


def test_no_active_experts_make_an_empty_plan() -> None:
    for policy in POLICIES:
        plan = plan_layer([], frozenset(), COSTS, policy)
        assert (plan.runs, plan.predicted_s) == ((), 0.0)


@pytest.mark.parametrize("active", [2, 128])
def test_little_enough_work_for_every_layer_of_every_token(active: int) -> None:
    counts = [(expert, 1 + expert * 37 % 64) for expert in range(active)]
    resident = frozenset(range(0, active, 3))
    assert calls_of(lambda: plan_layer(counts, resident, COSTS, "fiddler")) <= 30 * active, "more than each expert's"


@given(realistic_costs(), routings(), st.sampled_from(POLICIES))
def test_without_a_slot_to_stream_through_nothing_is_streamed(
    costs: CostModel, routing: Routing, policy: PolicyName
) -> None:
    counts, resident = routing
    plan = plan_layer(counts, resident, costs, policy, staging_slots=0)
    assert sorted(run.expert for run in plan.runs) == sorted(expert for expert, _ in counts)
    for run in plan.runs:
        assert run.place == ("gpu" if run.expert in resident and policy != "cpu_only" else "cpu")
    cpu_s, gpu_s = sides(plan.runs, costs, 1)
    assert (plan.predicted_cpu_s, plan.predicted_gpu_s) == pytest.approx((cpu_s, gpu_s))
