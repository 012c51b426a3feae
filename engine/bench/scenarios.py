"""What `python -m engine bench` measures: prefill and decode of one model, memory, and the decoder's own cost.

A prompt of random tokens is computed and continued greedily past any end of text, so that every run does the same
work. The first repeat warms up and is not counted; speeds are medians of the others.
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import torch

from engine.bench.overhead import decode_layer_seconds, plan_seconds
from engine.bench.predictions import LayerErrors, LayerWatch, Pair, as_lines, predictions
from engine.config import EngineConfig, SamplingParams
from engine.engine import Engine
from engine.messages import Event, Finished, LayerTrace, Loading, PlacementPlan, Snapshot, Timings
from engine.planning import planned_kernels

SEED = 0


def run(
    model: str, config: EngineConfig, *, prompt_tokens: int, new_tokens: int, repeat: int, remeasure: bool = False
) -> dict[str, object]:
    """Measure a model.

    Args:
        model: What `Engine.load` takes.
        config: How to run it; the context is shortened to what the run needs.
        prompt_tokens: Length of the prompt, at least 1.
        new_tokens: Tokens to decode, at least 1.
        repeat: Counted runs, at least 1.
        remeasure: Measure the machine anew before each counted run, so that a promise and what follows are of the same
            minute: memory that others use too changes its speed.

    Returns:
        Figures by name, ready for JSON: speeds in tokens/s, times in seconds, sizes in bytes.

    Raises:
        RooftopError: As `Engine.load` and `Engine.generate`.
    """
    with tempfile.TemporaryDirectory() as cache:
        config = replace(
            config,
            context_tokens=max(16, prompt_tokens + new_tokens),
            cost_cache_dir=config.cost_cache_dir or cache,
        )
        before_bytes = peak_rss_bytes()
        started = time.perf_counter()
        loading = LoadWatch()
        with Engine.load(model, config, loading) as engine:
            load_s = time.perf_counter() - started
            loaded_bytes = peak_rss_bytes()
            measured = _measure(engine, prompt_tokens, new_tokens, repeat, remeasure=remeasure)
            return _report(engine, measured) | {
                "load_s": load_s,
                "weights_bytes_per_s": loading.bytes_per_s,
                "rss_before_load_bytes": before_bytes,
                "peak_rss_after_load_bytes": loaded_bytes,
                "load_overhead_bytes": loaded_bytes - _held_in_ram_bytes(engine),
                "peak_rss_bytes": peak_rss_bytes(),
                "dense_layer_hidden64_s": decode_layer_seconds(planned_kernels(config)),
                "plan_qwen3_30b_s": plan_seconds(),
                "prompt_tokens": prompt_tokens,
                "new_tokens": new_tokens,
                "repeat": repeat,
            }


class LoadWatch:
    """Hears the events of a load and times how the weights come in: read, packed and checked.

    Attributes:
        bytes_per_s: Bytes of the files over the time from opening them to the last weight in place.
    """

    def __init__(self) -> None:
        """Nothing heard yet."""
        self._opened_s = time.perf_counter()
        self.bytes_per_s = 0.0

    def __call__(self, event: Event) -> None:
        """Take the last word of the reading phases."""
        if isinstance(event, Loading) and event.total_bytes and event.done_bytes == event.total_bytes:
            self.bytes_per_s = event.total_bytes / (time.perf_counter() - self._opened_s)


def peak_rss_bytes() -> int:
    """The most memory that this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@dataclass(slots=True)
class _Measured:
    """The counted runs: timings, promises beside them, what snapshots told, and the inside after the last."""

    timings: list[Timings]
    pairs: list[Pair]
    errors: dict[str, LayerErrors | None]
    snapshot: Snapshot


