from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import SIMULATED_LAUNCH_S, EngineConfig, ModelConfig
from engine.experts.assumed_costs import assumed_costs, simulated_gpu_costs
from engine.experts.cost_model import CostCache, cost_key, fit_curve, planned_threads, predict, with_correction
from engine.hardware import MachineSpeed
from engine.messages import CostCurve, CostModel
from tests.engine.experts.shapes import MIXTRAL, QWEN, QWEN_Q4_K_M, TINY, machine, pc_costs, realistic_costs, wild_costs
from tests.examples import examples

UNITS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


def seconds_of(curve: CostCurve, units: tuple[int, ...] = UNITS) -> list[float]:
    return [predict(curve, n) for n in units]


def test_predict() -> None:
    curve = CostCurve(floor_s=4.0, per_unit_s=1.0, overhead_s=0.5)
    assert [predict(curve, n) for n in (0, 1, 4, 6)] == [0.0, 4.5, 4.5, 6.5]


@given(st.floats(1e-5, 1e-1), st.floats(1.0, 200.0), st.floats(0.0, 0.3))
@examples(50)
def test_fit_recovers_a_known_curve(floor_s: float, bend_units: float, overhead_share: float) -> None:
    true = CostCurve(floor_s, floor_s / bend_units, floor_s * overhead_share)
    fitted = fit_curve(UNITS, seconds_of(true))
    assert seconds_of(fitted) == pytest.approx(seconds_of(true), rel=0.06)
    assert fitted.fit_error < 0.01


@given(st.floats(1e-5, 1e-1), st.floats(1.0, 200.0), st.floats(0.0, 0.9), st.floats(0.0, 9.0))
@examples(50)
def test_an_overhead_that_is_known_stays(floor_s: float, bend_units: float, share: float, known: float) -> None:
    """Whatever else the points say: of several experts in one call it is paid once."""
    true = CostCurve(floor_s, floor_s / bend_units, floor_s * share)
    fitted = fit_curve(UNITS, seconds_of(true), true.overhead_s)
    assert fitted.overhead_s == true.overhead_s
    assert seconds_of(fitted) == pytest.approx(seconds_of(true), rel=0.06)
    assert fitted.fit_error < 0.01
    assert fit_curve(UNITS, seconds_of(true), known * floor_s).overhead_s == known * floor_s


@given(st.integers(0, 10**6), st.floats(1.5, 100.0))
@examples(40)
def test_fit_stands_noise(seed: int, bend_units: float) -> None:
    true = CostCurve(1e-3, 1e-3 / bend_units, 5e-5)
    noise = np.exp(np.random.default_rng(seed).normal(0.0, 0.05, len(UNITS)))
    fitted = fit_curve(UNITS, (np.array(seconds_of(true)) * noise).tolist())
    assert seconds_of(fitted) == pytest.approx(seconds_of(true), rel=0.2)
    assert fitted.fit_error < 0.12


@pytest.mark.parametrize("hit", range(len(UNITS)))
def test_one_hiccup_does_not_bend_the_curve(hit: int) -> None:
    true = CostCurve(1e-3, 5e-5, 2e-5)
    measured = seconds_of(true)
    measured[hit] *= 4
    fitted = fit_curve(UNITS, measured)
    others = [n for index, n in enumerate(UNITS) if index != hit]
    errors = [abs(predict(fitted, n) / predict(true, n) - 1) for n in others]
    assert np.median(errors) < 0.02


@given(st.lists(st.tuples(st.integers(1, 4096), st.floats(0.0, 100.0)), min_size=1, max_size=14))
def test_fit_of_anything_is_a_curve(points: list[tuple[int, float]]) -> None:
    curve = fit_curve([n for n, _ in points], [s for _, s in points])
    values = (curve.floor_s, curve.per_unit_s, curve.overhead_s, curve.fit_error)
    assert all(np.isfinite(value) and value >= 0 for value in values)


def test_fit_of_one_point_goes_through_it_and_no_faster_beyond() -> None:
    curve = fit_curve([16], [8e-3])
    assert [predict(curve, n) for n in (1, 16, 32)] == pytest.approx([8e-3, 8e-3, 16e-3])
    assert curve.fit_error == 0.0


def test_a_single_unit_takes_what_it_was_measured_to_take() -> None:
    curve = CostCurve(4.0, 1.0, 0.5, one_s=3.0)
    assert [predict(curve, units) for units in (0, 1, 2, 8)] == [0.0, 3.0, 4.5, 8.5]


