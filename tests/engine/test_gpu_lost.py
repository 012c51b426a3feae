"""A GPU that breaks, or never worked: one typed error, the reply so far is kept, and the CPU goes on."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import Engine, EngineConfig, SamplingParams
from engine.context_window import Fitted
from engine.devices import SimulatedDevice
from engine.errors import ConfigurationError, GpuLostError
from engine.hardware import GpuProfile, HardwareProfile, list_gpus, probe_hardware
from engine.messages import ChatMessage, Event, Failed, Generate, Load, Ready, Shutdown, Token
from engine.prompts import PromptReader
from engine.worker import EngineWorker
from tests.checkpoints import write_mixtral

CONFIG = EngineConfig(device="simulated", context_tokens=96, cpu_threads=1, simulated_vram_bytes=64 << 20)
GREEDY = SamplingParams(max_tokens=8, temperature=0.0, ignore_eos=True)
PROMPT = [5, 6, 7, 8]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_mixtral(tmp_path_factory.mktemp("lost") / "m"))


class Breakdown:
    """A GPU that works for a while, and then fails at every call, as after a CUDA error."""

    def __init__(self, patch: pytest.MonkeyPatch, calls: int) -> None:
        self.left = calls
        for name in ("run_expert", "trim", "close"):
            patch.setattr(SimulatedDevice, name, self._failing(getattr(SimulatedDevice, name)))

    def _failing(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            self.left -= method.__name__ == "run_expert"
            if self.left < 0:
                raise torch.AcceleratorError("CUDA error: unspecified launch failure\nCompile with ...")
            return method(*args)

        return call


def test_the_reply_so_far_is_kept_and_the_model_runs_on_the_cpu_afterwards(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Engine.load(model, CONFIG) as engine:
        expected = [event.id for event in engine.generate(PROMPT, GREEDY) if isinstance(event, Token)]
        kept: list[int] = []
        Breakdown(monkeypatch, 25)
        with pytest.raises(GpuLostError, match=r"unspecified launch failure\)"):
            kept.extend(event.id for event in engine.generate(PROMPT, GREEDY) if isinstance(event, Token))
        assert 0 < len(kept) < len(expected)
        assert kept == expected[: len(kept)]
        with pytest.raises(GpuLostError):
            engine.logits(PROMPT)
    with Engine.load(model, replace(CONFIG, device="cpu", isa="torch")) as engine:
        assert [event.id for event in engine.generate(PROMPT, GREEDY) if isinstance(event, Token)] == expected


def test_a_gpu_that_breaks_while_residents_leave_is_lost_too(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine.load(model, CONFIG) as engine:
        Breakdown(monkeypatch, -1)
        with pytest.raises(GpuLostError, match=r"unspecified launch failure\)"):
            engine.make_way(engine.vram.total)


def test_a_load_that_meets_a_broken_gpu_says_so(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Breakdown(monkeypatch, 0)
    with pytest.raises(GpuLostError):
        Engine.load(model, CONFIG)


def test_the_worker_reports_it_and_loads_again(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    worker = EngineWorker(events.put, Engine.load)
    monkeypatch.setattr(PromptReader, "read", lambda *_, **__: Fitted(PROMPT))
    monkeypatch.setattr(PromptReader, "tokenizer_of", lambda *_: None)
    worker.start()

    def until(*kinds: type) -> list[Event]:
        seen = [events.get(timeout=60)]
        while not isinstance(seen[-1], (*kinds, Failed)):
            seen.append(events.get(timeout=60))
        return seen

    worker.submit(Load(model, CONFIG))
    assert isinstance(until(Ready)[-1], Ready)
    with monkeypatch.context() as patch:
        Breakdown(patch, 25)
        worker.submit(Generate((ChatMessage("user", "Hi"),), GREEDY))
        seen = until()
        assert isinstance(seen[-1], Failed)
        assert seen[-1].error.code == "gpu-lost"
        assert any(isinstance(event, Token) for event in seen)
        worker.submit(Load(model, replace(CONFIG, device="cpu")))
        assert isinstance(until(Ready)[-1], Ready)
    worker.submit(Shutdown())
    assert worker.join(60)


def test_a_lost_gpu_is_reported_as_such_although_a_shortage_is_told_first(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    engines: list[Engine] = []

    def load(*arguments: Any) -> Engine:
        engines.append(Engine.load(*arguments))
        return engines[0]

    def dead(*_: Any, **__: Any) -> Any:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    def break_off(event: Event) -> None:
        events.put(event)
        if isinstance(event, Token):
            engines[0].loaded.memory_shortages += 1
            for name in dir(SimulatedDevice):
                if not name.startswith("_") and callable(getattr(SimulatedDevice, name)):
                    monkeypatch.setattr(SimulatedDevice, name, dead)

    monkeypatch.setattr(PromptReader, "read", lambda *_, **__: Fitted(PROMPT))
    monkeypatch.setattr(PromptReader, "tokenizer_of", lambda *_: None)
    worker = EngineWorker(break_off, load)
    for request in (Load(model, CONFIG), Generate((ChatMessage("user", "Hi"),), GREEDY), Shutdown()):
        worker.submit(request)
    worker._cancelled_through = 0  # the end comes by the GPU
    worker.start()
    assert worker.join(60)
    seen = [events.get_nowait() for _ in range(events.qsize())]
    said = [event for event in seen if isinstance(event, (Ready, Failed))]
    assert [type(event) for event in said[:3]] == [Ready, Ready, Failed]
    assert [event.error.code for event in said if isinstance(event, Failed)] == ["gpu-lost"]


# ---- a GPU of no use ------------------------------------------------------------------------------------------------


@pytest.fixture
def unusable_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver shows a GPU that torch cannot use."""

    def probe(gpu_index: int | None = None) -> HardwareProfile:
        return replace(probe_hardware(), gpu=GpuProfile("Old", 64 << 30, 0))

    monkeypatch.setattr("engine.premises.probe_hardware", probe)
    monkeypatch.setattr("engine.premises.why_unusable", lambda _: "The GPU does not work: it is too old.")


