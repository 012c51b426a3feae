"""One hand-off per layer: its order on CUDA's streams, and results that no device and no order changes.

The device is the real `CudaDevice` on stand-ins for streams and events, with its kernels emulated; tensors are the
CPU's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from engine.config import PolicyName
from engine.devices import CudaDevice
from engine.devices.gpu_experts import GpuExperts
from engine.experts.cpu_experts import Check, Routing, TorchCpuExperts
from engine.experts.executor import ExpertExecutor
from engine.experts.popularity import Popularity
from engine.experts.residency import Residency
from engine.experts.store import ExpertStore
from engine.kernels.gpu_kernels import GpuKernels
from engine.kernels.gpu_launch import Launch
from engine.kernels.torch_expert import expert_forward
from engine.messages import CostCurve, CostModel
from tests.engine.devices.fake_cuda import FakeCuda, install
from tests.engine.kernels.cuda_emulation.launcher import EmulatedLauncher
from tests.engine.shapes import TINY

MODEL = replace(TINY, experts=6, experts_per_token=3)
RESIDENT = ((0, 1, 2),) * MODEL.layers
# An expert's copy takes as long as twelve of its tokens on the CPU.
COSTS = CostModel(
    CostCurve(0.0, 1.0, 0.0), CostCurve(1.0, 0.0, 0.0), CostCurve(0.0, 12.0, 0.0), CostCurve(0.0, 0.0, 0.0), 0.0
)


@dataclass
class Rig:
    """An executor on stand-ins.

    Attributes:
        cuda: Their log, with launches of kernels and the CPU's turns in between.
    """

    cuda: FakeCuda
    device: CudaDevice
    store: ExpertStore
    residency: Residency
    executor: ExpertExecutor

    def run(self, layer: int, hidden: torch.Tensor, weights: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return self.executor.run(layer, hidden, weights, chosen, lambda: None)

    def expected(self, layer: int, hidden: torch.Tensor, weights: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """The sum by definition."""
        out = torch.zeros_like(hidden)
        for token, experts in enumerate(chosen.tolist()):
            for choice, expert in enumerate(experts):
                said = expert_forward(hidden[token : token + 1], self.store.weights(layer, expert))
                out[token] += weights[token, choice] * said[0]
        return out


class LoggedCpu:
    """Experts on the CPU that say when they run."""

    def __init__(self, cuda: FakeCuda, inner: TorchCpuExperts) -> None:
        self._cuda, self._inner = cuda, inner

    def run(
        self, layer: int, experts: Sequence[int], hidden: torch.Tensor, routing: Routing, check: Check
    ) -> torch.Tensor:
        self._cuda.log.append(("cpu", *map(str, experts)))
        return self._inner.run(layer, experts, hidden, routing, check)


class LoggedLauncher:
    """Emulated kernels that say when they are launched."""

    def __init__(self, cuda: FakeCuda, inner: EmulatedLauncher) -> None:
        self._cuda, self._inner = cuda, inner

    def load(self, program: object) -> None:
        pass

    def launch(self, launch: Launch) -> None:
        self._cuda.log.append(("launch", launch.kernel))
        self._inner.launch(launch)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return install(monkeypatch)


def a_rig(cuda: FakeCuda, launcher: EmulatedLauncher | None, policy: PolicyName = "fiddler") -> Rig:
    """Half of the experts resident; without a launcher there are no kernels."""
    device = CudaDevice(1 << 30)
    if launcher:
        device._experts = GpuExperts(GpuKernels(LoggedLauncher(cuda, launcher)))
    store, generator = ExpertStore(MODEL, device), torch.Generator().manual_seed(0)
    for pageable in store.pageable:
        pageable.clear()  # as after page-locking them all
    for layer in range(MODEL.layers):
        weights = torch.randn(MODEL.experts, store.layer(layer).shape[1] // 4, generator=generator) / 4
        store.layer(layer).copy_(weights.view(torch.uint8))
    residency = Residency(MODEL, device, store)
    residency.place(RESIDENT, staging=True)
    cpu = LoggedCpu(cuda, TorchCpuExperts(store))
    executor = ExpertExecutor(MODEL, device, store, residency, cpu, Popularity(MODEL), COSTS, policy)
    executor.placed()
    cuda.log.clear()
    return Rig(cuda, device, store, residency, executor)


def visits(tokens: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states, router weights and chosen experts of a pass."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, MODEL.hidden_size, generator=generator)
    chosen = torch.rand(tokens, MODEL.experts, generator=generator).argsort(dim=-1)[:, : MODEL.experts_per_token]
    return hidden, torch.rand(tokens, MODEL.experts_per_token, generator=generator), chosen


def test_a_decode_layer_goes_to_the_gpu_at_once_and_to_the_cpu_once_it_knows(
    cuda: FakeCuda, launcher: EmulatedLauncher
) -> None:
    rig = a_rig(cuda, launcher)
    cuda.done = False
    rig.run(0, *visits(1)[:2], torch.tensor([[1, 4, 2]]))
    marks = dict.fromkeys(entry[1] for entry in cuda.log if entry[0] == "record")
    names = dict(zip(marks, ("routed", "handed", "start", "end"), strict=True))
    assert [tuple(names.get(part, part) for part in entry) for entry in cuda.log] == [
        ("record", "routed", "compute"),
        ("wait", "routed", "hand-offs"),
        ("record", "handed", "hand-offs"),
        ("record", "start", "compute"),
        ("launch", "gate_up_8"),
        ("launch", "down_8"),
        ("record", "end", "compute"),
        ("synchronize", "handed"),
        ("cpu", "4"),
        ("query", "end"),
    ]


def test_the_time_of_a_layer_is_read_in_the_next_one(cuda: FakeCuda, launcher: EmulatedLauncher) -> None:
    rig = a_rig(cuda, launcher)
    correction = rig.executor.costs.gpu_correction
    cuda.done = False
    rig.run(0, *visits(1)[:2], torch.tensor([[1, 4, 2]]))
    assert rig.executor.traces[0] is None
    assert rig.executor.costs.gpu_correction == correction
    cuda.done = True
    rig.run(1, *visits(1)[:2], torch.tensor([[3, 4, 5]]))
    first, second = rig.executor.traces[:2]
    assert first
    assert second
    assert first.measured_gpu_s == pytest.approx(0.012)
    assert (second.measured_gpu_s, second.predicted_gpu_s) == (0.0, 0.0), "no resident, no time"
    assert rig.executor.costs.gpu_correction < correction
    assert sum(entry[0] == "synchronize" for entry in cuda.log) == 2, "one hand-off each"


def test_a_pass_that_broke_off_leaves_no_time_behind(
    cuda: FakeCuda, launcher: EmulatedLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The marks of its layer may be in use again when somebody asks."""
    rig = a_rig(cuda, launcher)
    cuda.done = False
    rig.run(0, *visits(1))

    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(rig.device, "resident_experts", no_memory)
        with pytest.raises(torch.OutOfMemoryError):
            rig.run(1, *visits(1))
    cuda.done = True
    assert rig.executor.traces[0] is None