def test_fit_of_constant_times_bends_after_the_last_of_them() -> None:
    curve = fit_curve(UNITS, [2e-3] * len(UNITS))
    assert seconds_of(curve) == pytest.approx([2e-3] * len(UNITS))
    assert predict(curve, 1024) == pytest.approx(4e-3)


def test_fit_of_proportional_times_has_no_floor() -> None:
    curve = fit_curve(UNITS, [n * 1e-4 for n in UNITS])
    assert predict(curve, 1000) == pytest.approx(0.1)
    assert predict(curve, 1) == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("units", "seconds"), [([], []), ([1], [1.0, 2.0]), ([0], [1.0]), ([1], [float("nan")]), ([1], [-1.0])]
)
def test_fit_refuses_what_is_no_measurement(units: list[int], seconds: list[float]) -> None:
    with pytest.raises(AssertionError):
        fit_curve(units, seconds)


def test_simulated_costs_are_the_simulated_gpus() -> None:
    config = EngineConfig(
        device="simulated", simulated_link_bytes_per_s=10e9, simulated_memory_bytes_per_s=200e9, simulated_flops=5e12
    )
    cpu = CostCurve(1.0, 2.0, 3.0)
    costs = simulated_gpu_costs(MIXTRAL, config, cpu, source="measured")
    assert costs.cpu_expert is cpu
    assert costs.source == "measured"
    assert costs.gpu_expert
    assert costs.weight_copy
    launch_s = SIMULATED_LAUNCH_S
    assert predict(costs.weight_copy, 1) == pytest.approx(MIXTRAL.expert_bytes / 10e9 + launch_s)
    assert costs.activation_copy
    assert predict(costs.activation_copy, 3) == pytest.approx(2 * (3 * 4096 * 2 / 10e9 + launch_s))
    for tokens in (1, 4096):
        exact = max(MIXTRAL.expert_bytes / 200e9, tokens * 2 * MIXTRAL.expert_parameters / 5e12) + launch_s
        assert predict(costs.gpu_expert, tokens) == pytest.approx(exact)


@pytest.mark.parametrize("model", [MIXTRAL, QWEN])
def test_assumed_costs_follow_the_device(model: ModelConfig) -> None:
    on_gpu = assumed_costs(model, machine(), EngineConfig())
    assert on_gpu.gpu_expert
    assert on_gpu.weight_copy
    assert predict(on_gpu.gpu_expert, 1) < predict(on_gpu.cpu_expert, 1) < predict(on_gpu.weight_copy, 1) * 10
    assert on_gpu.source == "assumed"
    for hardware, config in ((machine(gpu=None), EngineConfig()), (machine(), EngineConfig(device="cpu"))):
        assert assumed_costs(model, hardware, config).gpu_expert is None
    simulated = EngineConfig(device="simulated")
    costs = assumed_costs(model, machine(gpu=None), simulated)
    assert costs == simulated_gpu_costs(model, simulated, costs.cpu_expert)


def test_assumed_costs_grow_with_fewer_threads() -> None:
    one = assumed_costs(QWEN, machine(), EngineConfig(cpu_threads=1))
    eight = assumed_costs(QWEN, machine(), EngineConfig(cpu_threads=8))
    assert predict(one.cpu_expert, 1) > predict(eight.cpu_expert, 1)
    assert predict(one.cpu_expert, 512) > 4 * predict(eight.cpu_expert, 512)


SPEED = MachineSpeed(8, 60e9, 4e12, 300e9)


