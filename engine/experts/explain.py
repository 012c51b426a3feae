"""Words for the screen: why an expert ran where it did, and sizes and times as people read them.

Knows the traces and nothing else; every sentence is true of the numbers that the planner decided by.
"""

from __future__ import annotations

import math

from engine.messages import ExpertRun, LayerTrace
from engine.sentences import Number, Sentence, join, say, say_count
from engine.sizes import Rounding as Rounding  # noqa: PLC0414 - handed on: sizes belong to these words
from engine.sizes import human_bytes as human_bytes  # noqa: PLC0414
from engine.sizes import measure

MAX_SENTENCES = 12


def human_seconds(seconds: float) -> Sentence:
    """A time in words, e.g. "1.1 ms", "42 µs", "3.5 s"."""
    for scale, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        value = seconds * scale
        if value >= 0.9995 or unit == "µs":
            break
    return measure(f"{value:.0f}" if value >= 99.5 or value == 0.0 else f"{value:.1f}", unit)


def human_speed(tokens_per_s: float) -> Sentence:
    """A speed in words, e.g. "0.37 tokens/s", "12 tokens/s"."""
    number = f"{tokens_per_s:.2g}" if tokens_per_s < 99.5 else f"{tokens_per_s:.0f}"
    return say("{number} tokens/s", number=Number(number))


def human_percent(share: float) -> Sentence:
    """A share of 1 in words, e.g. "12 %"."""
    return measure(f"{100 * share:.0f}", "%")


def human_tokens(count: int) -> Sentence:
    """A number of tokens, e.g. "1 token", "12 tokens"."""
    return say_count("1 token", "%n tokens", count)


def make_way_words(taken_bytes: int, came: int) -> Sentence:
    """One sentence: what other programs' use of VRAM did to the residents.

    Args:
        taken_bytes: What they hold more than before; negative where they hold less.
        came: Experts that are in VRAM now and were not; negative for those that left.
    """
    size = human_bytes(abs(taken_bytes))
    if taken_bytes > 0:
        taken = say("Another program took {size} of VRAM", size=size)
        if came >= 0:
            return say("{what}: no expert had to move.", what=taken)
        return say_count("{what}: 1 expert moved to RAM.", "{what}: %n experts moved to RAM.", -came, what=taken)
    freed = say("{size} of VRAM became free", size=size)
    if came <= 0:
        return say("{what}: no expert had room to come back.", what=freed)
    return say_count("{what}: 1 expert came back.", "{what}: %n experts came back.", came, what=freed)


