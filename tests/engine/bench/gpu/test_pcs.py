"""A simulated PC: its time is virtual, the same on any machine, and the engine foresees it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from engine.bench.gpu.cells import GIB, Model, budget_for
from engine.bench.gpu.pcs import PCS, costs, simulated, virtual_time
from engine.bench.models import SIZES, model_file
from engine.config import EngineConfig, PolicyName, SamplingParams
from engine.engine import Engine
from engine.messages import Token
from engine.planning import planned_kernels

pytest.importorskip("gguf")

PC = PCS["8gb-ddr4-pcie3"]
SMALL, FULL = SIZES["small"][0], SIZES["full"][0]
MIX = "Q4_K_M"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_file(tmp_path_factory.mktemp("pcs"), SMALL, MIX)


def _times(file: Path, folder: Path, policy: PolicyName) -> list[float]:
    """Virtual time of each token, from half the experts in VRAM."""
    config = EngineConfig(
        context_tokens=256, cpu_threads=1, cost_cache_dir=str(folder), policy=policy, adaptive=False,
    )  # fmt: skip
    budget = budget_for(Model(SMALL, MIX, FULL), 16 * GIB, config, "simulated", planned_kernels(config))
    config = replace(config, vram_budget_bytes=budget)
    config = simulated(PC, config, SMALL.config(MIX), FULL.config(MIX))
    with Engine.load(str(file), config) as engine, virtual_time(engine) as clock:
        assert engine.ready.planning.costs.source == "cached"
        assert 0 < engine.plan.resident_experts < engine.model.total_experts
        sampling = SamplingParams(max_tokens=8, temperature=0.0, ignore_eos=True)
        times = [clock() for event in engine.generate([5, 6, 7], sampling) if isinstance(event, Token)]
        for trace in engine.snapshot().layers:
            assert trace.measured_cpu_s == pytest.approx(max(0.0, trace.predicted_cpu_s - trace.activation_s))
            assert trace.measured_gpu_s == pytest.approx(trace.predicted_gpu_s, rel=0.15)
    return times


@pytest.mark.parametrize("policy", ["fiddler", "cpu_only", "gpu_stream"])
def test_virtual_time_is_the_same_each_time_and_foreseen(file: Path, tmp_path: Path, policy: PolicyName) -> None:
    first = _times(file, tmp_path, policy)
    assert first == pytest.approx(_times(file, tmp_path, policy), rel=1e-9)
    assert all(later > earlier for earlier, later in pairwise(first))


def test_a_layer_on_the_cpu_takes_the_time_of_the_real_models_bytes(file: Path, tmp_path: Path) -> None:
    times = _times(file, tmp_path, "cpu_only")
    model = FULL.config(MIX)
    expert_s = model.experts_bytes / model.total_experts / PC.ram_bytes_per_s
    token_s = (times[-1] - times[0]) / (len(times) - 1)
    assert token_s == pytest.approx(SMALL.layers * 2 * expert_s, rel=0.1)


def test_costs_are_the_pcs_numbers() -> None:
    model = FULL.config(MIX)
    found = costs(PC, model)
    assert found.weight_copy is not None
    assert found.gpu_expert is not None
    mean_bytes = model.experts_bytes / model.total_experts
    assert found.cpu_expert.floor_s * 42e9 == pytest.approx(mean_bytes)
    assert found.gpu_expert.floor_s * 448e9 == pytest.approx(mean_bytes)
    assert found.weight_copy.per_unit_s * 12e9 == pytest.approx(mean_bytes)
    # The paper's switch point: about ten tokens make an expert worth a copy.
    tokens = (found.weight_copy.per_unit_s + found.gpu_expert.floor_s) / found.cpu_expert.per_unit_s
    assert 10 < tokens < 40
