"""Each kind opens as planned, and counts every byte."""

from __future__ import annotations

import pytest
import torch

from engine.config import EngineConfig
from engine.devices import CpuDevice, SimulatedDevice, open_device
from engine.hardware import probe_hardware


def test_released_bytes_can_be_taken_again() -> None:
    device = SimulatedDevice(EngineConfig(), budget_bytes=1_000)
    device.reserve("workspace", 1_000)
    device.release("workspace", 1_000)
    device.reserve("experts", 1_000)
    assert device.allocated["experts"] == 1_000


def test_open_device_opens_what_was_planned() -> None:
    hardware = probe_hardware()
    assert isinstance(open_device("simulated", EngineConfig(), hardware, 100), SimulatedDevice)
    cpu = open_device("cpu", EngineConfig(), hardware, 0)
    assert isinstance(cpu, CpuDevice)
    assert not cpu.has_gpu


@pytest.mark.parametrize("kind", ["cpu", "simulated"])
def test_where_all_is_on_the_host_nothing_is_copied(kind: str) -> None:
    device, tensor = open_device(kind, EngineConfig(), probe_hardware(), 100), torch.ones(3)
    (handed,) = device.hand_over(tensor).wait()
    assert handed is tensor
    assert device.send("experts", tensor) is tensor
    device.begin_layer()
    assert device.end_layer().seconds() == 0.0
