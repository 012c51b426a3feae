from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.config import DeviceName, EngineConfig, ModelConfig
from engine.errors import DoesNotFitError
from engine.experts.memory import engine_bytes
from engine.experts.placement import budget_range, check_fits, in_force, make_plan
from engine.hardware import GpuProfile, HardwareProfile
from engine.messages import PlacementPlan, PlanningInputs
from engine.traits import ClampedGate, Traits
from tests.engine.experts.shapes import (
    GIB,
    MIB,
    MIXTRAL,
    QWEN,
    QWEN_Q4_K_M,
    TINY,
    machine,
    pc_costs,
    planning,
    skewed,
    uniform,
)
from tests.engine.experts.work import calls_of
from tests.examples import examples

MODELS = st.sampled_from([TINY, MIXTRAL, QWEN, QWEN_Q4_K_M])
UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": MIB, "GiB": GIB}


def words_to_bytes(sentence: str) -> int:
    """The size that a sentence names."""
    found = re.search(r"([0-9.]+) (bytes|KiB|MiB|GiB)", sentence)
    assert found, sentence
    return int(float(found[1]) * UNITS[found[2]])


@dataclass(frozen=True)
class Case:
    """A random situation; the popularity is left out of what a failure prints."""

    model: ModelConfig
    hardware: HardwareProfile
    config: EngineConfig
    seed: int

    @property
    def inputs(self) -> PlanningInputs:
        """With costs and popularity."""
        return planning(self.model, self.hardware, popularity=skewed(self.model, self.seed))


