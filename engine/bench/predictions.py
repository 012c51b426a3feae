"""How near the predictions came: the speeds that a plan promised beside those of the run after it, and each layer's.

What a layer's experts were predicted to take is what the planner worked with, corrections so far included. Pure.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from engine.messages import Event, LayerTrace, Snapshot


@dataclass(frozen=True, slots=True)
class Pair:
    """Tokens per second as promised before a run, and as they then were.

    Attributes:
        promised_decode, decode: Of the reply.
        promised_prefill, prefill: Of the prompt.
    """

    promised_decode: float
    decode: float
    promised_prefill: float
    prefill: float


@dataclass(frozen=True, slots=True)
class LayerErrors:
    """|predicted - measured| / measured of the time of single layers' experts.

    Attributes:
        median: Half of the layers were predicted better.
        p90: Nine in ten were.
        layers: How many there were.
    """

    median: float
    p90: float
    layers: int


class LayerWatch:
    """Hears a reply's events and keeps each layer's trace once, those of prompts and those of single tokens."""

    def __init__(self) -> None:
        """Nothing heard yet."""
        self._traces: dict[LayerTrace, None] = {}

    def __call__(self, event: Event) -> None:
        """Take the traces of a snapshot."""
        if isinstance(event, Snapshot):
            self._traces.update(dict.fromkeys(event.layers))

    def errors(self) -> dict[str, LayerErrors | None]:
        """The errors of "decode" and "prompt"; None where nothing was heard."""
        traces = list(self._traces)
        return {
            "decode": layer_errors([trace for trace in traces if trace.tokens == 1]),
            "prompt": layer_errors([trace for trace in traces if trace.tokens > 1]),
        }


def layer_errors(traces: Sequence[LayerTrace]) -> LayerErrors | None:
    """The errors of some layers; None where no time was measured.

    Args:
        traces: Each layer of a pass once.
    """
    pairs = [
        (max(trace.predicted_cpu_s, trace.predicted_gpu_s), max(trace.measured_cpu_s, trace.measured_gpu_s))
        for trace in traces
    ]
    errors = [abs(predicted_s - measured_s) / measured_s for predicted_s, measured_s in pairs if measured_s > 0]
    if not errors:
        return None
    return LayerErrors(statistics.median(errors), float(np.percentile(errors, 90)), len(errors))


def predictions(pairs: Sequence[Pair], errors: dict[str, LayerErrors | None]) -> dict[str, object]:
    """All of it by name, ready for JSON.

    Args:
        pairs: One for each run, at least one.
        errors: From `LayerWatch`.
    """
    return {
        "pairs": [asdict(pair) for pair in pairs],
        "promised_over_measured": {
            name: statistics.median(one / other for one, other in speeds) if speeds else None
            for name, speeds in _speeds(pairs).items()
        },
        "layer_errors": {name: asdict(found) if found else None for name, found in errors.items()},
    }


def as_lines(pairs: Sequence[Pair], errors: dict[str, LayerErrors | None]) -> Iterator[str]:
    """The same as a table.

    Args:
        pairs: As for `predictions`.
        errors: As for `predictions`.
    """
    yield f"{'predictions':20}{'promised':>10}{'measured':>10}{'off':>9}{'layers off':>12}{'9 in 10':>9}{'layers':>8}"
    for name, speeds in _speeds(pairs).items():
        found, told = errors[name], f"{'-':>10}{'-':>10}{'-':>9}"
        if speeds:
            promised, measured = (statistics.median(column) for column in zip(*speeds, strict=True))
            off = statistics.median(one / other for one, other in speeds) - 1.0
            told = f"{promised:>10.1f}{measured:>10.1f}{off:>+9.1%}"
        layers = f"{found.median:>12.1%}{found.p90:>9.1%}{found.layers:>8}" if found else f"{'-':>12}{'-':>9}{0:>8}"
        yield f"{name:20}{told}{layers}"


def _speeds(pairs: Sequence[Pair]) -> dict[str, list[tuple[float, float]]]:
    """Promised and measured; without those that had nothing to measure, as a reply of one token."""
    return {
        "decode": [(pair.promised_decode, pair.decode) for pair in pairs if pair.decode > 0],
        "prompt": [(pair.promised_prefill, pair.prefill) for pair in pairs if pair.prefill > 0],
    }