@pytest.mark.parametrize("model", [QWEN, QWEN_Q4_K_M])
def test_a_machine_whose_speed_is_known_is_believed(model: ModelConfig) -> None:
    config = EngineConfig(device="cpu", cpu_threads=8)
    known = assumed_costs(model, machine(), config, "avx2", SPEED)
    twice = MachineSpeed(8, 120e9, 8e12, 300e9)
    twofold = assumed_costs(model, machine(), config, "avx2", twice)
    assert known.source == "assumed"
    assert known.cpu_expert.floor_s == pytest.approx(2 * twofold.cpu_expert.floor_s)
    assert known.cpu_expert.per_unit_s == pytest.approx(2 * twofold.cpu_expert.per_unit_s)
    assert known.dense_layer_s == pytest.approx(2 * twofold.dense_layer_s, rel=0.05)
    size = model.experts_bytes / model.total_experts
    assert 0.5 * 60e9 < size / predict(known.cpu_expert, 1) < 60e9
    half = assumed_costs(model, machine(), replace(config, cpu_threads=4), "avx2", SPEED)
    assert half.cpu_expert.per_unit_s == pytest.approx(2 * known.cpu_expert.per_unit_s)
    assert half.cpu_expert.floor_s == known.cpu_expert.floor_s
    one = assumed_costs(model, machine(), replace(config, cpu_threads=1), "avx2", SPEED)
    assert one.cpu_expert.floor_s > known.cpu_expert.floor_s
    torchs = assumed_costs(model, machine(), config, "torch", SPEED)
    assert torchs == assumed_costs(model, machine(), config), "of torch it says nothing"


def test_a_model_that_a_cache_holds_is_read_from_there() -> None:
    small = replace(QWEN, layers=1, experts=8, hidden_size=256, intermediate_size=256, vocab_size=512)
    assert small.dense_bytes + small.experts_bytes < 32 << 20
    config = EngineConfig(device="cpu", cpu_threads=8)
    slow_cache = replace(SPEED, cached_bytes_per_s=SPEED.read_bytes_per_s)
    for model, differs in ((small, True), (QWEN, False)):
        fast, slow = (assumed_costs(model, machine(), config, "avx2", speed) for speed in (SPEED, slow_cache))
        assert (fast.cpu_expert.floor_s < slow.cpu_expert.floor_s) == differs
        assert (fast.dense_layer_s < slow.dense_layer_s) == differs
        assert fast.token_s == slow.token_s


def test_beside_a_gpu_the_known_speed_is_the_cpus_alone() -> None:
    plain, known = (assumed_costs(QWEN, machine(), EngineConfig(), "avx2", speed) for speed in (None, SPEED))
    assert predict(known.cpu_expert, 1) < predict(plain.cpu_expert, 1)
    assert known.copy_drag < plain.copy_drag, "the quicker the CPU reads, the less of that a copy takes"
    assert replace(known, cpu_expert=plain.cpu_expert, copy_drag=plain.copy_drag) == plain


def test_assumed_costs_of_a_mix_are_those_of_its_mean_expert() -> None:
    mean_bytes = QWEN_Q4_K_M.experts_bytes / QWEN_Q4_K_M.total_experts
    config = EngineConfig(device="simulated")
    costs = assumed_costs(QWEN_Q4_K_M, machine(), config, "avx2")
    assert costs.weight_copy
    copy_s = predict(costs.weight_copy, 1) - SIMULATED_LAUNCH_S
    assert copy_s == pytest.approx(mean_bytes / config.simulated_link_bytes_per_s)
    assert costs.cpu_expert.floor_s < assumed_costs(QWEN, machine(), config).cpu_expert.floor_s / 3


def test_torch_unpacks_before_it_multiplies_and_our_kernels_do_not() -> None:
    for config in (EngineConfig(), EngineConfig(device="cpu")):
        ours = assumed_costs(QWEN_Q4_K_M, machine(), config, "avx2")
        torchs = assumed_costs(QWEN_Q4_K_M, machine(), config)
        assert predict(ours.cpu_expert, 1) < predict(torchs.cpu_expert, 1) / 2
        plain = [assumed_costs(QWEN, machine(), config, kernels) for kernels in ("avx2", "torch")]
        assert plain[0] == plain[1]
    on_cpu = [assumed_costs(QWEN_Q4_K_M, machine(), EngineConfig(device="cpu"), name) for name in ("avx2", "torch")]
    assert on_cpu[0].dense_layer_s < on_cpu[1].dense_layer_s


@given(st.floats(0.3, 4.0))
@examples(25)
def test_correction_converges_to_the_truth(truth: float) -> None:
    costs = pc_costs(MIXTRAL)
    for _ in range(150):
        costs = with_correction(costs, cpu_ratio=truth / costs.cpu_correction)
    assert costs.cpu_correction == pytest.approx(truth, rel=0.01)
    assert costs.gpu_correction == 1.0


