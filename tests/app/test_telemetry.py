"""The machine's samples: cheap, off the window's thread, and None for whatever NVML refuses."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psutil
import pynvml
import pytest
from pytestqt.qtbot import QtBot

from app import telemetry
from app.telemetry import NVML_RETRY_SAMPLES, MachineSample, NvmlReader, TelemetrySampler, take_sample

GIB = 1 << 30
ALL_NVML_CODES = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 999, 12345]


class FakeNvml:
    """pynvml's functions with one of them broken on demand."""

    def __init__(self) -> None:
        self.broken: dict[str, BaseException] = {}
        self.open_sessions = 0
        self.inits = 0
        self.name: str | bytes = "NVIDIA GeForce RTX 3060"
        self.totals = {"gpu0": 12 * GIB}
        self.asked: list[str] = []
        self.processes = [SimpleNamespace(pid=77, usedGpuMemory=5 * GIB), SimpleNamespace(pid=5, usedGpuMemory=GIB)]

    def _check(self, function: str) -> None:
        if function in self.broken:
            raise self.broken[function]

    def init(self) -> None:
        self.inits += 1
        self._check("init")
        self.open_sessions += 1

    def shutdown(self) -> None:
        self.open_sessions -= 1
        self._check("shutdown")

    def count(self) -> int:
        self._check("count")
        return len(self.totals)

    def handle(self, index: int) -> str:
        self._check("handle")
        return f"gpu{index}"

    def by_uuid(self, uuid: str) -> str:
        self._check("handle")
        return uuid

    def get_name(self, _handle: str) -> str | bytes:
        self._check("name")
        return self.name

    def memory(self, handle: str) -> Any:
        self._check("memory")
        self.asked.append(handle)
        total = self.totals.get(handle, 12 * GIB)
        return SimpleNamespace(total=total, used=7 * GIB, free=total - 7 * GIB)

    def utilization(self, _handle: str) -> Any:
        self._check("utilization")
        return SimpleNamespace(gpu=43, memory=10)

    def running(self, _handle: str) -> list[Any]:
        self._check("processes")
        return self.processes


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    fake = FakeNvml()
    for name, function in {
        "nvmlInit": fake.init,
        "nvmlShutdown": fake.shutdown,
        "nvmlDeviceGetCount": fake.count,
        "nvmlDeviceGetHandleByIndex": fake.handle,
        "nvmlDeviceGetHandleByUUID": fake.by_uuid,
        "nvmlDeviceGetName": fake.get_name,
        "nvmlDeviceGetMemoryInfo": fake.memory,
        "nvmlDeviceGetUtilizationRates": fake.utilization,
        "nvmlDeviceGetComputeRunningProcesses": fake.running,
    }.items():
        monkeypatch.setattr(pynvml, name, function)
    yield fake
    assert fake.open_sessions == 0, "every session is given back"


@pytest.fixture
def reader() -> Iterator[NvmlReader]:
    reader = NvmlReader()
    yield reader
    reader.close()


def test_a_working_gpu_is_read_in_one_session(nvml: FakeNvml, reader: NvmlReader) -> None:
    for _ in range(3):
        reading = reader.read(77)
    assert reading is not None
    assert (reading.name, reading.total_bytes, reading.used_bytes) == ("NVIDIA GeForce RTX 3060", 12 * GIB, 7 * GIB)
    assert (reading.others_bytes, reading.percent) == (2 * GIB, 43.0)
    assert nvml.inits == 1
    reader.close()


def test_names_of_old_drivers_are_bytes(nvml: FakeNvml, reader: NvmlReader) -> None:
    nvml.name = b"Tesla K80"
    reading = reader.read(None)
    assert reading is not None
    assert reading.name == "Tesla K80"
    reader.close()


@pytest.mark.parametrize("code", ALL_NVML_CODES)
@pytest.mark.parametrize("function", ["init", "handle", "name", "memory"])
def test_any_nvml_failure_is_none_and_not_an_exception(
    nvml: FakeNvml, reader: NvmlReader, function: str, code: int
) -> None:
    nvml.broken[function] = pynvml.NVMLError(code)
    assert reader.read(77) is None
    sample = take_sample(NvmlReader(), 77)
    assert (sample.gpu_name, sample.vram_total_bytes, sample.vram_used_bytes) == (None, None, None)


