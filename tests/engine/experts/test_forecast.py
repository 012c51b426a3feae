from __future__ import annotations

from dataclasses import replace
from math import comb

import numpy as np
import pytest

from engine.config import EngineConfig, ModelConfig
from engine.experts.cost_model import predict
from engine.experts.forecast import dense_chunk_seconds, forecast, prompt_seconds
from engine.experts.planner import plan_layer
from engine.messages import CostCurve
from tests.engine.experts.shapes import MIXTRAL, QWEN, TINY, pc_costs, planning, skewed, uniform

CONFIG = EngineConfig()


def mask(model: ModelConfig, *, resident: bool) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    return np.full((model.layers, model.experts), resident)


@pytest.mark.parametrize("model", [TINY, MIXTRAL, QWEN])
@pytest.mark.parametrize("resident", [False, True])
def test_decode_is_the_planners_where_nothing_is_left_to_chance(model: ModelConfig, resident: bool) -> None:
    costs = pc_costs(model)
    counts = [(expert, 1) for expert in range(model.experts_per_token)]
    plan = plan_layer(counts, range(model.experts) if resident else (), costs, "fiddler", pass_tokens=1)
    expected = 1 / (model.layers * (costs.dense_layer_s + plan.predicted_s))
    got = forecast(planning(model, costs=costs), CONFIG, mask(model, resident=resident), 512)
    assert got.decode_tokens_per_s == pytest.approx(expected)
    assert got.hit_rate == pytest.approx(float(resident))


def test_a_token_of_a_reply_also_meets_the_prompt_and_is_drawn() -> None:
    costs, resident = pc_costs(MIXTRAL), mask(MIXTRAL, resident=True)
    before = forecast(planning(costs=costs), CONFIG, resident, 512)
    more = replace(costs, attention_key_s=1e-7, token_s=5e-4)
    after = forecast(planning(costs=more), CONFIG, resident, 512)
    more_s = 5e-4 + MIXTRAL.layers * 512 * 1e-7
    assert 1 / after.decode_tokens_per_s - 1 / before.decode_tokens_per_s == pytest.approx(more_s)
    assert after.prefill_tokens_per_s == before.prefill_tokens_per_s
    assert after.limit.endswith("Drawing and telling a token takes 500 µs of that.")
    assert "Drawing" not in before.limit, "where nobody measured it"


def test_decode_averages_over_the_number_of_misses() -> None:
    costs = pc_costs(MIXTRAL)
    resident = mask(MIXTRAL, resident=False)
    resident[:, :2] = True
    token_s = MIXTRAL.layers * costs.dense_layer_s
    for misses in range(3):
        chance = comb(2, misses) * 0.75**misses * 0.25 ** (2 - misses)
        plan = plan_layer([(0, 1), (1, 1)], range(misses, 2), costs, "fiddler", pass_tokens=1)
        token_s += MIXTRAL.layers * chance * plan.predicted_s
    got = forecast(planning(MIXTRAL, costs=costs, popularity=uniform(MIXTRAL)), CONFIG, resident, 512)
    assert got.decode_tokens_per_s == pytest.approx(1 / token_s)
    assert got.hit_rate == pytest.approx(0.25)


def test_decode_agrees_with_drawn_routings() -> None:
    """The approximations (independent draws, mean popularity) against tokens that draw different experts."""
    rng = np.random.default_rng(1)
    costs, shares = pc_costs(QWEN), np.array(skewed(QWEN)[:1])
    resident = rng.random((1, QWEN.experts)) < 0.4
    model = replace(QWEN, layers=1)
    living = set(np.flatnonzero(resident[0]).tolist())
    drawn_s = []
    for _ in range(400):
        experts = rng.choice(QWEN.experts, QWEN.experts_per_token, replace=False, p=shares[0])
        plan = plan_layer([(int(expert), 1) for expert in experts], living, costs, "fiddler", pass_tokens=1)
        drawn_s.append(costs.dense_layer_s + plan.predicted_s)
    got = forecast(planning(model, costs=costs, popularity=(tuple(shares[0]),)), CONFIG, resident, 512)
    assert 1 / got.decode_tokens_per_s == pytest.approx(np.mean(drawn_s), rel=0.05)


