"""Measured curves are the device's own: exact on the simulated GPU, positive on the CPU."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch

from engine.config import SIMULATED_LAUNCH_S, EngineConfig, ModelConfig
from engine.devices import CpuDevice, CudaDevice, Device, SimulatedDevice
from engine.errors import OperationCancelledError
from engine.experts.calibration import (
    WEIGHT_COPIES,
    WEIGHT_COPY_RUNS,
    calibrate,
    learn_from_reply,
    measure_drag,
    typical_layers,
)
from engine.experts.cost_model import predict
from engine.experts.cpu_experts import CpuExperts, Routing, TorchCpuExperts
from engine.experts.residency import Residency
from engine.experts.store import ExpertStore
from engine.hardware import probe_hardware
from engine.kernels.torch_expert import ExpertWeights
from engine.messages import CostCurve, CostModel, PassRecord
from tests.engine.devices.fake_cuda import install
from tests.engine.shapes import TINY

pytestmark = pytest.mark.measures

LINK, MEMORY, FLOPS = 1e9, 2e9, 1e9
CONFIG = EngineConfig(simulated_link_bytes_per_s=LINK, simulated_memory_bytes_per_s=MEMORY, simulated_flops=FLOPS)


PAIR_S, TOKEN_S, KEY_S = 1e-7, 2e-5, 4e-7


class Surroundings:
    """What surrounds the experts, with times of its own; and experts that run in the same call, if so long a visit."""

    def __init__(self, visit_s: float | None = None) -> None:
        self._visit_s = self.one_s = visit_s

    hand_off_s: float | None = None

    def hand_off_seconds(self) -> float | None:
        return self.hand_off_s

    def experts_seconds(self, layer: int, tokens: int, start: int) -> tuple[int, float] | None:
        del layer, start
        if self._visit_s is None or self.one_s is None:
            return None
        return tokens, self.one_s if tokens == 1 else tokens * self._visit_s

    def dense_seconds(self, start: int) -> float:
        assert start >= 0
        return 3e-3 + 3 * KEY_S * start

    def dense_layer_seconds(self, tokens: int, start: int) -> float:
        return max(4e-4, tokens * TOKEN_S) + 1e-4 + PAIR_S * (tokens * start + tokens * (tokens + 1) / 2)


def measured(device: Device, *, staging: bool, free: range = range(8192)) -> CostModel:
    return calibrate(*parts(TINY, device, staging=staging), Surroundings(), free, lambda: None)


def parts(
    model: ModelConfig, device: Device, *, staging: bool
) -> tuple[ModelConfig, Device, Residency, CpuExperts, torch.dtype]:
    """What is measured: a model whose weights are all zero."""
    store = ExpertStore(model, device)
    residency = Residency(model, device, store)
    if device.has_gpu:
        residency.place([range(model.experts)] * model.layers, staging=staging)
    return model, device, residency, TorchCpuExperts(store), torch.float32


@pytest.mark.parametrize("staging", [True, False])
def test_the_simulated_gpu_is_measured_exactly(staging: bool) -> None:
    costs = measured(SimulatedDevice(CONFIG, 1 << 30), staging=staging)
    assert costs.gpu_expert is not None
    assert costs.weight_copy is not None
    assert costs.activation_copy is not None
    for tokens in (1, 8, 512):
        arithmetic_s = 2 * TINY.expert_parameters * tokens / FLOPS
        expected_s = max(TINY.expert_bytes / MEMORY, arithmetic_s) + SIMULATED_LAUNCH_S
        assert predict(costs.gpu_expert, tokens) == pytest.approx(expected_s, rel=0.02)
    copy_s = TINY.expert_bytes / LINK + SIMULATED_LAUNCH_S
    assert predict(costs.weight_copy, 1) == pytest.approx(copy_s)
    assert costs.gpu_expert.fit_error < 0.02
    assert costs.source == "measured"
    assert costs.dense_layer_s == pytest.approx(3e-3 / TINY.layers)
    assert costs.attention_key_s == pytest.approx(KEY_S)
    assert costs.token_s == 0.0, "only a reply tells"


def test_experts_that_run_at_once_are_measured_so() -> None:
    """What only one by itself takes, such as making its table, no reply ever waits for."""

    class SlowAlone(SimulatedDevice):
        def run_expert(self, hidden: torch.Tensor, weights: ExpertWeights, slot: int | None = None) -> torch.Tensor:
            if not self._at_once:
                self._compute_clock_s += 1e-3
            return super().run_expert(hidden, weights, slot)

        def resident_experts(self, *args: Any) -> None:
            self._at_once = True
            super().resident_experts(*args)
            self._at_once = False

        _at_once = False

    costs = measured(SlowAlone(CONFIG, 1 << 30), staging=True)
    assert costs.gpu_expert is not None
    assert costs.gpu_expert.overhead_s == pytest.approx(SIMULATED_LAUNCH_S)
    for tokens in (1, 8):
        arithmetic_s = 2 * TINY.expert_parameters * tokens / FLOPS
        expected_s = max(TINY.expert_bytes / MEMORY, arithmetic_s) + SIMULATED_LAUNCH_S
        assert predict(costs.gpu_expert, tokens) == pytest.approx(expected_s, rel=0.1)


@pytest.mark.parametrize("hand_off_s", [None, 7e-6])
def test_a_token_pays_for_the_hand_off_that_it_has(hand_off_s: float | None) -> None:
    """A prompt's states are copied both ways; decode steps signal: one way is part of what surrounds the experts."""
    dense = Surroundings()
    dense.hand_off_s = hand_off_s
    costs = calibrate(*parts(TINY, SimulatedDevice(CONFIG, 1 << 30), staging=True), dense, range(64), lambda: None)
    curve = costs.activation_copy
    assert curve is not None
    both_ways_s = 2 * (4 * TINY.hidden_size / LINK + SIMULATED_LAUNCH_S)
    assert predict(curve, 1) == pytest.approx(hand_off_s or both_ways_s, rel=0.02)
    assert predict(curve, 64) == pytest.approx(2 * (64 * 4 * TINY.hidden_size / LINK + SIMULATED_LAUNCH_S), rel=0.02)


