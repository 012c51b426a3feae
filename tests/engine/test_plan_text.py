from __future__ import annotations

import json
from dataclasses import replace

from engine.config import EngineConfig
from engine.experts.placement import make_plan
from engine.hardware import GpuProfile
from engine.plan_text import plan_as_json, plan_as_lines
from tests.engine.experts.shapes import GIB, MIXTRAL, machine, planning

PC = machine(GpuProfile("A GPU", 24 * GIB, 0), 128 * GIB)


def test_a_plan_that_fits_says_where_every_expert_goes() -> None:
    inputs = planning(MIXTRAL, PC)
    plan = make_plan(inputs, EngineConfig(device="cuda"))
    lines = plan_as_lines(inputs, plan)
    assert lines[1] == f"on A GPU, {PC.cpu_name}"
    assert f"{plan.resident_experts} of {MIXTRAL.total_experts} experts in VRAM" in lines
    assert sum(line.startswith("  layer ") for line in lines) == MIXTRAL.layers
    assert any(line.startswith("Predicted: ") for line in lines)
    assert set(plan.reasons) <= set(lines)


def test_one_that_does_not_says_why_and_what_helps() -> None:
    inputs = planning(MIXTRAL, replace(PC, gpu=None, ram_total_bytes=8 * GIB, ram_available_bytes=8 * GIB))
    plan = make_plan(inputs, EngineConfig(device="cpu"))
    lines = plan_as_lines(inputs, plan)
    assert not plan.fits
    assert lines[-1] == plan.remedy
    assert not any(line.startswith("Predicted: ") for line in lines)


def test_for_programs_it_is_one_object_with_totals_first() -> None:
    inputs = planning(MIXTRAL, PC)
    plan = make_plan(inputs, EngineConfig(device="cuda"))
    read = json.loads(json.dumps(plan_as_json(inputs, plan)))
    assert (read["model"], read["fits"], read["resident_experts"]) == (MIXTRAL.name, True, plan.resident_experts)
    assert next(iter(read["vram_bytes"])) == "total"
    assert read["vram_bytes"]["total"] == plan.vram_bytes["total"]
