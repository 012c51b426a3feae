from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import EngineConfig, KvPrecision, ModelConfig
from engine.experts.footprint import step_bytes
from engine.experts.memory import (
    ENGINE_BYTES,
    MIB,
    TOKEN_BYTES,
    Needs,
    Vram,
    engine_bytes,
    host_terms,
    machine_without_engine,
    planned_context_tokens,
    planned_device,
    ram_room,
    workspace_bytes,
)
from engine.experts.placement import make_plan
from engine.experts.planner import staging_slots_of
from engine.traits import Traits
from tests.engine.experts.shapes import GIB, MIXTRAL, QWEN, QWEN_Q4_K_M, TINY, machine, pc_costs, planning

SIMULATED = EngineConfig(device="simulated")


def test_the_device_is_the_one_asked_for() -> None:
    assert planned_device(EngineConfig(), machine()) == "cuda"
    assert planned_device(EngineConfig(), machine(gpu=None)) == "cpu"
    for name in ("cuda", "cpu", "simulated"):
        assert planned_device(EngineConfig(device=name), machine(gpu=None)) == name


def test_the_context_is_cut_to_the_models() -> None:
    assert planned_context_tokens(MIXTRAL, EngineConfig(context_tokens=100_000)) == 32768
    assert planned_context_tokens(MIXTRAL, EngineConfig(context_tokens=100)) == 100


def test_workspace_by_hand() -> None:
    config = EngineConfig(context_tokens=64, prefill_chunk_tokens=32)
    states = 3 * 32 * 64 + 320
    attention = 4 * 2 * 32 * (4 + 2) * 16 + (4 // 2) * 32 * 64 * (1 + TINY.dtype_bytes)
    expert = 4 * 32 * (2 * 64 + 3 * 96)
    assert workspace_bytes(TINY, config) == 4 * states + max(attention, expert)


def test_windows_of_two_kinds_and_sinks_take_room_by_hand() -> None:
    config = EngineConfig(context_tokens=64, prefill_chunk_tokens=32)
    narrow = replace(TINY, intermediate_size=8)  # so that attention takes more than an expert
    plain = workspace_bytes(narrow, config)
    seen, width = (4 // 2) * 32 * 64, 16 + 8
    some_full = replace(narrow, sliding_window=16, traits=Traits(full_layers=(1,)))
    assert workspace_bytes(some_full, config) == plain + seen
    sinks = replace(narrow, traits=Traits(sinks=True))
    copies = 4 * 2 * 32 * 4 * width + TINY.dtype_bytes * 2 * 2 * 65 * width
    assert workspace_bytes(sinks, config) == plain + seen + copies


def test_what_a_gpus_launches_and_their_table_take_by_hand() -> None:
    config = EngineConfig(context_tokens=64, prefill_chunk_tokens=32)
    visits, table = 16 * 2, 8 * 3 * 6
    launching = 4 * (16 * 64 + visits * 96)
    assert Needs.of(TINY, config, "cpu").workspace == workspace_bytes(TINY, config)
    assert Needs.of(TINY, config, "simulated").workspace == workspace_bytes(TINY, config) + launching + table


@pytest.mark.parametrize("model", [TINY, MIXTRAL, QWEN])
def test_workspace_grows_with_chunk_and_context(model: ModelConfig) -> None:
    sizes = [
        workspace_bytes(model, EngineConfig(context_tokens=context, prefill_chunk_tokens=chunk))
        for context, chunk in ((16, 1), (16, 16), (128, 16), (128, 128), (1 << 20, 128))
    ]
    assert sizes == sorted(sizes)


def test_terms_add_up() -> None:
    needs = Needs.of(MIXTRAL, EngineConfig())
    terms = needs.terms(10 * MIXTRAL.expert_bytes, margin=7)
    assert terms["total"] == sum(size for term, size in terms.items() if term != "total")
    assert terms["experts"] == 10 * MIXTRAL.expert_bytes
    assert terms["staging"] == 2 * MIXTRAL.expert_bytes
    assert terms["kv"] == 8192 * MIXTRAL.kv_bytes_per_token("auto")
    assert needs.terms(MIXTRAL.experts_bytes, 0)["staging"] == 0


@given(st.sampled_from([MIXTRAL, QWEN_Q4_K_M]), st.integers(0, 200 * GIB))
def test_residents_get_all_the_room_that_is_left(model: ModelConfig, extra: int) -> None:
    needs = Needs.of(model, EngineConfig())
    room = needs.least + extra
    resident_bytes = needs.resident_room(room)
    assert needs.terms(resident_bytes, 0)["total"] == min(room, needs.everything)


def test_the_last_experts_take_the_place_of_staging() -> None:
    needs = Needs.of(TINY, EngineConfig())
    assert needs.resident_room(needs.everything) == needs.experts
    assert needs.resident_room(needs.everything - 1) == needs.experts - 2 * needs.expert - 1


@given(st.integers(0, 300 * GIB), st.booleans())
def test_budget_for_is_the_least_budget_with_that_room(needed: int, simulated: bool) -> None:
    vram = Vram(total=1 << 40, used=0, asked=None, simulated=simulated)
    budget = vram.budget_for(needed)
    assert replace(vram, asked=budget).room >= needed
    assert replace(vram, asked=budget - 2).room < needed


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40), st.none() | st.integers(0, 1 << 41), st.booleans())
def test_the_budget_is_never_more_than_is_free(total: int, used: int, asked: int | None, simulated: bool) -> None:
    vram = Vram(total, used, asked, simulated)
    assert 0 <= vram.budget <= vram.free <= total
    assert vram.room <= vram.budget


