"""CUDA's streams are ordered by events, and the host waits for nothing but what it needs."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from engine.devices import CudaDevice, why_unusable
from engine.devices.cuda import _find
from engine.devices.gpu_experts import GpuExperts
from engine.errors import ConfigurationError, DeviceOutOfMemoryError
from engine.hardware import GpuProfile
from engine.kernels.cuda_driver import CudaDriverError
from engine.kernels.gpu_grouped_plans import Visits
from engine.kernels.gpu_kernels import GpuKernels, GpuKernelsUnavailableError
from engine.kernels.gpu_launch import Program
from engine.kernels.gpu_plans import matrix_program
from engine.kernels.torch_expert import expert_forward
from tests.engine.devices.experts import HIDDEN, a_table, an_expert, an_expert_in
from tests.engine.devices.fake_cuda import FakeCuda, install
from tests.engine.devices.test_gpu_experts import an_expert as a_block_expert
from tests.engine.kernels.cuda_emulation.launcher import EmulatedLauncher
from tests.engine.shapes import TINY

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return install(monkeypatch)


@pytest.fixture
def device(cuda: FakeCuda) -> CudaDevice:
    return CudaDevice(1 << 20)


def test_a_head_start_is_work_for_the_gpu_and_does_without_where_there_is_no_memory(
    device: CudaDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = torch.full((8,), 7, dtype=torch.uint8)
    monkeypatch.setattr("engine.devices.cuda.torch.empty", lambda *_, **__: written)
    device.head_start()
    assert not written.any()

    def no_memory(*_: object, **__: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("engine.devices.cuda.torch.empty", no_memory)
    device.head_start()


def test_streamed_experts_are_ordered_by_events(device: CudaDevice, cuda: FakeCuda) -> None:
    source, target = an_expert(), an_expert(1)
    device.begin_layer()
    for _ in range(2):
        device.copy_in(0, target.flat, source.flat)
        device.wait_copy(0)
        device.run_expert(torch.zeros(1, HIDDEN), target, 0)
    span, log = device.end_layer(), list(cuda.log)
    start, arrived, vacated, end = log[0][1], log[1][1], log[3][1], log[-1][1]
    assert log == [
        ("record", start, "compute"),
        ("record", arrived, "copies"),
        ("wait", arrived, "compute"),
        ("record", vacated, "compute"),
        ("wait", vacated, "copies"),
        ("record", arrived, "copies"),
        ("wait", arrived, "compute"),
        ("record", vacated, "compute"),
        ("record", end, "compute"),
    ]
    assert span.wait() == pytest.approx(0.012)
    assert cuda.log[-1] == ("synchronize", end)


def test_groups_leave_their_slot_when_they_ran_with_kernels_and_without(
    device: CudaDevice, cuda: FakeCuda, launcher: EmulatedLauncher
) -> None:
    blocks = a_block_expert(("Q4_0",) * 3)
    for kernels, ran in ((GpuKernels(launcher), ["prepare", "group_gate_up", "group_down", "group_add"]), (None, [])):
        device._experts = GpuExperts(kernels) if kernels else None
        hidden, ones, order = torch.randn(20, blocks.gate.columns), torch.ones(20, 1), torch.arange(20)
        visits = Visits({3: (0, 20)}, order, order[:, None], hidden, ones, torch.zeros(hidden.shape))
        launcher.launched.clear()
        cuda.log.clear()
        device.run_group(visits, [(3, blocks)])
        assert cuda.log == [], "a resident leaves nothing"
        device.run_group(visits, [(3, blocks)], 1)
        assert [(what, where) for what, _, where in cuda.log] == [("record", "compute")]
        assert launcher.launched == ran + ran[1:]
        expected = 2 * expert_forward(hidden, blocks)
        assert float((visits.out - expected).norm() / expected.norm()) < 3e-2


def test_a_layers_time_is_asked_for_and_never_waited_for(device: CudaDevice, cuda: FakeCuda) -> None:
    device.begin_layer()
    span = device.end_layer()
    cuda.done = False
    assert span.seconds() is None
    device.begin_layer()
    other = device.end_layer()
    cuda.done = True
    assert span.seconds() == other.seconds() == pytest.approx(0.012)
    assert not any(entry[0] == "synchronize" for entry in cuda.log)
    marks = [name for what, name, *_ in cuda.log if what == "record"]
    assert len(set(marks)) == 4, "a layer's marks outlive the next layer's"


def test_the_hand_over_follows_the_router_and_the_host_waits_for_it_alone(device: CudaDevice, cuda: FakeCuda) -> None:
    hidden, experts = torch.randn(2, HIDDEN), torch.tensor([[0, 1], [2, 0]])
    handed = device.hand_over(hidden, experts)
    (_, routed, _), (_, _, _), (_, arrived, _) = cuda.log
    assert cuda.log == [
        ("record", routed, "compute"), ("wait", routed, "hand-offs"), ("record", arrived, "hand-offs"),
    ]  # fmt: skip
    held = handed.wait()
    assert cuda.log[3:] == [("synchronize", arrived)]
    assert all(map(torch.equal, held, (hidden, experts)))
    assert held[0].data_ptr() != hidden.data_ptr()


class ShortOfPages:
    """A driver that locks one piece of memory and no more."""

    def __init__(self, ordinal: int) -> None:
        assert ordinal == 0
        self.locked: dict[int, int] = {}

    def lock_pages(self, address: int, size_bytes: int) -> None:
        if self.locked:
            raise CudaDriverError("CUDA_ERROR_OUT_OF_MEMORY", "cuMemHostRegister_v2: out of memory.")
        self.locked[address] = size_bytes

    def unlock_pages(self, address: int) -> None:
        if self.locked.pop(address, None) is None:
            raise CudaDriverError("CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED", "cuMemHostUnregister: not registered.")


def test_memory_is_locked_as_far_as_the_system_gives_it(device: CudaDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.devices.cuda.CudaDriver", ShortOfPages)
    first, second = torch.zeros(3, 4096), torch.zeros(4096)
    assert device.pin(first)
    assert device._driver.locked == {first.data_ptr(): first.nbytes}  # type: ignore[attr-defined]
    assert not device.pin(second)
    device.unpin(second)
    device.unpin(first)
    assert device.pin(second)


def test_pinned_memory_is_used_again_and_grows(device: CudaDevice) -> None:
    first = device.hand_over(torch.zeros(3, HIDDEN)).wait()[0].data_ptr()
    assert device.hand_over(torch.ones(2, HIDDEN)).wait()[0].data_ptr() == first
    with torch.inference_mode():
        (large,) = device.hand_over(torch.full((100, HIDDEN), 7.0)).wait()
    assert large.shape == (100, HIDDEN)
    device.hand_over(torch.ones(100, HIDDEN)).wait()
    assert bool((large == 1.0).all()), "the same memory, written outside of inference mode too"
    sent, back = torch.ones(4), device.send("experts", torch.ones(4))
    assert torch.equal(sent, back)


def test_an_upload_follows_the_work_before_it_and_nothing_follows_the_upload(
    device: CudaDevice, cuda: FakeCuda
) -> None:
    source, target = an_expert(), an_expert(1)
    upload = device.begin_upload(target.flat, source.flat)
    (launched, arrived), log = [entry[1] for entry in cuda.log[::2]], list(cuda.log)
    assert log == [("record", launched, "compute"), ("wait", launched, "uploads"), ("record", arrived, "uploads")]
    assert upload.done()
    assert cuda.log[3:] == [("query", arrived)]
    upload.wait()
    assert cuda.log[-1] == ("synchronize", arrived)


def test_out_of_memory_is_ours_and_counts_nothing(device: CudaDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "empty", no_memory)
    with pytest.raises(DeviceOutOfMemoryError, match="another program may hold them"):
        device.allocate((100,), torch.float32, "kv")
    assert device.allocated_bytes == 0


# ---- kernels, or none -----------------------------------------------------------------------------------------------


def test_without_kernels_torch_runs_experts_one_by_one_and_says_why(
    device: CudaDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_old(*_: object) -> GpuKernels:
        raise GpuKernelsUnavailableError("The GPU has compute capability 6.1, 7.5 is the oldest.")

    monkeypatch.setattr(GpuKernels, "open", too_old)
    device.prepare(TINY, None)
    assert "compute capability 6.1" in device.limitation
    assert not device.runs_at_once(a_table(None), 1, 2)
    hidden, weights = torch.randn(2, HIDDEN), an_expert()
    assert torch.equal(device.run_expert(hidden, weights), expert_forward(hidden, weights))


class NoLauncher:
    """Kernels that load and do nothing."""

    def __init__(self) -> None:
        self.loaded: list[Program] = []

    def load(self, program: Program) -> None:
        self.loaded.append(program)

    def launch(self, launch: object) -> None:
        pass


def test_kernels_that_compute_something_else_are_not_used(device: CudaDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GpuKernels, "open", lambda *_: GpuKernels(NoLauncher()))
    device.prepare(TINY, None)
    assert "is off by" in device.limitation
    assert not device.runs_at_once(a_table(None), 1, 2)


def test_kernels_are_loaded_for_every_format_and_tried(device: CudaDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = NoLauncher()
    tried: list[str] = []
    monkeypatch.setattr(GpuKernels, "open", lambda *_: GpuKernels(launcher))
    monkeypatch.setattr(GpuKernels, "self_test", lambda _, names, __: tried.extend(names))
    device.prepare(TINY, None)
    assert device.limitation == ""
    assert launcher.loaded == [matrix_program("F32")]
    assert tried == ["F32"]
    assert device.runs_at_once(a_table(None), 1, 2)
    assert not device.runs_at_once(a_table(None), 17, 2)


def test_kernels_that_broke_the_gpu_are_not_tried_again(
    device: CudaDevice, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(GpuKernels, "open", lambda *_: GpuKernels(NoLauncher()))
    with monkeypatch.context() as patch:
        patch.setattr(GpuKernels, "self_test", broken)
        patch.setattr(torch.cuda, "synchronize", broken)
        with pytest.raises(torch.AcceleratorError):
            device.prepare(TINY, str(tmp_path))
    monkeypatch.setattr(GpuKernels, "self_test", lambda *_: None)
    device.prepare(TINY, str(tmp_path))
    assert "when they were tried at an earlier start" in device.limitation
    monkeypatch.setattr(torch, "__version__", "99.0")
    device.limitation = ""
    device.prepare(TINY, str(tmp_path))
    device.prepare(TINY, str(tmp_path))
    assert device.limitation == "", "another torch is another machine, and what passes leaves no mark"


# ---- which GPU, and whether it works --------------------------------------------------------------------------------


def test_without_a_gpu_there_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigurationError, match="no usable NVIDIA GPU"):
        CudaDevice(1 << 30)


def test_a_driver_that_is_too_old_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_available() -> bool:
        warnings.warn("The NVIDIA driver on your system is too old (found version 11040).\nMore.", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    assert why_unusable(None).endswith("GPU: The NVIDIA driver on your system is too old (found version 11040).")


def test_a_gpu_that_fails_when_it_is_tried_is_of_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_image(*_: object, **__: object) -> torch.Tensor:
        raise torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device\nMore.")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "zeros", no_image)
    reason = "The GPU does not work: CUDA error: no kernel image is available for execution on the device."
    assert why_unusable(None) == reason


def test_of_several_gpus_it_takes_the_one_that_the_plan_was_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    uuids = ["0a", "0b"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(uuids))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=uuids[index]))
    assert _find(GpuProfile("B", 1, 0, "GPU-0b")) == torch.device("cuda", 1)
    assert _find(GpuProfile("?", 1, 0)) == torch.device("cuda", 0)
    with pytest.raises(LookupError, match="C is hidden"):
        _find(GpuProfile("C", 1, 0, "GPU-0c"))
    del uuids[1]
    assert _find(GpuProfile("A part of A", 1, 0, "GPU-0c")) == torch.device("cuda", 0)


# ---- on hardware ----------------------------------------------------------------------------------------------------


@needs_gpu
def test_a_gpu_streams_and_computes_what_the_cpu_does() -> None:
    device, source = CudaDevice(1 << 30), an_expert()
    slot = an_expert_in(device.allocate((source.nbytes,), torch.uint8, "staging"))
    hidden = torch.randn(4, HIDDEN)
    device.begin_layer()
    device.copy_in(0, slot.flat, source.flat)
    device.wait_copy(0)
    out = device.run_expert(hidden.to(device.torch_device), slot, 0)
    assert device.end_layer().wait() > 0.0
    torch.testing.assert_close(out.cpu(), expert_forward(hidden, source), atol=1e-4, rtol=1e-4)


@needs_gpu
def test_a_gpu_hands_over_and_takes_back() -> None:
    device, hidden = CudaDevice(1 << 30), torch.randn(64, 1024)
    (held,) = device.hand_over(hidden.to(device.torch_device)).wait()
    assert held.is_pinned()
    assert torch.equal(held, hidden)
    assert torch.equal(device.send("experts", held).cpu(), hidden)
    assert device.activation_round_trip_s(hidden.to(device.torch_device)) > 0.0


@needs_gpu
def test_a_gpu_locks_pages_once_and_a_refusal_spoils_nothing() -> None:
    device, memory = CudaDevice(1 << 30), torch.zeros(1 << 20, dtype=torch.uint8)
    assert device.pin(memory)
    assert memory.is_pinned()
    assert not device.pin(memory), "a second time"
    assert float(torch.ones(4, device=device.torch_device).add_(1).sum()) == 8.0
    device.unpin(memory)
    assert not memory.is_pinned()


@needs_gpu
def test_a_gpu_upload_brings_every_byte_into_a_slot_in_use() -> None:
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
