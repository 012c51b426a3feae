"""Facts of the machine, and rates that are bytes over the time that the timer tells."""

from __future__ import annotations

import json
from collections.abc import Callable

import pynvml
import pytest
import torch

from engine.bench.gpu import machine
from engine.bench.gpu.bounds import Speeds
from engine.bench.gpu.pcs import PCS

SIZE = 1 << 16


def _timer(seconds: float) -> machine.Timer:
    """The first is slow, as a first copy is; later ones take longer and longer."""
    times = iter([9.0, *(seconds * turn for turn in range(1, 100))])

    def timed(work: Callable[[], object]) -> float:
        work()
        return next(times)

    return timed


def test_rates_are_bytes_over_the_least_time() -> None:
    cpu = torch.device("cpu")
    rates = machine.copy_rates(cpu, lambda _: 0.5, lambda _: 2.0, SIZE)
    assert rates["to_gpu_pinned_bytes_per_s"] == rates["to_host_pinned_bytes_per_s"] == SIZE / 0.5
    assert rates["to_gpu_pageable_bytes_per_s"] == rates["to_host_pageable_bytes_per_s"] == SIZE / 2
    assert rates["vram_bytes_per_s"] == 2 * SIZE / 0.5


def test_the_first_copy_does_not_count_and_the_quickest_does() -> None:
    source = torch.ones(SIZE, dtype=torch.uint8)
    target = torch.zeros_like(source)
    assert machine._rate(_timer(0.25), target, source) == SIZE / 0.25
    assert torch.equal(target, source)


def test_facts_are_ready_for_json_and_name_versions() -> None:
    found = machine.facts()
    assert json.loads(json.dumps(found)) == found
    assert found["versions"].keys() >= {"python", "torch", "numpy"}
    assert "accelerate" not in found["versions"] or found["versions"]["accelerate"]
    assert found["cpu_threads"] >= 1
    assert machine.facts(3)["cpu_threads"] == 3


def test_speeds_come_from_what_was_measured() -> None:
    found = {"vram_bytes_per_s": 3.0, "read_bytes_per_s": 2.0, "to_gpu_pinned_bytes_per_s": 1.0}
    assert machine.speeds_of(found) == Speeds(vram=3.0, ram=2.0, link=1.0)
    pc = PCS["12gb-ddr5-pcie4"]
    assert machine.speeds_of(machine.simulated_facts(pc)) == Speeds(504e9, 70e9, 25e9)


def test_nvml_that_knows_less_tells_less(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(handle: object) -> int:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    for name, answer in {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlSystemGetDriverVersion": lambda: "580.1",
        "nvmlDeviceGetMaxPcieLinkGeneration": lambda _: 4,
        "nvmlDeviceGetMaxPcieLinkWidth": lambda _: 8,
        "nvmlDeviceGetEnforcedPowerLimit": unknown,
    }.items():
        monkeypatch.setattr(pynvml, name, answer)
    assert machine._nvml_facts() == {"driver": "580.1", "pcie_generation": 4, "pcie_width": 8}
