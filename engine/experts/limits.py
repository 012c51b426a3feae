"""What limits the speed now, in one sentence, from what the latest pass was measured to take and to move.

Rates are bytes that really moved over time that was really measured; what the machine can do is what an expert by
itself showed when the costs were measured. Which part of a side's time is memory, arithmetic or fixed cost is the cost
model's division, and said to be. What more VRAM would give is a plan's prediction. Pure and torch-free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from engine.config import EngineConfig, ModelConfig
from engine.experts.cost_model import predict
from engine.experts.explain import human_bytes, human_percent, human_seconds
from engine.experts.placement import make_plan
from engine.messages import CostCurve, CostModel, LayerTrace, PlacementPlan, PlanningInputs
from engine.sentences import Number, Sentence, say, say_count

MORE_VRAM_BYTES = 2 << 30
NOTICEABLE = 0.01  # a gain below that is none
NOTHING_RAN = say("Nothing has run yet.")
NOTHING_KNOWN = Sentence()

LimitKind = Literal["unknown", "ram", "arithmetic", "overhead", "link", "gpu", "dense"]

_CurvePart = Literal["floor", "slope", "overhead"]


@dataclass(frozen=True, slots=True)
class Rates:
    """Bytes per second; None for what did not happen, or is not known.

    Attributes:
        ram: Weights of experts read on the CPU.
        link: Weights of experts copied to the GPU.
        gpu: Weights of experts read on the GPU.
    """

    ram: float | None = None
    link: float | None = None
    gpu: float | None = None


@dataclass(frozen=True, slots=True)
class Gain:
    """What more VRAM would give, predicted.

    Attributes:
        extra_bytes: How much more.
        share: 0.18 = 18 % more tokens per second in decode.
    """

    extra_bytes: int
    share: float


@dataclass(frozen=True, slots=True)
class Limit:
    """What limits the speed.

    Attributes:
        kind: What it is.
        sentence: It in words, with what was measured.
        advice: What would help, or why nothing would; "" where nothing is known.
    """

    kind: LimitKind
    sentence: str
    advice: str = NOTHING_KNOWN


def measured_rates(traces: Sequence[LayerTrace], model: ModelConfig) -> Rates:
    """What the latest pass moved per second.

    An expert's weights count once for each pass that ran it. Copies have no clock of their own: theirs is the GPU
    side's time in the layers that copied, in which the GPU computed too, so that the link was at least as fast. Layers
    that copied say nothing about the GPU's own memory.
    """
    cpu_s = link_s = gpu_s = 0.0
    cpu_bytes = link_bytes = gpu_bytes = 0
    for trace in traces:
        size = model.layer_expert_bytes(trace.layer)
        places = [run.place for run in trace.runs]
        if trace.measured_cpu_s > 0.0:
            cpu_bytes += size * places.count("cpu")
            cpu_s += trace.measured_cpu_s
        if trace.measured_gpu_s > 0.0 and "stream" in places:
            link_bytes += size * places.count("stream")
            link_s += trace.measured_gpu_s
        elif trace.measured_gpu_s > 0.0:
            gpu_bytes += size * places.count("gpu")
            gpu_s += trace.measured_gpu_s
    return Rates(_rate(cpu_bytes, cpu_s), _rate(link_bytes, link_s), _rate(gpu_bytes, gpu_s))


def machine_rates(costs: CostModel, model: ModelConfig) -> Rates:
    """What one expert and one token reached when the costs were measured; nothing where they were only assumed."""
    if costs.source == "assumed":
        return Rates()
    size = model.experts_bytes / (model.layers * model.experts)

    def rate(curve: CostCurve | None) -> float | None:
        """One expert over its time."""
        return _rate(size, predict(curve, 1)) if curve is not None else None

    return Rates(rate(costs.cpu_expert), rate(costs.weight_copy), rate(costs.gpu_expert))


def _rate(size_bytes: float, seconds: float) -> float | None:
    return size_bytes / seconds if size_bytes > 0 and seconds > 0 else None


def human_rate(bytes_per_s: float) -> Sentence:
    """A rate in decimal gigabytes, as drives and memories are sold, e.g. "61 GB/s", "3.4 GB/s"."""
    return say("{number} {unit}", number=_gigabytes(bytes_per_s), unit="GB/s")


def _gigabytes(bytes_per_s: float) -> Number:
    value = bytes_per_s / 1e9
    digits = 0 if value >= 9.95 else 1 if value >= 0.095 else 3
    return Number(f"{value:.{digits}f}")


def more_vram(planning: PlanningInputs, config: EngineConfig, plan: PlacementPlan) -> Gain | None:
    """What more VRAM would give by the plan's own arithmetic; None without a GPU, or with every expert there already.

    Args:
        planning: What the plan in force was made from.
        config: The settings in force.
        plan: The plan in force.
    """
    model, hardware = planning.model, planning.hardware
    resident_bytes = sum(len(layer) * model.layer_expert_bytes(i) for i, layer in enumerate(plan.resident_by_layer))
    missing_bytes = model.experts_bytes - resident_bytes
    if plan.device == "cpu" or missing_bytes <= 0:
        return None
    extra = min(MORE_VRAM_BYTES, missing_bytes)
    gpu = replace(hardware.gpu, total_bytes=hardware.gpu.total_bytes + extra) if hardware.gpu else None
    ram = (hardware.ram_total_bytes, hardware.ram_available_bytes)
    if plan.device == "simulated":  # whose memory is RAM that this question does not take
        ram = (ram[0] + extra, ram[1] + extra)
    larger = replace(
        planning,
        hardware=replace(hardware, gpu=gpu, ram_total_bytes=ram[0], ram_available_bytes=ram[1]),
    )
    now = make_plan(planning, config)
    then = make_plan(
        larger,
        replace(
            config,
            vram_budget_bytes=plan.vram_budget_bytes + extra,
            simulated_vram_bytes=config.simulated_vram_bytes + extra,
        ),
    )
    if not (now.fits and then.fits) or now.predicted_decode_tokens_per_s <= 0:
        return None
    return Gain(extra, then.predicted_decode_tokens_per_s / now.predicted_decode_tokens_per_s - 1.0)


# ---- the sentence ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sides:
    """Where the time of a pass went: in layers that waited for the CPU, for the GPU, and around the experts."""

    cpu_s: float
    gpu_s: float
    around_s: float | None  # None where it was not measured

    @classmethod
    def of(cls, traces: Sequence[LayerTrace], token_s: float) -> _Sides:
        """Divide a pass."""
        pairs = [(trace.measured_cpu_s, trace.measured_gpu_s) for trace in traces]
        cpu_s = sum(cpu for cpu, gpu in pairs if cpu >= gpu)
        gpu_s = sum(gpu for cpu, gpu in pairs if cpu < gpu)
        decoding = token_s > 0.0 and all(trace.tokens == 1 for trace in traces)
        return cls(cpu_s, gpu_s, max(0.0, token_s - cpu_s - gpu_s) if decoding else None)


def limit_now(
    planning: PlanningInputs,
    plan: PlacementPlan,
    traces: Sequence[LayerTrace],
    token_s: float,
    gain: Gain | None = None,
    *,
    on_disk: bool = False,
) -> Limit:
    """What the latest pass waited for most.

    Args:
        planning: What the plan in force was made from.
        plan: The plan in force.
        traces: The latest pass.
        token_s: Measured time of a token in decode; 0 where it is not known.
        gain: From `more_vram`.
        on_disk: Whether the experts are kept in a file, which their reads may come from.
    """
    sides = _Sides.of(traces, token_s)
    if sides.cpu_s + sides.gpu_s <= 0.0:
        return Limit("unknown", NOTHING_RAN)
    advice = _advice(planning, plan, traces, gain)
    # On a simulated GPU's machine the token really takes what the CPU takes to imitate it.
    around_s = None if plan.device == "simulated" else sides.around_s
    if around_s is not None and around_s > max(sides.cpu_s, sides.gpu_s):
        words = say(
            "Attention, dense weights and choosing the token: {time} of {total} a token; experts take the rest.",
            time=human_seconds(around_s),
            total=human_seconds(around_s + sides.cpu_s + sides.gpu_s),
        )
        return Limit("dense", words, advice)
    if sides.cpu_s >= sides.gpu_s:
        return _cpu_limit(planning, traces, advice, on_disk=on_disk)
    return _gpu_limit(planning, plan, traces, advice)


def _cpu_limit(planning: PlanningInputs, traces: Sequence[LayerTrace], advice: Sentence, *, on_disk: bool) -> Limit:
    """The CPU's experts: memory, arithmetic, or fixed costs."""
    model, curve = planning.model, planning.costs.cpu_expert
    tokens = [run.tokens for trace in traces for run in trace.runs if run.place == "cpu"]
    part, share = _largest_part(curve, tokens)
    cpu_s = sum(trace.measured_cpu_s for trace in traces)
    if part == "overhead":
        return Limit("overhead", _overhead(say("CPU"), share, model), advice)
    if part == "slope":
        operations = 2 * model.expert_parameters * sum(tokens) / cpu_s
        words = say(
            "Arithmetic on the CPU: {number} GFLOP/s for {tokens}.",
            number=Number(f"{operations / 1e9:,.0f}"),
            tokens=_tokens(traces),
        )
        return Limit("arithmetic", words, advice)
    measured, best = measured_rates(traces, model).ram, machine_rates(planning.costs, model).ram
    if on_disk:
        return Limit("ram", say("Reading experts from disk and RAM: {rate}.", rate=_of(measured, None)), advice)
    return Limit("ram", say("RAM bandwidth: {rate}.", rate=_of(measured, best)), advice)


