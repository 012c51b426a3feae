"""What a prompt streams is copied ahead; whatever was copied, and for whomever, results are the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from engine.config import EngineConfig
from engine.devices import CudaDevice, Device, SimulatedDevice
from engine.experts import streamer
from engine.experts.cpu_experts import TorchCpuExperts
from engine.experts.executor import ExpertExecutor, _DeviceExchange
from engine.experts.popularity import Popularity
from engine.experts.residency import Residency
from engine.experts.store import ExpertStore
from engine.experts.streamer import LayerInput
from engine.kernels.torch_expert import expert_forward
from engine.messages import CostCurve, CostModel
from tests.engine.devices.fake_cuda import install
from tests.engine.shapes import TINY

MODEL = replace(TINY, experts=6, experts_per_token=2, layers=3)
RESIDENT = ((0,), (1,), (2,))
TOKENS, COPY_S = 20, 1.0
# The dense part of a pass takes one copy and a half; an expert on the GPU next to nothing, on the CPU for ever.
COSTS = CostModel(CostCurve(0.0, 1e3, 0.0), CostCurve(0.0, 1e-6, 0.0), CostCurve(0.0, COPY_S, 0.0), None, 1.5 * COPY_S)


class Rig:
    """An executor whose experts are all streamed but one of each layer."""

    def __init__(self, device: Device) -> None:
        self.device, self.store, generator = device, ExpertStore(MODEL, device), torch.Generator().manual_seed(0)
        for layer, pageable in enumerate(self.store.pageable):
            pageable.clear()
            weights = torch.randn(MODEL.experts, self.store.layer(layer).shape[1] // 4, generator=generator) / 4
            self.store.layer(layer).copy_(weights.view(torch.uint8))
        self.residency, self.popularity = Residency(MODEL, device, self.store), Popularity(MODEL)
        self.residency.place(RESIDENT, staging=True)
        self.executor = ExpertExecutor(
            MODEL, device, self.store, self.residency, TorchCpuExperts(self.store), self.popularity, COSTS, "fiddler"
        )
        self.executor.placed()

    def check(self, layer: int, chosen: torch.Tensor, seed: int = 0) -> None:
        """A layer says what it says by definition."""
        generator = torch.Generator().manual_seed(seed)
        hidden = torch.randn(len(chosen), MODEL.hidden_size, generator=generator)
        weights = torch.rand(chosen.shape, generator=generator)
        with torch.inference_mode():
            found = self.executor.run(layer, hidden, weights, chosen, lambda: None)
        expected = torch.zeros_like(hidden)
        for token, experts in enumerate(chosen.tolist()):
            for choice, expert in enumerate(experts):
                said = expert_forward(hidden[token : token + 1], self.store.weights(layer, expert))
                expected[token] += weights[token, choice] * said[0]
        torch.testing.assert_close(found, expected)

    def gpu_s(self, layer: int) -> float:
        """What the GPU's side took, by its clock."""
        trace = self.executor.traces[layer]
        assert trace is not None
        assert trace.measured_gpu_s == pytest.approx(trace.predicted_gpu_s, abs=0.01)
        return trace.measured_gpu_s


class Watched(SimulatedDevice):
    """A link that takes COPY_S for an expert, and a note of what was copied ahead."""

    def __init__(self) -> None:
        size = ExpertStore(MODEL, SimulatedDevice(EngineConfig(), 1 << 20)).weights(0, 0).nbytes
        speeds = EngineConfig(simulated_link_bytes_per_s=size / COPY_S)
        super().__init__(speeds, 1 << 20)
        self.copied_ahead: list[int] = []

    def copy_ahead(self, slot: int, target: torch.Tensor, source: torch.Tensor) -> None:
        self.copied_ahead.append(source.data_ptr())
        super().copy_ahead(slot, target, source)


@pytest.fixture
def rig() -> Rig:
    return Rig(Watched())


