"""A load on a GPU holds what the plan in force counts, whether our kernels run there or not; they are emulated."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engine import Engine, EngineConfig
from engine.devices import CudaDevice
from engine.errors import DoesNotFitError
from engine.experts.footprint import held_dense_bytes
from engine.experts.memory import engine_bytes, planned_device
from engine.experts.placement import budget_range
from engine.hardware import GpuProfile, probe_hardware
from engine.kernels.gpu_kernels import GpuKernels, GpuKernelsUnavailableError
from engine.messages import CostCurve, CostModel
from tests.engine.devices.fake_cuda import install
from tests.engine.kernels.cuda_emulation.launcher import EmulatedLauncher
from tests.gguf_files import Shape, write_gguf

CURVE = CostCurve(1e-4, 1e-5, 1e-6)
COSTS = CostModel(CURVE, CURVE, CURVE, CURVE, 1e-4, source="cached")
CONFIG = EngineConfig(device="cuda", context_tokens=64, cpu_threads=1)
TOKENS = [5, 250, 7, 8]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("loading") / "m.gguf"
    return str(write_gguf(path, "llama", shape=Shape(layers=1), formats=[("Q8_0",) * 3], dense_format="Q4_K"))


@pytest.fixture
def _gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    hardware = replace(probe_hardware(), gpu=GpuProfile("A GPU", 2 << 30, 0))
    stand_ins = (("premises.probe_hardware", hardware), ("premises.why_unusable", ""), ("engine.kept_costs", COSTS))
    for name, stand_in in stand_ins:
        monkeypatch.setattr(f"engine.{name}", lambda *_, said=stand_in: said)
    monkeypatch.setattr("engine.loaded_model.open_steps", lambda *_: "")
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda *_: 0)
    monkeypatch.setattr(CudaDevice, "pin", lambda *_: True)
    monkeypatch.setattr(CudaDevice, "unpin", lambda *_: None)


def in_force(engine: Engine) -> None:
    """What the plan says is what there is."""
    snapshot, plan = engine.snapshot(), engine.plan
    terms = {term: size for term, size in plan.vram_bytes.items() if size and term not in ("margin", "total")}
    assert {term: size for term, size in snapshot.vram_bytes.items() if size} == terms
    in_ram = {term: size for term, size in plan.host_bytes.items() if term not in ("experts_pinned", "total")}
    assert plan.host_bytes["total"] == sum(in_ram.values())
    assert in_ram.pop("engine") == engine_bytes(engine.model, planned_device(engine.ready.effective, probe_hardware()))
    assert snapshot.host_bytes == in_ram


@pytest.mark.usefixtures("_gpu")
def test_packed_where_our_kernels_run(model: str, monkeypatch: pytest.MonkeyPatch, launcher: EmulatedLauncher) -> None:
    monkeypatch.setattr(GpuKernels, "open", lambda *_: GpuKernels(launcher))
    with Engine.load(model, replace(CONFIG, device="cpu", isa="torch")) as on_cpu:
        expected = on_cpu.logits(TOKENS)
    with Engine.load(model, CONFIG) as engine:
        in_force(engine)
        assert engine.plan.vram_bytes["dense"] == held_dense_bytes(engine.model, "cuda", "torch")
        assert engine.plan.host_bytes["dense"] == engine.model.embedding_bytes
        found = engine.logits(TOKENS)
    assert abs(found - expected).max() <= 0.05 * abs(expected).max()


@pytest.mark.usefixtures("_gpu")
def test_in_floats_where_they_do_not(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_old(*_: object) -> GpuKernels:
        raise GpuKernelsUnavailableError("The GPU has compute capability 6.1, 7.5 is the oldest.")

    monkeypatch.setattr(GpuKernels, "open", too_old)
    with Engine.load(model, CONFIG) as engine:
        in_force(engine)
        assert engine.plan.vram_bytes["dense"] == engine.model.dense_bytes
        assert "dense" not in engine.plan.host_bytes
        assert any("compute capability 6.1" in reason for reason in engine.plan.reasons)
        planning = engine.ready.planning
    assert not planning.gpu_kernels
    enough = budget_range(replace(planning, gpu_kernels=True), CONFIG)[0]
    assert enough < budget_range(planning, CONFIG)[0]
    with pytest.raises(DoesNotFitError, match="Dense weights"):
        Engine.load(model, replace(CONFIG, vram_budget_bytes=enough))