def _measure(engine: Engine, prompt_tokens: int, new_tokens: int, repeat: int, *, remeasure: bool) -> _Measured:
    """Run a model several times; the first one warms up."""
    generator = torch.Generator().manual_seed(SEED)
    sampling = SamplingParams(max_tokens=new_tokens, temperature=0.0, ignore_eos=True)
    timings: list[Timings] = []
    pairs: list[Pair] = []
    watch = LayerWatch()
    for index in range(repeat + 1):
        if index > 0 and remeasure:
            engine.loaded.decoder.cache.tokens.clear()  # measuring needs room
            engine.recalibrate()
        # Each run's prompt is another one, so that nothing is found in the cache.
        prompt = torch.randint(engine.model.vocab_size, (prompt_tokens,), generator=generator).tolist()
        watch = watch if index > 1 else LayerWatch()
        for event in engine.generate(prompt, sampling):
            watch(event)
            if isinstance(event, Finished):
                timings.append(event.timings)
        pairs.append(_pair(engine.plan, timings[-1]))
    return _Measured(timings[1:], pairs[1:], watch.errors(), engine.snapshot())


def _pair(plan: PlacementPlan, timings: Timings) -> Pair:
    """What was promised for a run, and how it was."""
    return Pair(
        promised_decode=plan.predicted_decode_tokens_per_s,
        decode=timings.decode_tokens_per_s,
        promised_prefill=plan.predicted_prefill_tokens_per_s,
        prefill=timings.prefill_tokens_per_s,
    )


def prediction_lines(figures: Mapping[str, object]) -> list[str]:
    """The predictions of a run as a table.

    Args:
        figures: From `run`.
    """
    found = cast("dict[str, Any]", figures["predictions"])
    errors = {name: LayerErrors(**fields) if fields else None for name, fields in found["layer_errors"].items()}
    return list(as_lines([Pair(**fields) for fields in found["pairs"]], errors))


def _report(engine: Engine, measured: _Measured) -> dict[str, object]:
    """The figures that come from the engine's own events."""
    timings, snapshot = measured.timings, measured.snapshot
    ready, costs = engine.ready, engine.ready.planning.costs
    return {
        "model": engine.model.name,
        "device": ready.device_name,
        "simulated": ready.simulated,
        "policy": ready.effective.policy,
        "cpu_threads": ready.effective.cpu_threads,
        "kernels": ready.planning.kernels,
        "prefill_tokens_per_s": statistics.median(timing.prefill_tokens_per_s for timing in timings),
        "decode_tokens_per_s": statistics.median(timing.decode_tokens_per_s for timing in timings),
        "ttft_s": statistics.median(timing.ttft_s for timing in timings),
        "predicted_decode_tokens_per_s": ready.plan.predicted_decode_tokens_per_s,
        "predicted_prefill_tokens_per_s": ready.plan.predicted_prefill_tokens_per_s,
        "hit_rate": snapshot.hits / snapshot.visits if snapshot.visits else 0.0,
        "predicted_hit_rate": ready.plan.predicted_hit_rate,
        "peak_vram_bytes": _peak_vram_bytes(snapshot),
        "host_bytes": ready.plan.host_bytes,
        "vram_bytes": snapshot.vram_bytes,
        "predictions": predictions(measured.pairs, measured.errors),
        "costs": asdict(costs),
        "layers": [_layer(trace) for trace in snapshot.layers],
    }


def _held_in_ram_bytes(engine: Engine) -> int:
    """Weights and KV cache in their final form, as far as they are in RAM; a simulated GPU's memory is."""
    snapshot = engine.snapshot()
    held = sum(snapshot.host_bytes.values())
    if engine.ready.simulated:
        held += sum(snapshot.vram_bytes.values()) - snapshot.vram_bytes["workspace"]
    return held


def _peak_vram_bytes(snapshot: Snapshot) -> int:
    """What the GPU held at most: CUDA's own count where there is one, else the accounted bytes."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else sum(snapshot.vram_bytes.values())


def _layer(trace: LayerTrace) -> dict[str, object]:
    """One layer of the last decoded token."""
    places = [run.place for run in trace.runs]
    return {
        "layer": trace.layer,
        "cpu": places.count("cpu"),
        "gpu": places.count("gpu"),
        "streamed": places.count("stream"),
        "predicted_s": max(trace.predicted_cpu_s, trace.predicted_gpu_s),
        "measured_s": max(trace.measured_cpu_s, trace.measured_gpu_s),
    }
