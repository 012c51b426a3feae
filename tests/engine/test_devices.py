"""The simulated GPU keeps its budget and its clocks; each kind opens as planned."""

from __future__ import annotations

import contextlib
from typing import ClassVar

import pytest
import torch

from engine.config import SIMULATED_LAUNCH_S, EngineConfig
from engine.devices import CpuDevice, CudaDevice, SimulatedDevice, open_device
from engine.errors import ConfigurationError, DeviceOutOfMemoryError
from engine.hardware import probe_hardware
from engine.kernels.torch_expert import ExpertWeights, expert_forward

HIDDEN, INTERMEDIATE = 8, 16
CONFIG = EngineConfig(
    simulated_vram_bytes=10_000,
    simulated_link_bytes_per_s=1e6,
    simulated_memory_bytes_per_s=1e7,
    simulated_flops=1e9,
)


def an_expert(seed: int = 0) -> ExpertWeights:
    generator = torch.Generator().manual_seed(seed)
    return an_expert_in(torch.randn(3 * HIDDEN * INTERMEDIATE, generator=generator).view(torch.uint8))


def an_expert_in(run: torch.Tensor) -> ExpertWeights:
    """Some bytes as an expert of plain fp32."""
    return ExpertWeights.view(run, ("F32", "F32", "F32"), HIDDEN, INTERMEDIATE)


def test_an_allocation_past_the_budget_raises_and_counts_nothing() -> None:
    device = SimulatedDevice(CONFIG, budget_bytes=4_000)
    device.allocate((500,), torch.float32, "dense")
    with pytest.raises(DeviceOutOfMemoryError, match="kv needs 2,004"):
        device.allocate((501,), torch.float32, "kv")
    assert device.allocated == {"dense": 2_000}
    device.allocate((500,), torch.float32, "kv")
    assert device.allocated_bytes == 4_000


def test_the_budget_is_never_more_than_the_simulated_vram() -> None:
    assert SimulatedDevice(CONFIG, budget_bytes=1 << 40).budget_bytes == 10_000


def test_released_bytes_can_be_taken_again() -> None:
    device = SimulatedDevice(CONFIG, budget_bytes=1_000)
    device.reserve("workspace", 1_000)
    device.release("workspace", 1_000)
    device.reserve("experts", 1_000)
    assert device.allocated["experts"] == 1_000


def test_two_copies_follow_each_other_and_computing_waits_for_its_copy() -> None:
    device, source = SimulatedDevice(CONFIG, 10_000), an_expert()
    slots = [an_expert(1), an_expert(2)]
    copy_s = source.nbytes / 1e6 + SIMULATED_LAUNCH_S
    run_s = max(source.nbytes / 1e7, 2 * source.parameters * 3 / 1e9) + SIMULATED_LAUNCH_S
    device.begin_layer()
    for slot, target in enumerate(slots):
        device.copy_in(slot, target.flat, source.flat)
    for slot, target in enumerate(slots):
        device.wait_copy(slot)
        device.run_expert(torch.zeros(3, HIDDEN), target, slot)
    device.end_layer()
    assert device.seconds() == pytest.approx(2 * copy_s + run_s)
    assert torch.equal(slots[0].flat, source.flat)


def test_a_copy_waits_until_its_slot_is_vacated() -> None:
    device, source, target = SimulatedDevice(CONFIG, 10_000), an_expert(), an_expert(1)
    copy_s = source.nbytes / 1e6 + SIMULATED_LAUNCH_S
    run_s = source.nbytes / 1e7 + SIMULATED_LAUNCH_S
    device.begin_layer()
    for _ in range(2):
        device.copy_in(0, target.flat, source.flat)
        device.wait_copy(0)
        device.run_expert(torch.zeros(1, HIDDEN), target, 0)
    assert device.seconds() == pytest.approx(2 * (copy_s + run_s))
    device.begin_layer()
    assert device.seconds() == 0.0


def test_an_upload_arrives_when_the_virtual_time_says_so() -> None:
    device, source = SimulatedDevice(CONFIG, 10_000), an_expert()
    first, second = torch.zeros(2, source.nbytes, dtype=torch.uint8)
    copy_s = source.nbytes / 1e6 + SIMULATED_LAUNCH_S
    uploads = [device.begin_upload(target, source.flat) for target in (first, second)]
    for arrived in (0, 1, 2):
        assert [upload.done() for upload in uploads] == [arrived > 0, arrived > 1]
        assert [bool(target.any()) for target in (first, second)] == [arrived > 0, arrived > 1]
        device.elapse(1.001 * copy_s)
    assert torch.equal(second, source.flat)


def test_streamed_experts_wait_for_the_upload_that_is_on_the_link() -> None:
    device, source, slot = SimulatedDevice(CONFIG, 10_000), an_expert(), an_expert(1)
    copy_s, run_s = (source.nbytes / speed + SIMULATED_LAUNCH_S for speed in (1e6, 1e7))
    device.begin_upload(torch.zeros_like(source.flat), source.flat)
    device.elapse(copy_s / 4)
    device.begin_layer()
    device.run_expert(torch.zeros(1, HIDDEN), source)
    device.end_layer()
    assert device.seconds() == pytest.approx(run_s), "what needs no link is not held up"
    device.begin_layer()
    device.copy_in(0, slot.flat, source.flat)
    device.wait_copy(0)
    device.run_expert(torch.zeros(1, HIDDEN), slot, 0)
    device.end_layer()
    assert device.seconds() == pytest.approx(0.75 * copy_s + copy_s + run_s)


