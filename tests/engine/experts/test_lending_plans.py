"""What plans promise of lending: the books of a reply and of a long prompt, and who makes way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import EngineConfig, ModelConfig
from engine.experts.memory import LEAST_CHUNK_TOKENS, Needs, Vram, workspace_bytes
from engine.experts.parts import placed_model
from engine.experts.placement import make_plan
from engine.experts.ranking import layer_expert_bytes, lent_for, staying_residents
from engine.experts.situation import Situation
from tests.engine.experts.shapes import GIB, MIXTRAL, QWEN_Q4_K_M, pc_costs, planning, skewed
from tests.examples import examples

MODELS = (MIXTRAL, placed_model(MIXTRAL, "cuda"), QWEN_Q4_K_M)


@pytest.mark.parametrize("model", MODELS, ids=["whole", "parts", "mixed sizes"])
@examples(40)
@given(budget=st.integers(3 * GIB, 110 * GIB), chunk=st.sampled_from((None, 100, 512, 513, 1024, 2048, 8192)))
def test_neither_a_reply_nor_a_long_prompt_takes_more_than_the_budget(
    model: ModelConfig, budget: int, chunk: int | None
) -> None:
    config = EngineConfig(device="simulated", simulated_vram_bytes=budget, prefill_chunk_tokens=chunk)
    roomy = planning(model, popularity=skewed(model))
    inputs = replace(roomy, hardware=replace(roomy.hardware, ram_available_bytes=900 * GIB, ram_total_bytes=900 * GIB))
    plan = make_plan(inputs, config)
    if not plan.fits:
        return
    if chunk is None:
        shortest = make_plan(inputs, replace(config, prefill_chunk_tokens=LEAST_CHUNK_TOKENS))
        assert plan.resident_by_layer == shortest.resident_by_layer, "a longer pass costs a reply nothing"
    situation = Situation.of(inputs, replace(config, prefill_chunk_tokens=plan.prefill_chunk_tokens))
    needs, room = situation.needs, situation.vram.room
    terms = plan.vram_bytes
    assert terms["total"] - terms["margin"] <= room
    leaving = situation.resident & ~situation.staying
    freed = int(leaving.sum(axis=1) @ layer_expert_bytes(model))
    lent = lent_for(plan.lent_bytes, 1 << 20)
    assert lent == max(plan.lent_bytes.values(), default=0)
    assert terms["total"] - terms["margin"] - freed + lent <= room
    assert lent <= freed <= lent + max(layer_expert_bytes(model)) * bool(lent)
    full = Needs.of(model, situation.config, "simulated")
    assert terms["workspace"] + lent == full.workspace + full.prompt_workspace
    if not situation.staying.all():
        assert terms["staging"] == needs.slots * needs.expert, "what makes way is streamed"
    if plan.prefill_chunk_tokens <= LEAST_CHUNK_TOKENS or situation.resident.all():
        assert plan.lent_bytes == {}
    for longest, size in plan.lent_bytes.items():
        needed = Needs.of(model, replace(config, prefill_chunk_tokens=longest), "simulated")
        assert lent_for(plan.lent_bytes, longest) == size
        assert terms["workspace"] + size >= needed.workspace + needed.prompt_workspace


def test_a_reply_has_the_residents_of_the_shortest_chunk() -> None:
    """A longer pass costs a reply nothing."""
    for model in MODELS:
        inputs = planning(model, costs=pc_costs(model))
        config = EngineConfig(vram_budget_bytes=12 * GIB)
        plan, short = make_plan(inputs, config), make_plan(inputs, replace(config, prefill_chunk_tokens=512))
        assert plan.prefill_chunk_tokens == 4096
        assert list(plan.lent_bytes) == [512, 1024, 2048, 4096]
        assert sorted(plan.lent_bytes.values()) == list(plan.lent_bytes.values())
        assert short.lent_bytes == {}
        assert plan.resident_by_layer == short.resident_by_layer
        assert plan.predicted_decode_tokens_per_s == short.predicted_decode_tokens_per_s


@examples(60)
@given(seed=st.integers(0, 2**32 - 1), lent=st.integers(0, 40 * GIB))
def test_the_least_popular_make_way_and_no_more_than_they_must(seed: int, lent: int) -> None:
    generator = np.random.default_rng(seed)
    model = generator.choice(np.array([0, 2])).item()
    model_config = MODELS[model]
    shares = skewed(model_config, seed)
    resident = generator.random((model_config.layers, model_config.experts)) < generator.random()
    before = resident.copy()
    staying = staying_residents(model_config, shares, resident, lent)
    assert (resident == before).all()
    assert not (staying & ~resident).any()
    leaving = resident & ~staying
    sizes = np.broadcast_to(layer_expert_bytes(model_config)[:, None], resident.shape)
    freed = sizes[leaving].sum()
    if not lent:
        assert not leaving.any()
        return
    assert freed >= lent or not staying.any()
    popularity = np.array(shares)
    if leaving.any():
        most_liked = np.where(leaving, popularity, -1).argmax()
        assert freed - sizes.ravel()[most_liked] < lent
        if staying.any():
            assert popularity[leaving].max() <= popularity[staying].min()


def test_who_is_not_there_need_not_come_only_to_leave() -> None:
    shares = skewed(MIXTRAL)
    resident = np.ones((MIXTRAL.layers, MIXTRAL.experts), dtype=np.bool_)
    present = np.random.default_rng(3).random(resident.shape) < 0.5
    absent = int((~present).sum())
    for number in (1, absent - 1, absent, absent + 3):
        staying = staying_residents(MIXTRAL, shares, resident, number * MIXTRAL.expert_bytes, present)
        assert int((~staying).sum()) == number
        if number <= absent:
            assert not (~staying & present).any()
        else:
            assert not (staying & ~present).any()


def test_what_will_make_way_is_page_locked_before_other_residents() -> None:
    """It is streamed in every long prompt."""
    inputs = planning(MIXTRAL)
    experts = MIXTRAL.total_experts
    outside = experts - make_plan(inputs, EngineConfig(vram_budget_bytes=12 * GIB)).resident_experts
    config = EngineConfig(vram_budget_bytes=12 * GIB, pinned_budget_bytes=(outside + 1) * MIXTRAL.expert_bytes)
    plan = make_plan(inputs, config)
    situation = Situation.of(inputs, replace(config, prefill_chunk_tokens=plan.prefill_chunk_tokens))
    assert situation.pinned is not None
    assert (situation.pinned & situation.resident & ~situation.staying).any()
    assert not (situation.pinned & situation.staying).any()


def test_where_all_but_one_have_room_one_is_streamed_and_some_make_way() -> None:
    """Never do all experts live beside slots for streaming: one keeps these in the plan."""
    inputs = planning(MIXTRAL)
    roomy = replace(inputs, hardware=replace(inputs.hardware, ram_available_bytes=300 * GIB))
    config = EngineConfig(device="simulated", prefill_chunk_tokens=8192)
    needs = Needs.of(MIXTRAL, config, "simulated")
    assert needs.prompt_workspace > needs.slots * needs.expert, "else there would be no such budget"
    vram = Vram(total=1 << 50, used=0, asked=None, simulated=True)
    for room, residents in (
        (needs.everything, MIXTRAL.total_experts),
        (needs.everything - 1, MIXTRAL.total_experts - 1),
    ):
        plan = make_plan(roomy, replace(config, simulated_vram_bytes=vram.budget_for(room)))
        assert plan.resident_experts == residents
        assert (plan.vram_bytes["staging"] > 0) == (residents < MIXTRAL.total_experts) == bool(plan.lent_bytes)


def test_no_pass_is_chosen_that_would_keep_one_of_all_experts_out() -> None:
    inputs = planning(MIXTRAL)
    roomy = replace(inputs, hardware=replace(inputs.hardware, ram_available_bytes=300 * GIB))
    config, vram = EngineConfig(device="simulated"), Vram(total=1 << 50, used=0, asked=None, simulated=True)
    short, longer = (
        Needs.of(MIXTRAL, replace(config, prefill_chunk_tokens=tokens), "simulated").everything
        for tokens in (512, 1024)
    )
    for room, tokens in ((short, 512), ((short + longer) // 2, 512), (longer, 1024)):
        plan = make_plan(roomy, replace(config, simulated_vram_bytes=vram.budget_for(room)))
        assert (plan.resident_experts, plan.prefill_chunk_tokens) == (MIXTRAL.total_experts, tokens)


def test_where_residents_are_few_they_lend_what_they_have() -> None:
    inputs, config = planning(MIXTRAL), EngineConfig(device="simulated", prefill_chunk_tokens=8192)
    needs = Needs.of(MIXTRAL, config, "simulated")
    vram = Vram(total=1 << 50, used=0, asked=None, simulated=True)
    plan = make_plan(inputs, replace(config, simulated_vram_bytes=vram.budget_for(needs.least)))
    size = plan.resident_experts * MIXTRAL.expert_bytes
    assert 0 < size < needs.prompt_workspace
    assert plan.lent_bytes == {LEAST_CHUNK_TOKENS: 0, 8192: size}
    assert plan.vram_bytes["workspace"] == needs.workspace + needs.prompt_workspace - size
    longest = Needs.of(MIXTRAL, replace(config, prefill_chunk_tokens=4096), "simulated")
    few = make_plan(inputs, EngineConfig(device="simulated", simulated_vram_bytes=vram.budget_for(longest.least)))
    assert (few.prefill_chunk_tokens, few.resident_experts) == (4096, 2)
    assert few.lent_bytes[1024] == 0, "what two experts cannot lend is always there, and enough for a shorter pass"
    assert list(few.lent_bytes.values()) == sorted(few.lent_bytes.values())


def test_nothing_is_lent_on_the_cpu() -> None:
    needs = Needs.of(MIXTRAL, EngineConfig(prefill_chunk_tokens=2048), "cpu")
    assert needs.prompt_workspace == 0
    assert needs.workspace == workspace_bytes(MIXTRAL, EngineConfig(prefill_chunk_tokens=2048))


def test_the_plan_says_who_makes_way() -> None:
    inputs, config = planning(MIXTRAL), EngineConfig(vram_budget_bytes=12 * GIB)
    said = [reason for reason in make_plan(inputs, config).reasons if "make way" in reason]
    assert len(said) == 1
    assert "more than 512 tokens" in said[0]
    short = make_plan(inputs, replace(config, prefill_chunk_tokens=512))
    assert not any("make way" in reason for reason in short.reasons)
