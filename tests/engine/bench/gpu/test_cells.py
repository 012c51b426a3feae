"""The grid, and budgets that give a small model what its card would give to the real one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.bench.gpu.cells import GIB, POLICIES, SCENARIOS, Model, Scenario, budget_for, cells
from engine.bench.models import SIZES
from engine.config import EngineConfig
from engine.experts.assumed_costs import assumed_costs
from engine.experts.footprint import PlannedDevice
from engine.experts.placement import make_plan
from engine.experts.popularity import Popularity
from engine.hardware import HardwareProfile
from engine.messages import PlanningInputs

SMALL = [Model(small, "Q4_K_M", full) for small, full in zip(SIZES["small"], SIZES["full"], strict=True)]
CONFIG = EngineConfig(device="simulated", context_tokens=4160)
MACHINE = HardwareProfile("A processor", 8, 1 << 40, 1 << 40, None)


def _resident_share(model: Model, shape: str, budget: int) -> float:
    """Of what the planner itself would place."""
    config = replace(CONFIG, vram_budget_bytes=budget, simulated_vram_bytes=1 << 50)
    run = model.costed if shape == "full" else model.config
    costs = assumed_costs(run, MACHINE, config)
    plan = make_plan(PlanningInputs(run, MACHINE, costs, Popularity(run).shares()), config)
    assert plan.fits
    return plan.resident_experts / run.total_experts


@pytest.mark.parametrize("vram_gib", [8, 12, 24])
@pytest.mark.parametrize("model", SMALL, ids=lambda model: model.shape.name)
def test_a_small_model_keeps_the_real_ones_share_of_experts(model: Model, vram_gib: int) -> None:
    budget = budget_for(model, vram_gib * GIB, CONFIG, "simulated", "torch")
    assert budget is not None
    share = _resident_share(model, "full", vram_gib * GIB)
    # Whole experts: one of a small model is a larger share, and formats of its few layers differ.
    assert _resident_share(model, "small", budget) == pytest.approx(share, abs=2 / model.config.total_experts)


@pytest.mark.parametrize("device", ["cuda", "simulated"])
def test_a_real_model_gets_the_card_as_it_is(device: PlannedDevice) -> None:
    full = SIZES["full"][1]
    assert budget_for(Model(full, "Q4_K_M", full), 12 * GIB, CONFIG, device, "torch") == 12 * GIB


def test_what_cannot_run_at_all_has_no_budget() -> None:
    assert budget_for(SMALL[0], 2 * GIB, CONFIG, "simulated", "torch") is None


def test_policies_share_everything_but_who_decides() -> None:
    plain = EngineConfig()
    assert {replace(config, policy=plain.policy, adaptive=True) for config in POLICIES.values()} == {plain}
    assert len(set(POLICIES.values())) == len(POLICIES)


def test_the_scenarios_cover_the_papers_grid() -> None:
    full = SCENARIOS["full"]
    decoded, prompts = [s for s in full if s.decodes], [s for s in full if not s.decodes]
    assert (min(s.prompt_tokens for s in decoded), max(s.prompt_tokens for s in decoded)) == (32, 256)
    assert (min(s.new_tokens for s in decoded), max(s.new_tokens for s in decoded)) == (64, 512)
    assert (min(s.prompt_tokens for s in prompts), max(s.prompt_tokens for s in prompts)) == (512, 4096)


def test_a_suite_that_is_cut_short_has_compared_policies() -> None:
    grid = list(cells("m", (8 * GIB, 12 * GIB), (Scenario(1, 2), Scenario(3))))
    assert len({cell.key for cell in grid}) == len(grid) == 2 * 2 * len(POLICIES)
    assert [cell.policy for cell in grid[: len(POLICIES)]] == list(POLICIES)
    assert {cell.scenario for cell in grid[: 2 * len(POLICIES)]} == {Scenario(1, 2)}