def test_margins() -> None:
    assert Vram(24 * GIB, 0, None).margin == 24 * GIB // 20
    assert Vram(8 * GIB, 0, None).margin == 512 * MIB
    assert Vram(8 * MIB, 0, None, simulated=True).margin == 8 * MIB // 20
    assert Vram(80 * GIB, 0, None, simulated=True).margin == 512 * MIB


def test_vram_of_each_device() -> None:
    assert Vram.of(EngineConfig(), machine()) == Vram(24 * GIB, GIB, None)
    assert Vram.of(EngineConfig(vram_budget_bytes=5), machine()).asked == 5
    assert Vram.of(SIMULATED, machine()) == Vram(8 * GIB, 0, None, simulated=True)
    assert Vram.of(EngineConfig(device="cpu"), machine()).free == 0
    assert Vram.of(EngineConfig(device="cuda"), machine(gpu=None)).free == 0


def test_host_terms() -> None:
    needs = Needs.of(TINY, EngineConfig())
    experts, engine = TINY.total_experts * TINY.expert_bytes, engine_bytes(TINY, "cuda")
    in_ram = {"experts": experts, "dense": TINY.embedding_bytes, "engine": engine}
    in_ram["total"] = sum(in_ram.values())
    assert host_terms("cuda", needs, needs.terms(TINY.expert_bytes, 5)) == in_ram
    tied = Needs.of(replace(TINY, tie_word_embeddings=True), EngineConfig())
    for without in (tied, Needs.of(TINY, EngineConfig(), gpu_kernels=False)):
        assert host_terms("cuda", without, {}) == {"experts": experts, "engine": engine, "total": experts + engine}
    assert host_terms("cpu", needs, {})["total"] == needs.everything + engine
    needs = Needs.of(TINY, EngineConfig(), "simulated")
    simulated = host_terms("simulated", needs, needs.terms(TINY.expert_bytes, 5))
    assert simulated["simulated_vram"] == needs.terms(TINY.expert_bytes, 0)["total"]
    assert simulated["total"] == experts + simulated["simulated_vram"] + engine_bytes(TINY, "simulated")


def test_what_the_engines_process_holds_grows_with_the_vocabulary() -> None:
    small, large = (engine_bytes(replace(TINY, vocab_size=size), "cpu") for size in (32_000, 152_000))
    assert large - small == 120_000 * TOKEN_BYTES


def test_a_plan_made_in_the_engines_process_does_not_count_that_twice() -> None:
    here = machine_without_engine(machine(ram_available=GIB), "cpu", 100 * MIB)
    assert here.ram_available_bytes == GIB + 100 * MIB
    assert machine_without_engine(machine(ram_available=GIB), "cpu", 9 * GIB).ram_available_bytes == (
        GIB + ENGINE_BYTES["cpu"]
    )
    full = machine(ram_available=machine().ram_total_bytes)
    assert machine_without_engine(full, "cpu", 100 * MIB) == full