@pytest.mark.parametrize("error", [OSError("no library"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")])
def test_broken_libraries_are_none_too(nvml: FakeNvml, reader: NvmlReader, error: BaseException) -> None:
    nvml.broken["name"] = error
    assert reader.read(None) is None


@pytest.mark.parametrize("code", ALL_NVML_CODES)
def test_optional_readings_fail_alone(nvml: FakeNvml, reader: NvmlReader, code: int) -> None:
    nvml.broken["utilization"] = nvml.broken["processes"] = pynvml.NVMLError(code)
    reading = reader.read(77)
    assert reading is not None
    assert (reading.used_bytes, reading.others_bytes, reading.percent) == (7 * GIB, None, None)
    reader.close()


def test_a_failing_shutdown_is_swallowed(nvml: FakeNvml, reader: NvmlReader) -> None:
    assert reader.read(None) is not None
    nvml.broken["shutdown"] = pynvml.NVMLError(1)
    reader.close()


def test_a_failure_is_retried_later_not_every_second(nvml: FakeNvml, reader: NvmlReader) -> None:
    nvml.broken["init"] = pynvml.NVMLError(9)
    for _ in range(NVML_RETRY_SAMPLES + 1):
        assert reader.read(None) is None
    assert nvml.inits == 1
    del nvml.broken["init"]
    assert reader.read(None) is not None
    reader.close()


@pytest.mark.parametrize("own_memory", [None, "absent"])
def test_others_are_unknown_where_the_system_hides_them(
    nvml: FakeNvml, reader: NvmlReader, own_memory: str | None
) -> None:
    nvml.processes = [SimpleNamespace(pid=77, usedGpuMemory=None)] if own_memory is None else []
    reading = reader.read(77)
    assert reading is not None
    assert reading.others_bytes is None
    reader.close()


def test_without_an_engine_all_vram_in_use_is_others(nvml: FakeNvml, reader: NvmlReader) -> None:
    reading = reader.read(None)
    assert reading is not None
    assert reading.others_bytes == 7 * GIB
    reader.close()


def test_ram_and_the_engine_process(nvml: FakeNvml) -> None:
    nvml.broken["init"] = pynvml.NVMLError(12)
    sample = take_sample(NvmlReader(), os.getpid())
    assert 0 < sample.ram_used_bytes < sample.ram_total_bytes
    assert sample.engine_rss_bytes is not None
    assert sample.engine_rss_bytes > 1 << 20
    assert 0 <= sample.engine_mapped_bytes < sample.engine_rss_bytes
    assert 0 <= sample.cpu_percent <= 100


def test_an_engine_that_is_gone_has_no_memory(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml.broken["init"] = pynvml.NVMLError(12)

    def gone(pid: int) -> psutil.Process:
        raise psutil.NoSuchProcess(pid)

    monkeypatch.setattr(psutil, "Process", gone)
    sample = take_sample(NvmlReader(), 4242)
    assert (sample.engine_rss_bytes, sample.engine_mapped_bytes) == (None, 0)


def test_the_sampler_samples_off_the_window_thread_until_stopped(
    qtbot: QtBot, nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    real = telemetry.take_sample

    def spy(reader: NvmlReader, pid: int | None, uuid: str) -> MachineSample:
        threads.append(threading.current_thread().name)
        return real(reader, pid, uuid)

    monkeypatch.setattr(telemetry, "take_sample", spy)
    sampler = TelemetrySampler(period_s=0.01)
    sampler.set_engine_pid(77)
    received: list[MachineSample] = []
    sampler.sampled.connect(received.append)
    with qtbot.waitSignals([sampler.sampled] * 3, timeout=5000):
        sampler.start()
        sampler.start()
    assert sampler.running
    sampler.stop()
    assert not sampler.running
    assert set(threads) == {"rooftop-telemetry"}
    assert received[0].vram_others_bytes == 2 * GIB
    sampler.stop()


def test_the_sampler_starts_again(qtbot: QtBot, nvml: FakeNvml) -> None:
    sampler = TelemetrySampler(period_s=0.01)
    for _ in range(2):
        with qtbot.waitSignal(sampler.sampled, timeout=5000):
            sampler.start()
        sampler.stop()


def test_stop_does_not_wait_for_the_period(qtbot: QtBot, nvml: FakeNvml) -> None:
    sampler = TelemetrySampler(period_s=60.0)
    with qtbot.waitSignal(sampler.sampled, timeout=5000):
        sampler.start()
    began = time.monotonic()
    sampler.stop()
    assert time.monotonic() - began < 1.5


def test_the_engines_card_is_watched_else_the_one_with_the_most_vram(qtbot: QtBot, nvml: FakeNvml) -> None:
    nvml.totals = {"gpu0": 4 * GIB, "gpu1": 24 * GIB, "gpu2": 24 * GIB}
    reader = NvmlReader()
    assert take_sample(reader, None).vram_total_bytes == 24 * GIB
    assert nvml.asked[-1] == "gpu1"
    nvml.totals["GPU-abc"] = 8 * GIB
    assert take_sample(reader, None, "GPU-abc").vram_total_bytes == 8 * GIB
    reader.close()
    sampler = TelemetrySampler(period_s=0.01)
    sampler.set_gpu("GPU-abc")
    with qtbot.waitSignal(sampler.sampled, timeout=5000) as heard:
        sampler.start()
    sampler.stop()
    assert heard.args is not None
    assert heard.args[0].vram_total_bytes == 8 * GIB


def test_a_driver_without_cards_is_no_gpu(nvml: FakeNvml) -> None:
    nvml.totals = {}
    assert take_sample(NvmlReader(), None).gpu_name is None
