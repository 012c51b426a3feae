"""The checks hold for a sound device, and fail for one that computes something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.bench.gpu import checks as module
from engine.bench.gpu.checks import MIXES, SHAPES, Bed, Check, checks
from engine.kernels.gpu_kernels import GpuKernelsUnavailableError
from engine.kernels.torch_expert import expert_forward
from engine.quant.formats import FORMATS

pytest.importorskip("gguf")


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return Bed("simulated", tmp_path / "models", tmp_path / "state")


def _run(bed: Bed, name: str) -> Check:
    return dict(checks(bed))[name]()


def test_every_format_and_model_is_checked(bed: Bed) -> None:
    names = [name for name, _ in checks(bed)]
    assert len(names) == len(set(names)) == len(FORMATS) + len(SHAPES) * (len(MIXES) + 3)


@pytest.mark.parametrize(
    "name",
    [
        "logits check-mixtral F16",
        "logits check-qwen3 Q4_K_M",
        "greedy check-qwen3 Q4_K_M",
        "long prompt check-qwen3 Q4_K_M",
    ],
)
def test_a_sound_device_passes(bed: Bed, name: str) -> None:
    check = _run(bed, name)
    assert check.passed, check.detail


@pytest.mark.parametrize("name", ["logits check-mixtral Q4_0", "greedy check-qwen3 F16"])
def test_experts_that_are_wrong_are_found(bed: Bed, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = expert_forward

    def wrong(hidden: torch.Tensor, weights: Any) -> torch.Tensor:
        return -right(hidden, weights)

    monkeypatch.setattr("engine.devices.simulated.expert_forward", wrong)
    assert _run(bed, name).passed is False


def test_an_error_of_ours_is_a_check_that_failed(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_vram", lambda *_: {"vram_budget_bytes": 1000})
    check = _run(bed, "greedy check-mixtral F16")
    assert check.passed is False
    assert "budget" in check.detail.lower()


def test_kernels_are_not_checked_without_a_gpu(bed: Bed) -> None:
    assert _run(bed, "kernels Q4_K").passed is None


@pytest.mark.parametrize("problem", ["", "The GPU's product in Q4_K is off."])
def test_kernels_are_tried_on_a_gpu(tmp_path: Path, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[list[str], torch.device]] = []

    class Kernels:
        @classmethod
        def open(cls, *_: object) -> Kernels:
            return cls()

        def self_test(self, formats: list[str], device: torch.device) -> None:
            tried.append((formats, device))
            if problem:
                raise GpuKernelsUnavailableError(problem)

    monkeypatch.setattr(module, "GpuKernels", Kernels)
    check = _run(Bed("cuda", tmp_path, tmp_path), "kernels Q4_K")
    assert tried == [(["Q4_K"], torch.device("cuda", 0))]
    assert check.passed is not bool(problem)
    assert problem in check.detail
