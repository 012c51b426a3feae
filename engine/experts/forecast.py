"""How fast a placement will be: the planner's arithmetic on expected routings, for plans and previews.

Pure, and fast enough to follow a slider. The approximations:

- Decode: behind the 512 tokens whose speed is told, all of which a token's attention meets. A token's A experts are
  taken as independent draws, each in VRAM with the layer's expected hit share, so the number of misses is binomial
  (really they are A different experts: the ends 0 and 1 are exact, the middle is near). Each number of misses is
  planned by the planner, and the times are averaged, not the misses. Of an expert in parts some may be missing.
- Prefill: every expert gets its expected number of tokens, in whole tokens; the dense part is scaled from one expert's
  curve by its number of weights, as both are matrix products on the same device. What is copied while it runs are the
  experts with the most tokens; the first layer, which nothing goes before, is taken like the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.config import EngineConfig, ModelConfig, PolicyName
from engine.experts.cost_model import predict
from engine.experts.explain import human_seconds
from engine.experts.footprint import LAUNCHED_TOKENS, pass_group_visits
from engine.experts.planner import copies_ahead, layer_seconds, left_of_copies, staging_slots_of
from engine.experts.ranking import as_array
from engine.messages import CostModel, PlanningInputs
from engine.sentences import Sentence, join, say

PREFILL_TOKENS = 512

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_LEAST_S = 1e-9
_SAMPLED_LAYERS = 8  # of a prompt: they differ in their experts' popularity alone


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a placement promises.

    Attributes:
        decode_tokens_per_s: Tokens per second while replying to that prompt.
        prefill_tokens_per_s: Tokens per second of a 512-token prompt.
        hit_rate: Share of expert visits that find their expert in VRAM.
        limit: A sentence: what decode waits for most.
    """

    decode_tokens_per_s: float
    prefill_tokens_per_s: float
    hit_rate: float
    limit: str


@dataclass(frozen=True, slots=True)
class _Decode:
    """Expected seconds of one token: besides its layers, their dense part, the experts' longer sides, each side."""

    besides_s: float
    dense_s: float
    experts_s: float
    cpu_s: float
    gpu_s: float

    @property
    def token_s(self) -> float:
        """One token."""
        return max(_LEAST_S, self.besides_s + self.dense_s + self.experts_s)


def forecast(
    inputs: PlanningInputs, config: EngineConfig, resident: Mask, chunk_tokens: int, pinned: Mask | None = None
) -> Forecast:
    """Predict speeds for a placement.

    Args:
        inputs: The model, costs and popularity.
        config: Its policy decides where experts run.
        resident: Which experts live in VRAM [L, E].
        chunk_tokens: Prompt tokens per forward pass.
        pinned: Which experts' host copies are page-locked [L, E]; None for all.
    """
    decode = _decode(inputs.model, inputs.costs, config.policy, _miss_shares(inputs, resident))
    prompt = min(chunk_tokens, PREFILL_TOKENS)
    prompt_s = prompt_seconds(inputs, config.policy, resident, prompt, prompt, _SAMPLED_LAYERS, pinned)
    hit_rate = float(np.clip((as_array(inputs.popularity) * resident).sum(axis=1), 0.0, 1.0).mean())
    return Forecast(
        1.0 / decode.token_s, prompt / prompt_s, hit_rate,
        join([_limit(decode, inputs.costs.gpu_expert is not None), *_besides(decode)]),
    )  # fmt: skip


def decode_seconds(inputs: PlanningInputs, policy: PolicyName, resident: Mask) -> float:
    """Expected time of one token of a reply.

    Args:
        inputs: As for `forecast`.
        policy: Where experts run.
        resident: Which experts live in VRAM [L, E].
    """
    return _decode(inputs.model, inputs.costs, policy, _miss_shares(inputs, resident)).token_s


def _miss_shares(inputs: PlanningInputs, resident: Mask) -> Floats:
    """Per layer the share of visits to experts of which 0, 1 .. P parts are missing in VRAM [L, P + 1]."""
    model, parts = inputs.model, inputs.model.expert_parts
    by_part = (model.layers, model.routed_experts, parts)
    shares = as_array(inputs.popularity).reshape(by_part).sum(axis=2)
    missing = (~resident).reshape(by_part).sum(axis=2)
    seen: Floats = np.stack([(shares * (missing == number)).sum(axis=1) for number in range(parts + 1)], axis=1)
    return seen


