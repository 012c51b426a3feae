"""What limits the speed: a case for each kind, rates from what moved and what was measured, nothing else claimed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.experts.limits import (
    NOTHING_RAN,
    Gain,
    Rates,
    human_rate,
    limit_now,
    machine_rates,
    measured_rates,
    more_vram,
)
from engine.messages import CostCurve, CostModel, ExpertRun, LayerTrace, PlanningInputs, Ready
from tests.app.snapshots import GIB, Device, Shape, Step, make_ready, make_snapshot

BYTES = make_ready("mixtral").model.layer_expert_bytes(0)
CPU = ExpertRun(0, 1, "cpu", 3e-3, 1e-3, 9e-3)
GPU = ExpertRun(1, 1, "gpu", 3e-3, 1e-3, 0.0)
STREAM = ExpertRun(2, 1, "stream", 3e-3, 1e-3, 9e-3)


def traces(*runs: ExpertRun, cpu_s: float = 0.0, gpu_s: float = 0.0, tokens: int = 1) -> tuple[LayerTrace, ...]:
    return tuple(LayerTrace(layer, tokens, runs, cpu_s, gpu_s, cpu_s, gpu_s) for layer in range(4))


def with_costs(ready: Ready, cpu: CostCurve, **others: CostCurve) -> PlanningInputs:
    costs = replace(ready.planning.costs, cpu_expert=cpu, **others)  # type: ignore[arg-type]
    return replace(ready.planning, costs=costs)


# ---- rates ----------------------------------------------------------------------------------------------------------


def test_rates_are_bytes_that_moved_over_time_that_was_measured() -> None:
    model = make_ready("mixtral").model
    check_rates(measured_rates(traces(CPU, CPU, cpu_s=0.02), model), ram=2 * BYTES / 0.02)
    check_rates(measured_rates(traces(GPU, CPU, cpu_s=0.01, gpu_s=0.002), model), ram=BYTES / 0.01, gpu=BYTES / 0.002)
    check_rates(measured_rates(traces(GPU, STREAM, gpu_s=0.02), model), link=BYTES / 0.02)


def check_rates(rates: Rates, ram: float | None = None, link: float | None = None, gpu: float | None = None) -> None:
    for rate, expected in ((rates.ram, ram), (rates.link, link), (rates.gpu, gpu)):
        assert rate == (None if expected is None else pytest.approx(expected))


def test_what_was_not_measured_has_no_rate() -> None:
    model = make_ready("mixtral").model
    assert measured_rates((), model) == Rates()
    assert measured_rates(traces(CPU, GPU, STREAM), model) == Rates(), "the GPU's time is not known yet"


def test_the_machine_is_what_one_expert_reached() -> None:
    ready = make_ready("mixtral")
    best = machine_rates(ready.planning.costs, ready.model)
    assert best.ram == pytest.approx(BYTES / (BYTES / 42e9 + 4e-6))
    assert best.link == pytest.approx(BYTES / (BYTES / 22e9 + 1e-5))
    assert best.gpu is not None
    assert machine_rates(replace(ready.planning.costs, source="assumed"), ready.model) == Rates()
    cpu = make_ready("mixtral", "cpu")
    assert machine_rates(cpu.planning.costs, cpu.model).link is None


@pytest.mark.parametrize(
    ("rate", "words"), [(61.4e9, "61 GB/s"), (3.44e9, "3.4 GB/s"), (9.96e9, "10 GB/s"), (0.02e9, "0.020 GB/s")]
)
def test_rates_in_words(rate: float, words: str) -> None:
    assert human_rate(rate) == words


# ---- each kind ------------------------------------------------------------------------------------------------------


def test_nothing_ran() -> None:
    ready = make_ready("mixtral")
    assert limit_now(ready.planning, ready.plan, (), 0.0).sentence == NOTHING_RAN
    assert limit_now(ready.planning, ready.plan, traces(CPU), 0.1).kind == "unknown", "nothing was measured"


def test_ram() -> None:
    ready = make_ready("mixtral")
    ran = traces(CPU, cpu_s=BYTES / 30e9)
    limit = limit_now(ready.planning, ready.plan, ran, 4 * BYTES / 30e9, Gain(2 * GIB, 0.18))
    assert (limit.kind, limit.sentence) == ("ram", "RAM bandwidth: 30 of 42 GB/s.")
    assert limit.advice == "2.0 GiB more VRAM would give +18 %, by prediction."


def test_ram_faster_than_when_it_was_measured() -> None:
    ready = make_ready("mixtral")
    limit = limit_now(ready.planning, ready.plan, traces(CPU, cpu_s=BYTES / 50e9), 0.0)
    assert limit.sentence == "RAM bandwidth: 50 GB/s, where one expert alone reached 42 GB/s."


def test_ram_of_a_machine_that_was_never_measured() -> None:
    ready = make_ready("mixtral")
    planning = replace(ready.planning, costs=replace(ready.planning.costs, source="assumed"))
    assert limit_now(planning, ready.plan, traces(CPU, cpu_s=BYTES / 30e9), 0.0).sentence == "RAM bandwidth: 30 GB/s."


def test_experts_on_disk_claim_no_ram_bandwidth() -> None:
    ready = make_ready("mixtral")
    limit = limit_now(ready.planning, ready.plan, traces(CPU, cpu_s=BYTES / 3e9), 0.0, on_disk=True)
    assert limit.sentence == "Reading experts from disk and RAM: 3.0 GB/s."


def test_the_cpu_only() -> None:
    ready = make_ready("mixtral", "cpu")
    limit = limit_now(ready.planning, ready.plan, traces(CPU, cpu_s=BYTES / 30e9), 0.0)
    assert limit.sentence == "RAM bandwidth: 30 of 42 GB/s."
    assert limit.advice == "There is no GPU that could take experts."
    with_gpu = replace(ready.planning, hardware=make_ready("mixtral", "cuda").planning.hardware)
    assert limit_now(with_gpu, ready.plan, traces(CPU, cpu_s=1.0), 0.0).advice == "No GPU is used."


def test_the_link() -> None:
    ready = make_ready("mixtral")
    limit = limit_now(ready.planning, ready.plan, traces(STREAM, CPU, cpu_s=1e-3, gpu_s=BYTES / 20e9), 0.0)
    assert (limit.kind, limit.sentence) == ("link", "The link to the GPU: at least 20 of 22 GB/s.")


def test_the_gpus_memory() -> None:
    ready = make_ready("mixtral")
    limit = limit_now(ready.planning, ready.plan, traces(GPU, CPU, cpu_s=1e-4, gpu_s=BYTES / 300e9), 0.0)
    assert limit.kind == "gpu"
    assert limit.sentence.startswith("The GPU's own memory: ")
    assert "300 of 35" in limit.sentence


def test_everything_resident() -> None:
    ready = make_ready("mixtral")
    everything = tuple(tuple(range(ready.model.experts)) for _ in range(ready.model.layers))
    plan = replace(ready.plan, resident_by_layer=everything)
    limit = limit_now(ready.planning, plan, traces(GPU, gpu_s=1e-3), 0.0)
    assert (limit.kind, limit.advice) == ("gpu", "Every expert is in VRAM: more would not help.")
    assert more_vram(ready.planning, ready.effective, plan) is None


@pytest.mark.parametrize(("place", "words"), [("cpu", "Arithmetic on the CPU: "), ("gpu", "Arithmetic on the GPU: ")])
def test_arithmetic_in_a_prompt(place: str, words: str) -> None:
    ready = make_ready("mixtral")
    run = (CPU if place == "cpu" else GPU)._replace(tokens=512)
    sides = {"cpu_s": 0.5} if place == "cpu" else {"gpu_s": 0.5}
    limit = limit_now(ready.planning, ready.plan, traces(run, tokens=512, **sides), 0.0, Gain(GIB, 0.2))
    assert limit.kind == "arithmetic"
    assert limit.sentence.startswith(words)
    assert "512 tokens at a time" in limit.sentence
    assert limit.advice == "", "the prediction is about decode"
    if place == "cpu":
        operations = 2 * ready.model.expert_parameters * 512 / 0.5
        assert f"{operations / 1e9:,.0f} GFLOP/s" in limit.sentence


@pytest.mark.parametrize("place", ["cpu", "gpu"])
def test_fixed_costs_of_tiny_experts(place: str) -> None:
    ready = make_ready("guide", "simulated")
    tiny = CostCurve(2e-6, 1e-7, 8e-6)
    planning = with_costs(ready, tiny, gpu_expert=tiny)
    run = CPU if place == "cpu" else GPU
    sides = {"cpu_s": 1e-5} if place == "cpu" else {"gpu_s": 1e-5}
    limit = limit_now(planning, ready.plan, traces(run, **sides), 0.0)  # type: ignore[arg-type]
    assert limit.kind == "overhead"
    assert "80 % of their time by the cost model" in limit.sentence
    assert "one expert is only" in limit.sentence
    assert ("simulated GPU" in limit.sentence) == (place == "gpu")


def test_all_around_the_experts() -> None:
    ready = make_ready("mixtral")
    limit = limit_now(ready.planning, ready.plan, traces(CPU, cpu_s=1e-3), 0.010)
    assert limit.kind == "dense"
    assert limit.sentence.startswith("Attention, dense weights and choosing the token: 6.0 ms of 10.0 ms a token")
    prompt = traces(CPU._replace(tokens=9), cpu_s=1e-3, tokens=9)
    assert limit_now(ready.planning, ready.plan, prompt, 0.010).kind == "ram", "a token's time says nothing of a prompt"


def test_a_simulated_gpu_is_labelled_and_its_wall_time_ignored() -> None:
    ready = make_ready("guide", "simulated")
    slow = with_costs(ready, CostCurve(1e-3, 1e-5, 0.0), weight_copy=CostCurve(0.0, 2e-3, 0.0))
    limit = limit_now(slow, ready.plan, traces(STREAM, gpu_s=1e-3), 1.0, Gain(5 << 20, 0.051))
    assert limit.sentence.startswith("The link to the simulated GPU: at least ")
    assert limit.advice == "5.0 MiB more simulated VRAM would give +5 %, by prediction."
    assert limit_now(slow, ready.plan, traces(CPU, cpu_s=1e-3), 0.0, Gain(5 << 20, 0.004)).advice.endswith(
        "would change little, by prediction."
    )


# ---- more VRAM ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "device"), [("mixtral", "cuda"), ("qwen", "cuda"), ("guide", "simulated")])
def test_more_vram_is_the_plans_own_prediction(shape: Shape, device: Device) -> None:
    ready = make_ready(shape, device)
    gain = more_vram(ready.planning, ready.effective, ready.plan)
    assert gain is not None
    missing = ready.model.total_experts - ready.plan.resident_experts
    assert 0 < gain.extra_bytes <= min(2 * GIB, missing * ready.model.expert_bytes)
    assert 0 < gain.share < 3


def test_more_vram_without_a_gpu() -> None:
    ready = make_ready("mixtral", "cpu")
    assert more_vram(ready.planning, ready.effective, ready.plan) is None


@pytest.mark.parametrize("device", ["cuda", "simulated", "cpu"])
@pytest.mark.parametrize("tokens", [1, 512])
def test_no_snapshot_is_without_words_or_says_nan(device: Device, tokens: int) -> None:
    for shape in ("guide", "mixtral", "qwen"):
        ready = make_ready(shape, device)
        for number in range(3):
            snapshot = make_snapshot(ready, Step(number, tokens))
            limit = limit_now(ready.planning, ready.plan, snapshot.layers, 0.1)
            assert limit.kind != "unknown"
            assert "nan" not in f"{limit.sentence}{limit.advice}".lower()
            assert "inf" not in f"{limit.sentence}{limit.advice}".lower()


def test_costs_without_curves_for_a_gpu_are_no_trouble() -> None:
    costs = CostModel(CostCurve(0.0, 1e-6, 0.0), None, None, None, 0.0)
    ready = make_ready("mixtral", "cpu")
    limit = limit_now(replace(ready.planning, costs=costs), ready.plan, traces(CPU, cpu_s=1e-3), 0.0)
    assert limit.kind == "ram", "one token's work is reading the weights"
