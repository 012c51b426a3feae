"""What the experts did: counted, traced, and told to the popularity and to the cost model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.config import ModelConfig, PolicyName
from engine.experts.cost_model import with_correction
from engine.experts.pass_history import PassHistory
from engine.experts.planner import plan_layer
from engine.experts.popularity import Popularity
from engine.messages import CostModel, LayerTrace
from engine.sentences import Sentence, say

_Counts = list[tuple[int, int]]


@dataclass(slots=True)
class ExecutorCounters:
    """What one reply did, in visits (token x expert).

    Attributes:
        visits: All visits.
        hits: Visits that found their expert in VRAM.
        streamed: Experts copied to the GPU to run there.
        streamed_bytes: Their bytes.
        uploads: Experts copied to VRAM to live there.
        uploaded_bytes: Their bytes.
    """

    visits: int = 0
    hits: int = 0
    streamed: int = 0
    streamed_bytes: int = 0
    uploads: int = 0
    uploaded_bytes: int = 0


class ExecutionRecord:
    """The memory of whatever runs experts.

    Args:
        model: Its shape.
        popularity: Hears every visit.
        costs: What to predict with.
        policy: Who decides where experts run.

    Attributes:
        costs: The cost model in force, corrected by what running shows.
        policy: Who decides.
        adaptive: Whether residents may follow the conversation.
        counters: Since the last `reset_counters`.
        history: What the passes did, token by token.
    """

    def __init__(self, model: ModelConfig, popularity: Popularity, costs: CostModel, policy: PolicyName) -> None:
        """See the class."""
        self._popularity = popularity
        self.costs, self.policy, self.adaptive = costs, policy, True
        self.counters = ExecutorCounters()
        self.history = PassHistory(model.layers, model.experts)
        self._traces: list[LayerTrace | None] = [None] * model.layers

    def reset_counters(self) -> None:
        """Begin a new reply."""
        self.counters = ExecutorCounters()
        self.history.reset()

    def placed(self) -> None:
        """Residents were placed by a plan, or given up."""

    @property
    def not_adapting(self) -> Sentence:
        """A sentence: why residents do not follow the conversation; "" where they do."""
        return say("There is no GPU.")

    @property
    def traces(self) -> Sequence[LayerTrace | None]:
        """Latest trace per layer; None before the first pass."""
        return self._traces


class CpuRecord(ExecutionRecord):
    """The record where the native decoder runs all experts on the CPU: cheap to write, traces made when asked for."""

    def __init__(self, model: ModelConfig, popularity: Popularity, costs: CostModel, policy: PolicyName) -> None:
        """See `ExecutionRecord`."""
        super().__init__(model, popularity, costs, policy)
        self._latest: dict[int, tuple[int, _Counts, float]] = {}

    def record_pass(self, first_layer: int, experts: NDArray[np.int32], seconds: NDArray[np.float32]) -> None:
        """Take down what some layers did.

        Args:
            first_layer: Index of the first of them.
            experts: Chosen experts [layers, T, A].
            seconds: Time of each layer's experts [layers].
        """
        layers, tokens, _ = experts.shape
        self.counters.visits += experts.size
        measured_s = 0.0
        for layer, (counts, layer_s) in enumerate(zip(_counts(experts), seconds.tolist(), strict=True), first_layer):
            self._popularity.observe(layer, counts)
            self._latest[layer] = (tokens, counts, layer_s)
            measured_s += layer_s
        # With one token every layer costs the same; of a prompt one layer comes at a time.
        plan = plan_layer(counts, (), self.costs, self.policy, pass_tokens=tokens)
        if tokens == 1 and layers > 1:
            self.history.token_on_cpu(experts[:, 0], seconds, self.costs)
        else:
            self.history.layer_ran(first_layer, tokens, plan.runs, measured_s, self.costs)
        predicted_s = plan.predicted_cpu_s * layers
        if predicted_s > 0:
            self.costs = with_correction(self.costs, cpu_ratio=measured_s / predicted_s)

    @property
    def traces(self) -> Sequence[LayerTrace | None]:
        """Latest trace per layer; None before the first pass."""
        for layer, (tokens, counts, measured_s) in self._latest.items():
            plan = plan_layer(counts, (), self.costs, self.policy, pass_tokens=tokens)
            self._traces[layer] = LayerTrace(layer, tokens, plan.runs, plan.predicted_cpu_s, 0.0, measured_s, 0.0)
        self._latest.clear()
        return self._traces


def _counts(experts: NDArray[np.int32]) -> list[_Counts]:
    """Per layer (expert, tokens) of the active experts."""
    if experts.shape[1] == 1:
        return [[(expert, 1) for expert in chosen] for chosen in experts[:, 0].tolist()]
    result = []
    for layer in experts:
        active, tokens = np.unique(layer, return_counts=True)
        result.append(list(zip(active.tolist(), tokens.tolist(), strict=True)))
    return result
