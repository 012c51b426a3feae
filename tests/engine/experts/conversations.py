"""Synthetic conversations: routings with favourites that stay, change, or are none; and what following them brings.

`follow` runs the policy alone, on a link that carries one upload after the other. `decode` runs the executor on the
simulated GPU, with a CPU whose time is the cost model's too, so that every figure is one of virtual time and the same
on any machine. Run it for the figures of docs/decisions/0020-adaptive-residency.md:

    python -m tests.engine.experts.conversations
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from engine.config import EngineConfig, ModelConfig, PolicyName
from engine.devices import SimulatedDevice
from engine.experts.assumed_costs import simulated_gpu_costs
from engine.experts.cost_model import predict
from engine.experts.cpu_experts import Check, Routing, TorchCpuExperts
from engine.experts.executor import ExpertExecutor
from engine.experts.planner import STAGING_SLOTS
from engine.experts.popularity import Popularity
from engine.experts.replacement import Prices, Replacement
from engine.experts.residency import Residency
from engine.experts.store import ExpertStore
from engine.messages import CostCurve, CostModel

Odds = NDArray[np.float64]
Chosen = list[list[int]]  # per layer the experts of one token

FINE = ModelConfig(
    name="fine", family="qwen3_moe", hidden_size=16, intermediate_size=16, layers=4, heads=4, kv_heads=2, head_dim=4,
    experts=64, experts_per_token=8, vocab_size=64, max_position_embeddings=128, dtype="float32",
)  # fmt: skip
COARSE = replace(FINE, name="coarse", family="mixtral", experts=8, experts_per_token=2)

CPU_EXPERT_S = 1e-3
LINKS = {"PCIe 4 x16": 22 / 50, "PCIe 4 x4": 6 / 50, "USB": 0.5 / 50}  # in terms of the RAM's speed


# ---- streams --------------------------------------------------------------------------------------------------------


def favourites(model: ModelConfig, steepness: float, seed: int) -> Odds:
    """Zipf's odds [L, E] in another order for each layer; steepness 0 has no favourites."""
    rng = np.random.default_rng(seed)
    odds = 1.0 / np.arange(1, model.experts + 1) ** steepness
    return np.array([rng.permutation(odds / odds.sum()) for _ in range(model.layers)])


def stream(model: ModelConfig, odds: Odds, tokens: int, seed: int) -> list[Chosen]:
    """Routings of so many tokens, each token's experts drawn without replacement."""
    rng = np.random.default_rng(seed)
    scores = np.log(odds) + rng.gumbel(size=(tokens, *odds.shape))
    chosen: list[Chosen] = np.argsort(-scores, axis=2)[:, :, : model.experts_per_token].tolist()
    return chosen


def some_residents(model: ModelConfig, share: float, seed: int) -> list[list[int]]:
    """A placement that knows nothing of the stream."""
    rng = np.random.default_rng(seed)
    return [sorted(rng.permutation(model.experts)[: int(model.experts * share)].tolist()) for _ in range(model.layers)]


def best_hit_rate(odds: Odds, tokens: Sequence[Chosen], residents: int) -> float:
    """Hit rate of the static placement that knows the odds."""
    best = [set(row[:residents]) for row in np.argsort(-odds, axis=1).tolist()]
    return hit_rate(tokens, best)


def hit_rate(tokens: Sequence[Chosen], resident: Sequence[set[int]]) -> float:
    """Hit rate of a static placement."""
    visits = [
        expert in resident[layer] for chosen in tokens for layer, experts in enumerate(chosen) for expert in experts
    ]
    return sum(visits) / len(visits)


def pc(model: ModelConfig, link: str = "PCIe 4 x16") -> tuple[EngineConfig, CostModel]:
    """A PC whose CPU takes a millisecond for an expert; its GPU's memory is eight times as fast as its RAM."""
    ram = model.expert_bytes / CPU_EXPERT_S
    config = EngineConfig(
        device="simulated", simulated_memory_bytes_per_s=8 * ram, simulated_link_bytes_per_s=LINKS[link] * ram
    )
    costs = simulated_gpu_costs(model, config, CostCurve(CPU_EXPERT_S, CPU_EXPERT_S / 16, 0.0))
    return config, replace(costs, dense_layer_s=3e-4)