@pytest.mark.usefixtures("unusable_gpu")
def test_automatic_falls_back_to_the_cpu_and_says_why(model: str) -> None:
    config = EngineConfig(context_tokens=96, cpu_threads=1)
    with Engine.load(model, config) as engine:
        for _ in range(2):
            assert engine.plan.device == "cpu"
            assert engine.plan.reasons[0] == "The GPU does not work: it is too old."
            assert engine.plan.reasons.count(engine.plan.reasons[0]) == 1
            assert engine.ready.planning.hardware.gpu is None
            engine.reconfigure(replace(config, context_tokens=64))


@pytest.mark.usefixtures("unusable_gpu")
def test_asked_for_by_name_it_is_refused(model: str) -> None:
    with pytest.raises(ConfigurationError, match="too old"):
        Engine.load(model, EngineConfig(device="cuda"))


def test_what_a_gpu_cannot_do_is_among_the_plans_reasons(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedDevice, "limitation", "Torch runs the experts: there is no compiler.")
    with Engine.load(model, CONFIG) as engine:
        assert engine.plan.reasons.count("Torch runs the experts: there is no compiler.") == 1


def test_a_gpu_is_chosen_by_its_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import pynvml

    sizes = (8, 24, 12)

    def memory(index: int) -> Any:
        class Memory:
            total, used = sizes[index] << 30, 1 << 30

        return Memory

    def handle(index: int) -> int:
        if index >= len(sizes):
            raise pynvml.NVMLError_InvalidArgument
        return index

    for name, stand_in in {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: len(sizes),
        "nvmlDeviceGetHandleByIndex": handle,
        "nvmlDeviceGetMemoryInfo": memory,
        "nvmlDeviceGetName": lambda index: f"GPU {index}",
        "nvmlDeviceGetUUID": lambda index: f"GPU-{index}",
    }.items():
        monkeypatch.setattr(pynvml, name, stand_in)
    assert probe_hardware().gpu == GpuProfile("GPU 1", 24 << 30, 1 << 30, "GPU-1")
    assert probe_hardware(2).gpu == GpuProfile("GPU 2", 12 << 30, 1 << 30, "GPU-2")
    assert probe_hardware(3).gpu is None
    assert [gpu.name for gpu in list_gpus()] == ["GPU 0", "GPU 1", "GPU 2"]
    assert list_gpus(3) == ()
    with pytest.raises(ConfigurationError, match="gpu_index"):
        EngineConfig(gpu_index=-1)
