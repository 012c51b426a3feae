"""Plans from headers alone, and costs that are kept for the situation they were measured in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine import planning
from engine.checkpoint.checkpoint import open_checkpoint
from engine.config import EngineConfig
from engine.errors import CheckpointError
from engine.hardware import MachineSpeed, probe_hardware
from engine.hub.places import target_of
from engine.hub.record import MANIFEST, write_choice
from engine.hub.repository import Choice, RemoteFile
from engine.messages import CostCurve, CostModel
from engine.planning import keep_costs, keep_popularity, kept_costs, kept_popularity, plan_model
from tests.checkpoints import write_mixtral
from tests.engine.shapes import TINY
from tests.gguf_files import write_gguf

COSTS = CostModel(CostCurve(1e-3, 1e-4, 0.0), None, None, None, 1e-3)
CPU = EngineConfig(device="cpu", isa="torch", context_tokens=64, cpu_threads=1)


def test_a_gguf_file_is_planned_with_its_own_formats(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "llama", formats=[("Q4_0", "Q4_0", "Q8_0")], dense_format="Q8_0")
    inputs, plan = plan_model(str(path), CPU)
    assert plan.fits
    assert inputs.kernels == "torch"
    with open_checkpoint(path) as checkpoint:
        assert inputs.model == checkpoint.config
    assert plan.host_bytes["experts"] == inputs.model.experts_bytes


def test_what_was_not_measured_is_promised_by_the_speed_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(write_gguf(tmp_path / "m.gguf", "llama", formats=[("Q4_0", "Q4_0", "Q8_0")], dense_format="Q8_0"))
    asked: list[tuple[str, int]] = []

    def speed(kernels: str, threads: int) -> MachineSpeed:
        asked.append((kernels, threads))
        read = speeds.pop()
        return MachineSpeed(threads, read, 1e12, cached_bytes_per_s=read)

    speeds = [40e9, 10e9]
    monkeypatch.setattr(planning, "machine_speed", speed)
    monkeypatch.setattr(planning, "planned_kernels", lambda _: "avx2")
    config = replace(CPU, cpu_threads=3, cost_cache_dir=str(tmp_path / "costs"))
    slow, fast = (plan_model(path, config)[1].predicted_decode_tokens_per_s for _ in range(2))
    assert slow < fast
    assert asked == [("avx2", 3)] * 2
    with open_checkpoint(Path(path)) as checkpoint:
        keep_costs(checkpoint.config, probe_hardware(), config, COSTS)
    asked.clear()
    assert plan_model(path, config)[0].costs == replace(COSTS, source="cached")
    assert asked == [], "what is known is not measured"


def test_a_name_on_the_hub_is_planned_from_the_folder_in_the_settings(tmp_path: Path) -> None:
    choice = Choice("safetensors", "safetensors", (RemoteFile("config.json", 1, None, ""),), 1, "org/name", "0" * 40)
    folder = write_mixtral(target_of(tmp_path, choice))
    write_choice(folder / MANIFEST, choice)
    assert plan_model("org/name", replace(CPU, models_dir=str(tmp_path)))[1].fits
    with pytest.raises(CheckpointError, match="no such model was downloaded"):
        plan_model("org/name", replace(CPU, models_dir=str(tmp_path / "other")))


def test_costs_are_kept_by_device_kernels_and_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hardware, config = probe_hardware(), replace(CPU, cost_cache_dir=str(tmp_path))
    keep_costs(TINY, hardware, config, COSTS)
    assert kept_costs(TINY, hardware, config) == replace(COSTS, source="cached")
    assert kept_costs(TINY, hardware, replace(config, experts_on_disk=True)) is None
    assert kept_costs(TINY, hardware, replace(config, device="simulated")) is None
    assert kept_costs(replace(TINY, dtype="bfloat16"), hardware, config) is None
    monkeypatch.setattr(planning, "planned_kernels", lambda _: "avx512")
    assert kept_costs(TINY, hardware, config) is None


def test_popularity_is_kept_by_model_and_nothing_without_a_folder(tmp_path: Path) -> None:
    folder = write_mixtral(tmp_path / "m", tokenizer=False)
    config = replace(CPU, popularity_dir=str(tmp_path / "kept"))
    seen = kept_popularity(folder, TINY, config)
    seen.observe(1, [(2, 5)])
    keep_popularity(folder, TINY, config, seen)
    assert kept_popularity(folder, TINY, config).shares() == seen.shares()
    assert kept_popularity(tmp_path / "other", TINY, config).shares() != seen.shares()
    assert kept_popularity(folder, TINY, CPU).shares() != seen.shares()
    assert kept_costs(TINY, probe_hardware(), CPU) is None