# ---- the policy alone -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Followed:
    """What came of it.

    Attributes:
        hit_rates: Of each token.
        uploads: Of each token.
        policy: As it is at the end.
    """

    hit_rates: list[float]
    uploads: list[int]
    policy: Replacement


class Link:
    """Carries one upload after the other while tokens take their time."""

    def __init__(self) -> None:
        self.now_s = self._busy_until_s = 0.0
        self._under_way: deque[tuple[float, int, int]] = deque()

    def send(self, layer: int, expert: int, upload_s: float) -> None:
        self._busy_until_s = max(self.now_s, self._busy_until_s) + upload_s
        self._under_way.append((self._busy_until_s, layer, expert))

    def landed(self) -> list[tuple[int, int]]:
        landed = []
        while self._under_way and self._under_way[0][0] <= self.now_s:
            landed.append(self._under_way.popleft()[1:])
        return landed


def follow(
    model: ModelConfig,
    costs: CostModel,
    tokens: Sequence[Chosen],
    resident: Sequence[Sequence[int]],
    policy_name: PolicyName = "fiddler",
) -> Followed:
    """Let the policy follow a stream from some placement on."""
    followed = Followed([], [], Replacement(model))
    policy, link, living = followed.policy, Link(), [set(layer) for layer in resident]
    policy.place(resident)
    prices = Prices.of(model, costs, policy_name)
    assert prices
    for chosen in tokens:
        hits = uploads = 0
        for layer, experts in enumerate(chosen):
            for landed_layer, expert in link.landed():
                living[landed_layer].add(expert)
                policy.arrived(landed_layer, expert)
            hits += len(living[layer].intersection(experts))
            link.now_s += prices.token_s / model.layers
            for swap in policy.step(layer, experts, costs, policy_name):
                assert swap.leaving in living[layer]
                assert swap.coming not in living[layer]
                living[layer].discard(swap.leaving)
                link.send(layer, swap.coming, prices.upload_s)
                uploads += 1
        followed.hit_rates.append(hits / (model.layers * model.experts_per_token))
        followed.uploads.append(uploads)
    return followed


# ---- the executor on the simulated GPU ------------------------------------------------------------------------------


