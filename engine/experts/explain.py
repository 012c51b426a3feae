"""Words for the screen: why an expert ran where it did, and sizes and times as people read them.

Knows the traces and nothing else; every sentence is true of the numbers that the planner decided by.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from engine.messages import ExpertRun, LayerTrace

Rounding = Literal["nearest", "up", "down"]

MAX_SENTENCES = 12

_BYTE_UNITS = ("KiB", "MiB", "GiB", "TiB")
_ROUND: dict[Rounding, Callable[[float], int]] = {"nearest": round, "up": math.ceil, "down": math.floor}


def human_bytes(size_bytes: int, rounding: Rounding = "nearest") -> str:
    """A size in words, e.g. "5.2 GiB", "512 MiB", "900 bytes".

    Args:
        size_bytes: At least 0.
        rounding: "up" for what is needed, "down" for what is available: then the words are as true as the numbers.
    """
    if size_bytes < 1024:
        return f"{size_bytes} bytes"
    power = min(len(_BYTE_UNITS), (size_bytes.bit_length() - 1) // 10)
    tenths = size_bytes * 10 / 1024**power
    step = 1 if tenths < 1000 else 10
    rounded = _ROUND[rounding](tenths / step) * step
    return f"{rounded // 10}{f'.{rounded % 10}' if rounded < 1000 else ''} {_BYTE_UNITS[power - 1]}"


def human_seconds(seconds: float) -> str:
    """A time in words, e.g. "1.1 ms", "42 us", "3.5 s"."""
    for scale, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        value = seconds * scale
        if value >= 0.9995 or unit == "us":
            break
    return f"{value:.0f} {unit}" if value >= 99.5 or value == 0.0 else f"{value:.1f} {unit}"


def human_speed(tokens_per_s: float) -> str:
    """A speed in words, e.g. "0.37 tokens/s", "12 tokens/s"."""
    return f"{tokens_per_s:.2g} tokens/s" if tokens_per_s < 99.5 else f"{tokens_per_s:.0f} tokens/s"


def make_way_words(taken_bytes: int, came: int) -> str:
    """One sentence: what other programs' use of VRAM did to the residents.

    Args:
        taken_bytes: What they hold more than before; negative where they hold less.
        came: Experts that are in VRAM now and were not; negative for those that left.
    """
    experts = f"{abs(came)} expert{'' if abs(came) == 1 else 's'}"
    if taken_bytes > 0:
        moved = f"{experts} moved to RAM" if came < 0 else "no expert had to move"
        return f"Another program took {human_bytes(taken_bytes)} of VRAM: {moved}."
    moved = f"{experts} came back" if came > 0 else "no expert had room to come back"
    return f"{human_bytes(-taken_bytes)} of VRAM became free: {moved}."


def explain_run(run: ExpertRun, trace: LayerTrace, *, has_gpu: bool) -> str:
    """One sentence: where an expert ran and why.

    Args:
        run: One of the trace's runs.
        trace: The layer's latest pass; what the sides were busy with is part of the reason.
        has_gpu: Whether there is a GPU, real or simulated.
    """
    tokens = _tokens(run.tokens)
    cpu = human_seconds(run.cpu_s)
    if run.place == "gpu":
        return f"Expert {run.expert} on GPU: its weights live there ({tokens}, {human_seconds(run.gpu_s)})."
    if run.place == "stream":
        return f"Expert {run.expert} streamed to the GPU: {_why_streamed(run, trace)} ({tokens})."
    if not has_gpu:
        return f"Expert {run.expert} on CPU: there is no GPU ({tokens}, {cpu})."
    return f"Expert {run.expert} on CPU: {_why_cpu(run, trace)} ({tokens})."


def explain_layer(trace: LayerTrace, *, has_gpu: bool) -> str:
    """Several lines: how many experts ran where, predicted and measured times, then a sentence for each expert.

    Args:
        trace: The layer's latest pass.
        has_gpu: Whether there is a GPU, real or simulated.
    """
    lines = [f"Layer {trace.layer}, {_tokens(trace.tokens)}: {_places(trace)}.", *_sides(trace)]
    lines += [explain_run(run, trace, has_gpu=has_gpu) for run in trace.runs[:MAX_SENTENCES]]
    hidden = len(trace.runs) - MAX_SENTENCES
    if hidden > 0:
        lines.append(f"and {hidden} more.")
    return "\n".join(lines)


def _why_streamed(run: ExpertRun, trace: LayerTrace) -> str:
    """Cheaper by itself, or cheaper because the CPU has others to do, or the policy's will."""
    cpu, copy = human_seconds(run.cpu_s), human_seconds(run.copy_s)
    there_s = run.copy_s + run.gpu_s
    if run.cpu_s > there_s:
        return f"{cpu} on the CPU, {copy} to copy its weights and {human_seconds(run.gpu_s)} there"
    if trace.predicted_cpu_s == 0.0 and run.cpu_s + trace.activation_s > there_s:
        return (
            f"{cpu} on the CPU and {human_seconds(trace.activation_s)} to bring activations there and back, "
            f"{copy} to copy its weights and {human_seconds(run.gpu_s)} there"
        )
    if trace.predicted_cpu_s > 0.0:
        return (
            f"{copy} to copy its weights while the CPU is busy for {human_seconds(trace.predicted_cpu_s)} with others"
        )
    waiting_s = sum(other.cpu_s for other in trace.runs if other.place == "stream")
    if waiting_s + trace.activation_s > trace.predicted_gpu_s:
        return f"{copy} to copy its weights; all streamed experts would take the CPU {human_seconds(waiting_s)}"
    return f"{copy} to copy its weights, though the CPU would take {cpu}: the policy streams every expert"