def drawn(seed: int) -> Case:
    """A situation by a seed; sizes are spread over orders of magnitude around the model's own.

    Number by number, Hypothesis draws extremes: three in a hundred had a GPU with room for some experts and not all.
    """
    chance = np.random.default_rng(seed)
    model = (TINY, MIXTRAL, QWEN, QWEN_Q4_K_M)[chance.integers(4)]
    whole = model.experts_bytes + model.dense_bytes

    def one_of(*choices: Any) -> Any:
        return choices[chance.integers(len(choices))]

    def size(low: int, high: int) -> int:
        return int(np.exp(chance.uniform(np.log(low), np.log(high))))

    gpu = GpuProfile("GPU", max(2 * GIB, size(whole // 16, 2 * whole)), one_of(0, size(MIB, 8 * GIB)))
    config = EngineConfig(
        device=one_of("auto", "cuda", "cpu", "simulated", "simulated"),
        vram_budget_bytes=one_of(None, None, 0, size(whole // 64, 2 * whole)),
        context_tokens=one_of(16, 100, 4096, 4096, 1 << 20),
        kv_precision=one_of("auto", "f16", "q8"),
        placement=one_of("popularity", "uniform"),
        policy=one_of("fiddler", "gpu_stream", "cpu_only"),
        simulated_vram_bytes=size(whole // 16, 2 * whole),
        prefill_chunk_tokens=one_of(None, 1, 64, 512),
        experts_on_disk=one_of(0, 0, 1) == 1,
        vram_reserve_bytes=one_of(0, 0, size(MIB, 96 * GIB)),
    )
    hardware = machine(one_of(None, gpu, gpu, gpu), min(128 * GIB, 3 * GIB + size(whole // 4, 4 * whole)))
    return Case(model, hardware, config, seed % 4)


CASES = st.builds(drawn, st.integers(0, 1 << 32))


def test_what_is_drawn_is_of_every_kind() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(300):
        case = drawn(seed)
        plan = make_plan(case.inputs, case.config)
        if plan.fits and plan.device != "cpu":
            share = plan.resident_experts / case.model.total_experts
            kinds[f"{plan.device}, {'all' if share == 1 else 'some'}"] += 1
        kinds[plan.device if plan.fits else plan.remedy[:19]] += 1
    devices = {f"{device}, {share}" for device in ("cuda", "simulated") for share in ("all", "some")}
    remedies = {"Raise the VRAM budget", "Lower the simulated", "Shorten the context", "Close other programs"}
    assert min(kinds[kind] for kind in ("cpu", *devices, *(remedy[:19] for remedy in remedies))) >= 3, kinds


@given(CASES)
def test_every_plan_is_honest(case: Case) -> None:
    inputs, config = case.inputs, case.config
    plan, model = make_plan(inputs, config), inputs.model
    assert len(plan.resident_by_layer) == model.layers
    assert all(list(layer) == sorted(set(layer)) for layer in plan.resident_by_layer)
    assert all(0 <= expert < model.experts for layer in plan.resident_by_layer for expert in layer)
    for terms in (plan.vram_bytes, plan.host_bytes):
        assert all(size >= 0 for size in terms.values())
        counted = [size for term, size in terms.items() if term not in ("total", "experts_on_disk", "experts_pinned")]
        assert terms.get("total", 0) == sum(counted)
    on_disk = plan.host_bytes.get("experts_on_disk", 0)
    assert on_disk + plan.host_bytes.get("experts", 0) == model.experts_bytes
    assert bool(on_disk) == config.experts_on_disk
    assert plan.reasons
    assert all(reason.endswith((".", ")")) for reason in plan.reasons)
    if plan.fits:
        check_fitting(plan, inputs)
    else:
        check_refusal(plan)


def check_fitting(plan: PlacementPlan, inputs: PlanningInputs) -> None:
    assert plan.vram_bytes.get("total", 0) <= plan.vram_budget_bytes
    sizes = [inputs.model.layer_expert_bytes(layer) for layer in range(inputs.model.layers)]
    taken = sum(size * len(experts) for size, experts in zip(sizes, plan.resident_by_layer, strict=True))
    assert plan.vram_bytes.get("experts", 0) == taken
    assert plan.host_bytes["total"] <= inputs.hardware.ram_available_bytes
    assert (plan.vram_bytes == {}) == (plan.device == "cpu")
    assert plan.predicted_decode_tokens_per_s > 0
    assert plan.predicted_prefill_tokens_per_s > 0
    assert 0 <= plan.predicted_hit_rate <= 1
    assert (plan.remedy, plan.needed_bytes, plan.available_bytes) == ("", 0, 0)
    check_fits(plan)


def check_refusal(plan: PlacementPlan) -> None:
    assert plan.resident_experts == 0
    assert plan.predicted_decode_tokens_per_s == plan.predicted_prefill_tokens_per_s == 0
    assert plan.remedy.endswith(".")
    assert plan.needed_bytes > plan.available_bytes or "no NVIDIA GPU" in plan.reasons[0]
    with pytest.raises(DoesNotFitError) as refused:
        check_fits(plan)
    assert plan.reasons[0] in refused.value.message
    assert refused.value.remedy == plan.remedy
    assert refused.value.needed_bytes == plan.needed_bytes
    assert refused.value.available_bytes == plan.available_bytes


@given(CASES)
@examples(200)
def test_following_the_remedy_helps(case: Case) -> None:
    inputs, config = case.inputs, case.config
    plan = make_plan(inputs, config)
    remedy = plan.remedy
    if remedy.startswith(("Raise the VRAM budget", "Lower the simulated")):
        config = replace(config, vram_budget_bytes=words_to_bytes(remedy))
    elif remedy.startswith("Shorten the context"):
        config = replace(config, context_tokens=int(re.findall(r"\d+", remedy)[0]))
    elif remedy.startswith("Choose the CPU"):
        config = replace(config, device="cpu")
    else:
        return
    after = make_plan(inputs, config)
    other_shortage = "of RAM" in after.reasons[0] and "of RAM" not in plan.reasons[0]
    assert after.fits or after.device != plan.device or other_shortage


@given(MODELS, st.integers(0, 24 * GIB), st.integers(0, 24 * GIB), st.sampled_from(["popularity", "uniform"]))
def test_a_larger_budget_is_never_worse(model: ModelConfig, one: int, other: int, placement: str) -> None:
    """Given a GPU that runs all of a token's experts in the time the CPU takes for one (see `pc_costs`)."""
    config = EngineConfig(placement=placement, context_tokens=512)  # type: ignore[arg-type]
    small, large = (
        make_plan(planning(model), replace(config, vram_budget_bytes=size)) for size in sorted((one, other))
    )
    assert large.fits >= small.fits
    assert large.resident_experts >= small.resident_experts
    assert large.predicted_decode_tokens_per_s >= small.predicted_decode_tokens_per_s * (1 - 1e-9)
    assert large.predicted_hit_rate >= small.predicted_hit_rate - 1e-12


@given(CASES)
def test_planning_again_with_the_budget_in_force_changes_nothing(
    case: Case,
) -> None:
    inputs, config = case.inputs, case.config
    plan = make_plan(inputs, config)
    assume(plan.fits)
    effective = replace(config, vram_budget_bytes=plan.vram_budget_bytes, context_tokens=plan.context_tokens)
    again = make_plan(inputs, effective)
    assert (again.resident_by_layer, again.vram_bytes) == (plan.resident_by_layer, plan.vram_bytes)


@given(CASES)
def test_the_budget_range_is_what_is_worth_choosing(case: Case) -> None:
    inputs, config = case.inputs, case.config
    inputs = replace(inputs, hardware=replace(inputs.hardware, ram_available_bytes=1 << 40, ram_total_bytes=1 << 40))
    least, most = budget_range(inputs, config)
    assert 0 <= least <= most
    at_most = make_plan(inputs, replace(config, vram_budget_bytes=most))
    if at_most.device == "cpu":
        assert (least, most) == (0, 0)
        return
    beyond = make_plan(inputs, replace(config, vram_budget_bytes=1 << 50))
    assert at_most.resident_experts == beyond.resident_experts
    if at_most.fits:
        assert make_plan(inputs, replace(config, vram_budget_bytes=least)).fits
        assert not make_plan(inputs, replace(config, vram_budget_bytes=max(0, least - 2))).fits
    else:
        assert least == most


def test_popularity_ranks_all_layers_together() -> None:
    inputs = planning(MIXTRAL)
    plan = make_plan(inputs, EngineConfig())
    shares = np.array(inputs.popularity)
    resident = np.zeros_like(shares, dtype=bool)
    for layer, experts in enumerate(plan.resident_by_layer):
        resident[layer, list(experts)] = True
    assert 40 < plan.resident_experts < 60, "the paper: 56 of 256 on 24 GB, with nothing kept for KV and workspace"
    assert shares[resident].min() >= shares[~resident].max()
    assert plan.predicted_hit_rate == pytest.approx(shares[resident].sum() / MIXTRAL.layers)


def test_equal_popularity_gives_every_layer_its_share() -> None:
    plan = make_plan(planning(MIXTRAL, popularity=uniform(MIXTRAL)), EngineConfig())
    full, rest = divmod(plan.resident_experts, MIXTRAL.layers)
    assert plan.resident_by_layer[:rest] == (tuple(range(full + 1)),) * rest
    assert plan.resident_by_layer[rest:] == (tuple(range(full)),) * (MIXTRAL.layers - rest)


def test_uniform_gives_every_layer_the_same() -> None:
    plan = make_plan(planning(MIXTRAL), EngineConfig(placement="uniform"))
    sizes = [len(layer) for layer in plan.resident_by_layer]
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)
    assert all(layer == tuple(range(len(layer))) for layer in plan.resident_by_layer)


def test_automatic_takes_what_others_leave() -> None:
    plan = make_plan(planning(), EngineConfig())
    assert plan.vram_budget_bytes == 23 * GIB
    assert plan.vram_bytes["margin"] == 23 * GIB // 20
    assert "other programs hold 1.0 GiB" in plan.reasons[0]
    assert plan.vram_budget_bytes - plan.vram_bytes["total"] < MIXTRAL.expert_bytes


def test_a_budget_beyond_what_is_free_is_cut_and_said() -> None:
    plan = make_plan(planning(), EngineConfig(vram_budget_bytes=40 * GIB))
    assert plan.vram_budget_bytes == 23 * GIB
    assert "cut to 23.0 GiB" in plan.reasons[0]


def test_a_context_beyond_the_models_is_cut_and_said() -> None:
    plan = make_plan(planning(), EngineConfig(context_tokens=50_000))
    assert plan.context_tokens == 32768
    assert any("cut from 50000 to 32768" in reason for reason in plan.reasons)


def test_who_runs_experts_with_biases_is_said_once() -> None:
    biased = replace(TINY, traits=Traits(clamped_gate=ClampedGate(1.702, 7.0)))
    for config, times in ((EngineConfig(), 1), (EngineConfig(device="cpu"), 0), (EngineConfig(device="simulated"), 0)):
        plan = make_plan(planning(biased), config)
        assert sum("do not know experts with biases" in reason for reason in plan.reasons) == times
    assert not any("biases" in reason for reason in make_plan(planning(TINY), EngineConfig()).reasons)


def test_all_experts_need_no_staging() -> None:
    plan = make_plan(planning(TINY), EngineConfig())
    assert plan.resident_experts == TINY.total_experts
    assert plan.vram_bytes["staging"] == 0
    assert plan.predicted_hit_rate == pytest.approx(1.0)
    assert any("All 18 experts" in reason for reason in plan.reasons)


def test_cuda_without_a_gpu_is_refused() -> None:
    plan = make_plan(planning(hardware=machine(gpu=None)), EngineConfig(device="cuda"))
    assert not plan.fits
    assert "no NVIDIA GPU" in plan.reasons[0]


def test_auto_without_a_gpu_is_the_cpu() -> None:
    inputs = planning(hardware=machine(gpu=None), costs=pc_costs(MIXTRAL, gpu=False))
    plan = make_plan(inputs, EngineConfig(vram_budget_bytes=GIB))
    assert (plan.fits, plan.device, plan.vram_bytes, plan.vram_budget_bytes) == (True, "cpu", {}, 0)
    assert set(plan.host_bytes) == {"experts", "dense", "kv", "workspace", "engine", "total"}
    assert plan.resident_experts == 0


@pytest.mark.parametrize(
    ("gpu", "config", "remedy"),
    [
        (
            GpuProfile("", 24 * GIB, 0),
            EngineConfig(vram_budget_bytes=GIB),
            "Raise the VRAM budget to at least 5.1 GiB.",
        ),
        (GpuProfile("", 6 * GIB, 0), EngineConfig(context_tokens=32768), r"Shorten the context to \d+ tokens."),
        (GpuProfile("", 8 * GIB, 6 * GIB), EngineConfig(), "Close other programs that use the GPU: they hold 6.0 GiB."),
        (GpuProfile("", 2 * GIB, 0), EngineConfig(), "Run this model on the CPU, or choose a smaller one."),
    ],
)
def test_too_little_vram(gpu: GpuProfile, config: EngineConfig, remedy: str) -> None:
    plan = make_plan(planning(MIXTRAL, machine(gpu)), config)
    assert not plan.fits
    assert re.fullmatch(r"Dense .* need \d+\.\d GiB of VRAM, \d\.\d GiB available\.", plan.reasons[0])
    assert re.fullmatch(remedy, plan.remedy)


@pytest.mark.parametrize(
    ("available", "config", "remedy"),
    [
        (92 * GIB, EngineConfig(device="simulated"), r"Lower the simulated GPU's VRAM budget to 5\.6 GiB: .*"),
        (90 * GIB, EngineConfig(device="cpu", context_tokens=32768), r"Shorten the context to \d+ tokens."),
        (
            40 * GIB,
            EngineConfig(),
            r"Close other programs: 88\.0 GiB of RAM is in use\. "
            r"Or keep the experts on disk \(--experts-on-disk\), about 0\.\d+ tokens/s\.",
        ),
        (
            3 * GIB,
            EngineConfig(device="cpu", context_tokens=16),
            r"Close other programs: 125 GiB of RAM is in use\.",
        ),
    ],
)
def test_too_little_ram(available: int, config: EngineConfig, remedy: str) -> None:
    config = replace(config, simulated_vram_bytes=40 * GIB, prefill_chunk_tokens=64)
    plan = make_plan(planning(MIXTRAL, machine(ram_available=available)), config)
    assert not plan.fits
    assert "of RAM" in plan.reasons[0]
    assert re.fullmatch(remedy, plan.remedy)


def test_the_context_that_is_advised_is_the_longest_that_fits() -> None:
    config = EngineConfig(device="cpu", context_tokens=1000, prefill_chunk_tokens=64)
    fitting = make_plan(planning(MIXTRAL), replace(config, context_tokens=992)).host_bytes["total"]
    for short_of, advised in ((0, 992), (1, 976)):
        plan = make_plan(planning(MIXTRAL, machine(ram_available=fitting - short_of + 2 * GIB)), config)
        assert plan.remedy == f"Shorten the context to {advised} tokens."


def test_a_model_beyond_all_ram() -> None:
    huge = replace(MIXTRAL, layers=64)
    plan = make_plan(planning(huge), EngineConfig())
    assert not plan.fits
    assert plan.remedy.startswith("Choose a smaller model")
    assert plan.remedy.endswith("tokens/s.")
    assert plan.needed_bytes == 64 * 8 * MIXTRAL.expert_bytes + MIXTRAL.embedding_bytes + engine_bytes(MIXTRAL, "cuda")


def test_a_model_beyond_all_ram_fits_on_disk_and_says_how_slow_it_is() -> None:
    huge = replace(MIXTRAL, layers=64)
    refused = make_plan(planning(huge), EngineConfig())
    plan = make_plan(planning(huge), EngineConfig(experts_on_disk=True))
    assert plan.fits
    embedding, engine = MIXTRAL.embedding_bytes, engine_bytes(MIXTRAL, "cuda")
    on_disk = 64 * 8 * MIXTRAL.expert_bytes
    assert plan.host_bytes == {
        "experts_on_disk": on_disk, "dense": embedding, "engine": engine, "total": embedding + engine
    }  # fmt: skip
    assert 0 < plan.predicted_decode_tokens_per_s < 1
    assert f"about {plan.predicted_decode_tokens_per_s:.2g} tokens/s" in refused.remedy
    sentence = plan.reasons[-1]
    assert "an estimate for an SSD that reads 2 GB/s" in sentence
    assert f"about {plan.predicted_decode_tokens_per_s:.2g} tokens/s" in sentence
    in_ram = make_plan(planning(huge, machine(ram_available=400 * GIB)), EngineConfig())
    assert in_ram.predicted_decode_tokens_per_s > plan.predicted_decode_tokens_per_s
    assert in_ram.predicted_prefill_tokens_per_s > plan.predicted_prefill_tokens_per_s


@pytest.mark.parametrize(
    ("device", "kernels", "dense"),
    [
        ("cpu", "torch", QWEN_Q4_K_M.dense_bytes),
        ("cpu", "avx2", 1 << 30),
        ("simulated", "avx2", QWEN_Q4_K_M.dense_bytes),
        ("cuda", "torch", 771_348_480 + 2 * (48 * (2 + 128) + 1) * 2048),
    ],
)
def test_our_kernels_hold_dense_weights_packed(device: DeviceName, kernels: str, dense: int) -> None:
    config = EngineConfig(device=device, simulated_vram_bytes=16 * GIB)
    plan = make_plan(replace(planning(QWEN_Q4_K_M), kernels=kernels), config)
    terms = plan.host_bytes if device == "cpu" else plan.vram_bytes
    assert terms["dense"] == dense
    assert plan.host_bytes["experts"] == QWEN_Q4_K_M.experts_bytes < 128 * 48 * QWEN_Q4_K_M.expert_bytes


def test_experts_of_a_mix_take_their_own_bytes_so_that_more_of_them_fit() -> None:
    config = EngineConfig(vram_budget_bytes=8 * GIB, prefill_chunk_tokens=512)
    plan = make_plan(planning(QWEN_Q4_K_M), config)
    room = plan.vram_budget_bytes - plan.vram_bytes["total"] + plan.vram_bytes["experts"]
    assert room - plan.vram_bytes["experts"] < QWEN_Q4_K_M.expert_bytes
    assert (plan.resident_experts, room // QWEN_Q4_K_M.expert_bytes) == (2146, 2005)
    sizes = [QWEN_Q4_K_M.layer_expert_bytes(layer) for layer in (0, 1)]
    assert sizes[1] < sizes[0]
    assert any(" to " in reason and "live in VRAM" in reason for reason in plan.reasons)


@given(CASES)
def test_a_plan_that_came_true_is_in_force_as_it_is(case: Case) -> None:
    inputs, config = case.inputs, case.config
    plan = make_plan(inputs, config)
    assume(plan.fits)
    held = {term: size for term, size in plan.vram_bytes.items() if term not in ("margin", "total")}
    assert in_force(plan, inputs, config, plan.resident_by_layer, held, plan.context_tokens, plan.kv_precision) is plan


def test_what_the_gpu_had_no_memory_for_is_not_in_force() -> None:
    inputs, config = planning(MIXTRAL), EngineConfig()
    plan = make_plan(inputs, config)
    there = tuple(layer[:1] for layer in plan.resident_by_layer)
    count = sum(map(len, there))
    held = {"dense": 5, "kv": 7, "workspace": 11, "experts": count * MIXTRAL.expert_bytes}
    real = in_force(plan, inputs, config, there, held, 4096, "q8")
    assert real.resident_by_layer == there
    assert real.vram_bytes == {
        **held, "staging": 0, "margin": plan.vram_bytes["margin"],
        "total": sum(held.values()) + plan.vram_bytes["margin"],
    }  # fmt: skip
    assert (real.context_tokens, real.kv_precision) == (4096, "q8")
    assert real.predicted_hit_rate < plan.predicted_hit_rate
    assert real.predicted_decode_tokens_per_s < plan.predicted_decode_tokens_per_s
    words = f"{count} of {plan.resident_experts} planned experts live in VRAM, and the context holds 4096 tokens"
    words += ", and the KV precision is q8."
    assert real.reasons == (*plan.reasons, f"The GPU ran out of memory: {words}")


def test_a_context_that_the_cpu_cannot_hold_is_not_in_force() -> None:
    inputs, config = planning(MIXTRAL, machine(gpu=None), pc_costs(MIXTRAL, gpu=False)), EngineConfig()
    plan = make_plan(inputs, config)
    real = in_force(plan, inputs, config, plan.resident_by_layer, {}, 4096, "auto")
    assert (real.vram_bytes, real.context_tokens) == ({}, 4096)
    assert real.host_bytes["kv"] == plan.host_bytes["kv"] // 2


def test_little_enough_work_for_a_slider() -> None:
    inputs, config = planning(QWEN), EngineConfig(vram_budget_bytes=8 * GIB)
    assert calls_of(lambda: make_plan(inputs, config)) < 8 * QWEN.layers * QWEN.experts, "a few for each expert"