class TimedCpu:
    """Runs experts with torch, and moves a clock by what the cost model says."""

    def __init__(self, store: ExpertStore, curve: CostCurve) -> None:
        self._inner, self._curve, self.now_s = TorchCpuExperts(store), curve, 0.0

    def run(
        self, layer: int, experts: Sequence[int], hidden: torch.Tensor, routing: Routing, check: Check
    ) -> torch.Tensor:
        for expert in experts:
            first, end = routing.spans[expert]
            self.now_s += predict(self._curve, end - first)
        return self._inner.run(layer, experts, hidden, routing, check)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What the simulated GPU showed.

    Attributes:
        seconds: Virtual time of all tokens.
        outputs: Sums over the experts' outputs [tokens, L].
        executor: As it is at the end.
        residency: As it is at the end.
    """

    seconds: float
    outputs: NDArray[np.float64]
    executor: ExpertExecutor
    residency: Residency

    @property
    def hit_rate(self) -> float:
        """As counted."""
        return self.executor.counters.hits / self.executor.counters.visits


def decode(
    model: ModelConfig,
    tokens: Sequence[Chosen],
    resident: Sequence[Sequence[int]],
    *,
    adaptive: bool,
    link: str = "PCIe 4 x16",
    policy: PolicyName = "fiddler",
    prompt: Sequence[Chosen] = (),
) -> Decoded:
    """Run a stream's experts, after those of a prompt; only the stream is timed and counted."""
    config, costs = pc(model, link)
    slots = sum(map(len, resident)) + STAGING_SLOTS
    device = SimulatedDevice(config, slots * model.expert_bytes)
    store = ExpertStore(model, device)
    generator = torch.Generator().manual_seed(0)
    for layer in range(model.layers):
        weights = torch.randn(model.experts, store.layer(layer).shape[1] // 4, generator=generator) / 4
        store.layer(layer).copy_(weights.view(torch.uint8))
    residency = Residency(model, device, store)
    residency.place(resident, staging=True)
    cpu = TimedCpu(store, costs.cpu_expert)
    executor = ExpertExecutor(model, device, store, residency, cpu, Popularity(model), costs, policy)
    executor.adaptive = adaptive
    executor.placed()
    with patch("engine.experts.executor.time", SimpleNamespace(perf_counter=lambda: cpu.now_s)), torch.inference_mode():
        if prompt:
            _run(model, executor, np.array(prompt))
        executor.reset_counters()
        started_s = device.clock.now_s
        outputs = [_run(model, executor, np.array([chosen])) for chosen in tokens]
    return Decoded(device.clock.now_s - started_s, np.array(outputs), executor, residency)


def _run(model: ModelConfig, executor: ExpertExecutor, chosen: NDArray[np.int64]) -> list[float]:
    """One pass over routings [T, L, A]; its outputs in short."""
    tokens, layers, active = chosen.shape
    hidden = torch.linspace(-1.0, 1.0, tokens * model.hidden_size).view(tokens, model.hidden_size)
    scales = torch.full((tokens, active), 1.0 / active)
    routed = torch.from_numpy(chosen)
    return [
        float(executor.run(layer, hidden, scales, routed[:, layer], lambda: None).double().sum())
        for layer in range(layers)
    ]


# ---- the record's figures -------------------------------------------------------------------------------------------


def main() -> None:
    """Print hit rates and virtual times, from a placement that is wrong for the stream, without and with adapting."""
    _print(
        "model", "stream", "link", "static hit", "adaptive hit", "best", "static ms", "adaptive ms", "uploads", "note"
    )
    for model in (FINE, COARSE):
        resident = some_residents(model, 0.375, seed=5)
        steady, other = favourites(model, 1.0, seed=1), favourites(model, 1.0, seed=2)
        even = favourites(model, 0.0, seed=1)
        streams = {
            "favourites": (stream(model, steady, 400, 3), steady),
            "favourites change": (stream(model, steady, 200, 3) + stream(model, other, 200, 4), None),
            "none": (stream(model, even, 400, 3), even),
        }
        for name, (tokens, odds) in streams.items():
            for link in LINKS if name == "favourites" else ("PCIe 4 x16",):
                _report(model, name, link, tokens, odds, resident)
        prompt = stream(model, steady, 300, 9)
        _report(
            model,
            "favourites, 64 tokens after a prompt",
            "PCIe 4 x16",
            streams["favourites"][0][:64],
            steady,
            resident,
            prompt,
        )


def _report(
    model: ModelConfig,
    name: str,
    link: str,
    tokens: Sequence[Chosen],
    odds: Odds | None,
    resident: Sequence[Sequence[int]],
    prompt: Sequence[Chosen] = (),
) -> None:
    """One line."""
    static = decode(model, tokens, resident, adaptive=False, link=link, prompt=prompt)
    adaptive = decode(model, tokens, resident, adaptive=True, link=link, prompt=prompt)
    best = f"{best_hit_rate(odds, tokens, len(resident[0])):.1%}" if odds is not None else "-"
    _print(
        model.name, name, link, f"{static.hit_rate:.1%}", f"{adaptive.hit_rate:.1%}", best,
        f"{static.seconds / len(tokens) * 1e3:.2f}", f"{adaptive.seconds / len(tokens) * 1e3:.2f}",
        str(adaptive.executor.counters.uploads), adaptive.executor.not_adapting,
    )  # fmt: skip


def _print(*cells: str) -> None:
    """One line."""
    print(" | ".join(cells))  # noqa: T201 - the report


if __name__ == "__main__":
    main()
