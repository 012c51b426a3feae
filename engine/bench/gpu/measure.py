"""One cell: a conversation in a loaded engine, timed several times, then watched once.

Times are taken from the engine's own events with a clock that is handed in: wall time, or the virtual time of a
simulated PC. Watching asks for the traces after every token; what that takes is left out of the watched reply's time,
which is held against its own traces alone.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from engine.bench.gpu.bounds import Speeds, Visits
from engine.bench.gpu.cells import POLICIES, Cell, Model, Scenario
from engine.bench.routing import Topics
from engine.config import ModelConfig, SamplingParams
from engine.engine import Engine
from engine.experts.footprint import PlannedDevice
from engine.experts.parts import in_parts
from engine.messages import LayerTrace, PromptProgress, Snapshot, Token

GOAL_ERROR = 0.15  # of a prediction

_WARM_TOKENS, _WATCHED_TOKENS = 16, 64  # of a reply at most: enough for what they are for
_PROFILE_SEED, _WARM_SEED, _FIRST_SEED = 0, 1, 2

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Course:
    """How to measure.

    Attributes:
        repeat: Most counted replies per cell, at least 1.
        limit_s: Wall time after which no further reply of a cell is begun.
        profile_tokens: Tokens of the prompt that the popularity is counted on before anything is placed.
        costed: The model whose bytes count: the one that is run, or what it stands for in virtual time.
        speeds: The machine's.
        clock: Tells the time of replies.
        vram_used: Bytes of VRAM in use by all programs together; None where nobody can tell.
        reserved: Most bytes that torch held since it was last asked; None without a GPU.
    """

    repeat: int
    limit_s: float
    profile_tokens: int
    costed: ModelConfig
    speeds: Speeds
    clock: Clock = time.perf_counter
    vram_used: Callable[[], int | None] = lambda: None
    reserved: Callable[[], int | None] = lambda: None


@dataclass(slots=True)
class _Reply:
    """Times and counts of one reply.

    Attributes:
        started_s: When it was asked for.
        prefilled_s: When its prompt was computed.
        tokens_s: When each token came.
        first: The inside at the first token, whose counters are the prompt's.
        last: The inside at the end.
        looking_s: Time of looking on.
    """

    started_s: float
    prefilled_s: float = 0.0
    tokens_s: list[float] = field(default_factory=list)
    first: Snapshot | None = None
    last: Snapshot | None = None
    looking_s: float = 0.0

    @property
    def prefill_s(self) -> float:
        """Of the prompt."""
        return self.prefilled_s - self.started_s

    @property
    def token_s(self) -> float:
        """Of each token after the first."""
        return (self.tokens_s[-1] - self.tokens_s[0] - self.looking_s) / (len(self.tokens_s) - 1)

    @property
    def visits(self) -> Visits:
        """Of the tokens after the first."""
        assert self.first
        assert self.last
        before, after = self.first, self.last
        # With one token, each expert that is streamed is streamed for one visit.
        return Visits(
            len(self.tokens_s) - 1,
            after.visits - before.visits,
            after.hits - before.hits,
            after.streamed - before.streamed,
        )


class Bench:
    """A loaded engine on one model.

    Args:
        engine: Loaded, with a context for all scenarios.
        model: What it runs.
        course: How to measure.
    """

    def __init__(self, engine: Engine, model: Model, course: Course) -> None:
        """Nothing is run yet."""
        self._engine, self._model, self._course = engine, model, course
        assert model.shape.routing is not None, "cells are measured on routed models"
        self._topics = Topics(model.shape.routing, model.shape.hidden)
        self._profiled: dict[str, Any] = {}

    def profile(self) -> None:
        """Count the experts' popularity on tokens of all topics, as the paper does before it places any."""
        tokens = self._topics.draw(self._course.profile_tokens, self._model.shape.vocabulary, _PROFILE_SEED)
        for _ in self._engine.generate(tokens, SamplingParams(max_tokens=1)):
            pass
        self._profiled = copy.deepcopy(vars(self._engine.popularity))

    def _forget(self) -> None:
        """Go back to the profile: all cells have the same prompts, which no placement may have seen before."""
        vars(self._engine.popularity).update(copy.deepcopy(self._profiled))

    def measure(self, cell: Cell, budget_bytes: int) -> dict[str, Any]:
        """Measure a cell.

        Args:
            cell: What.
            budget_bytes: VRAM that the engine may use.

        Returns:
            Figures by name, ready for JSON: times in seconds, sizes in bytes.

        Raises:
            RooftopError: It does not fit, or the engine failed.
        """
        engine, course, scenario = self._engine, self._course, cell.scenario
        policy, running = POLICIES[cell.policy], engine.config
        self._forget()
        running = replace(running, vram_budget_bytes=budget_bytes)
        engine.reconfigure(replace(running, policy=policy.policy, adaptive=policy.adaptive))
        course.reserved()
        started_s = time.perf_counter()
        self._reply(_shorter(scenario, _WARM_TOKENS), _WARM_SEED)
        replies = [self._reply(scenario, _FIRST_SEED)]
        while len(replies) < course.repeat and time.perf_counter() - started_s < course.limit_s:
            replies.append(self._reply(scenario, _FIRST_SEED + len(replies)))
        return {
            "model": cell.model,
            "vram_bytes": cell.vram_bytes,
            "policy": cell.policy,
            "scenario": scenario.name,
            "prompt_tokens": scenario.prompt_tokens,
            "new_tokens": scenario.new_tokens,
            **self._placement(),
            **_prompt_figures(scenario, replies),
            **(self._decode_figures(scenario, replies) if scenario.decodes else {}),
        }

    def _reply(self, scenario: Scenario, seed: int, watch: Callable[[Snapshot], None] | None = None) -> _Reply:
        """One reply to a prompt of its own, drawn as the app draws."""
        prompt = self._topics.draw(scenario.prompt_tokens, self._model.shape.vocabulary, seed)
        sampling = SamplingParams(max_tokens=scenario.new_tokens, seed=seed, ignore_eos=True)
        engine, clock = self._engine, self._course.clock
        reply = _Reply(clock())
        for event in engine.generate(prompt, sampling):
            if isinstance(event, PromptProgress):
                reply.prefilled_s = clock()
            elif isinstance(event, Token):
                reply.tokens_s.append(clock())
                if reply.first is None:
                    reply.first = engine.snapshot()
                elif watch:
                    watch(engine.snapshot())
                if len(reply.tokens_s) < scenario.new_tokens:  # after the last token nothing is timed
                    reply.looking_s += clock() - reply.tokens_s[-1]
        reply.last = engine.snapshot()
        return reply

    def _placement(self) -> dict[str, Any]:
        """What is where, promised and real."""
        ready, snapshot, course = self._engine.ready, self._engine.snapshot(), self._course
        return {
            "budget_bytes": ready.plan.vram_budget_bytes,
            "plan_vram_bytes": ready.plan.vram_bytes.get("total", 0),
            "allocated_vram_bytes": sum(snapshot.vram_bytes.values()),
            "torch_peak_vram_bytes": course.reserved(),
            "device_vram_bytes": course.vram_used(),
            "resident_experts": ready.plan.resident_experts,
            "total_experts": ready.model.total_experts,
            "reasons": list(ready.plan.reasons),
            "not_adapting": snapshot.not_adapting,
            "memory_shortages": snapshot.memory_shortages,
        }

    def _decode_figures(self, scenario: Scenario, replies: Sequence[_Reply]) -> dict[str, Any]:
        """Of the tokens after the first."""
        watched = _Watch()
        watched_token_s = self._reply(_shorter(scenario, _WATCHED_TOKENS), _FIRST_SEED + len(replies), watched).token_s
        ready, speeds, layers = self._engine.ready, self._course.speeds, self._model.shape.layers
        token_s = statistics.median(reply.token_s for reply in replies)
        mean_token_s = statistics.mean(reply.token_s for reply in replies)  # as visits are counted over all of them
        visits = [reply.visits for reply in replies]
        together = Visits(*(sum(getattr(v, name) for v in visits) for name in ("tokens", "all", "hits", "streamed")))
        context = scenario.prompt_tokens + scenario.new_tokens / 2
        device: PlannedDevice = "simulated" if ready.simulated else "cuda"
        planning = ready.planning
        costed = in_parts(self._course.costed, ready.model.expert_parts)  # whose visits are counted
        traffic = together.traffic(costed, layers, device, planning.kernels, context, gpu_kernels=planning.gpu_kernels)
        dense_s = self._engine.loaded.record.costs.dense_layer_s * layers
        predicted_s, experts_s = dense_s + watched.predicted_s, watched.measured_s
        ends = [(reply.first, reply.last) for reply in replies if reply.first and reply.last]
        return {
            "decode_tokens_per_s": 1 / token_s,
            "decode_tokens_per_s_all": [1 / reply.token_s for reply in replies],
            "hit_rate": together.hits / max(1, together.all),
            "planned_hit_rate": ready.plan.predicted_hit_rate,
            "token_overlap": watched.overlap,
            "uploads": statistics.median(last.uploads - first.uploads for first, last in ends),
            "uploaded_bytes": statistics.median(last.uploaded_bytes - first.uploaded_bytes for first, last in ends),
            "streamed_bytes": statistics.median(last.streamed_bytes - first.streamed_bytes for first, last in ends),
            "bound_s": traffic.bound_s(speeds),
            "share_of_bound": traffic.bound_s(speeds) / mean_token_s,
            "planned_tokens_per_s": ready.plan.predicted_decode_tokens_per_s,
            "token_s": token_s,
            "predicted_token_s": predicted_s,
            "predicted_by_measured": predicted_s / watched_token_s,
            "layer_predicted_by_measured": watched.predicted_experts_s / experts_s if experts_s else None,
            "layers_within_goal": watched.within_goal,
            "overhead_layer_s": (watched_token_s - experts_s - traffic.dense_s(speeds)) / layers,
        }