def test_the_simulated_gpu_computes_what_the_cpu_does() -> None:
    hidden, weights = torch.randn(5, HIDDEN), an_expert()
    assert torch.equal(SimulatedDevice(CONFIG, 0).run_expert(hidden, weights), expert_forward(hidden, weights))


def test_open_device_opens_what_was_planned() -> None:
    hardware = probe_hardware()
    assert isinstance(open_device("simulated", CONFIG, hardware, 100), SimulatedDevice)
    cpu = open_device("cpu", CONFIG, hardware, 0)
    assert isinstance(cpu, CpuDevice)
    assert not cpu.has_gpu
    assert cpu.seconds() == 0.0


def test_cuda_without_a_gpu_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigurationError, match="no usable NVIDIA GPU"):
        CudaDevice(1 << 30)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_cuda_streams_and_computes_what_the_cpu_does() -> None:
    device, source = CudaDevice(1 << 30), an_expert()
    slot = an_expert_in(device.allocate((source.nbytes,), torch.uint8, "staging"))
    hidden = torch.randn(4, HIDDEN)
    device.begin_layer()
    device.copy_in(0, slot.flat, source.flat)
    device.wait_copy(0)
    out = device.run_expert(hidden.to(device.torch_device), slot, 0)
    device.end_layer()
    assert device.seconds() > 0.0
    torch.testing.assert_close(out.cpu(), expert_forward(hidden, source), atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_cuda_upload_brings_every_byte_into_a_slot_in_use() -> None:
    device, source, other = CudaDevice(1 << 30), an_expert(), an_expert(1)
    slot = an_expert_in(device.allocate((source.nbytes,), torch.uint8, "experts"))
    slot.flat.copy_(other.flat)
    hidden = torch.randn(4, HIDDEN).to(device.torch_device)
    before = device.run_expert(hidden, slot)
    upload = device.begin_upload(slot.flat, source.flat)
    upload.wait()
    assert upload.done()
    torch.testing.assert_close(before.cpu(), expert_forward(hidden.cpu(), other), atol=1e-4, rtol=1e-4)
    assert torch.equal(slot.flat.cpu(), source.flat)


class FakeEvent:
    """A CUDA event that keeps a log."""

    log: ClassVar[list[tuple[str, ...]]] = []
    made = 0

    def __init__(self, enable_timing: bool = False) -> None:
        self.name = f"event{FakeEvent.made}"
        self.timed = enable_timing
        FakeEvent.made += 1

    def record(self, stream: FakeStream | None = None) -> None:
        self.log.append(("record", self.name, stream.name if stream else "compute"))

    def synchronize(self) -> None:
        self.log.append(("synchronize", self.name))

    def query(self) -> bool:
        self.log.append(("query", self.name))
        return True

    def elapsed_time(self, end: FakeEvent) -> float:
        assert self.timed
        assert end.timed
        return 12.0


class FakeStream:
    """A CUDA stream that keeps a log."""

    def __init__(self, device: object = None, name: str = "copies") -> None:
        self.name = name

    def wait_event(self, event: FakeEvent) -> None:
        FakeEvent.log.append(("wait", event.name, self.name))


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> CudaDevice:
    FakeEvent.log.clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A GPU")
    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: FakeStream(name="compute"))
    device = CudaDevice(1 << 20)
    device.torch_device = torch.device("cpu")
    return device


def test_cuda_orders_its_two_streams_by_events(fake_cuda: CudaDevice) -> None:
    device, source, target = fake_cuda, an_expert(), an_expert(1)
    device.begin_layer()
    for _ in range(2):
        device.copy_in(0, target.flat, source.flat)
        device.wait_copy(0)
        device.run_expert(torch.zeros(1, HIDDEN), target, 0)
    device.end_layer()
    assert not any(entry[0] == "synchronize" for entry in FakeEvent.log), "nothing blocks before seconds()"
    start, arrived, vacated, end = FakeEvent.log[0][1], FakeEvent.log[1][1], FakeEvent.log[3][1], FakeEvent.log[-1][1]
    assert [
        ("record", start, "compute"),
        ("record", arrived, "copies"),
        ("wait", arrived, "compute"),
        ("record", vacated, "compute"),
        ("wait", vacated, "copies"),
        ("record", arrived, "copies"),
        ("wait", arrived, "compute"),
        ("record", vacated, "compute"),
        ("record", end, "compute"),
    ] == FakeEvent.log
    assert device.seconds() == pytest.approx(0.012)
    assert FakeEvent.log[-1] == ("synchronize", end)


def test_a_cuda_upload_follows_the_work_before_it_and_nothing_follows_the_upload(fake_cuda: CudaDevice) -> None:
    source, target = an_expert(), an_expert(1)
    upload = fake_cuda.begin_upload(target.flat, source.flat)
    (launched, arrived), log = [entry[1] for entry in FakeEvent.log[::2]], list(FakeEvent.log)
    assert log == [("record", launched, "compute"), ("wait", launched, "copies"), ("record", arrived, "copies")]
    assert upload.done()
    assert FakeEvent.log[3:] == [("query", arrived)]
    upload.wait()
    assert FakeEvent.log[-1] == ("synchronize", arrived)


def test_cuda_out_of_memory_is_ours_and_counts_nothing(fake_cuda: CudaDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "empty", no_memory)
    with pytest.raises(DeviceOutOfMemoryError, match="another program may hold them"):
        fake_cuda.allocate((100,), torch.float32, "kv")
    assert fake_cuda.allocated_bytes == 0
