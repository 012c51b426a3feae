from dataclasses import replace

import pytest

from app.model_scan import FoundModel
from app.verdict import judge, machine_without, sentence
from engine.config import EngineConfig
from engine.hardware import GpuProfile, HardwareProfile
from tests.app.snapshots import make_ready
from tests.engine.shapes import TINY

GIB = 1 << 30
MODEL = FoundModel("/m/a", "a", "folder", 1 << 20, TINY)
BIG = replace(MODEL, config=replace(TINY, hidden_size=4096, intermediate_size=14336, layers=32, experts=8))
CPU = EngineConfig(device="cpu", isa="torch", context_tokens=64, cpu_threads=1)
PC = HardwareProfile("CPU", 4, 16 * GIB, 12 * GIB, None)


def test_a_small_model_fits_on_the_cpu() -> None:
    verdict = judge(MODEL, CPU, PC)
    assert verdict.kind == "fits"
    assert sentence(verdict).startswith("Fits: about ")
    assert "CPU" in sentence(verdict)
    assert not verdict.measured


def test_a_gpu_is_told_with_its_experts() -> None:
    config = replace(CPU, device="simulated", simulated_vram_bytes=GIB)
    words = sentence(judge(MODEL, config, PC))
    total = TINY.total_experts
    assert f"{total} of {total} experts on the simulated GPU" in words


def test_a_model_larger_than_memory_runs_from_disk() -> None:
    verdict = judge(BIG, CPU, PC)
    assert verdict.kind == "disk"
    words = sentence(verdict)
    assert words.startswith("Too big for this PC's memory: needs ")
    assert "runs from disk, slowly, about " in words
    assert verdict.short is not None
    assert verdict.short.needed_bytes > verdict.short.available_bytes
    asked = judge(BIG, replace(CPU, experts_on_disk=True), PC)
    assert sentence(asked).startswith("Runs from disk, as set")


def test_what_fits_nowhere_says_what_it_needs() -> None:
    tiny_pc = replace(PC, ram_total_bytes=GIB, ram_available_bytes=GIB // 2)
    verdict = judge(BIG, CPU, tiny_pc)
    assert verdict.kind == "too_big"
    assert "GiB" in sentence(verdict)
    assert verdict.remedy


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (replace(MODEL, config=None, problem="It is dense.", remedy="Choose another."), "cannot_run"),
        (replace(MODEL, offline=True), "offline"),
    ],
)
def test_what_cannot_be_planned_says_why(model: FoundModel, kind: str) -> None:
    verdict = judge(model, CPU, PC)
    assert verdict.kind == kind
    assert sentence(verdict)


def test_the_loaded_model_makes_room() -> None:
    loaded = make_ready()
    gpu = GpuProfile("GPU", 8 * GIB, 7 * GIB)
    held = loaded.plan.vram_bytes["total"] - loaded.plan.vram_bytes["margin"]
    freed = machine_without(replace(PC, gpu=gpu), replace(loaded, plan=replace(loaded.plan, device="cuda")))
    assert freed.gpu is not None
    assert freed.gpu.used_bytes == max(0, 7 * GIB - held)
    assert freed.ram_available_bytes == min(PC.ram_total_bytes, 12 * GIB + loaded.plan.host_bytes["total"])
    assert machine_without(PC, None) == PC
