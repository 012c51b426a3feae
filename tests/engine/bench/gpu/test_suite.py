"""The whole suite on a simulated PC: every figure is there, nothing is done twice, and a report says what it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.bench.gpu import machine, suite
from engine.bench.gpu.cells import GIB, POLICIES, Cell, Scenario
from engine.bench.gpu.checks import Check
from engine.bench.gpu.journal import Journal
from engine.bench.gpu.measure import Bench
from engine.bench.gpu.pcs import PCS
from engine.bench.gpu.rivals import Match
from engine.bench.gpu.suite import Options, run
from engine.config import EngineConfig
from engine.engine import Engine
from engine.errors import ConfigurationError, EngineFailure, GpuLostError
from engine.hardware import GpuProfile

pytest.importorskip("gguf")

PC = PCS["8gb-ddr4-pcie3"]
SCENARIOS = (Scenario(32, 12), Scenario(64))
DECODE_FIGURES = {
    "decode_tokens_per_s", "hit_rate", "token_overlap", "uploads", "uploaded_bytes", "streamed_bytes", "bound_s",
    "share_of_bound", "planned_tokens_per_s", "predicted_by_measured", "layer_predicted_by_measured",
    "layers_within_goal", "overhead_layer_s",
}  # fmt: skip
FIGURES = {
    "prefill_tokens_per_s", "ttft_s", "prefill_hit_rate", "prefill_streamed_bytes", "samples", "budget_bytes",
    "plan_vram_bytes", "allocated_vram_bytes", "torch_peak_vram_bytes", "device_vram_bytes", "resident_experts",
}  # fmt: skip


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    folder = tmp_path_factory.mktemp("suite")
    return Options(folder / "out", folder / "models", size="small", pc=PC, threads=1, repeat=2, scenarios=SCENARIOS)


@pytest.fixture(scope="module")
def report(options: Options) -> dict[str, Any]:
    return run(options)


def test_the_whole_suite_runs_on_a_simulated_pc(report: dict[str, Any]) -> None:
    assert report["complete"]
    assert report["simulated"]
    assert report["checks_failed"] == report["crashed"] == []
    assert len(report["cells"]) == 2 * len(SCENARIOS) * len(POLICIES)
    for cell in report["cells"]:
        assert "refused" not in cell
        assert cell.keys() >= FIGURES
        assert (cell.keys() >= DECODE_FIGURES) == (cell["new_tokens"] > 1)
        assert cell["plan_vram_bytes"] <= cell["budget_bytes"]
        assert cell["allocated_vram_bytes"] <= cell["plan_vram_bytes"]


def test_figures_agree_with_each_other(report: dict[str, Any]) -> None:
    for cell in report["cells"]:
        if cell["new_tokens"] == 1:
            continue
        assert 0 < cell["share_of_bound"] <= 1.0001
        assert cell["predicted_by_measured"] == pytest.approx(1.0, abs=0.15)
        assert cell["layers_within_goal"] > 0.95
        assert cell["layer_predicted_by_measured"] == pytest.approx(1.0, abs=0.15)
        assert -2e-6 < cell["overhead_layer_s"] < 2e-4
        assert cell["token_s"] * cell["decode_tokens_per_s"] == pytest.approx(1.0)


def test_policies_do_what_they_say(report: dict[str, Any]) -> None:
    for cell in report["cells"]:
        if cell["new_tokens"] == 1:
            continue
        assert (cell["hit_rate"] > 0) == (cell["policy"] != "cpu_only")
        assert (cell["policy"] == "gpu_stream") <= (cell["streamed_bytes"] > 0) <= (cell["policy"] != "cpu_only")
        if cell["policy"] != "fiddler":
            assert cell["uploads"] == 0
    decoded = [cell for cell in report["cells"] if cell["new_tokens"] > 1]
    speeds = {(cell["model"], cell["policy"]): cell["decode_tokens_per_s"] for cell in decoded}
    for model in ("small-mixtral", "small-qwen3"):
        assert speeds[model, "static"] > speeds[model, "cpu_only"] > speeds[model, "gpu_stream"]


def test_the_same_suite_does_nothing_again(
    report: dict[str, Any], options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(bench: Bench, cell: Cell, budget_bytes: int) -> dict[str, Any]:
        raise AssertionError("it was measured before")

    monkeypatch.setattr(Bench, "measure", again)
    notes: list[str] = []
    assert run(replace(options, on_note=notes.append))["cells"] == report["cells"]
    assert notes == []


def test_the_report_is_written_and_says_that_it_is_simulated(report: dict[str, Any]) -> None:
    markdown = Path(report["markdown"])
    text = markdown.read_text()
    assert text.startswith("# GPU suite: simulated: 8gb-ddr4-pcie3 (SIMULATED")
    for words in ("## Checks", "small-qwen3, 8 GiB", "gpu_stream", "zipf exponent", "4 of mixtral-8x7b's 32 layers"):
        assert words in text
    assert "FAILED" not in text
    rows = [line for line in text.splitlines() if line.startswith("| 32+12 |")]
    assert len(rows) == 2 * 2 * len(POLICIES)
    assert json.loads(markdown.with_suffix(".json").read_text())["cells"] == report["cells"]
    for picture in report["pictures"]:
        assert (markdown.parent / picture).read_bytes().startswith(b"\x89PNG")


def test_a_part_that_is_out_of_time_goes_on_later(options: Options, tmp_path: Path) -> None:
    brief = replace(options, out=tmp_path, minutes=1e-9)
    report = run(brief)
    assert not report["complete"]
    assert not report["cells"]
    assert "Not complete" in Path(report["markdown"]).read_text()
    assert run(replace(brief, minutes=0.02))["machine"]["simulated"]


def test_what_an_engine_refuses_is_reported(options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(bench: Bench, cell: Cell, budget_bytes: int) -> dict[str, Any]:
        raise EngineFailure("It broke.", "Mend it.")

    monkeypatch.setattr(Bench, "measure", fails)
    monkeypatch.setattr(suite, "checks", lambda _: iter(()))
    report = run(replace(options, out=tmp_path, scenarios=(Scenario(16, 2),)))
    assert report["complete"]
    assert {cell["refused"] for cell in report["cells"]} == {"It broke. Mend it."}
    assert "It broke." in Path(report["markdown"]).read_text()


def test_a_check_that_fails_is_said_first(options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = [("logits x", lambda: Check("cosine 0.1", passed=False))]
    monkeypatch.setattr(suite, "checks", lambda _: iter(failing))
    monkeypatch.setattr(suite, "cells", lambda *_: iter(()))
    report = run(replace(options, out=tmp_path))
    assert report["checks_failed"] == ["check logits x"]
    assert "1 FAILED" in Path(report["markdown"]).read_text()


def test_a_mistake_costs_its_step_alone(options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken() -> Check:
        raise KeyError("x")

    both = [("logits x", mistaken), ("logits y", lambda: Check("fine", passed=True))]
    monkeypatch.setattr(suite, "checks", lambda _: iter(both))
    monkeypatch.setattr(suite, "cells", lambda *_: iter(()))
    report = run(replace(options, out=tmp_path))
    assert report["checks_failed"] == ["check logits x"]
    assert "in mistaken" in report["checks"]["logits x"]["trace"]
    assert report["checks"]["logits y"]["passed"]
    assert "KeyError: 'x'" in Path(report["markdown"]).read_text()


def test_a_step_that_broke_the_gpu_is_told_and_ends_the_process(
    options: Options, tmp_path: Path, pretended_gpu: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    def check() -> Check:
        monkeypatch.setattr(torch.cuda, "synchronize", broken)
        return Check("cosine 0.1", passed=False)

    monkeypatch.setattr(suite, "checks", lambda _: iter([("logits x", check)]))
    chosen = replace(options, out=tmp_path, pc=None)
    with pytest.raises(GpuLostError, match="illegal memory access"):
        run(chosen)
    assert Journal(suite.journal_path(chosen)).results["check logits x"] == {"detail": "cosine 0.1", "passed": False}


def test_without_a_gpu_the_remedy_is_a_simulated_one(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigurationError, match=r"no NVIDIA GPU.*--device simulated"):
        run(replace(options, pc=None))


def test_a_folder_that_cannot_be_written_is_a_refusal(options: Options, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        run(replace(options, out=blocked / "out"))


# ---- as on a real GPU -----------------------------------------------------------------------------------------------


@pytest.fixture
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine whose GPU is a simulated one that the suite knows nothing of; rivals are noted."""
    seen: list[str] = []
    used = iter(range(0, 1 << 40, 1 << 20))

    class Pretending:
        @staticmethod
        def load(path: str, config: EngineConfig) -> Engine:
            assert config.device == "cuda"
            return Engine.load(path, replace(config, device="simulated", simulated_vram_bytes=1 << 40))

    def rival(match: Match) -> dict[str, Any]:
        seen.append(f"{match.model.shape.name} {match.path.exists()}")
        return {"absent": "not here"}

    monkeypatch.setattr(suite, "gpu_overheads", lambda _: {"absent": "There are no kernels."})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(suite, "probe_gpu", lambda: GpuProfile("NVIDIA Test 12", 12 * GIB, 0))
    monkeypatch.setattr(suite, "BUDGETS_BYTES", (12 * GIB,))
    monkeypatch.setattr(suite, "Engine", Pretending)
    monkeypatch.setattr(suite, "llama_cpp", rename(rival, "llama_cpp"))
    monkeypatch.setattr(suite, "accelerate", rename(rival, "accelerate"))
    monkeypatch.setattr(suite, "checks", lambda bed: iter([(f"on {bed.device}", lambda: Check("fine", passed=True))]))
    monkeypatch.setattr(suite, "_reserved", lambda: 123)
    monkeypatch.setattr(machine, "vram_used", lambda: next(used))
    monkeypatch.setattr(machine, "gpu_facts", lambda _: {"gpu": "NVIDIA Test 12"})
    rates = {"vram_bytes_per_s": 1e12, "to_gpu_pinned_bytes_per_s": 1e11}
    monkeypatch.setattr(machine, "copy_rates", lambda *_: rates)
    monkeypatch.setattr(machine, "cpu_rates", lambda _: {"read_bytes_per_s": 1e11})
    return seen


