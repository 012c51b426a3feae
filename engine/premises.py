"""What an engine plans from: its model, the machine as if the engine held nothing of it, and what is known of both."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from engine.config import EngineConfig, IsaName, ModelConfig
from engine.devices import Device, why_unusable
from engine.errors import ConfigurationError
from engine.experts.memory import machine_without_engine, planned_device
from engine.experts.placement import make_plan
from engine.experts.popularity import Popularity
from engine.hardware import HardwareProfile, own_ram_bytes, probe_hardware
from engine.messages import CostModel, PlacementPlan, PlanningInputs
from engine.sentences import Sentence, say


@dataclass(slots=True)
class Premises:
    """All that an engine's plans depend on besides settings and costs.

    Attributes:
        model: Its shape, with large experts in parts beside a GPU.
        hardware: The machine as it is without this engine.
        popularity: Which experts are used how often.
        kernels: What computes on the CPU.
        gpu_note: A sentence: why the GPU is not used, or not as well as it could be; "" where there is nothing to say.
        gpu_kernels: Whether a GPU is taken to run our own kernels.
    """

    model: ModelConfig
    hardware: HardwareProfile
    popularity: Popularity
    kernels: IsaName
    gpu_note: str
    gpu_kernels: bool = True

    def inputs(self, costs: CostModel) -> PlanningInputs:
        """What a plan is made from, with some costs."""
        return PlanningInputs(
            self.model, self.hardware, costs, self.popularity.shares(), self.kernels, self.gpu_note, self.gpu_kernels
        )

    def plan(self, config: EngineConfig, costs: CostModel, held: Sequence[Sequence[int]] = ()) -> PlacementPlan:
        """The placement for some settings and costs; see `make_plan`."""
        return make_plan(self.inputs(costs), config, held)

    def hardware_now(self, config: EngineConfig, host_bytes: int) -> HardwareProfile:
        """The machine now, as if the engine held none of the RAM that it holds.

        Args:
            config: Which GPU.
            host_bytes: What it holds.
        """
        hardware = probe_hardware(config.gpu_index)
        if self.hardware.gpu is None:  # one that was of no use stays out of the plans
            hardware = dataclasses.replace(hardware, gpu=None)
        available = min(hardware.ram_total_bytes, hardware.ram_available_bytes + host_bytes)
        return dataclasses.replace(hardware, ram_available_bytes=available)


def with_others(hardware: HardwareProfile, device: Device, others_bytes: int) -> HardwareProfile:
    """A machine where other programs hold so much of our GPU's memory.

    Args:
        hardware: The machine otherwise.
        device: Ours.
        others_bytes: What they hold; of no account without a GPU.
    """
    gpu = hardware.gpu
    if device.simulated:
        return dataclasses.replace(hardware, simulated_used_bytes=others_bytes)
    if not device.has_gpu or gpu is None:
        return hardware
    return dataclasses.replace(hardware, gpu=dataclasses.replace(gpu, used_bytes=others_bytes))


def usable_hardware(config: EngineConfig) -> tuple[HardwareProfile, Sentence]:
    """The machine before anything is loaded, without a GPU that torch cannot use, and a sentence why it cannot.

    Args:
        config: Which device is asked for.

    Raises:
        ConfigurationError: That GPU was asked for by name.
    """
    hardware = probe_hardware(config.gpu_index)
    hardware = machine_without_engine(hardware, planned_device(config, hardware), own_ram_bytes())
    if hardware.gpu is None or planned_device(config, hardware) != "cuda":
        return hardware, Sentence()
    reason = why_unusable(hardware.gpu)
    if reason and config.device == "cuda":
        raise ConfigurationError(reason, say("Install or update the NVIDIA driver, or choose the CPU."))
    return (dataclasses.replace(hardware, gpu=None) if reason else hardware), reason