def _gpu_limit(planning: PlanningInputs, plan: PlacementPlan, traces: Sequence[LayerTrace], advice: Sentence) -> Limit:
    """The GPU's side: copies to it, its memory, its arithmetic, or fixed costs."""
    model, costs = planning.model, planning.costs
    gpu = say("simulated GPU") if plan.device == "simulated" else say("GPU")
    runs = [run for trace in traces for run in trace.runs if run.place != "cpu"]
    copies_s = sum(run.copy_s for run in runs if run.place == "stream")
    measured, best = measured_rates(traces, model), machine_rates(costs, model)
    if copies_s > sum(run.gpu_s for run in runs):
        rate = _of(measured.link, best.link)
        return Limit("link", say("The link to the {gpu}: at least {rate}.", gpu=gpu, rate=rate), advice)
    time, tokens = human_seconds(sum(trace.measured_gpu_s for trace in traces)), _tokens(traces)
    part, share = _largest_part(costs.gpu_expert or costs.cpu_expert, [run.tokens for run in runs])
    if part == "overhead":
        return Limit("overhead", _overhead(gpu, share, model), advice)
    if part == "slope":
        words = say("Arithmetic on the {gpu}: {time} for {tokens}.", gpu=gpu, time=time, tokens=tokens)
        return Limit("arithmetic", words, advice)
    if measured.gpu is None:
        words = say("The {gpu}'s own memory: {time} for the experts of {tokens}.", gpu=gpu, time=time, tokens=tokens)
    else:
        words = say(
            "The {gpu}'s own memory: {time} for the experts of {tokens} ({rate}).",
            gpu=gpu,
            time=time,
            tokens=tokens,
            rate=_of(measured.gpu, best.gpu),
        )
    return Limit("gpu", words, advice)