@pytest.mark.parametrize(("ratio", "limit"), [(1e-300, 0.2), (0.5, 0.2), (2.0, 5.0), (1e300, 5.0)])
def test_correction_goes_to_its_limits_and_no_further(ratio: float, limit: float) -> None:
    costs = pc_costs(MIXTRAL)
    for _ in range(40):
        costs = with_correction(costs, cpu_ratio=ratio, gpu_ratio=ratio)
    assert (costs.cpu_correction, costs.gpu_correction) == (limit, limit)


@pytest.mark.parametrize(("ratio", "counted"), [(1e300, 5.0), (1e-300, 0.2)])
def test_one_hiccup_moves_the_correction_a_little(ratio: float, counted: float) -> None:
    costs = with_correction(pc_costs(MIXTRAL), cpu_ratio=ratio, gpu_ratio=ratio)
    assert costs.cpu_correction == costs.gpu_correction == pytest.approx(counted**0.1)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=60))
@examples(50)
def test_correction_by_anything_is_a_correction(ratios: list[float]) -> None:
    costs = pc_costs(MIXTRAL)
    for ratio in ratios:
        costs = with_correction(costs, cpu_ratio=ratio, gpu_ratio=ratio)
    assert 0.2 <= costs.cpu_correction <= 5.0
    assert 0.2 <= costs.gpu_correction <= 5.0


def test_small_experts_get_one_thread_where_nobody_chose() -> None:
    assert planned_threads(MIXTRAL, machine(), EngineConfig()) == 8
    assert planned_threads(TINY, machine(), EngineConfig()) == 1
    assert planned_threads(TINY, machine(), EngineConfig(cpu_threads=3)) == 3


def test_correction_without_observations_changes_nothing() -> None:
    costs = pc_costs(MIXTRAL)
    for nothing in (None, 0.0, -1.0, float("nan"), float("inf")):
        assert with_correction(costs, cpu_ratio=nothing, gpu_ratio=nothing) == costs


def test_each_side_learns_by_itself() -> None:
    costs = with_correction(pc_costs(MIXTRAL), cpu_ratio=1.5, gpu_ratio=0.5)
    assert costs.cpu_correction == pytest.approx(1.5**0.1)
    assert costs.gpu_correction == pytest.approx(0.5**0.1)
    assert with_correction(pc_costs(MIXTRAL), gpu_ratio=0.5).cpu_correction == 1.0


@given(realistic_costs() | wild_costs())
@examples(25)
def test_cache_returns_what_was_put(tmp_path_factory: pytest.TempPathFactory, costs: CostModel) -> None:
    cache = CostCache(tmp_path_factory.mktemp("costs"))
    cache.put("key", costs)
    assert cache.find("key") == replace(costs, source="cached")
    assert cache.find("another key") is None
    cache._path("key").rename(cache._path("another key"))
    assert cache.find("another key") is None, "the file says whose costs they are"


def test_cache_keys_name_all_that_matters() -> None:
    keys = {
        cost_key(hardware, model, device, threads)
        for hardware in (machine(), machine(gpu=None))
        for model in (MIXTRAL, QWEN)
        for device in ("cuda", "cpu")
        for threads in (4, 8)
    }
    assert len(keys) == 16


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        '{"key": "key"}',
        '{"key": "key", "costs": []}',
        '{"key": "key", "costs": {"cpu_expert": null}}',
        '{"key": "other", "costs": {}}',
        "\ud800",
    ],
)
def test_a_damaged_file_is_absent_and_overwritten(tmp_path: Path, damage: str) -> None:
    cache = CostCache(tmp_path)
    cache.put("key", pc_costs(MIXTRAL))
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage.encode("utf-8", "surrogatepass"))
    assert cache.find("key") is None
    cache.put("key", pc_costs(QWEN))
    assert cache.find("key") == replace(pc_costs(QWEN), source="cached")
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), "fast", True, None])
def test_a_senseless_number_makes_the_file_absent(tmp_path: Path, value: object) -> None:
    cache = CostCache(tmp_path)
    cache.put("key", pc_costs(MIXTRAL))
    (file,) = tmp_path.iterdir()
    saved = json.loads(file.read_text())
    assert saved["key"] == "key"
    saved["costs"]["cpu_expert"]["floor_s"] = value
    file.write_text(json.dumps(saved))
    assert cache.find("key") is None


def test_a_folder_that_cannot_be_written_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = CostCache(tmp_path / "file" / "folder")
    cache.put("key", pc_costs(MIXTRAL))
    assert "cannot write" in caplog.text
    assert cache.find("key") is None
