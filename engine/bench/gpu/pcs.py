"""PCs that are not there: the simulated GPU beside a simulated CPU, both in virtual time.

A small model stands for a large one: the simulated GPU's speeds are scaled by the size of their experts, and the costs
are the large model's, so that each expert, copy and dense layer takes the time that the large model's would. It has
fewer layers, and what is charged for a prompt's dense part is one token's. The arithmetic itself runs on this CPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from unittest.mock import patch

import torch

from engine.config import EngineConfig, ModelConfig
from engine.devices import SimulatedDevice
from engine.engine import Engine
from engine.experts.assumed_costs import simulated_gpu_costs
from engine.experts.cost_model import predict
from engine.experts.cpu_experts import Check, CpuExperts, Routing
from engine.hardware import probe_hardware
from engine.messages import CostCurve, CostModel
from engine.planning import keep_costs

_CPU_CALL_S = 10e-6


@dataclass(frozen=True, slots=True)
class Pc:
    """A PC by its numbers.

    Attributes:
        name: On the command line.
        vram_bytes: VRAM.
        vram_bytes_per_s: Its speed.
        ram_bytes_per_s: Speed at which the CPU reads RAM.
        link_bytes_per_s: Speed of PCIe, each way.
        gpu_flops: 16-bit operations per second of the GPU.
        cpu_operations_per_s: int8 operations per second of the CPU.
        memory_bytes_per_s: What RAM gives the CPU and the link together; None for no more than the CPU alone.
    """

    name: str
    vram_bytes: int
    vram_bytes_per_s: float
    ram_bytes_per_s: float
    link_bytes_per_s: float
    gpu_flops: float
    cpu_operations_per_s: float
    memory_bytes_per_s: float | None = None

    @property
    def shared_bytes_per_s(self) -> float:
        """At most, of what CPU and link read together."""
        memory = self.memory_bytes_per_s or self.ram_bytes_per_s
        return min(memory, self.ram_bytes_per_s + self.link_bytes_per_s)

    @property
    def copy_drag(self) -> float:
        """Share of the CPU's reading that a copy takes."""
        left = (self.memory_bytes_per_s or self.ram_bytes_per_s) - self.link_bytes_per_s
        return max(0.0, 1.0 - left / self.ram_bytes_per_s)


PCS: Mapping[str, Pc] = MappingProxyType(
    {
        pc.name: pc
        for pc in (
            # Together: nine tenths of what two channels of DDR4-3200, DDR5-5600 and DDR5-6000 transfer.
            Pc("8gb-ddr4-pcie3", 8 << 30, 448e9, 42e9, 12e9, 40e12, 1.0e12, 46e9),
            Pc("12gb-ddr5-pcie4", 12 << 30, 504e9, 70e9, 25e9, 60e12, 1.5e12, 80e9),
            Pc("24gb-ddr5-pcie4", 24 << 30, 1008e9, 75e9, 25e9, 160e12, 1.5e12, 86e9),
        )
    }
)


def simulated(pc: Pc, config: EngineConfig, model: ModelConfig, stands_for: ModelConfig) -> EngineConfig:
    """Settings whose simulated GPU runs a model as fast as the PC would run another one.

    Args:
        pc: Whose speeds.
        config: All other settings; the cache folder among them.
        model: What is run.
        stands_for: What it stands for; the same where it stands for itself.
    """
    by_bytes = _expert_bytes(model) / _expert_bytes(stands_for)
    config = replace(
        config,
        device="simulated",
        simulated_vram_bytes=1 << 50,
        simulated_link_bytes_per_s=pc.link_bytes_per_s * by_bytes,
        simulated_memory_bytes_per_s=pc.vram_bytes_per_s * by_bytes,
        simulated_flops=pc.gpu_flops * model.expert_parameters / stands_for.expert_parameters,
    )
    # An engine that finds costs measures none.
    keep_costs(model, probe_hardware(), config, costs(pc, stands_for))
    return config


def costs(pc: Pc, model: ModelConfig) -> CostModel:
    """What a model costs on a PC."""
    cpu = CostCurve(
        _expert_bytes(model) / pc.ram_bytes_per_s, 2 * model.expert_parameters / pc.cpu_operations_per_s, 0.0
    )
    config = EngineConfig(
        simulated_link_bytes_per_s=pc.link_bytes_per_s,
        simulated_memory_bytes_per_s=pc.vram_bytes_per_s,
        simulated_flops=pc.gpu_flops,
    )
    return replace(simulated_gpu_costs(model, config, cpu), cpu_call_s=_CPU_CALL_S, copy_drag=pc.copy_drag)


@contextlib.contextmanager
def virtual_time(engine: Engine) -> Iterator[Callable[[], float]]:
    """Let a loaded engine's CPU side take the time of its cost model, and tell the virtual time.

    Args:
        engine: On the simulated device, with costs from `simulated`.

    Yields:
        A clock: the virtual seconds of both sides together.
    """
    loaded = engine.loaded
    device, record = loaded.device, loaded.record
    assert isinstance(device, SimulatedDevice), "only a simulated GPU has a clock of its own"
    cpu = _VirtualCpu(loaded.cpu, record.costs)
    # Beside a GPU the record is the executor, which times its CPU side by the `time` of its own module.
    with patch.object(record, "_cpu", cpu), patch("engine.experts.executor.time", cpu):
        yield lambda: device.clock.now_s + cpu.activations_s


class _VirtualCpu(CpuExperts):
    """Runs experts on this CPU, and moves a clock by what another would take.

    Attributes:
        activations_s: Time of bringing activations to the CPU and back, which the executor's own clock leaves out.
    """

    def __init__(self, inner: CpuExperts, costs: CostModel) -> None:
        """Start at zero."""
        self._inner, self._costs, self._now_s = inner, costs, 0.0
        self.activations_s = 0.0

    def perf_counter(self) -> float:
        """The clock, where the executor looks for `time.perf_counter`."""
        return self._now_s

    def run(
        self, layer: int, experts: Sequence[int], hidden: torch.Tensor, routing: Routing, check: Check
    ) -> torch.Tensor:
        """See `CpuExperts`."""
        if self._costs.activation_copy is not None:
            self.activations_s += predict(self._costs.activation_copy, hidden.shape[0])
        self._now_s += self._costs.cpu_call_s
        for expert in experts:
            first, end = routing.spans[expert]
            self._now_s += predict(self._costs.cpu_expert, end - first)
        return self._inner.run(layer, experts, hidden, routing, check)


def _expert_bytes(model: ModelConfig) -> float:
    return model.experts_bytes / (model.layers * model.experts)