def test_prefill_is_the_planners_on_expected_counts() -> None:
    costs = pc_costs(MIXTRAL)
    counts = [(expert, 128) for expert in range(8)]
    assert costs.gpu_expert
    assert costs.weight_copy
    attention = 4096 * (2 * 4096 + 2 * 1024) + 2 * 4096 + 8 * 4096
    matrices_s = attention / MIXTRAL.expert_parameters * predict(costs.gpu_expert, 512)
    pair_s = costs.gpu_expert.per_unit_s * 2 * 4096 / MIXTRAL.expert_parameters
    dense_s = max(costs.dense_layer_s, matrices_s + 512 * 513 / 2 * pair_s)
    ahead = {0: predict(costs.weight_copy, 1) - dense_s}
    plan = plan_layer(counts, (), costs, "fiddler", pass_tokens=512, ahead=ahead)
    assert plan.predicted_s < plan_layer(counts, (), costs, "fiddler", pass_tokens=512).predicted_s
    got = forecast(
        planning(MIXTRAL, costs=costs, popularity=uniform(MIXTRAL)), CONFIG, mask(MIXTRAL, resident=False), 512
    )
    assert got.prefill_tokens_per_s == pytest.approx(512 / (32 * (plan.predicted_s + dense_s)), rel=1e-4)


def test_prefill_in_smaller_chunks_is_slower() -> None:
    speeds = [
        forecast(planning(QWEN), CONFIG, mask(QWEN, resident=False), chunk).prefill_tokens_per_s
        for chunk in (1, 4, 32, 256, 512, 4096)
    ]
    assert speeds[:5] == sorted(speeds[:5])
    assert speeds[4] == speeds[5]


def test_a_long_prompt_is_the_sum_of_its_chunks_and_looks_back_in_each() -> None:
    inputs, nothing = planning(MIXTRAL), mask(MIXTRAL, resident=False)
    one_s = prompt_seconds(inputs, "fiddler", nothing, 512, 512)
    three_s = prompt_seconds(inputs, "fiddler", nothing, 3 * 512, 512)
    looking_s = [dense_chunk_seconds(MIXTRAL, inputs.costs, 512, start) for start in (0, 512, 1024)]
    assert three_s == pytest.approx(3 * one_s + 32 * (sum(looking_s) - 3 * looking_s[0]))
    assert looking_s == sorted(set(looking_s))
    assert prompt_seconds(inputs, "fiddler", nothing, 3 * 512, 2048) < three_s, "one pass streams each expert once"
    rest_s = prompt_seconds(inputs, "fiddler", nothing, 600, 512) - one_s
    assert 0 < rest_s < one_s


def test_a_sample_of_layers_stands_for_all() -> None:
    inputs, nothing = planning(QWEN), mask(QWEN, resident=False)
    exact_s = prompt_seconds(inputs, "fiddler", nothing, 2048, 512)
    assert prompt_seconds(inputs, "fiddler", nothing, 2048, 512, 4) == pytest.approx(exact_s, rel=0.05)


def test_what_was_measured_around_the_experts_counts() -> None:
    costs = replace(pc_costs(MIXTRAL), dense_tokens=CostCurve(1e-3, 1e-5, 1e-4), attention_pair_s=1e-8)
    assert dense_chunk_seconds(MIXTRAL, costs, 400, 100) == pytest.approx(4e-3 + 1e-4 + (400 * 100 + 80200) * 1e-8)
    assert dense_chunk_seconds(MIXTRAL, replace(costs, dense_layer_s=1.0), 400, 100) == 1.0


def test_policies_differ() -> None:
    speeds = {
        policy: forecast(planning(MIXTRAL), EngineConfig(policy=policy), mask(MIXTRAL, resident=False), 512)
        for policy in ("fiddler", "gpu_stream", "cpu_only")
    }
    fiddler = speeds["fiddler"]
    for other in (speeds["gpu_stream"], speeds["cpu_only"]):
        assert fiddler.decode_tokens_per_s >= other.decode_tokens_per_s * (1 - 1e-9)
        assert fiddler.prefill_tokens_per_s >= other.prefill_tokens_per_s * (1 - 1e-9)


def test_the_limit_names_what_takes_longest() -> None:
    nothing = mask(MIXTRAL, resident=False)
    costs = pc_costs(MIXTRAL)
    slow_dense = replace(costs, dense_layer_s=1.0)
    assert "experts on the CPU" in forecast(planning(costs=costs), CONFIG, nothing, 512).limit
    assert "attention" in forecast(planning(costs=slow_dense), CONFIG, nothing, 512).limit
    streaming = EngineConfig(policy="gpu_stream")
    assert "copies included" in forecast(planning(costs=costs), streaming, nothing, 512).limit
    without = pc_costs(MIXTRAL, gpu=False)
    assert "experts on the CPU" in forecast(planning(costs=without), CONFIG, nothing, 512).limit


def test_costs_of_nothing_still_make_a_number() -> None:
    nothing = CostCurve(0.0, 0.0, 0.0)
    costs = replace(pc_costs(TINY), cpu_expert=nothing, gpu_expert=nothing, weight_copy=nothing, activation_copy=None)
    got = forecast(planning(TINY, costs=replace(costs, dense_layer_s=0.0)), CONFIG, mask(TINY, resident=True), 512)
    assert np.isfinite(got.decode_tokens_per_s)
    assert np.isfinite(got.prefill_tokens_per_s)
