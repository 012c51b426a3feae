"""What the experts did: counted, traced, and told to the popularity and to the cost model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.config import ModelConfig, PolicyName
from engine.experts.cost_model import with_correction, with_tokens
from engine.experts.pass_history import PassHistory, TokenOnCpu
from engine.experts.planner import plan_layer
from engine.experts.popularity import Popularity
from engine.messages import CostModel, ExpertRun, LayerTrace, PassRecord
from engine.sentences import Sentence, say

MOST_WAITING = 256  # tokens that nobody has asked for yet


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

    def copy(self) -> ExecutorCounters:
        """The same, to come back to."""
        return ExecutorCounters(
            self.visits, self.hits, self.streamed, self.streamed_bytes, self.uploads, self.uploaded_bytes
        )


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
        self._model, self._popularity = model, popularity
        self.costs, self.policy, self.adaptive = costs, policy, True
        self.counters = ExecutorCounters()
        self.history = PassHistory(model.layers, model.experts)
        self._traces: list[LayerTrace | None] = [None] * model.layers

    def reset_counters(self) -> None:
        """Begin a new reply."""
        self.counters = ExecutorCounters()
        self.history.reset()

    @contextlib.contextmanager
    def forgotten(self) -> Iterator[None]:
        """Whatever runs inside leaves nothing behind: no visits, no traces, no corrections, no other residents."""
        kept = self._popularity, self.costs, self.adaptive
        self._popularity, self.adaptive = Popularity(self._model), False
        try:
            yield
        finally:
            self._traces = [None] * len(self.traces)  # whoever is asked for them has taken down the latest
            self._popularity, self.costs, self.adaptive = kept
            self.reset_counters()

    def placed(self) -> None:
        """Residents were placed by a plan, or given up."""

    def take_passes(self) -> tuple[PassRecord, ...]:
        """The history's records since the last call."""
        return self.history.take()

    @property
    def not_adapting(self) -> Sentence:
        """A sentence: why residents do not follow the conversation; "" where they do."""
        return say("There is no GPU.")

    @property
    def traces(self) -> Sequence[LayerTrace | None]:
        """Latest trace per layer; None before the first pass."""
        return self._traces


class CpuRecord(ExecutionRecord):
    """The record where the native decoder runs all experts on the CPU: cheap to write, made up when asked for.

    A token's pass is only taken down. What follows of it (popularity, corrections, traces) is worked out for many at
    once: Python between two passes finds its own memory gone from the caches, and takes several times as long there.
    """

    def __init__(self, model: ModelConfig, popularity: Popularity, costs: CostModel, policy: PolicyName) -> None:
        """See `ExecutionRecord`."""
        self._waiting: list[TokenOnCpu] = []
        super().__init__(model, popularity, costs, policy)
        # By layer, one each; a token that went through all at once is what the others came after.
        self._latest: dict[int | None, tuple[int, NDArray[np.int32], NDArray[np.float32]]] = {}

    @property
    def costs(self) -> CostModel:
        """The cost model in force, corrected by all that ran."""
        self._learn()
        return self._costs

    @costs.setter
    def costs(self, costs: CostModel) -> None:
        """Take others, which what ran before says nothing about."""
        self._learn()
        self._costs = costs

    def record_pass(self, first_layer: int, experts: NDArray[np.int32], seconds: NDArray[np.float32]) -> None:
        """Take down what some layers did.

        Args:
            first_layer: Index of the first of them.
            experts: Chosen experts [layers, T, A]; not changed afterwards.
            seconds: Time of each layer's experts [layers]; not changed afterwards.
        """
        layers, tokens, _ = experts.shape
        self.counters.visits += experts.size
        if layers > 1:
            self._latest.clear()
        self._latest[first_layer if layers == 1 else None] = (first_layer, experts, seconds)
        if tokens == 1 and layers == self._model.layers:
            self._record_token(experts[:, 0], seconds)
        else:
            self._record_layers(first_layer, experts, seconds)

    def _record_token(self, experts: NDArray[np.int32], seconds: NDArray[np.float32]) -> None:
        """One token through all layers."""
        ran = TokenOnCpu(experts, seconds)
        self._waiting.append(ran)
        self._popularity.observe_token(experts)
        self.history.token_on_cpu(ran)
        if len(self._waiting) == MOST_WAITING:
            self._learn()

    def _record_layers(self, first_layer: int, experts: NDArray[np.int32], seconds: NDArray[np.float32]) -> None:
        """Layers of a prompt, one at a time."""
        for layer, (chosen, measured_s) in enumerate(zip(experts, seconds.tolist(), strict=True), first_layer):
            counts = _counts(chosen)
            self._popularity.observe(layer, counts)
            plan = plan_layer(counts, (), self.costs, self.policy, pass_tokens=len(chosen))
            self.history.layer_ran(layer, len(chosen), plan.runs, measured_s, self.costs)
            if plan.predicted_cpu_s > 0:
                self.costs = with_correction(self.costs, cpu_ratio=measured_s / plan.predicted_cpu_s)

    def _learn(self) -> None:
        """Correct the costs by the tokens that wait, each by what was known before it."""
        waiting = self._waiting
        if not waiting:
            return
        measured_s = np.array([ran.seconds for ran in waiting]).sum(axis=1).tolist()
        layers, active = waiting[0].experts.shape
        self._costs, corrections = with_tokens(self._costs, active, layers, measured_s)
        for ran, correction in zip(waiting, corrections, strict=True):
            ran.correction = correction
        waiting.clear()

    def take_passes(self) -> tuple[PassRecord, ...]:
        """See `ExecutionRecord`."""
        self._learn()
        return super().take_passes()

    @property
    def traces(self) -> Sequence[LayerTrace | None]:
        """Latest trace per layer; None before the first pass."""
        for first_layer, experts, seconds in self._latest.values():
            tokens, measured_s = experts.shape[1], seconds.tolist()
            plan = plan_layer(_counts(experts[0]), (), self.costs, self.policy, pass_tokens=tokens)
            runs = [plan.runs]
            if tokens == 1:  # of which every layer costs the same
                same = plan.runs[0][1:]
                runs = [tuple([ExpertRun(expert, *same) for expert in row]) for row in experts[:, 0].tolist()]
            for layer, ran in enumerate(runs):
                self._traces[first_layer + layer] = LayerTrace(
                    first_layer + layer, tokens, ran, plan.predicted_cpu_s, 0.0, measured_s[layer], 0.0
                )
        self._latest.clear()
        return self._traces


def _counts(chosen: NDArray[np.int32]) -> list[tuple[int, int]]:
    """(expert, tokens) of a layer's active experts, from what its tokens chose [T, A]."""
    if len(chosen) == 1:
        return [(expert, 1) for expert in chosen[0].tolist()]
    active, tokens = np.unique(chosen, return_counts=True)
    return list(zip(active.tolist(), tokens.tolist(), strict=True))
