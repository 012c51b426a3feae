"""A model shape small enough for any test."""

from __future__ import annotations

from engine.config import EngineConfig, ModelConfig
from engine.experts.memory import Needs, Vram

TINY = ModelConfig(
    name="tiny",
    family="mixtral",
    hidden_size=16,
    intermediate_size=24,
    layers=3,
    heads=4,
    kv_heads=2,
    head_dim=4,
    experts=4,
    experts_per_token=2,
    vocab_size=64,
    max_position_embeddings=128,
    dtype="float32",
)


def simulated_budget(model: ModelConfig, config: EngineConfig, residents: int) -> int:
    """The least budget of the simulated GPU that holds exactly so many residents of a model that was never used."""
    needs = Needs.of(model, config, "simulated")
    resident_bytes = sum(model.layer_expert_bytes(resident % model.layers) for resident in range(residents))
    room = needs.everything if residents == model.total_experts else needs.least + resident_bytes
    return Vram(total=1 << 50, used=0, asked=None, simulated=True).budget_for(room)
