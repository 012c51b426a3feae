"""A plan from a model's headers alone, and what one start of the engine keeps for the next. Torch-free.

Measured costs and expert popularity are kept where `EngineConfig` names folders for them, and nowhere otherwise.
"""

from __future__ import annotations

from pathlib import Path

from engine.checkpoint.catalog import resolve_model
from engine.checkpoint.checkpoint import read_config
from engine.config import DEVICE_FIELDS, EngineConfig, IsaName, ModelConfig
from engine.experts.assumed_costs import assumed_costs
from engine.experts.cost_model import CostCache, cost_key, planned_threads
from engine.experts.memory import planned_device
from engine.experts.parts import placed_model
from engine.experts.placement import make_plan
from engine.experts.popularity import Popularity
from engine.hardware import HardwareProfile, MachineSpeed, probe_hardware
from engine.kernels.cpu_library import chosen_kernels
from engine.kernels.machine_speed import machine_speed
from engine.messages import CostModel, PlacementPlan, PlanningInputs


def plan_model(name: str, config: EngineConfig) -> tuple[PlanningInputs, PlacementPlan]:
    """Plan a model that is not loaded.

    Args:
        name: A folder, a .gguf file, or "guide".
        config: How it would be run.

    Returns:
        What the plan was made from, and the plan, which may not fit.

    Raises:
        InputError: The model cannot be found, read or run.
    """
    path = resolve_model(name, config.models_dir)
    return plan_shape(path, read_config(path), probe_hardware(config.gpu_index), config)


def plan_shape(
    path: Path, model: ModelConfig, hardware: HardwareProfile, config: EngineConfig
) -> tuple[PlanningInputs, PlacementPlan]:
    """Plan a model whose headers were read before.

    Args:
        path: Where it lies, by which its popularity is kept.
        model: Its shape.
        hardware: The machine that it would run on.
        config: How it would be run.

    Returns:
        As for `plan_model`; large experts are in parts there.

    Raises:
        ConfigurationError: The settings name instructions that are not there.
    """
    kernels, model = planned_kernels(config), placed_model(model, planned_device(config, hardware))
    costs = kept_costs(model, hardware, config)
    if costs is None:
        costs = assumed_costs(model, hardware, config, kernels, planned_speed(config, hardware))
    inputs = PlanningInputs(model, hardware, costs, kept_popularity(path, model, config).shares(), kernels)
    return inputs, make_plan(inputs, config)


def planned_speed(config: EngineConfig, hardware: HardwareProfile) -> MachineSpeed | None:
    """What the CPU does, roughly, as far as plans ask; measured once per process, in some tenths of a second.

    Args:
        config: Its instructions and threads.
        hardware: The machine.

    Raises:
        ConfigurationError: The settings name instructions that are not there.
    """
    return machine_speed(planned_kernels(config), config.cpu_threads or hardware.physical_cores)


def planned_kernels(config: EngineConfig) -> IsaName:
    """What will compute on the CPU: see `PlanningInputs.kernels`.

    Raises:
        ConfigurationError: The settings name instructions that are not there.
    """
    return chosen_kernels(config.isa)


def kept_costs(model: ModelConfig, hardware: HardwareProfile, config: EngineConfig) -> CostModel | None:
    """Costs that an earlier start measured on this machine for this shape and device; None where none did."""
    if config.cost_cache_dir is None:
        return None
    return CostCache(Path(config.cost_cache_dir)).find(_cost_key(model, hardware, config))


def keep_costs(model: ModelConfig, hardware: HardwareProfile, config: EngineConfig, costs: CostModel) -> None:
    """Keep measured costs for the next start, where the settings name a folder."""
    if config.cost_cache_dir is not None:
        CostCache(Path(config.cost_cache_dir)).put(_cost_key(model, hardware, config), costs)


def kept_popularity(path: Path, model: ModelConfig, config: EngineConfig) -> Popularity:
    """Visits that earlier sessions with this model saw; none where the settings name no folder."""
    if config.popularity_dir is None:
        return Popularity(model)
    return Popularity.load(_popularity_path(path, model, config.popularity_dir), model)


def keep_popularity(path: Path, model: ModelConfig, config: EngineConfig, popularity: Popularity) -> None:
    """Keep the visits for the next start, where the settings name a folder."""
    if config.popularity_dir is not None:
        popularity.save(_popularity_path(path, model, config.popularity_dir))


def _cost_key(model: ModelConfig, hardware: HardwareProfile, config: EngineConfig) -> str:
    """The name of machine, device and shape; a simulated GPU is another device with every other speed."""
    device: str = planned_device(config, hardware)
    if device == "simulated":
        device = " ".join(str(getattr(config, name)) for name in DEVICE_FIELDS)
    device += f", {planned_kernels(config)} kernels{', experts on disk' if config.experts_on_disk else ''}"
    return cost_key(hardware, model, device, planned_threads(model, hardware, config))


def _popularity_path(path: Path, model: ModelConfig, kept_in: str) -> Path:
    """The file of one model's visits."""
    return Path(kept_in) / f"{path.name}-{model.whole.fingerprint}.json"
