"""Which GPU there is and whether it can be used, with NVML played by a script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pynvml
import pytest

from app.gpu_look import Gpu, look_for_gpu, why_not, why_not_yet
from tests.gpu_wheels import pins_for, write_wheels

CARDS = [("NVIDIA GeForce GTX 1080", (6, 1)), ("NVIDIA GeForce RTX 4070", (8, 9))]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """pynvml's functions; replace one to break it."""
    sessions = [0]

    def init() -> None:
        sessions[0] += 1

    def shutdown() -> None:
        sessions[0] -= 1

    functions: dict[str, Any] = {
        "nvmlInit": init,
        "nvmlShutdown": shutdown,
        "nvmlSystemGetDriverVersion": lambda: "580.95.05",
        "nvmlDeviceGetCount": lambda: len(CARDS),
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda index: CARDS[index][0],
        "nvmlDeviceGetCudaComputeCapability": lambda index: CARDS[index][1],
    }
    for name in list(functions):
        monkeypatch.setattr(pynvml, name, lambda *values, name=name: functions[name](*values))
    return functions | {"sessions": sessions, "all": functions}


def fail(*_values: object) -> None:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)


def test_the_newest_kind_of_gpu_counts(nvml: dict[str, Any]) -> None:
    assert look_for_gpu() == Gpu("GeForce RTX 4070", "580.95.05", (8, 9))
    assert nvml["sessions"] == [0], "the session is given back"


@pytest.mark.parametrize("name", ["nvmlInit", "nvmlSystemGetDriverVersion", "nvmlDeviceGetCount", "nvmlDeviceGetName"])
def test_nvml_that_fails_is_no_gpu(nvml: dict[str, Any], name: str) -> None:
    nvml["all"][name] = fail
    assert look_for_gpu() is None
    assert nvml["sessions"] == [0]


def test_no_card_and_a_kind_that_is_not_told(nvml: dict[str, Any]) -> None:
    nvml["all"]["nvmlDeviceGetCudaComputeCapability"] = fail
    nvml["all"]["nvmlDeviceGetName"] = lambda _index: b"Tesla"
    assert look_for_gpu() == Gpu("Tesla", "580.95.05", None)
    nvml["all"]["nvmlDeviceGetCount"] = lambda: 0
    assert look_for_gpu() is None


@pytest.mark.parametrize(
    ("driver", "works"),
    [
        ("580.65.06", True),
        ("580", True),
        ("581.1", True),
        ("", True),
        ("579.99", False),
        ("550.54.14", False),
        ("99.9", False),
    ],
)
def test_an_old_driver_is_said_with_the_version_that_is_needed(tmp_path: Path, driver: str, works: bool) -> None:
    pins = pins_for(write_wheels(tmp_path))
    sentence = why_not_yet(Gpu("GeForce RTX 4070", driver, (8, 9)), pins)
    expected = (
        f"Your GeForce RTX 4070 cannot be used yet: its driver has version {driver}, and CUDA 13.0 needs 580 or newer."
    )
    assert sentence == ("" if works else expected)


@pytest.mark.parametrize(
    ("capability", "works"), [((7, 5), True), ((12, 0), True), (None, True), ((7, 0), False), ((6, 1), False)]
)
def test_an_old_gpu_is_said(tmp_path: Path, capability: tuple[int, int] | None, works: bool) -> None:
    sentence = why_not(Gpu("Card", "580.1", capability), pins_for(write_wheels(tmp_path)))
    assert (sentence == "") == works
    if not works:
        assert sentence.endswith("and at least 7.5 is needed.")