def test_a_gpus_work_is_timed_without_the_hosts_and_copies_from_their_beginning() -> None:
    happened: list[str] = []

    class Watched(SimulatedDevice):
        def head_start(self) -> None:
            happened.append("head start")

        def begin_layer(self) -> None:
            happened.append("begin")
            super().begin_layer()

        def copy_in(self, slot: int, target: torch.Tensor, source: torch.Tensor) -> None:
            happened.append("copy")
            super().copy_in(slot, target, source)

    measured(Watched(CONFIG, 1 << 30), staging=True)
    begun = [at for at, what in enumerate(happened) if what == "begin"]
    for at in begun:
        copies = happened[at + 1 : at + 2] == ["copy"]
        assert (happened[at - 1] == "head start") != copies
    assert happened.count("copy") == WEIGHT_COPIES * WEIGHT_COPY_RUNS


def test_a_copy_costs_what_it_costs_behind_another() -> None:
    """What starts the first of a pass is waited for once; the others are started while it runs."""
    copy_s = TINY.expert_bytes / LINK + SIMULATED_LAUNCH_S

    class SlowToStart(SimulatedDevice):
        def begin_layer(self) -> None:
            super().begin_layer()
            self._copy_clock_s = 0.4 * copy_s

    costs = measured(SlowToStart(CONFIG, 1 << 30), staging=True)
    assert costs.weight_copy is not None
    assert copy_s < predict(costs.weight_copy, 1) < 1.15 * copy_s


@pytest.mark.parametrize("free", [range(8192), range(100, 900), range(30, 64)])
def test_what_a_prompt_takes_around_its_experts_is_measured_with_and_without_context(free: range) -> None:
    costs = measured(CpuDevice(probe_hardware()), staging=False, free=free)
    assert costs.dense_tokens is not None
    assert costs.attention_pair_s == pytest.approx(PAIR_S)
    for tokens in (1, 16, 32):
        assert predict(costs.dense_tokens, tokens) == pytest.approx(max(4e-4, tokens * TOKEN_S) + 1e-4, rel=0.02)


def test_a_full_context_leaves_nothing_to_measure_prompts_with() -> None:
    costs = measured(CpuDevice(probe_hardware()), staging=False, free=range(64, 64))
    assert costs.dense_tokens is None
    assert costs.attention_pair_s == 0.0


def test_without_a_gpu_only_the_cpu_is_measured() -> None:
    costs = measured(CpuDevice(probe_hardware()), staging=False)
    assert costs.gpu_expert is None
    assert predict(costs.cpu_expert, 1) > 0
    assert predict(costs.cpu_expert, 512) >= predict(costs.cpu_expert, 1)