def who(rig: Rig, layer: int) -> list[int]:
    """The experts of a layer among those that were copied ahead."""
    assert isinstance(rig.device, Watched)
    places = {rig.store.weights(layer, expert).flat.data_ptr(): expert for expert in range(MODEL.experts)}
    return [places[place] for place in rig.device.copied_ahead if place in places]


def a_pass(experts: tuple[int, ...]) -> torch.Tensor:
    """Choices of a pass that visits these and no others."""
    first = torch.tensor(experts)[torch.arange(TOKENS) % len(experts)]
    return torch.stack([first, first.roll(1)], dim=1)


def test_what_is_popular_is_copied_while_the_dense_part_runs(rig: Rig) -> None:
    for expert, visits in ((4, 50), (3, 40), (1, 90)):
        rig.popularity.observe(1, [(expert, visits)])
    rig.check(0, a_pass((1, 2, 3)))
    rig.check(1, a_pass((3, 4, 5)))
    assert who(rig, 1) == [4, 3], "the most popular that are not in VRAM, as long as the dense part lasts"
    assert rig.gpu_s(0) == pytest.approx(3 * COPY_S, rel=0.01)
    assert rig.gpu_s(1) == pytest.approx(1.5 * COPY_S, rel=0.01), "one was there, and half of the other"
    trace = rig.executor.traces[1]
    assert trace is not None
    assert [(run.expert, run.copy_s > 0) for run in trace.runs] == [(4, False), (3, True), (5, True)]


def test_what_was_streamed_is_counted_in_its_layers_own_bytes(rig: Rig) -> None:
    rig.executor._expert_bytes = (1, 100, 10_000)
    rig.check(0, a_pass((1, 2, 3)))
    rig.check(2, a_pass((0, 1)))
    assert (rig.executor.counters.streamed, rig.executor.counters.streamed_bytes) == (5, 3 * 1 + 2 * 10_000)


def test_who_was_launched_counts_as_resident_whoever_is_now(rig: Rig) -> None:
    chosen = torch.tensor([[0, 1]])
    hidden, weights, out = torch.randn(1, MODEL.hidden_size), torch.ones(1, 2), torch.zeros(1, MODEL.hidden_size)
    begun = rig.executor.begin(0, lambda: None)
    rig.residency.place(((1,), (1,), (2,)), staging=True)
    exchange = _DeviceExchange(rig.device, rig.device.hand_over(hidden, weights, chosen), out)
    rig.executor.finish(begun, LayerInput(hidden, weights, out), exchange, lambda: None)
    trace = rig.executor.traces[0]
    assert trace is not None
    assert [run.expert for run in trace.runs if run.place == "gpu"] == [0]
    said = expert_forward(hidden, rig.store.weights(0, 1))
    torch.testing.assert_close(out, said, msg="0 is launched already, 1 was not there when it was")


def test_streaming_that_an_upload_held_up_says_nothing_about_streaming(rig: Rig) -> None:
    rig.residency.begin_swap(0, 0, 5)
    rig.check(1, a_pass((0, 2, 3)))
    trace = rig.executor.traces[1]
    assert trace is not None
    assert trace.measured_gpu_s > trace.predicted_gpu_s + 0.5 * COPY_S
    assert rig.executor.costs.gpu_correction == 1.0


def test_a_prediction_that_comes_true_corrects_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    now, run = [0.0], rig.executor._cpu.run

    def timed(*args: Any) -> torch.Tensor:
        now[0] += 2 * 1.0 + 0.5
        return run(*args)

    monkeypatch.setattr(rig.executor._cpu, "run", timed)
    monkeypatch.setattr("engine.experts.executor.time.perf_counter", lambda: now[0])
    activations = CostCurve(7.0, 0.0, 0.0)  # which the CPU's own clock does not see
    rig.executor.policy = "cpu_only"
    rig.executor.costs = replace(
        COSTS, cpu_expert=CostCurve(1.0, 0.0, 0.0), cpu_call_s=0.5, activation_copy=activations
    )
    rig.check(0, torch.tensor([[1, 2]]))
    assert rig.executor.costs.cpu_correction == 1.0


