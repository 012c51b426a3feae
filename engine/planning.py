"""A plan from a model's config.json alone: what would go where on this machine, without loading weights or torch.

Uses what earlier starts of the engine measured and saw, where `EngineConfig` names the folders that keep it.
"""

from __future__ import annotations

from pathlib import Path

from engine.checkpoint.catalog import resolve_model
from engine.checkpoint.model_config import read_model_config
from engine.config import EngineConfig, ModelConfig
from engine.experts.cost_model import CostCache, assumed_costs, cost_key, planned_threads
from engine.experts.memory import planned_device
from engine.experts.placement import make_plan
from engine.experts.popularity import Popularity
from engine.hardware import HardwareProfile, probe_hardware
from engine.messages import CostModel, PlacementPlan, PlanningInputs

# What a simulated GPU's measured costs depend on; the fields that need a reload when they change.
_DEVICE_FIELDS = (
    "device",
    "simulated_vram_bytes",
    "simulated_link_bytes_per_s",
    "simulated_memory_bytes_per_s",
    "simulated_flops",
)


def plan_model(name: str, config: EngineConfig) -> tuple[PlanningInputs, PlacementPlan]:
    """Plan a model that is not loaded.

    Args:
        name: A folder, or "guide".
        config: How it would be run.

    Returns:
        What the plan was made from, and the plan, which may not fit.

    Raises:
        InputError: The model cannot be found, read or run.
    """
    folder = resolve_model(name)
    model, hardware = read_model_config(folder), probe_hardware()
    costs = _kept_costs(model, hardware, config) or assumed_costs(model, hardware, config)
    inputs = PlanningInputs(model, hardware, costs, _kept_popularity(folder, model, config).shares())
    return inputs, make_plan(inputs, config)


def _kept_costs(model: ModelConfig, hardware: HardwareProfile, config: EngineConfig) -> CostModel | None:
    """Costs that the engine measured here for this shape, None where it has not."""
    if config.cost_cache_dir is None:
        return None
    device: str = planned_device(config, hardware)
    if device == "simulated":
        device = " ".join(str(getattr(config, name)) for name in _DEVICE_FIELDS)
    key = cost_key(hardware, model, device, planned_threads(model, hardware, config))
    return CostCache(Path(config.cost_cache_dir)).find(key)


def _kept_popularity(folder: Path, model: ModelConfig, config: EngineConfig) -> Popularity:
    """Visits that the engine saw in earlier sessions with this model."""
    if config.popularity_dir is None:
        return Popularity(model)
    return Popularity.load(Path(config.popularity_dir) / f"{folder.name}-{model.fingerprint}.json", model)
