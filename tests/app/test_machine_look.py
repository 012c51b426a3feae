from __future__ import annotations

import pynvml
import pytest
from pytestqt.qtbot import QtBot

from app.machine_look import Machine, MachineLook, driver_version
from tests.app.snapshots import make_hardware


def test_a_look_answers_on_the_windows_thread(qtbot: QtBot) -> None:
    look = MachineLook()
    with qtbot.waitSignal(look.looked, timeout=5000) as seen:
        look.look()
    machine = seen.args[0]
    assert machine.hardware.ram_total_bytes > 0
    assert machine.hardware.cpu_name in machine.text or machine.hardware.gpu is not None


def test_one_line_for_people() -> None:
    assert Machine(make_hardware("gguf", "cuda"), "1").text == "NVIDIA GeForce RTX 3060 with 12.0 GiB, 128 GiB of RAM"
    assert Machine(make_hardware("gguf", "cpu"), "").text == "AMD Ryzen 7 7700, 128 GiB of RAM, no NVIDIA GPU"


def test_a_driver_that_fails_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", fail)
    assert driver_version() == ""
    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: "580.82")
    assert driver_version() == "580.82"
    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    assert driver_version() == ""