def test_host_terms_with_experts_on_disk() -> None:
    needs = Needs.of(TINY, EngineConfig(experts_on_disk=True))
    experts = TINY.total_experts * TINY.expert_bytes
    terms = host_terms("cuda", needs, needs.terms(TINY.expert_bytes, 5))
    dense, engine = TINY.embedding_bytes, engine_bytes(TINY, "cuda")
    assert terms == {"experts_on_disk": experts, "dense": dense, "engine": engine, "total": dense + engine}
    on_cpu = host_terms("cpu", needs, {})
    assert on_cpu["total"] == needs.fixed + engine
    assert on_cpu["experts_on_disk"] == experts


def test_experts_are_as_large_as_they_are_and_slots_for_streaming_as_the_largest() -> None:
    needs = Needs.of(QWEN_Q4_K_M, EngineConfig())
    sizes = [QWEN_Q4_K_M.layer_expert_bytes(layer) for layer in (0, 1)]
    assert needs.expert == sizes[0] > sizes[1]
    assert host_terms("cuda", needs, {})["experts"] == 128 * 24 * sum(sizes)
    assert needs.everything == needs.fixed + needs.experts
    assert needs.terms(0, 0)["staging"] == staging_slots_of(QWEN_Q4_K_M) * sizes[0]
    assert needs.least == needs.fixed + staging_slots_of(QWEN_Q4_K_M) * sizes[0]


@pytest.mark.parametrize(("available", "kept"), [(4 * GIB, 512 * MIB), (20 * GIB, GIB), (200 * GIB, 2 * GIB)])
def test_ram_kept_free(available: int, kept: int) -> None:
    assert ram_room(machine(ram_available=available)) == available - kept


@pytest.mark.parametrize(("precision", "row"), [("auto", 256), ("f16", 256), ("q8", 128 + 8)])
def test_int8_in_the_cache_makes_room_for_experts(precision: KvPrecision, row: int) -> None:
    inputs, usual = planning(MIXTRAL), EngineConfig(context_tokens=32768, prefill_chunk_tokens=512)
    plan, auto = make_plan(inputs, replace(usual, kv_precision=precision)), make_plan(inputs, usual)
    assert plan.kv_precision == precision
    assert plan.vram_bytes["kv"] == 32 * 2 * 8 * row * 32768
    slice_bytes = 0 if MIXTRAL.kv_format(precision) == "BF16" else 2 * 8 * 256 * 32768
    slice_bytes -= step_bytes(MIXTRAL, "cuda", "auto") - step_bytes(MIXTRAL, "cuda", precision)
    assert plan.vram_bytes["workspace"] == auto.vram_bytes["workspace"] + slice_bytes
    freed = auto.vram_bytes["kv"] - plan.vram_bytes["kv"] - slice_bytes
    gained = (plan.resident_experts - auto.resident_experts) * MIXTRAL.expert_bytes
    assert abs(gained - freed) < MIXTRAL.expert_bytes


def test_only_torch_unpacks_a_slice_of_the_cache() -> None:
    q8 = EngineConfig(device="cpu", kv_precision="q8")
    for kernels, more in (("torch", 2 * 8 * 256 * 8192), ("avx2", 0)):
        inputs = replace(planning(MIXTRAL, machine(gpu=None), pc_costs(MIXTRAL, gpu=False)), kernels=kernels)
        workspace = [make_plan(inputs, replace(q8, kv_precision=p)).host_bytes["workspace"] for p in ("auto", "q8")]
        assert workspace[1] - workspace[0] == more


def test_room_for_others_is_left_by_an_automatic_budget_alone() -> None:
    assert Vram(24 * GIB, GIB, None, reserve=6 * GIB).budget == 18 * GIB
    assert Vram(24 * GIB, 9 * GIB, None, reserve=6 * GIB).budget == 15 * GIB, "what they hold counts"
    assert Vram(24 * GIB, GIB, 20 * GIB, reserve=6 * GIB).budget == 20 * GIB, "what was set was meant"
    assert Vram(4 * GIB, 0, None, reserve=6 * GIB).budget == 0
    assert Vram.of(EngineConfig(vram_reserve_bytes=GIB), machine()).reserve == GIB
    assert Vram.of(replace(SIMULATED, vram_reserve_bytes=GIB), machine()).budget == 7 * GIB
