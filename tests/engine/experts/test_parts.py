"""Large experts in parts: what is cut, what stays whole, and that plans count parts as the experts that they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine.config import EngineConfig, ModelConfig
from engine.experts.forecast import decode_seconds
from engine.experts.parts import LAST_PART_WORTH, PART_BYTES, in_parts, part_worth, placed_model
from engine.experts.placement import make_plan
from engine.experts.planner import layer_seconds
from engine.experts.popularity import Popularity
from engine.experts.ranking import as_mask, choose_residents
from engine.plan_text import plan_as_json, plan_as_lines
from engine.traits import ClampedGate, Traits
from tests.engine.experts.shapes import MIXTRAL, QWEN, QWEN_Q4_K_M, TINY, pc_costs, planning, uniform

MIXTRAL_Q4_K = replace(MIXTRAL, quantization="Q4_K", expert_formats=(("Q4_K", "Q4_K", "Q4_K"),) * MIXTRAL.layers)
MIXTRAL_Q4_0 = replace(MIXTRAL, expert_formats=(("Q4_0", "Q4_0", "Q4_0"),) * MIXTRAL.layers)
HALVES = in_parts(TINY, 2)


@pytest.mark.parametrize(
    ("model", "parts"),
    [(MIXTRAL_Q4_K, 7), (MIXTRAL_Q4_0, 7), (MIXTRAL, 8), (QWEN, 1), (QWEN_Q4_K_M, 1), (TINY, 1)],
    ids=["Mixtral Q4_K", "Mixtral Q4_0", "Mixtral bfloat16", "Qwen", "Qwen Q4_K_M", "tiny"],
)
def test_only_large_experts_are_cut_and_into_as_few_parts_as_are_small(model: ModelConfig, parts: int) -> None:
    for device in ("cuda", "simulated"):
        placed = placed_model(model, device)
        assert placed.expert_parts == parts
        assert placed.whole == model
        assert placed.experts_bytes == model.experts_bytes
        assert placed.dense_parameters == model.dense_parameters
        assert placed.total_experts == model.total_experts
    if 1 < parts < 8:  # 8 are the most that two experts may have
        assert placed.expert_bytes <= PART_BYTES
        assert all(model.intermediate_size % fewer for fewer in (5, 6)), "4 are too large, 5 and 6 do not divide it"


@pytest.mark.parametrize(
    "changes",
    [
        {"traits": Traits(clamped_gate=ClampedGate(1.702, 7.0))},  # whose biases would be added by each part
        {"intermediate_size": 14336 + 256, "expert_formats": MIXTRAL_Q4_K.expert_formats},  # 57 blocks: 3 x 19
        {"intermediate_size": 14338},  # no whole tile of rows
        {"experts_per_token": 9},  # two parts of each were 18 visits
    ],
)
def test_what_cannot_be_cut_stays_whole(changes: dict[str, Any]) -> None:
    model = replace(MIXTRAL, **changes)
    expected = 3 if model.intermediate_size == 57 * 256 else 1
    assert placed_model(model, "cuda").expert_parts == expected


def test_without_a_gpu_experts_stay_whole() -> None:
    assert placed_model(MIXTRAL, "cpu") is MIXTRAL


def test_parts_are_numbered_within_their_expert_and_the_last_is_worth_less() -> None:
    assert part_worth(HALVES).tolist() == [1.0, LAST_PART_WORTH] * TINY.experts
    assert part_worth(TINY).tolist() == [1.0] * TINY.experts


def test_the_last_parts_of_experts_come_to_vram_last() -> None:
    model = placed_model(MIXTRAL_Q4_K, "cuda")
    inputs = planning(model, costs=pc_costs(model), popularity=uniform(model))
    room = model.layers * 8 * 6 * model.expert_bytes
    chosen = choose_residents(inputs, "popularity", room, ()).reshape(model.layers, 8, 7)
    assert chosen[:, :, :6].all()
    assert not chosen[:, :, 6].any()
    favourite = np.full((model.layers, 8, 7), 1.0)
    favourite[:, 3] = 1.0 / LAST_PART_WORTH + 0.01
    shares = (favourite / favourite.sum(axis=(1, 2), keepdims=True)).reshape(model.layers, -1)
    liked = replace(inputs, popularity=tuple(map(tuple, shares.tolist())))
    chosen = choose_residents(liked, "popularity", model.layers * 7 * model.expert_bytes, ())
    assert chosen.reshape(model.layers, 8, 7)[:, 3].all()


def test_popularity_counts_experts_however_many_parts_they_are_in(tmp_path: Any) -> None:
    whole, parted = Popularity(TINY), Popularity(HALVES)
    for expert, tokens in ((0, 3), (4, 1)):
        whole.observe(1, [(expert, tokens)])
        parted.observe(1, [(2 * expert, tokens), (2 * expert + 1, tokens)])
    assert parted.shares() == tuple(tuple(share / 2 for share in row for _ in range(2)) for row in whole.shares())
    assert parted.recent() == tuple(tuple(use for use in row for _ in range(2)) for row in whole.recent())
    parted.save(tmp_path / "visits.json")
    assert Popularity.load(tmp_path / "visits.json", TINY).shares() == whole.shares()
    whole.save(tmp_path / "visits.json")
    assert Popularity.load(tmp_path / "visits.json", HALVES).shares() == parted.shares()


def test_a_plan_tells_of_experts_and_of_parts() -> None:
    model = placed_model(MIXTRAL_Q4_K, "cuda")
    inputs = planning(model, costs=pc_costs(model), popularity=uniform(model))
    plan = make_plan(inputs, EngineConfig(device="cuda"))
    parts = sum(map(len, plan.resident_by_layer))
    assert plan.expert_parts == 7
    assert plan.resident_experts == parts // 7
    assert parts * model.expert_bytes == plan.vram_bytes["experts"]
    told = plan_as_json(inputs, plan)
    assert told["total_experts"] == 256
    assert told["resident_experts"] == sum(map(len, told["resident_by_layer"])) == parts // 7
    counts = [np.bincount(np.array(present) // 7, minlength=8) for present in told["resident_parts_by_layer"]]
    named = [counts[layer][expert] for layer, row in enumerate(told["resident_by_layer"]) for expert in row]
    assert sorted(named) == sorted(np.array(counts).ravel())[-len(named) :], "those with the most parts in VRAM"
    assert any("7 parts" in reason for reason in plan.reasons)
    assert any("(6/7)" in line for line in plan_as_lines(inputs, plan))


def test_a_plan_in_one_part_tells_what_it_always_did() -> None:
    inputs = planning(QWEN)
    told = plan_as_json(inputs, make_plan(inputs, EngineConfig(device="cuda")))
    assert "resident_parts_by_layer" not in told
    assert told["resident_experts"] == sum(map(len, told["resident_by_layer"]))


@pytest.mark.parametrize("missing", [(0, 0), (1, 0), (2, 1), (2, 2)])
def test_the_forecast_of_decode_takes_the_parts_of_an_expert_together(missing: tuple[int, int]) -> None:
    """Two experts, one of them visited: its missing parts, and none of the other's."""
    model = in_parts(replace(TINY, experts=2, experts_per_token=1, layers=1), 2)
    costs = pc_costs(model)
    inputs = planning(model, costs=costs, popularity=((0.35, 0.35, 0.15, 0.15),))
    resident = as_mask(model, [[2 * expert + part for expert in (0, 1) for part in range(missing[expert], 2)]])
    sides = [max(layer_seconds([(0, 1), (1, 1)], range(m, 2), costs, "fiddler", pass_tokens=1)) for m in missing]
    expected = costs.dense_layer_s + 0.7 * sides[0] + 0.3 * sides[1]
    assert decode_seconds(inputs, "fiddler", resident) == pytest.approx(expected)


def test_a_faster_machine_is_predicted_where_parts_can_be_shared() -> None:
    """What is not in VRAM takes the CPU as long as ever, but the link carries some parts of it meanwhile."""
    seconds = {}
    for model in (MIXTRAL_Q4_K, placed_model(MIXTRAL_Q4_K, "cuda")):
        inputs = planning(model, costs=pc_costs(model), popularity=uniform(model))
        seconds[model.expert_parts] = decode_seconds(inputs, "fiddler", as_mask(model, [()] * model.layers))
    assert seconds[7] < 0.75 * seconds[1], "a link half as quick as RAM carries up to a third"
