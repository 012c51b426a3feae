"""Micro-benchmarks at first start: what one expert costs on each side of this machine.

Each curve is measured with the real kernels on the real weights, turning through the experts so that no cache holds
more than it would while a model runs, and fitted as max(bytes/bandwidth, s * work/rate) + overhead (paper, section
3.2). On the simulated GPU the same measurement reads its virtual clock.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from engine.config import PAGEABLE_SLOWDOWN, ModelConfig
from engine.devices import Device
from engine.experts.cost_model import fit_curve, predict
from engine.experts.cpu_experts import CpuExperts, Routing
from engine.experts.residency import Residency
from engine.kernels.torch_expert import ExpertWeights
from engine.messages import CostCurve, CostModel, PassRecord

TOKEN_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
REPEATS = 5
# A sample that takes longer than this is the last of its curve, and is taken once: big experts need no more points.
LONG_SAMPLE_S = 0.2
_DRAG_COPIES, _MOST_DRAG_COPIES, _LEAST_COPY_S = 2.0, 256, 1e-5  # so many times as long as what runs beside them
WEIGHT_COPIES, WEIGHT_COPY_RUNS = 4, 3
SIMULATED_TOGETHER = 2  # experts at once, whose arithmetic is the CPU's
USUAL_TENTHS = 9  # of the tokens of a reply; other programs held up the others
ATTENTION_TOKENS, ATTENTION_KEYS = 128, 2048  # of the pass that tells what long contexts cost
DECODE_KEYS = 1024  # of the token that does

Check = Callable[[], None]


class Surroundings(Protocol):
    """All that surrounds the experts: the decoders have it."""

    def dense_seconds(self, start: int) -> float:
        """Seconds of one token through all of it, behind `start` tokens of context."""

    def experts_seconds(self, layer: int, tokens: int, start: int) -> tuple[int, float] | None:
        """Tokens and seconds of a typical expert in a pass, where experts run in the decoder's calls; else None."""

    def hand_off_seconds(self) -> float | None:
        """Seconds of one way between device and host, of which `dense_seconds` has one; None where it has neither."""

    def dense_layer_seconds(self, tokens: int, start: int) -> float:
        """Seconds of a chunk of a prompt in one layer, behind `start` tokens of context."""


def calibrate(
    model: ModelConfig,
    device: Device,
    residency: Residency,
    cpu: CpuExperts,
    dtype: torch.dtype,
    dense: Surroundings,
    free: range,
    check: Check,
) -> CostModel:
    """Measure every curve; about a second for small experts, a few for Mixtral's.

    Args:
        model: Its shape.
        device: Where the GPU side is; a device without one, or without room for an expert, leaves those curves out.
        residency: Lends a slot in VRAM.
        cpu: Runs experts on the CPU; their weights are there.
        dtype: Type of the activations.
        dense: All that surrounds the experts.
        free: Positions of the KV cache that nothing is kept in.
        check: Called between samples; raises to stop.
    """
    layers = typical_layers(model)

    def cpu_call(tokens: int, turn: int, count: int) -> float:
        """Some experts on the CPU, just as the executor runs them."""
        layer, first = layers[turn % len(layers)], turn // len(layers) * count
        experts = [(first + index) % model.experts for index in range(count)]
        hidden = torch.zeros(tokens, model.hidden_size, dtype=dtype)
        spans = {expert: (index * tokens, (index + 1) * tokens) for index, expert in enumerate(experts)}
        routing = Routing(spans, torch.arange(tokens).repeat(count), torch.ones(tokens * count, 1))
        return _timed(lambda: cpu.run(layer, experts, hidden, routing, _go_on))

    dense_layer_s, key_s = _measure_token(model, dense, free, check)
    dense_tokens, pair_s = _measure_prompt(dense, free, check)
    own_call = _measure_own_call(dense, layers, free, check)
    cpu_expert = own_call or _fit_with_one(_measure_points(lambda tokens, turn: cpu_call(tokens, turn, 1), check))
    around = CostModel(
        cpu_expert, None, None, None, dense_layer_s,
        source="measured", dense_tokens=dense_tokens, attention_pair_s=pair_s, attention_key_s=key_s,
    )  # fmt: skip
    if own_call is None:
        around = _without_call(around, _measure_call(cpu_call, model.experts_per_token, check))
    borrowed = residency.borrow(layers[0]) if device.has_gpu else None
    if borrowed is None:
        return around
    gpu_expert = _measure_gpu_expert(model, device, residency, borrowed[0], borrowed[1], dtype, check)
    weight_copy, activation_copy = _measure_copies(model, device, *borrowed, dtype, check)
    activation_copy = replace(activation_copy, one_s=_usual_hand_off(dense, check))
    if residency.staging_slots and residency.locked_expert(layers[0]) is None:
        weight_copy = CostCurve(0.0, weight_copy.per_unit_s / PAGEABLE_SLOWDOWN, weight_copy.overhead_s)
    costs = replace(around, gpu_expert=gpu_expert, weight_copy=weight_copy, activation_copy=activation_copy)
    if device.simulated or residency.locked_expert(layers[0]) is None:
        return costs
    token_s = partial(cpu_call, 1, count=model.experts_per_token)
    return replace(costs, copy_drag=measure_drag(device, *borrowed, weight_copy, token_s, check))