def _shorter(scenario: Scenario, new_tokens: int) -> Scenario:
    """The same with fewer new tokens."""
    return replace(scenario, new_tokens=min(scenario.new_tokens, new_tokens))


def _prompt_figures(scenario: Scenario, replies: Sequence[_Reply]) -> dict[str, Any]:
    """Of the prompt."""
    speeds = [scenario.prompt_tokens / reply.prefill_s for reply in replies]
    streamed = [reply.first.streamed_bytes for reply in replies if reply.first]
    hit_rates = [reply.first.hit_rate for reply in replies if reply.first]
    return {
        "samples": len(replies),
        "prefill_tokens_per_s": statistics.median(speeds),
        "prefill_tokens_per_s_all": speeds,
        "prefill_hit_rate": statistics.median(hit_rates),
        "prefill_streamed_bytes": statistics.median(streamed),
        "ttft_s": statistics.median(reply.tokens_s[0] - reply.started_s for reply in replies),
    }


class _Watch:
    """Looks at the traces of each token."""

    def __init__(self) -> None:
        """Nothing seen."""
        self._tokens, self._predicted_s, self._predicted_experts_s, self._measured_s = 0, 0.0, 0.0, 0.0
        self._layers_within, self._layers_timed = 0, 0
        self._overlaps: list[float] = []
        self._latest: list[set[int]] = []

    def __call__(self, snapshot: Snapshot) -> None:
        """One more token."""
        self._tokens += 1
        for trace in snapshot.layers:
            predicted_s, measured_s = _sides(trace)
            self._predicted_s += max(trace.predicted_cpu_s, trace.predicted_gpu_s)
            self._predicted_experts_s += predicted_s
            self._measured_s += measured_s
            if measured_s > 0:
                self._layers_timed += 1
                self._layers_within += abs(predicted_s / measured_s - 1) <= GOAL_ERROR
        chosen = [{run.expert for run in trace.runs} for trace in snapshot.layers]
        if self._latest:
            shares = [len(now & then) / len(now) for now, then in zip(chosen, self._latest, strict=True)]
            self._overlaps.append(statistics.mean(shares))
        self._latest = chosen

    @property
    def predicted_s(self) -> float:
        """Of all layers, per token, with what brings activations to the CPU and back."""
        return self._predicted_s / max(1, self._tokens)

    @property
    def predicted_experts_s(self) -> float:
        """Of the experts of all layers, per token."""
        return self._predicted_experts_s / max(1, self._tokens)

    @property
    def measured_s(self) -> float:
        """Of the experts of all layers, per token."""
        return self._measured_s / max(1, self._tokens)

    @property
    def within_goal(self) -> float:
        """Share of layers whose prediction is near enough."""
        return self._layers_within / max(1, self._layers_timed)

    @property
    def overlap(self) -> float:
        """Share of a token's experts that the token before had too."""
        return statistics.mean(self._overlaps) if self._overlaps else 0.0


def _sides(trace: LayerTrace) -> tuple[float, float]:
    """A layer's longer side: predicted and measured."""
    # What brings activations to the CPU is predicted with its side and measured with neither.
    predicted_cpu_s = trace.predicted_cpu_s - trace.activation_s if trace.predicted_cpu_s > 0 else 0.0
    return max(predicted_cpu_s, trace.predicted_gpu_s), max(trace.measured_cpu_s, trace.measured_gpu_s)