def expert_name(expert: int, parts: int) -> str:
    """What to call an expert, or a part of one.

    Args:
        expert: Its index, that of the part where experts are in parts.
        parts: How many each is in.
    """
    if parts == 1:
        return str(expert)
    return say("{expert} (part {part} of {parts})", expert=expert // parts, part=expert % parts + 1, parts=parts)


def explain_run(run: ExpertRun, trace: LayerTrace, *, has_gpu: bool) -> Sentence:
    """One sentence: where an expert ran and why.

    Args:
        run: One of the trace's runs.
        trace: The layer's latest pass; what the sides were busy with is part of the reason.
        has_gpu: Whether there is a GPU, real or simulated.
    """
    expert, tokens = expert_name(run.expert, trace.expert_parts), human_tokens(run.tokens)
    cpu, gpu = human_seconds(run.cpu_s), human_seconds(run.gpu_s)
    if run.place == "gpu":
        return say(
            "Expert {expert} on GPU: its weights live there ({tokens}, {time}).", expert=expert, tokens=tokens, time=gpu
        )
    if run.place == "stream":
        why = _why_streamed(run, trace)
        return say("Expert {expert} streamed to the GPU: {why} ({tokens}).", expert=expert, why=why, tokens=tokens)
    if not has_gpu:
        return say(
            "Expert {expert} on CPU: there is no GPU ({tokens}, {time}).", expert=expert, tokens=tokens, time=cpu
        )
    return say("Expert {expert} on CPU: {why} ({tokens}).", expert=expert, why=_why_cpu(run, trace), tokens=tokens)


def explain_layer(trace: LayerTrace, *, has_gpu: bool) -> Sentence:
    """Several lines: how many experts ran where, predicted and measured times, then a sentence for each expert.

    Args:
        trace: The layer's latest pass.
        has_gpu: Whether there is a GPU, real or simulated.
    """
    tokens = human_tokens(trace.tokens)
    places = _places(trace)
    if trace.expert_parts > 1:
        places = say("of experts in {number} parts {places}", number=trace.expert_parts, places=places)
    lines = [say("Layer {layer}, {tokens}: {places}.", layer=trace.layer, tokens=tokens, places=places)]
    lines += [*_sides(trace), *(explain_run(run, trace, has_gpu=has_gpu) for run in trace.runs[:MAX_SENTENCES])]
    hidden = len(trace.runs) - MAX_SENTENCES
    if hidden > 0:
        lines.append(say("and {number} more.", number=hidden))
    return join(lines, "\n")


def _why_streamed(run: ExpertRun, trace: LayerTrace) -> Sentence:
    """Cheaper by itself, or cheaper because the CPU has others to do, or the policy's will."""
    cpu, copy, there = human_seconds(run.cpu_s), human_seconds(run.copy_s), human_seconds(run.gpu_s)
    there_s = run.copy_s + run.gpu_s
    if run.copy_s == 0.0:
        return say("its weights were copied while the layer before ran, {gpu} there", gpu=there)
    if run.cpu_s > there_s:
        return say("{cpu} on the CPU, {copy} to copy its weights and {gpu} there", cpu=cpu, copy=copy, gpu=there)
    if any(other.place == "cpu" for other in trace.runs):
        busy = human_seconds(trace.predicted_cpu_s)
        return say("{copy} to copy its weights while the CPU is busy for {busy} with others", copy=copy, busy=busy)
    once_s = trace.activation_s + trace.cpu_call_s
    if run.cpu_s + once_s > there_s:
        return say(
            "{cpu} on the CPU and {once} to call it and to bring activations there and back, "
            "{copy} to copy its weights and {gpu} there",
            cpu=cpu,
            once=human_seconds(once_s),
            copy=copy,
            gpu=there,
        )
    if trace.policy == "gpu_stream":
        return say(
            "{copy} to copy its weights, though the CPU would take {cpu}: the policy streams every expert",
            copy=copy,
            cpu=cpu,
        )
    waiting = human_seconds(once_s + sum(other.cpu_s for other in trace.runs if other.place == "stream"))
    return say("{copy} to copy its weights; all streamed experts would take the CPU {all}", copy=copy, all=waiting)


def _why_cpu(run: ExpertRun, trace: LayerTrace) -> Sentence:
    """Quicker here, or the GPU is busy, or the policy's will."""
    here = human_seconds(run.cpu_s)
    if math.isinf(run.copy_s):
        return say("{here} here, and VRAM has no room to stream its weights through", here=here)
    copy, there = human_seconds(run.copy_s), human_seconds(run.gpu_s)
    by_policy = trace.policy == "cpu_only"
    if by_policy and run.copy_s == 0.0:
        return say("{here} here, though its weights live on the GPU: the policy uses the CPU only", here=here)
    if run.cpu_s <= run.copy_s:
        return say("{here} here, {copy} to copy its weights", here=here, copy=copy)
    if by_policy and run.cpu_s > run.copy_s + run.gpu_s:
        return say("{here} here, {copy} to copy its weights: the policy uses the CPU only", here=here, copy=copy)
    if run.cpu_s > run.copy_s + run.gpu_s and trace.predicted_gpu_s > 0.0:
        busy = human_seconds(trace.predicted_gpu_s)
        return say(
            "{here} here; copying takes {copy}, but the GPU is already busy for {busy}",
            here=here,
            copy=copy,
            busy=busy,
        )
    return say("{here} here, {copy} to copy its weights and {gpu} there", here=here, copy=copy, gpu=there)


def _places(trace: LayerTrace) -> Sentence:
    """How many experts ran where."""
    gpu, stream, cpu = (sum(run.place == place for run in trace.runs) for place in ("gpu", "stream", "cpu"))
    parts = (
        (gpu, say("{number} on GPU", number=gpu)),
        (stream, say("{number} streamed", number=stream)),
        (cpu, say("{number} on CPU", number=cpu)),
    )
    present = [words for count, words in parts if count]
    return join(present, ", ") if present else say("no experts")


def _sides(trace: LayerTrace) -> list[Sentence]:
    """A line for each side that had work."""
    sides = (
        ("CPU", trace.predicted_cpu_s, trace.measured_cpu_s),
        ("GPU", trace.predicted_gpu_s, trace.measured_gpu_s),
    )
    return [
        say(
            "{side}: {predicted} predicted, {measured} measured.",
            side=name,
            predicted=human_seconds(predicted_s),
            measured=human_seconds(measured_s),
        )
        for name, predicted_s, measured_s in sides
        if predicted_s > 0.0 or measured_s > 0.0
    ]