class Clock:
    """Time that passes when it is told to, and a thousandth of the real one, whatever else the machine does."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def perf_counter(self) -> float:
        return self.passed_s + time.perf_counter() / 1000


class TimedExperts:
    """Experts on the CPU that take so long for the call, and so long for each visit."""

    CALL_S, VISIT_S = 3e-3, 1e-3

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def run(
        self, layer: int, experts: Sequence[int], hidden: torch.Tensor, routing: Routing, check: Callable[[], None]
    ) -> torch.Tensor:
        del layer
        check()
        assert set(experts) == set(routing.spans)
        visits = sum(end - begin for begin, end in routing.spans.values())
        self._clock.passed_s += self.CALL_S + visits * self.VISIT_S
        return hidden


def calibrated_on_the_cpu(surroundings: Surroundings, free: range = range(64)) -> CostModel:
    model, device, residency, _, dtype = parts(TINY, CpuDevice(probe_hardware()), staging=False)
    clock = Clock()
    with mock.patch("engine.experts.calibration.time", clock):
        return calibrate(model, device, residency, TimedExperts(clock), dtype, surroundings, free, lambda: None)


def test_the_call_is_told_from_its_experts() -> None:
    costs = calibrated_on_the_cpu(Surroundings())
    assert costs.cpu_call_s == pytest.approx(TimedExperts.CALL_S, rel=0.2)
    assert predict(costs.cpu_expert, 64) == pytest.approx(64 * TimedExperts.VISIT_S, rel=0.2)


@pytest.mark.parametrize("free", [range(8192), range(30, 64)])
def test_where_experts_run_in_the_decoders_call_they_are_measured_there_and_no_call_is_paid(free: range) -> None:
    costs = calibrated_on_the_cpu(Surroundings(visit_s=2e-4), free)
    assert costs.cpu_call_s == 0.0
    for tokens in (1, 8, 64):
        assert predict(costs.cpu_expert, tokens) == pytest.approx(tokens * 2e-4)


def test_one_token_is_told_apart_from_the_curve() -> None:
    """Other code runs a single token, whose time no line through those of many need meet."""
    own = Surroundings(visit_s=2e-4)
    own.one_s = 5e-4
    assert predict(calibrated_on_the_cpu(own).cpu_expert, 1) == pytest.approx(5e-4)
    costs = calibrated_on_the_cpu(Surroundings())
    assert predict(costs.cpu_expert, 1) + costs.cpu_call_s == pytest.approx(
        TimedExperts.CALL_S + TimedExperts.VISIT_S, rel=0.1
    )


@pytest.mark.parametrize("free", [range(8192), range(100, 900), range(30, 31), range(64, 64)])
def test_a_token_is_measured_with_and_without_context(free: range) -> None:
    costs = calibrated_on_the_cpu(Surroundings(), free)
    room = len(free) > 1
    assert costs.attention_key_s == pytest.approx(KEY_S if room else 0.0)
    near = 0 if room else min(free.start, 63)
    assert costs.dense_layer_s == pytest.approx(1e-3 + near * KEY_S)


def record(seconds: float, cpu_s: Sequence[float], gpu_s: Sequence[float] = ()) -> PassRecord:
    """A token's pass."""
    cpu, gpu = (array("f", times).tobytes() for times in (cpu_s, gpu_s))
    return PassRecord(0, 0, "", 1, seconds, b"", b"", b"", b"", cpu, gpu, b"", None)


KNOWN = CostModel(CostCurve(1e-3, 1e-4, 1e-5), None, None, None, dense_layer_s=1e-3)


def test_what_a_reply_takes_is_divided_among_experts_layers_and_the_rest() -> None:
    layers = [1e-3, 2e-3, 3e-3]
    records = [record(3e-3 + 6e-3 + besides_s, layers) for besides_s in (*[4e-4] * 9, 50.0)]
    costs = learn_from_reply(KNOWN, TINY, records)
    assert costs.token_s == pytest.approx(4e-4, rel=1e-4), "one in ten was held up"
    assert costs.cpu_expert.one_s == pytest.approx(2e-3 / TINY.experts_per_token)
    assert replace(costs, token_s=0.0, cpu_expert=KNOWN.cpu_expert) == KNOWN
    called = learn_from_reply(replace(KNOWN, cpu_call_s=5e-4), TINY, records)
    assert called.cpu_expert.one_s == pytest.approx(1.5e-3 / TINY.experts_per_token)