def test_a_wrong_guess_costs_nothing_but_time(rig: Rig) -> None:
    rig.popularity.observe(1, [(4, 50), (3, 40)])
    rig.check(0, a_pass((1, 2, 3)))
    rig.check(1, a_pass((0, 5)))
    assert who(rig, 1) == [4, 3]
    rig.check(2, a_pass((0, 1, 3, 4)))


def test_nothing_is_copied_where_nothing_was_streamed_or_nothing_follows(rig: Rig) -> None:
    assert isinstance(rig.device, Watched)
    rig.check(0, a_pass((0,)))
    rig.check(2, a_pass((0, 1, 3)))
    rig.check(0, a_pass((1, 2))[:4])
    assert rig.device.copied_ahead == [], "the last layer, and a pass that is no prompt"


def test_nothing_is_copied_ahead_that_would_keep_the_host_waiting(rig: Rig) -> None:
    for expert, visits in ((4, 50), (3, 40), (5, 30)):
        rig.popularity.observe(1, [(expert, visits)])
    rig.store.pageable[1].add(4)
    rig.check(0, a_pass((1, 2, 3)))
    assert who(rig, 1) == [3, 5], "4 is not page-locked"
    rig.store.on_disk, rig.store.expect = True, lambda *_: None  # type: ignore[method-assign]
    rig.check(0, a_pass((1, 2, 3)))
    assert who(rig, 1) == [3, 5], "reading a file takes the host's time"


def test_copies_that_take_longer_than_was_measured_are_fewer(rig: Rig) -> None:
    rig.executor.costs = replace(COSTS, gpu_correction=3.0)
    rig.check(0, a_pass((1, 2, 3)))
    assert len(who(rig, 1)) == 1


def test_a_pass_that_broke_off_leaves_nothing_that_is_taken_for_anothers(rig: Rig) -> None:
    rig.check(0, a_pass((1, 2, 3)))
    assert who(rig, 1) == [0, 2]
    rig.check(0, a_pass((2, 5)), seed=1)
    rig.check(1, a_pass((0, 2, 3)), seed=1)


def test_other_slots_hold_nothing(rig: Rig) -> None:
    """The budget changed between two layers: what was copied ahead lies in memory that was given back."""
    rig.check(0, a_pass((1, 2, 3)))
    rig.residency.place(((), (), ()), staging=False)
    rig.residency.place(RESIDENT, staging=True)
    for slot in range(rig.residency.staging_slots):
        rig.residency.staged(slot, 1).flat.fill_(255)
    rig.executor.placed()
    rig.check(1, a_pass((0, 2, 3)))


def test_any_choice_ahead_gives_the_same(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(3)
    for count in (0, 1, 2):
        monkeypatch.setattr(streamer, "copies_ahead", lambda *_, count=count: count)
        for layer in (0, 1, 2):
            rig.check(layer, torch.rand(TOKENS, MODEL.experts, generator=generator).argsort(dim=-1)[:, :2])


def test_on_cuda_copies_ahead_wait_for_their_slot_and_memory_goes_after_them(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = install(monkeypatch)
    rig = Rig(CudaDevice(1 << 20))
    rig.check(0, a_pass((1, 2, 3)))
    launched = [entry for entry in cuda.log if len(entry) == 3 and entry[-1] in {"copies", "compute"}]
    vacated = [name for what, name, where in launched if (what, where) == ("wait", "copies")]
    recorded = [name for what, name, where in launched if (what, where) == ("record", "compute")]
    assert len(vacated) == 3, "the third of this layer, and two ahead, each behind the last that ran in its slot"
    assert set(vacated) <= set(recorded)
    assert [entry[0] for entry in launched[-4:]] == ["wait", "record"] * 2
    cuda.log.clear()
    rig.check(1, a_pass((0, 2, 3)))
    assert ("wait", launched[-1][1], "compute") in cuda.log or ("wait", launched[-3][1], "compute") in cuda.log
    cuda.log.clear()
    rig.residency.close()
    assert ("synchronize", "copies") in cuda.log
