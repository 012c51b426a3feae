"""Measured curves are the device's own: exact on the simulated GPU, positive on the CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from unittest import mock

import pytest
import torch

from engine.config import SIMULATED_LAUNCH_S, EngineConfig, ModelConfig
from engine.devices import CpuDevice, Device, SimulatedDevice
from engine.errors import OperationCancelledError
from engine.experts.calibration import calibrate, typical_layers
from engine.experts.cost_model import predict
from engine.experts.cpu_experts import CpuExperts, Routing, TorchCpuExperts
from engine.experts.residency import Residency
from engine.experts.store import ExpertStore
from engine.hardware import probe_hardware
from engine.messages import CostModel
from tests.engine.shapes import TINY

LINK, MEMORY, FLOPS = 1e9, 2e9, 1e9
CONFIG = EngineConfig(simulated_link_bytes_per_s=LINK, simulated_memory_bytes_per_s=MEMORY, simulated_flops=FLOPS)


PAIR_S, TOKEN_S = 1e-7, 2e-5


class Surroundings:
    """What surrounds the experts, with times of its own; and experts that run in the same call, if so long a visit."""

    def __init__(self, visit_s: float | None = None) -> None:
        self._visit_s = visit_s

    def experts_seconds(self, layer: int, tokens: int, start: int) -> tuple[int, float] | None:
        del layer, start
        return None if self._visit_s is None else (tokens, tokens * self._visit_s)

    def dense_seconds(self) -> float:
        return 3e-3

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
    assert costs.dense_layer_s == 3e-3 / TINY.layers


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
