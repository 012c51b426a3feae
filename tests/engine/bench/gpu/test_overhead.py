"""Overheads are measured in every mode, by steps that are really run; without a GPU their kernels do nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.bench.gpu import overhead
from engine.bench.gpu.overhead import overheads
from engine.bench.gpu.report import _overhead_lines
from engine.devices import CudaDevice
from engine.devices.gpu_experts import GpuExperts
from engine.devices.hand_off import EventHandOff
from tests.engine.devices.fake_cuda import install
from tests.engine.devices.steps import step_tools
from tests.engine.kernels.cuda_emulation.launcher import EmulatedLauncher


class Counter(EmulatedLauncher):
    """Counts kernels."""

    def __init__(self) -> None:
        self.count = 0

    def launch(self, launch: object) -> None:
        self.count += 1


def test_every_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, launcher = install(monkeypatch), Counter()
    monkeypatch.setattr(overhead, "SHAPE", replace(overhead.SHAPE, layers=2))
    device = CudaDevice(1 << 30)
    tools, _, hand_off = step_tools(cuda, launcher, ahead=True)
    device._experts = GpuExperts(tools.kernels)
    found = overheads(device, tools, [hand_off, EventHandOff()], passes=1)
    modes = ["graphs, recording", "eager, recording", "graphs, event", "eager, event"]
    assert list(found) == ["torch_layer_s", *modes]
    assert all(found[mode]["hand_off_layer_s"] > 0 for mode in modes)
    assert launcher.count > 4 * 6 * 2 * 8
    assert device.allocated_bytes == 0
    lines = "\n".join(_overhead_lines(found | {"chosen": "event"}))
    assert f"| graphs, event | {found['graphs, event']['hand_off_layer_s'] * 1e6:.1f} us |" in lines
    assert "goal of the first: 25 us" in lines
    assert "by event here" in lines


def test_what_cannot_be_measured_is_said() -> None:
    assert list(_overhead_lines({})) == []
    assert list(_overhead_lines({"absent": "No kernels."}))[-1] == "Not measured: No kernels."
