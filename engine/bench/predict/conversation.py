"""Our engine on a PC that is not there: the real plan, the real split of every layer, the real replacement.

Time is the cost model's. Beside the engine's own terms two are charged that it leaves out: keys and values that
attention reads, and what an upload takes of the RAM's speed from the CPU's experts while it is copied.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.bench.gpu.bounds import Speeds, Visits
from engine.bench.gpu.pcs import Pc, costs
from engine.bench.predict.bound import prompt_bound_seconds
from engine.bench.predict.stream import Chosen, Counts, Stream
from engine.config import EngineConfig, ModelConfig
from engine.experts.assumed_costs import dense_layer_bytes
from engine.experts.cost_model import predict
from engine.experts.footprint import pass_group_visits
from engine.experts.forecast import dense_chunk_seconds
from engine.experts.placement import check_fits, make_plan
from engine.experts.planner import copies_ahead, layer_seconds, left_of_copies, plan_layer, staging_slots_of
from engine.experts.popularity import Popularity
from engine.experts.ranking import as_mask, lent_for, staying_residents
from engine.experts.replacement import Replacement
from engine.hardware import GpuProfile, HardwareProfile
from engine.messages import PlacementPlan, PlanningInputs

KERNELS = "avx2"
RAM_BYTES = 64 << 30
CORES = 8


@dataclass(frozen=True, slots=True)
class Decoded:
    """A reply.

    Attributes:
        tokens: How many.
        seconds: Of all of them.
        visits: To experts.
        hits: Those that found theirs in VRAM.
        uploads: Experts that came to live in VRAM meanwhile.
        bound_s: What the bytes allow at that hit rate, of all of them.
    """

    tokens: int
    seconds: float
    visits: int
    hits: int
    uploads: int
    bound_s: float


def planning_inputs(model: ModelConfig, pc: Pc, profile: Chosen) -> PlanningInputs:
    """What a plan for a PC is made from, with the popularity that some tokens showed.

    Args:
        model: Its shape and formats.
        pc: The PC.
        profile: The tokens' experts [T, L, A].
    """
    popularity = Popularity(model)
    for layer, row in enumerate(Counts.of(profile, model.experts).by_layer):
        popularity.observe(layer, row)
    dense_layer_s = dense_layer_bytes(model, "cuda", KERNELS) / pc.vram_bytes_per_s
    prices = replace(costs(pc, model), dense_layer_s=dense_layer_s)
    hardware = HardwareProfile(pc.name, CORES, RAM_BYTES, RAM_BYTES, GpuProfile(pc.name, pc.vram_bytes, 0))
    return PlanningInputs(model, hardware, prices, popularity.shares(), KERNELS)


class Conversation:
    """A model on a PC, loaded; the conversation goes on until another `Conversation`.

    Args:
        inputs: The model, its costs and popularity.
        pc: The PC.
        config: Context and policy.

    Raises:
        DoesNotFitError: The PC is too small.
    """

    def __init__(self, inputs: PlanningInputs, pc: Pc, config: EngineConfig) -> None:
        """Plan."""
        self.plan: PlacementPlan = make_plan(inputs, config)
        check_fits(self.plan)
        self._inputs, self._pc, self._config, self._model = inputs, pc, config, inputs.model
        self._resident = [set(layer) for layer in self.plan.resident_by_layer]
        self._replacement = Replacement(self._model)
        self._replacement.expect(inputs.popularity)
        self._replacement.place(self.plan.resident_by_layer)
        self._clock_s = self._link_free_s = 0.0
        self._arriving: deque[tuple[float, int, int]] = deque()
        self._context_tokens = self._uploads = 0

    def prompt(self, chosen: Chosen) -> tuple[float, float]:
        """Compute a prompt; returns its seconds, and those that bytes and arithmetic allow at least.

        Args:
            chosen: Its experts [T, L, A].
        """
        model, seconds, bound_s = self._model, 0.0, 0.0
        leaving = self._make_way(lent_for(self.plan.lent_bytes, len(chosen)))
        for first in range(0, len(chosen), self.plan.prefill_chunk_tokens):
            counts = Counts.of(chosen[first : first + self.plan.prefill_chunk_tokens], model.experts)
            dense_s = dense_chunk_seconds(model, self._inputs.costs, counts.tokens, self._context_tokens)
            seconds += self._pass_seconds(counts, dense_s)
            bound_s += prompt_bound_seconds(model, self._pc, counts, self._resident, dense_s)
            self._context_tokens += counts.tokens
        self._clock_s += seconds
        for layer, expert in leaving:
            self._upload(layer, expert)
        if leaving:
            self._replacement.place(self._resident, (), [(layer, expert) for _, layer, expert in self._arriving])
        return seconds, bound_s

    def _make_way(self, lent_bytes: int) -> list[tuple[int, int]]:
        """Residents leave to lend a long prompt its workspace; they are to come back when it is read."""
        resident = as_mask(self._model, [sorted(layer) for layer in self._resident])
        staying = staying_residents(self._model, self._inputs.popularity, resident, lent_bytes)
        leaving = [(int(layer), int(expert)) for layer, expert in np.argwhere(resident & ~staying)]
        for layer, expert in leaving:
            self._resident[layer].discard(expert)
        return leaving

    def _pass_seconds(self, counts: Counts, dense_s: float) -> float:
        """A pass layer by layer; what the next one will likely stream is copied while its dense part runs."""
        model, prices, seconds, streamed = self._model, self._inputs.costs, 0.0, 0
        assert prices.weight_copy is not None, "a PC has a GPU"
        copy_s, slots = predict(prices.weight_copy, 1), staging_slots_of(model)
        for layer, row in enumerate(counts.by_layer):
            resident, shares = self._resident[layer], self._inputs.popularity[layer]
            likely = sorted(set(range(model.experts)) - resident, key=shares.__getitem__, reverse=True)
            ahead = left_of_copies(likely[: copies_ahead(streamed, slots, copy_s, dense_s)], copy_s, dense_s)
            plan = plan_layer(
                row, resident, prices, self._config.policy, staging_slots=slots, pass_tokens=counts.tokens,
                group_visits=pass_group_visits(model, counts.tokens), ahead=ahead,
            )  # fmt: skip
            streamed = sum(run.place == "stream" for run in plan.runs)
            seconds += dense_s + plan.predicted_s
            self._replacement.observe_prompt(layer, row, counts.tokens)
        return seconds

    def reply(self, chosen: Chosen) -> Decoded:
        """Decode tokens one by one.

        Args:
            chosen: Their experts [T, L, A].
        """
        started_s, uploads, hits = self._clock_s, self._uploads, 0
        context = self._context_tokens + len(chosen) / 2
        for token in chosen.tolist():
            for layer, experts in enumerate(token):
                hits += self._layer(layer, experts)
            self._context_tokens += 1
        visits = chosen.size
        moved = Visits(len(chosen), visits, hits, 0).traffic(self._model, self._model.layers, "cuda", KERNELS, context)
        # What is not in VRAM is shared by the CPU and the link.
        speeds = Speeds(self._pc.vram_bytes_per_s, self._pc.shared_bytes_per_s, self._pc.link_bytes_per_s)
        return Decoded(
            len(chosen), self._clock_s - started_s, visits, hits, self._uploads - uploads,
            len(chosen) * moved.bound_s(speeds),
        )  # fmt: skip

    def _layer(self, layer: int, experts: list[int]) -> int:
        """One layer of one token; returns its hits."""
        while self._arriving and self._arriving[0][0] <= self._clock_s:
            _, arrived_layer, expert = self._arriving.popleft()
            self._resident[arrived_layer].add(expert)
            self._replacement.arrived(arrived_layer, expert)
        resident, prices = self._resident[layer], self._inputs.costs
        counts = [(expert, 1) for expert in experts]
        cached_bytes = self._model.kv_bytes_per_token("auto") / self._model.layers * self._context_tokens
        self._clock_s += prices.dense_layer_s + cached_bytes / self._pc.vram_bytes_per_s
        self._clock_s += max(layer_seconds(counts, resident, prices, self._config.policy, pass_tokens=1))
        hits = sum(expert in resident for expert in experts)
        if self._config.adaptive:
            self._swap(layer, experts)
        return hits

    def _swap(self, layer: int, experts: list[int]) -> None:
        """Begin the uploads that the replacement wants."""
        prices = self._inputs.costs
        assert prices.weight_copy is not None, "a PC has a GPU"
        for swap in self._replacement.step(layer, experts, prices, self._config.policy):
            self._resident[layer].discard(swap.leaving)
            self._upload(layer, swap.coming)
            self._uploads += 1

    def _upload(self, layer: int, expert: int) -> None:
        """Copy an expert to VRAM, behind what the link is busy with; the CPU has less of the RAM meanwhile."""
        assert self._inputs.costs.weight_copy is not None, "a PC has a GPU"
        copy_s = predict(self._inputs.costs.weight_copy, 1)
        self._link_free_s = max(self._clock_s, self._link_free_s) + copy_s
        self._arriving.append((self._link_free_s, layer, expert))
        self._clock_s += self._pc.copy_drag * copy_s


def converse(
    stream: Stream, inputs: PlanningInputs, pc: Pc, config: EngineConfig, prompt: int, reply: int, seeds: Sequence[int]
) -> list[Decoded]:
    """Replies to some prompts, each in a conversation of its own with the same residents at its start.

    Args:
        stream: Draws the tokens.
        inputs: As for `Conversation`.
        pc: The PC.
        config: The settings.
        prompt: Tokens in.
        reply: Tokens out.
        seeds: One for each conversation.
    """
    replies = []
    for seed in seeds:
        chosen, conversation = stream.draw(prompt + reply, seed), Conversation(inputs, pc, config)
        conversation.prompt(chosen[:prompt])
        replies.append(conversation.reply(chosen[prompt:]))
    return replies


def together(replies: Sequence[Decoded]) -> Decoded:
    """The sums over some replies."""
    names = ("tokens", "seconds", "visits", "hits", "uploads", "bound_s")
    sums = {name: np.sum([getattr(one, name) for one in replies]).item() for name in names}
    return replace(replies[0], **sums)
