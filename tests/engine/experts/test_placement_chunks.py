from __future__ import annotations

from dataclasses import replace

import pytest

from engine.config import EngineConfig
from engine.experts.memory import RAM_MARGIN_BYTES, Needs, engine_bytes
from engine.experts.placement import budget_range, make_plan
from engine.messages import CostCurve
from tests.engine.experts.shapes import (
    GIB,
    MIXTRAL,
    machine,
    pc_costs,
    planning,
)


def test_a_prompts_chunk_is_as_long_as_pays() -> None:
    """Streaming once instead of four times, against the residents that make way for a longer chunk."""
    inputs = planning(MIXTRAL, costs=pc_costs(MIXTRAL))
    config = EngineConfig(vram_budget_bytes=12 * GIB)
    plan = make_plan(inputs, config)
    assert plan.prefill_chunk_tokens == 4096
    short = make_plan(inputs, replace(config, prefill_chunk_tokens=512))
    assert short.prefill_chunk_tokens == 512
    for made in (plan, short):
        chosen = replace(config, prefill_chunk_tokens=made.prefill_chunk_tokens)
        assert made.vram_bytes["workspace"] == Needs.of(MIXTRAL, chosen).workspace


def test_on_the_cpu_a_prompts_chunk_stays_short() -> None:
    inputs = planning(MIXTRAL)
    assert make_plan(inputs, EngineConfig(device="cpu")).prefill_chunk_tokens == 512
    assert make_plan(inputs, EngineConfig(device="cpu", context_tokens=100)).prefill_chunk_tokens == 100


def test_no_longer_chunk_keeps_an_expert_from_where_all_would_live() -> None:
    inputs = planning(MIXTRAL)
    roomy = replace(inputs, hardware=replace(inputs.hardware, ram_available_bytes=300 * GIB))
    for size in (100, 120):
        plan = make_plan(roomy, EngineConfig(device="simulated", simulated_vram_bytes=size * GIB))
        assert plan.resident_experts == MIXTRAL.total_experts
        assert plan.vram_bytes["staging"] == 0
        assert plan.lent_bytes == {}


def test_a_longer_chunk_never_keeps_a_model_from_fitting() -> None:
    inputs = planning(MIXTRAL)
    least = budget_range(inputs, EngineConfig())[0]
    plan = make_plan(inputs, EngineConfig(vram_budget_bytes=least))
    assert plan.fits
    assert plan.prefill_chunk_tokens == 512


def test_a_longer_chunk_takes_no_more_ram() -> None:
    """A simulated GPU's memory is RAM, and the workspace a part of it, which residents lend."""
    config = EngineConfig(device="simulated", simulated_vram_bytes=12 * GIB)
    assert make_plan(planning(MIXTRAL), config).prefill_chunk_tokens == 4096
    least = make_plan(planning(MIXTRAL), replace(config, prefill_chunk_tokens=512))
    barely = least.host_bytes["total"] + max(RAM_MARGIN_BYTES)
    plan = make_plan(planning(MIXTRAL, machine(ram_available=barely)), config)
    assert plan.fits
    assert plan.prefill_chunk_tokens == 4096
    assert plan.host_bytes["total"] <= least.host_bytes["total"]


def test_what_every_chunk_reads_from_disk_makes_longer_ones_pay() -> None:
    costs = replace(pc_costs(MIXTRAL), weight_copy=CostCurve(0.0, 1e-9, 0.0))  # so that only the disk is slow
    inputs, config = planning(MIXTRAL, machine(ram_available=40 * GIB), costs), EngineConfig(vram_budget_bytes=12 * GIB)
    in_ram = make_plan(planning(MIXTRAL, costs=costs), config)
    on_disk = make_plan(inputs, replace(config, experts_on_disk=True))
    assert in_ram.prefill_chunk_tokens < on_disk.prefill_chunk_tokens == 4096


@pytest.mark.parametrize("limit", [None, 0, 20 * GIB])
def test_what_is_not_page_locked_is_said_and_slows_prompts_down(limit: int | None) -> None:
    inputs, config = planning(MIXTRAL), EngineConfig(vram_budget_bytes=12 * GIB)
    usual, plan = make_plan(inputs, config), make_plan(inputs, replace(config, pinned_budget_bytes=limit))
    assert usual.host_bytes["experts_pinned"] == usual.host_bytes["experts"]
    assert plan.host_bytes["experts"] == usual.host_bytes["experts"]
    besides = MIXTRAL.embedding_bytes + engine_bytes(MIXTRAL, "cuda")
    assert plan.host_bytes["total"] == plan.host_bytes["experts"] + besides
    said = [reason for reason in plan.reasons if "page-locked" in reason]
    if limit is None:
        assert plan == usual
        assert said == []
        return
    assert limit - MIXTRAL.expert_bytes < plan.host_bytes["experts_pinned"] <= limit
    assert len(said) == 1
    assert plan.predicted_prefill_tokens_per_s < usual.predicted_prefill_tokens_per_s