def _overhead(device: Sentence, share: float, model: ModelConfig) -> Sentence:
    """What starting experts costs, which is much only for small ones."""
    return say(
        "Fixed costs of starting experts on the {device}, {share} of their time by the cost model: "
        "one expert is only {size}.",
        device=device,
        share=human_percent(share),
        size=human_bytes(model.expert_bytes),
    )


def _advice(planning: PlanningInputs, plan: PlacementPlan, traces: Sequence[LayerTrace], gain: Gain | None) -> Sentence:
    """What more VRAM would give."""
    if plan.device == "cpu":
        if planning.hardware.gpu is None:
            return say("There is no GPU that could take experts.")
        return say("No GPU is used.")
    if plan.resident_experts == planning.model.total_experts:
        return say("Every expert is in VRAM: more would not help.")
    if gain is None or any(trace.tokens > 1 for trace in traces):  # the prediction is about decode
        return NOTHING_KNOWN
    extra = human_bytes(gain.extra_bytes)
    vram = say("simulated VRAM") if plan.device == "simulated" else say("VRAM")
    if gain.share < NOTICEABLE:
        return say("{size} more {vram} would change little, by prediction.", size=extra, vram=vram)
    share = human_percent(gain.share)
    return say("{size} more {vram} would give +{share}, by prediction.", size=extra, vram=vram, share=share)


def _largest_part(curve: CostCurve, tokens: Sequence[int]) -> tuple[_CurvePart, float]:
    """Which part of a cost curve makes up most of some experts' time, and how much of it."""
    parts: dict[_CurvePart, float] = {"floor": 0.0, "slope": 0.0, "overhead": len(tokens) * curve.overhead_s}
    for count in tokens:
        work_s = count * curve.per_unit_s
        # Where no measurement lay beside the floor, one token's work is the reading of the weights.
        on_floor = work_s <= curve.floor_s or count == 1
        parts["floor" if on_floor else "slope"] += max(work_s, curve.floor_s)
    total_s = sum(parts.values())
    part = max(parts, key=lambda name: parts[name])
    return part, parts[part] / total_s if total_s > 0 else 0.0


def _of(measured: float | None, best: float | None) -> Sentence:
    """A rate beside the one that the machine showed."""
    if measured is None:
        return say("not measured")
    if best is None:
        return human_rate(measured)
    if measured <= best:
        return say("{measured} of {best}", measured=_gigabytes(measured), best=human_rate(best))
    return say(
        "{measured}, where one expert alone reached {best}", measured=human_rate(measured), best=human_rate(best)
    )


def _tokens(traces: Sequence[LayerTrace]) -> Sentence:
    return say_count("one token", "%n tokens at a time", max(trace.tokens for trace in traces))