def _why_cpu(run: ExpertRun, trace: LayerTrace) -> str:
    """Quicker here, or the GPU is busy, or the policy's will."""
    if math.isinf(run.copy_s):
        return f"{human_seconds(run.cpu_s)} here, and VRAM has no room to stream its weights through"
    here, copy = human_seconds(run.cpu_s), human_seconds(run.copy_s)
    if run.copy_s == 0.0:
        return f"{here} here, though its weights live on the GPU: the policy uses the CPU only"
    if run.cpu_s <= run.copy_s:
        return f"{here} here, {copy} to copy its weights"
    if run.cpu_s <= run.copy_s + run.gpu_s:
        return f"{here} here, {copy} to copy its weights and {human_seconds(run.gpu_s)} there"
    if trace.predicted_gpu_s > 0.0:
        return (
            f"{here} here; copying takes {copy}, but the GPU is already busy for {human_seconds(trace.predicted_gpu_s)}"
        )
    return f"{here} here, {copy} to copy its weights: the policy uses the CPU only"


def _places(trace: LayerTrace) -> str:
    """How many experts ran where."""
    places = [run.place for run in trace.runs]
    words = (("gpu", "on GPU"), ("stream", "streamed"), ("cpu", "on CPU"))
    parts = [f"{places.count(place)} {name}" for place, name in words if place in places]
    return ", ".join(parts) or "no experts"


def _sides(trace: LayerTrace) -> list[str]:
    """A line for each side that had work."""
    sides = (
        ("CPU", trace.predicted_cpu_s, trace.measured_cpu_s),
        ("GPU", trace.predicted_gpu_s, trace.measured_gpu_s),
    )
    return [
        f"{name}: {human_seconds(predicted_s)} predicted, {human_seconds(measured_s)} measured."
        for name, predicted_s, measured_s in sides
        if predicted_s > 0.0 or measured_s > 0.0
    ]


def _tokens(count: int) -> str:
    """A count of tokens with its noun."""
    return "1 token" if count == 1 else f"{count} tokens"