def learn_from_reply(costs: CostModel, model: ModelConfig, records: Sequence[PassRecord]) -> CostModel:
    """Costs with what some tokens of a real reply took: all of a token that is not in its layers, and one's experts.

    Args:
        costs: What else was measured, of which `dense_layer_s` without context, as the reply is short.
        model: Its shape.
        records: Passes of one token each, with nothing else running between them; none leave the costs as they are.
    """
    sides = [np.fmax(_seconds_of(record.cpu_s), _seconds_of(record.gpu_s or record.cpu_s)) for record in records]
    if not sides:
        return costs
    layers_s = model.layers * costs.dense_layer_s
    besides_s = sorted(
        record.seconds - float(side.sum()) - layers_s for record, side in zip(records, sides, strict=True)
    )
    usual_s = besides_s[: -(-len(besides_s) * USUAL_TENTHS // 10)]
    costs = replace(costs, token_s=max(0.0, statistics.fmean(usual_s)))
    if costs.gpu_expert is not None:
        return costs
    expert_s = (statistics.median(float(side.mean()) for side in sides) - costs.cpu_call_s) / model.experts_per_token
    return replace(costs, cpu_expert=replace(costs.cpu_expert, one_s=max(0.0, expert_s)))


def _seconds_of(packed: bytes) -> NDArray[np.float32]:
    """Times of a record [L]."""
    return np.frombuffer(packed, np.float32)


def typical_layers(model: ModelConfig) -> list[int]:
    """The layers whose experts are nearest to the mean in size: formats may differ between layers."""
    sizes = [model.layer_expert_bytes(layer) for layer in range(model.layers)]
    mean = sum(sizes) / len(sizes)
    typical = min(sizes, key=lambda size: abs(size - mean))
    return [layer for layer, size in enumerate(sizes) if size == typical]


def _measure_token(model: ModelConfig, dense: Surroundings, free: range, check: Check) -> tuple[float, float]:
    """What surrounds the experts of one layer for one token, and what each token of context adds to that."""

    def usual_s(start: int) -> float:
        """The median of some samples, which time between two tokens of a reply is like."""
        check()
        return statistics.median(dense.dense_seconds(start) for _ in range(REPEATS + 1)) / model.layers

    if len(free) == 0:  # the last token is then taken once more
        return usual_s(free.start - 1), 0.0
    keys = min(DECODE_KEYS, len(free) - 1)
    near_s, far_s = usual_s(free[0]), usual_s(free[0] + keys)
    key_s = max(0.0, far_s - near_s) / keys if keys else 0.0
    return max(0.0, near_s - free[0] * key_s), key_s


def _usual_hand_off(dense: Surroundings, check: Check) -> float | None:
    """What decode steps of the device's own take one way; None where states go both ways as a prompt's do."""
    check()
    samples = [dense.hand_off_seconds() for _ in range(2 * REPEATS + 1)]
    known = [seconds for seconds in samples if seconds is not None]
    return statistics.median(known) if known else None


def _measure_own_call(dense: Surroundings, layers: list[int], free: range, check: Check) -> CostCurve | None:
    """An expert's curve where the decoder's own calls run them; None where the executor calls them.

    Medians here: which experts a token visits, and what of them a cache still holds, is part of their price.
    """
    points: dict[int, list[float]] = {}
    for count in (tokens for tokens in TOKEN_COUNTS if tokens <= len(free)):
        dense.experts_seconds(layers[0], count, free[0])  # makes its buffers ready
        for turn in range(REPEATS):
            check()
            sample = dense.experts_seconds(layers[turn % len(layers)], count, free[0])
            if sample is None:
                return None
            points.setdefault(sample[0], []).append(sample[1])
            if sample[1] > LONG_SAMPLE_S:
                break
        if points[max(points)][-1] > LONG_SAMPLE_S:
            break
    if not points:
        return None
    return _fit_with_one({tokens: statistics.median(samples) for tokens, samples in points.items()})


def _measure_call(cpu_call: Callable[[int, int, int], float], active: int, check: Check) -> float:
    """What a call on the CPU takes besides its experts: one token's experts, one by one and together."""
    if active == 1:
        return 0.0
    alone_s = _least_of(lambda turn: cpu_call(1, turn, 1), check)
    together_s = _least_of(lambda turn: cpu_call(1, turn, active), check)
    return max(0.0, (active * alone_s - together_s) / (active - 1))


def _without_call(costs: CostModel, call_s: float) -> CostModel:
    """The same costs with the call told from what an expert adds to every call."""
    call_s = min(call_s, costs.cpu_expert.overhead_s)
    expert, one_s = costs.cpu_expert, costs.cpu_expert.one_s
    call_s = call_s if one_s is None else min(call_s, one_s)
    expert = replace(expert, overhead_s=expert.overhead_s - call_s, one_s=None if one_s is None else one_s - call_s)
    return replace(costs, cpu_expert=expert, cpu_call_s=call_s)


def _least_of(sample: Callable[[int], float], check: Check) -> float:
    """The least of some samples, the first of which makes everything ready."""
    samples: list[float] = []
    for turn in range(REPEATS + 1):
        check()
        samples.append(sample(turn))
        if samples[-1] > LONG_SAMPLE_S:
            break
    return min(samples[1:] or samples)


def _measure_prompt(dense: Surroundings, free: range, check: Check) -> tuple[CostCurve | None, float]:
    """What surrounds the experts of one layer: a curve of tokens, and what each pair of query and key adds."""
    room = len(free)
    tokens = min(ATTENTION_TOKENS, room // 2)
    if tokens == 0:
        return None, 0.0
    keys = min(ATTENTION_KEYS, room - tokens)
    near_s, far_s = (_usual(dense, tokens, free[0] + earlier, check) for earlier in (0, keys))
    pair_s = max(0.0, far_s - near_s) / (tokens * keys)
    points: dict[int, float] = {}
    for count in TOKEN_COUNTS:
        if count > room:
            break
        pairs = count * free[0] + count * (count + 1) / 2
        seconds = _usual(dense, count, free[0], check)
        points[count] = max(0.0, seconds - pairs * pair_s)
        if seconds > LONG_SAMPLE_S:
            break
    return _fit(points), pair_s


def _usual(dense: Surroundings, tokens: int, start: int, check: Check) -> float:
    """The median of some samples after the first, which makes everything ready; one that is long is taken once more."""
    samples: list[float] = []
    for _ in range(REPEATS + 1):
        check()
        samples.append(dense.dense_layer_seconds(tokens, start))
        if len(samples) > 1 and samples[-1] > LONG_SAMPLE_S:
            break
    return statistics.median(samples[1:])


def _measure_gpu_expert(
    model: ModelConfig,
    device: Device,
    residency: Residency,
    slot: ExpertWeights,
    source: ExpertWeights,
    dtype: torch.dtype,
    check: Check,
) -> CostCurve:
    """Expert on the GPU: of those that run at once, what each adds and what they share; others by themselves."""
    slot.flat.copy_(source.flat)
    layers, together = _layers_at_once(model, residency, SIMULATED_TOGETHER if device.simulated else model.experts)

    def alone(tokens: int) -> float:
        """One expert whose weights are there."""
        hidden = torch.zeros(tokens, model.hidden_size, dtype=dtype, device=device.torch_device)
        device.head_start()
        return _device_timed(device, lambda: device.run_expert(hidden, slot))

    def at_once(tokens: int, count: int, turn: int) -> float:
        """Some residents of a layer, in each turn of another one."""
        layer = layers[turn % len(layers)]
        chosen = torch.tensor([sorted(residency.resident[layer])[:count]] * tokens, device=device.torch_device)
        hidden = torch.zeros(tokens, model.hidden_size, dtype=dtype, device=device.torch_device)
        weights, out = torch.ones(chosen.shape, device=device.torch_device), hidden.to(torch.float32, copy=True)
        device.head_start()
        return _device_timed(
            device, lambda: device.resident_experts(residency.table(layer), hidden, chosen, weights, out)
        )

    if together < 2 or not device.runs_at_once(residency.table(layers[0]), 1, together):
        return _fit(_measure_points(lambda tokens, _: alone(tokens), check))
    one_s = _least_of(lambda turn: at_once(1, 1, turn), check)
    all_s = _least_of(lambda turn: at_once(1, together, turn), check)
    call_s = max(0.0, one_s - max(0.0, all_s - one_s) / (together - 1))

    def gpu_sample(tokens: int, turn: int) -> float:
        """One expert and the call."""
        if not device.runs_at_once(residency.table(layers[0]), tokens, together):
            return alone(tokens)
        return max(0.0, at_once(tokens, together, turn) - call_s) / together + call_s

    points = _measure_points(gpu_sample, check)
    return replace(fit_curve(list(points), list(points.values()), call_s), one_s=points.get(1))


def _layers_at_once(model: ModelConfig, residency: Residency, most: int) -> tuple[list[int], int]:
    """How many of a token's experts can run at once, at most so many, and in which layers with typical ones."""
    residents = {layer: len(residency.resident[layer]) for layer in typical_layers(model)}
    together = min(most, model.experts_per_token, max(residents.values()))
    return [layer for layer, number in residents.items() if number >= together], together


def _measure_copies(
    model: ModelConfig,
    device: Device,
    slot: ExpertWeights,
    source: ExpertWeights,
    dtype: torch.dtype,
    check: Check,
) -> tuple[CostCurve, CostCurve]:
    """Weight copy and activation copy, in one borrowed slot."""

    def copies() -> None:
        """An expert's weights to the GPU, again and again: what starts the next one is done beside the one before."""
        for _ in range(WEIGHT_COPIES):
            device.copy_in(0, slot.flat, source.flat)
        device.wait_copy(0)

    def activation_sample(tokens: int, turn: int) -> float:
        """Activations to the host and back."""
        del turn
        return device.activation_round_trip_s(
            torch.zeros(tokens, model.hidden_size, dtype=dtype, device=device.torch_device)
        )

    activation_copy = _fit(_measure_points(activation_sample, check))
    copies_s = min(_device_timed(device, copies) for _ in range(WEIGHT_COPY_RUNS))
    return fit_curve([1], [copies_s / WEIGHT_COPIES]), activation_copy


def measure_drag(
    device: Device,
    slot: ExpertWeights,
    source: ExpertWeights,
    weight_copy: CostCurve,
    token_s: Callable[[int], float],
    check: Check,
) -> float:
    """What share of the CPU's speed copies take that run beside it: both read RAM.

    Args:
        device: Copies.
        slot: Where to.
        source: Page-locked.
        weight_copy: What a copy takes.
        token_s: Some experts on the CPU, which memory bounds; `token_s(turn)` gives one measurement.
        check: Called between samples; raises to stop.
    """
    alone_s = _least_of(token_s, check)
    copies = 1 + math.ceil(alone_s * _DRAG_COPIES / max(predict(weight_copy, 1), _LEAST_COPY_S))

    def beside(turn: int) -> float:
        """The same while the link is busy for longer."""
        for _ in range(min(copies, _MOST_DRAG_COPIES)):
            device.copy_in(0, slot.flat, source.flat)
        seconds = token_s(turn)
        device.finish_copies()
        return seconds

    return max(0.0, 1.0 - alone_s / _least_of(beside, check))


def _measure_points(sample: Callable[[int, int], float], check: Check) -> dict[int, float]:
    """Least seconds at each token count; `sample(tokens, turn)` gives one measurement.

    The least, because other programs only ever add time.
    """
    points: dict[int, float] = {}
    for size, tokens in enumerate(TOKEN_COUNTS):

        def sample_of_size(turn: int, tokens: int = tokens, first: int = size * (REPEATS + 1)) -> float:
            """One that goes on where the size before ended."""
            return sample(tokens, first + turn)

        points[tokens] = _least_of(sample_of_size, check)
        if points[tokens] > LONG_SAMPLE_S:
            break
    return points


def _fit(points: dict[int, float]) -> CostCurve:
    """A curve through seconds by tokens."""
    return fit_curve(list(points), list(points.values()))


def _fit_with_one(points: dict[int, float]) -> CostCurve:
    """A curve that tells for one token what that took: on the CPU other code runs it than many."""
    return replace(_fit(points), one_s=points.get(1))


def _go_on() -> None:
    """Nothing stops a single sample."""


@torch.inference_mode()
def _timed(work: Callable[[], object]) -> float:
    """Seconds of wall time."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@torch.inference_mode()
def _device_timed(device: Device, work: Callable[[], object]) -> float:
    """Seconds on the device's own clock."""
    device.begin_layer()
    work()
    return device.end_layer().wait()
