"""What is measured: every scenario under every policy and budget, the most telling first.

Scenarios are those of the paper's figures (section 4): single batch, 32 to 256 tokens in and 64 to 512 out, and long
prompts of 512 to 4096 tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from engine.bench.models import Shape
from engine.config import EngineConfig, ModelConfig
from engine.experts.footprint import PlannedDevice
from engine.experts.memory import Needs, Vram

GIB = 1 << 30
BUDGETS_BYTES = (8 * GIB, 12 * GIB, 24 * GIB)
_WITHOUT_LIMIT = 1 << 50

# Fiddler with residents that follow the conversation, with residents fixed by popularity as in the paper, and others.
POLICIES: Mapping[str, EngineConfig] = MappingProxyType(
    {
        "fiddler": EngineConfig(policy="fiddler"),
        "static": EngineConfig(policy="fiddler", adaptive=False),
        "gpu_stream": EngineConfig(policy="gpu_stream", adaptive=False),
        "cpu_only": EngineConfig(policy="cpu_only", adaptive=False),
    }
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One conversation.

    Attributes:
        prompt_tokens: Tokens in.
        new_tokens: Tokens out; 1 measures the prompt alone.
    """

    prompt_tokens: int
    new_tokens: int = 1

    @property
    def name(self) -> str:
        """For tables and keys."""
        return f"{self.prompt_tokens}+{self.new_tokens}"

    @property
    def decodes(self) -> bool:
        """Whether there is anything to time after the prompt."""
        return self.new_tokens > 1


SCENARIOS: Mapping[str, tuple[Scenario, ...]] = MappingProxyType(
    {
        "full": (
            Scenario(128, 128), Scenario(2048), Scenario(32, 64), Scenario(512), Scenario(256, 512), Scenario(4096),
        ),
        "small": (Scenario(32, 64), Scenario(512)),
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Model:
    """What is run, and what it stands for.

    Attributes:
        shape: The file's.
        mix: The file's mix of formats.
        stands_for: The real model's shape; the same where that is run.
    """

    shape: Shape
    mix: str
    stands_for: Shape

    @property
    def config(self) -> ModelConfig:
        """What is run."""
        return self.shape.config(self.mix)

    @property
    def costed(self) -> ModelConfig:
        """What it stands for."""
        return self.stands_for.config(self.mix)


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement.

    Attributes:
        model: Name of the model.
        vram_bytes: The card whose VRAM it has.
        policy: A key of `POLICIES`.
        scenario: The conversation.
    """

    model: str
    vram_bytes: int
    policy: str
    scenario: Scenario

    @property
    def key(self) -> str:
        """Its name in the journal."""
        return f"cell {self.model} {self.vram_bytes / GIB:g}GiB {self.policy} {self.scenario.name}"


def cells(model: str, budgets: Sequence[int], scenarios: Sequence[Scenario]) -> Iterator[Cell]:
    """All cells of a model: whole rounds of scenarios, so that a suite that is cut short has compared something."""
    for scenario in scenarios:
        for budget in budgets:
            for policy in POLICIES:
                yield Cell(model, budget, policy, scenario)


def budget_for(model: Model, vram_bytes: int, config: EngineConfig, device: PlannedDevice, kernels: str) -> int | None:
    """The budget that gives a model what a card of some VRAM would give to what it stands for.

    Args:
        model: What is run.
        vram_bytes: The card's VRAM.
        config: Context and prompt chunks.
        device: Where it is run.
        kernels: As in `PlanningInputs`.

    Returns:
        Bytes; None where the real model does not fit beside even one streamed expert.
    """
    virtual = device == "simulated"
    real = Needs.of(model.costed, config, device, kernels)
    room = Vram(vram_bytes, 0, None, virtual).room
    if room < real.least:
        return None
    if model.shape is model.stands_for:
        return vram_bytes
    share = min(1.0, real.resident_room(room) / real.experts)
    needs = Needs.of(model.config, config, device, kernels)
    needed = needs.everything if share == 1.0 else needs.least + int(share * needs.experts)
    return Vram(_WITHOUT_LIMIT, 0, None, virtual).budget_for(needed)