def _decode(model: ModelConfig, costs: CostModel, policy: PolicyName, miss_shares: Floats) -> _Decode:
    """Expected times of one token, from the shares of `_miss_shares`."""
    active = model.experts_per_token
    counts = [(expert, 1) for expert in range(active)]
    sides = np.array(
        [layer_seconds(counts, range(misses, active), costs, policy, pass_tokens=1) for misses in range(active + 1)]
    )
    weights = _sums_of_draws(miss_shares, active // model.expert_parts).sum(axis=0)
    cpu_s, gpu_s = (weights @ sides).tolist()
    dense_s = model.layers * (costs.dense_layer_s + PREFILL_TOKENS * costs.attention_key_s)
    return _Decode(costs.token_s, dense_s, float(weights @ sides.max(axis=1)), cpu_s, gpu_s)


def _sums_of_draws(shares: Floats, draws: int) -> Floats:
    """How likely each sum of independent draws of 0 .. P is, from how likely each is [L, P + 1]: [L, draws * P + 1]."""
    sums = np.ones((len(shares), 1))
    for _ in range(draws):
        longer = np.zeros((len(shares), sums.shape[1] + shares.shape[1] - 1))
        for number, share in enumerate(shares.T):
            longer[:, number : number + sums.shape[1]] += share[:, None] * sums
        sums = longer
    return sums


def prompt_seconds(
    inputs: PlanningInputs,
    policy: PolicyName,
    resident: Mask,
    prompt_tokens: int,
    chunk_tokens: int,
    sampled_layers: int | None = None,
    pinned: Mask | None = None,
) -> float:
    """Expected time of a prompt in an empty context, chunk by chunk.

    Args:
        inputs: As for `forecast`.
        policy: Where experts run.
        resident: Which experts live in VRAM [L, E].
        prompt_tokens: Length of the prompt.
        chunk_tokens: Prompt tokens per forward pass.
        sampled_layers: How many layers' experts stand for all; None for each its own.
        pinned: Which experts' host copies are page-locked [L, E]; None for all.
    """
    model = inputs.model
    step = max(1, model.layers // (sampled_layers or model.layers))
    popularity, resident = as_array(inputs.popularity)[::step], resident[::step]
    pageable = np.zeros_like(resident) if pinned is None else ~pinned[::step]
    scale = model.layers / len(popularity)
    whole, rest = divmod(prompt_tokens, chunk_tokens)
    seconds = sum(
        model.layers * dense_chunk_seconds(model, inputs.costs, min(chunk_tokens, prompt_tokens - start), start)
        for start in range(0, prompt_tokens, chunk_tokens)
    )
    for count, tokens in ((whole, chunk_tokens), (1, rest)):
        if count and tokens:
            seconds += count * scale * _chunk_experts_seconds(inputs, policy, popularity, (resident, pageable), tokens)
    return max(_LEAST_S, seconds)


def _chunk_experts_seconds(
    inputs: PlanningInputs, policy: PolicyName, popularity: Floats, places: tuple[Mask, Mask], chunk_tokens: int
) -> float:
    """Expected time of the experts of some layers in one pass of a prompt.

    Args:
        inputs: As for `forecast`.
        policy: Where experts run.
        popularity: Shares of the visits [layers, E].
        places: Experts in VRAM, and experts that are not page-locked [layers, E].
        chunk_tokens: Tokens of the pass.
    """
    model, costs = inputs.model, inputs.costs
    counts = _expected_counts(popularity, chunk_tokens, model.experts_per_token)
    group_visits, slots = pass_group_visits(model, chunk_tokens), staging_slots_of(model)
    copy_s = predict(costs.weight_copy, 1) * costs.gpu_correction if costs.weight_copy else 0.0
    lead_s = dense_chunk_seconds(model, costs, chunk_tokens, 0)
    most_ahead = copies_ahead(slots, slots, copy_s, lead_s) if chunk_tokens > LAUNCHED_TOKENS and copy_s else 0
    first = np.argsort(np.where(places[0] | places[1], 0, -counts), axis=1, kind="stable")[:, :most_ahead]
    total_s = 0.0
    known: dict[bytes, float] = {}
    for row, resident, pageable, likely in zip(counts, *places, first.tolist(), strict=True):
        key = row.tobytes() + resident.tobytes() + pageable.tobytes()
        if key not in known:
            pairs = [(expert, tokens) for expert, tokens in enumerate(row.tolist()) if tokens]
            living, slow = (set(np.flatnonzero(mask).tolist()) for mask in (resident, pageable))
            ahead = left_of_copies([expert for expert in likely if row[expert]], copy_s, lead_s)
            sides = layer_seconds(
                pairs, living, costs, policy, pass_tokens=chunk_tokens, pageable=slow, group_visits=group_visits,
                staging_slots=slots, ahead=ahead,
            )  # fmt: skip
            known[key] = max(sides)
        total_s += known[key]
    return total_s


def _expected_counts(popularity: Floats, chunk_tokens: int, active: int) -> NDArray[np.int64]:
    """Tokens per expert [L, E] as whole numbers that add up to all visits: what is left goes to the largest rests."""
    expected = popularity * (chunk_tokens * active)
    counts = np.floor(expected).astype(np.int64)
    left = chunk_tokens * active - counts.sum(axis=1)
    order = np.argsort(counts - expected, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.broadcast_to(np.arange(order.shape[1]), order.shape), axis=1)
    counted: NDArray[np.int64] = np.minimum(counts + (ranks < left[:, None]), chunk_tokens)
    return counted


def dense_chunk_seconds(model: ModelConfig, costs: CostModel, tokens: int, start: int) -> float:
    """One layer around its experts, for a chunk of a prompt: never less than for one token.

    Measured where the costs say so. Else the matrices take an expert's curve by their number of weights, and a query
    that meets a key is work like that of 2 (heads D) weights.

    Args:
        model: Its shape.
        costs: What an expert and the dense part cost.
        tokens: Of the chunk (T).
        start: Tokens that are in the cache before.
    """
    pairs = tokens * start + tokens * (tokens + 1) / 2
    if costs.dense_tokens is not None:
        measured_s = predict(costs.dense_tokens, tokens) + pairs * costs.attention_pair_s
        # What slows experts on the CPU down, other programs for one, slows all of it down there.
        return max(costs.dense_layer_s, measured_s * (costs.cpu_correction if costs.gpu_expert is None else 1.0))
    embeddings = model.vocab_size * model.hidden_size * (1 if model.tie_word_embeddings else 2)
    ratio = (model.dense_parameters - embeddings) / model.layers / model.expert_parameters
    curve, correction = costs.gpu_expert, costs.gpu_correction
    if curve is None:
        curve, correction = costs.cpu_expert, costs.cpu_correction
    pair_s = curve.per_unit_s * model.pair_weights / model.expert_parameters
    return max(costs.dense_layer_s, (ratio * predict(curve, tokens) + pairs * pair_s) * correction)


def _limit(decode: _Decode, has_gpu: bool) -> Sentence:
    """What a decoded token waits for most."""
    total = human_seconds(decode.token_s)
    if decode.dense_s >= decode.experts_s:
        return say(
            "Decode waits most for attention and the other dense layers ({time} of {total} per token).",
            time=human_seconds(decode.dense_s),
            total=total,
        )
    if not has_gpu or decode.cpu_s >= decode.gpu_s:
        return say(
            "Decode waits most for experts on the CPU, which reads them from RAM ({time} of {total} per token).",
            time=human_seconds(decode.cpu_s),
            total=total,
        )
    return say(
        "Decode waits most for experts on the GPU, their copies included ({time} of {total} per token).",
        time=human_seconds(decode.gpu_s),
        total=total,
    )


def _besides(decode: _Decode) -> list[Sentence]:
    """What is done between two tokens, where that was measured."""
    if decode.besides_s <= 0:
        return []
    return [say("Drawing and telling a token takes {time} of that.", time=human_seconds(decode.besides_s))]