def test_beside_a_gpu_the_longer_side_of_each_layer_counts_and_no_expert_is_told_apart() -> None:
    known = replace(KNOWN, gpu_expert=KNOWN.cpu_expert)
    unread = record(3e-3 + 4e-3 + 2e-4, [1e-3, 2e-3, 1e-3], [0.5e-3, 1e-3, float("nan")])
    costs = learn_from_reply(known, TINY, [unread])
    assert costs.token_s == pytest.approx(2e-4, rel=1e-3)
    assert costs.cpu_expert == known.cpu_expert


def test_a_reply_that_tells_nothing_changes_nothing() -> None:
    assert learn_from_reply(KNOWN, TINY, []) is KNOWN
    assert learn_from_reply(KNOWN, TINY, [record(1e-3, [1e-3] * 3)]).token_s == 0.0


def test_an_own_call_without_room_is_not_measured() -> None:
    costs = calibrated_on_the_cpu(Surroundings(visit_s=2e-4), range(64, 64))
    assert predict(costs.cpu_expert, 8) == pytest.approx(8 * TimedExperts.VISIT_S, rel=0.2)


def test_measuring_can_be_stopped() -> None:
    device = CpuDevice(probe_hardware())

    def check() -> None:
        raise OperationCancelledError("Stopped.", "Go on.")

    with pytest.raises(OperationCancelledError):
        calibrate(*parts(TINY, device, staging=False), Surroundings(), range(64), check)


def test_layers_of_a_usual_size_stand_for_all() -> None:
    q4, q6 = ("Q4_K", "Q4_K", "Q4_K"), ("Q6_K", "Q6_K", "Q6_K")
    mixed = replace(TINY, hidden_size=256, intermediate_size=256, expert_formats=(q4, q6, q4))
    assert typical_layers(TINY) == [0, 1, 2]
    assert typical_layers(mixed) == [0, 2]
    costs = calibrate(
        *parts(mixed, SimulatedDevice(CONFIG, 1 << 30), staging=True), Surroundings(), range(64), lambda: None
    )
    assert costs.weight_copy is not None
    copy_s = mixed.layer_expert_bytes(0) / LINK + SIMULATED_LAUNCH_S
    assert predict(costs.weight_copy, 1) == pytest.approx(copy_s)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_what_copies_take_from_the_cpu_is_measured_while_the_link_is_busy(share: float) -> None:
    slot: Any = SimpleNamespace(flat=None)

    class Link:
        """Whose copies take 2 ms each, and what the CPU does meanwhile longer."""

        busy_s = 0.0

        def copy_in(self, *_: object) -> None:
            self.busy_s += 2e-3

        def finish_copies(self) -> None:
            self.busy_s = 0.0

    link: Any = Link()

    def token_s(turn: int) -> float:
        del turn
        assert link.busy_s == 0.0 or link.busy_s >= 20e-3, "longer than what it is measured beside"
        return 10e-3 / (1.0 - share) if link.busy_s else 10e-3

    drag = measure_drag(link, slot, slot, CostCurve(0.0, 2e-3, 0.0), token_s, lambda: None)
    assert drag == pytest.approx(share)
    assert link.busy_s == 0.0


def test_a_copy_that_seems_to_help_takes_nothing() -> None:
    times = iter([2e-3] * 6 + [1e-3] * 6)
    link: Any = SimpleNamespace(copy_in=lambda *_: None, finish_copies=lambda: None)
    slot: Any = SimpleNamespace(flat=None)
    assert measure_drag(link, slot, slot, CostCurve(0.0, 1e-3, 0.0), lambda _: next(times), lambda: None) == 0.0


def test_beside_a_gpu_copies_are_measured_where_they_are_from_locked_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    device = CudaDevice(1 << 30)
    model, _, residency, cpu, dtype = parts(TINY, device, staging=True)
    given: list[tuple[Any, ...]] = []

    def drag(*arguments: Any) -> float:
        given.append(arguments)
        return 0.25 + 0.0 * measure_drag(*arguments)

    monkeypatch.setattr("engine.experts.calibration.measure_drag", drag)
    for locked in (False, True):
        if locked:
            for pageable in residency._store.pageable:
                pageable.clear()
        costs = calibrate(model, device, residency, cpu, dtype, Surroundings(), range(64), lambda: None)
        assert costs.copy_drag == (0.25 if locked else 0.0)
    ((on, slot, source, copy, *_),) = given
    assert on is device
    assert slot.flat.nbytes == source.flat.nbytes == TINY.expert_bytes
    assert copy == costs.weight_copy