@pytest.mark.parametrize("policy", ["fiddler", "gpu_stream", "cpu_only"])
@pytest.mark.parametrize("tokens", [1, 7, 40])
@pytest.mark.parametrize("kernels", [True, False])
def test_results_are_the_same_however_experts_are_launched(
    cuda: FakeCuda, launcher: EmulatedLauncher, policy: Any, tokens: int, kernels: bool
) -> None:
    rig = a_rig(cuda, launcher if kernels else None, policy)
    for layer in range(MODEL.layers):
        routed = visits(tokens, layer)
        torch.testing.assert_close(rig.run(layer, *routed), rig.expected(layer, *routed), atol=1e-5, rtol=1e-5)
    places = {run.place for trace in rig.executor.traces if trace for run in trace.runs}
    by_cost = {"gpu", "stream", "cpu"} if tokens == 40 else {"gpu", "cpu"}
    assert places == {"fiddler": by_cost, "gpu_stream": {"gpu", "stream"}, "cpu_only": {"cpu"}}[policy]
    launched = {entry[1] for entry in cuda.log if entry[0] == "launch"}
    if tokens < 40:
        assert bool(launched) == (kernels and policy != "cpu_only")
    waited = [entry for entry in cuda.log if entry[0] == "synchronize"]
    assert len(waited) == MODEL.layers, "one wait for each hand-off, none for experts"


def test_what_was_handed_over_is_all_that_the_host_looks_at(
    cuda: FakeCuda, launcher: EmulatedLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else it fetched would wait for all that was launched before."""
    rig, routed = a_rig(cuda, launcher), visits(1)
    on_device = {tensor.data_ptr() for tensor in routed}
    fetched = 0

    def watched(name: str) -> None:
        fetch = getattr(torch.Tensor, name)

        def look(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            nonlocal fetched
            fetched += 1
            assert self.data_ptr() not in on_device, name
            return fetch(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, look)

    for name in ("tolist", "item", "numpy", "cpu", "__bool__", "__int__", "__float__"):
        watched(name)
    rig.run(0, *routed)
    monkeypatch.undo()
    assert fetched > 0


def test_evicted_and_arriving_experts_run_on_the_cpu(cuda: FakeCuda, launcher: EmulatedLauncher) -> None:
    rig, routed = a_rig(cuda, launcher), visits(1)
    chosen = torch.tensor([[0, 1, 4]])
    rig.residency.begin_swap(0, leaving=1, coming=4)
    cuda.log.clear()
    arrivals = list(rig.residency._arrivals)
    rig.residency._arrivals.clear()  # under way
    torch.testing.assert_close(rig.run(0, *routed[:2], chosen), rig.expected(0, *routed[:2], chosen))
    assert ("cpu", "1", "4") in cuda.log
    rig.residency._arrivals.extend(arrivals)
    torch.testing.assert_close(rig.run(0, *routed[:2], chosen), rig.expected(0, *routed[:2], chosen))
    assert cuda.log[-2:] == [("cpu", "1"), cuda.log[-1]]
