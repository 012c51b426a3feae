"""The trial of decode steps at start: what is right passes once; what is wrong leaves the work to torch and says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from engine.config import ModelConfig
from engine.devices import CpuDevice, CudaDevice
from engine.devices.gpu_experts import GpuExperts
from engine.devices.step_tools import StepTools
from engine.hardware import probe_hardware
from engine.kernels.gpu_kernels import GpuKernels, GpuKernelsUnavailableError
from engine.kernels.gpu_launch import Launch
from engine.model import step_trial
from engine.model.step_trial import SmallModel, find_step_mismatch, open_steps
from engine.traits import DenseBlocks
from tests.engine.devices.fake_cuda import install
from tests.engine.devices.steps import step_tools
from tests.engine.kernels.cuda_emulation.launcher import EmulatedLauncher
from tests.engine.shapes import TINY

MODEL = replace(
    TINY, hidden_size=256, intermediate_size=256, layers=3, heads=4, kv_heads=2, head_dim=24,
    expert_formats=(("Q4_K", "Q6_K", "Q8_0"), ("F32", "F32", "F32"), ("Q4_K", "Q6_K", "Q8_0")),
    dense_blocks=(DenseBlocks("Q4_K", 0, 0), DenseBlocks("Q8_0", 0, 0)), embedding_format="Q4_K",
)  # fmt: skip
QUICK = replace(MODEL, expert_formats=(("Q8_0", "Q8_0", "Q8_0"),) * 3)  # what the emulation has the least work with


class Faulty(EmulatedLauncher):
    """Emulated kernels of which one does nothing."""

    def __init__(self, inner: EmulatedLauncher, faulty: str) -> None:
        self._inner, self._faulty = inner, faulty

    def launch(self, launch: Launch) -> None:
        if launch.kernel != self._faulty:
            self._inner.launch(launch)


def a_device(monkeypatch: pytest.MonkeyPatch, launcher: EmulatedLauncher) -> tuple[CudaDevice, StepTools]:
    cuda = install(monkeypatch)
    device = CudaDevice(1 << 30)
    tools, _, _ = step_tools(cuda, launcher, ahead=True)
    device._experts, device.step_tools = GpuExperts(tools.kernels), tools
    return device, tools


def a_small_model(device: CudaDevice, model: ModelConfig = QUICK) -> SmallModel:
    return SmallModel(model, "auto", device)


def test_steps_that_are_right_pass_with_the_models_mixes(
    monkeypatch: pytest.MonkeyPatch, launcher: EmulatedLauncher
) -> None:
    device, tools = a_device(monkeypatch, launcher)
    launcher.launched.clear()
    assert find_step_mismatch(MODEL, "auto", device, tools) == ""
    assert {
        "linear_8",
        "unpack_tiles",
        "prepare",
        "gate_up_8",
        "down_8",
        "attend",
        "combine",
        "route",
        "join_norm",
    } <= set(launcher.launched)
    assert device.allocated_bytes == 0


@pytest.mark.parametrize("faulty", ["rotate_store", "combine", "linear_8", "unpack_tiles"])
def test_one_wrong_kernel_is_found(monkeypatch: pytest.MonkeyPatch, launcher: EmulatedLauncher, faulty: str) -> None:
    monkeypatch.setattr(step_trial, "_TOKENS", step_trial._TOKENS[:2])
    device, tools = a_device(monkeypatch, launcher)
    wrong = replace(tools, kernels=GpuKernels(Faulty(launcher, faulty)))
    assert "decode steps are off by" in find_step_mismatch(QUICK, "auto", device, wrong)


def test_the_trial_is_made_once_and_its_failure_is_said(
    monkeypatch: pytest.MonkeyPatch, launcher: EmulatedLauncher
) -> None:
    device, tools = a_device(monkeypatch, launcher)
    tried = []

    @contextmanager
    def trial() -> Iterator[None]:
        tried.append(True)
        yield

    monkeypatch.setattr("engine.model.step_trial._test", lambda *_: None)
    device.step_tools = replace(tools, trial=trial)
    made = a_small_model(device)
    assert open_steps(QUICK, made.decoder, device) == ""
    assert open_steps(QUICK, made.decoder, device) == ""
    assert made.decoder.steps is not None
    assert tried == [True]
    made.close()

    def wrong(*_: object) -> None:
        raise GpuKernelsUnavailableError("The GPU's decode steps are off by 7, the limit is 1.")

    monkeypatch.setattr("engine.model.step_trial._test", wrong)
    device.step_tools = replace(tools, passed=set())
    made = a_small_model(device)
    assert open_steps(QUICK, made.decoder, device).endswith(
        "would: The GPU's decode steps are off by 7, the limit is 1."
    )
    assert made.decoder.steps is None
    made.close()


def test_without_room_or_kernels_torch_goes_on(monkeypatch: pytest.MonkeyPatch, launcher: EmulatedLauncher) -> None:
    device, _ = a_device(monkeypatch, launcher)
    made = a_small_model(device)
    device.budget_bytes = device.allocated_bytes
    monkeypatch.setattr(GpuKernels, "self_test_decoder", lambda *_: None)
    assert "left of its budget" in open_steps(QUICK, made.decoder, device)
    device.step_tools = None
    assert open_steps(QUICK, made.decoder, device) == ""
    assert made.decoder.steps is None
    assert CpuDevice(probe_hardware()).step_tools is None
    made.close()