def rename(rival: Callable[[Match], dict[str, Any]], name: str) -> Callable[[Match], dict[str, Any]]:
    """The same under another name."""

    def renamed(match: Match) -> dict[str, Any]:
        return rival(match)

    renamed.__name__ = name
    return renamed


def test_on_a_gpu_time_is_the_walls_and_vram_is_asked_for(
    options: Options, tmp_path: Path, pretended_gpu: list[str]
) -> None:
    report = run(replace(options, out=tmp_path, pc=None, scenarios=(Scenario(16, 4),), repeat=1))
    assert report["complete"]
    assert not report["simulated"]
    assert report["checks"]["on cuda"]["passed"]
    assert pretended_gpu == ["small-mixtral True"] * 2 + ["small-qwen3 True"] * 2
    assert {rival["absent"] for rival in report["rivals"].values()} == {"not here"}
    assert len(report["cells"]) == 2 * len(POLICIES)
    for cell in report["cells"]:
        assert cell["torch_peak_vram_bytes"] == 123
        assert cell["device_vram_bytes"] > 0
        assert 0 < cell["token_s"] < 10
        assert 0 < cell["share_of_bound"] < 1
    text = Path(report["markdown"]).read_text()
    assert "absent: not here" in text
    assert "SIMULATED" not in text
    assert "Not measured: There are no kernels." in text
    assert Path(report["markdown"]).name == "nvidia-test-12-small.md"


def test_small_models_take_every_card_and_real_ones_what_there_is(
    options: Options, pretended_gpu: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "BUDGETS_BYTES", (8 * GIB, 12 * GIB, 24 * GIB))

    def budgets(size: suite.SizeName, gib: float) -> list[float]:
        monkeypatch.setattr(suite, "probe_gpu", lambda: GpuProfile("x", int(gib * GIB), 0))
        chosen = replace(options, pc=None, size=size)
        return [found / GIB for found in suite._Suite(chosen, Journal(Path("nowhere")))._budgets()]

    assert budgets("small", 6) == [8, 12, 24]
    assert budgets("full", 11.75) == [8, 12]
    assert budgets("full", 6) == [6]


def test_without_bandwidths_no_cell_is_measured(
    options: Options, tmp_path: Path, pretended_gpu: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> dict[str, float]:
        raise EngineFailure("The GPU is gone.", "Look for it.")

    monkeypatch.setattr(machine, "copy_rates", fails)
    report = run(replace(options, out=tmp_path, pc=None, scenarios=(Scenario(16, 2),)))
    assert all("bandwidths were not measured" in cell["refused"] for cell in report["cells"])
