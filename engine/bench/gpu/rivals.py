"""The other engines on the same model with the same VRAM, where they are installed.

llama.cpp keeps whole layers' experts on the CPU. How few it can is worked out from the file, then held against what the
driver says that it took; the fewest that fit and one more are measured, and with larger batches too: for each scenario
the best counts. accelerate gets the budget for its weights alone.
"""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.bench.gpu.cells import Model, Scenario
from engine.bench.models import FIRST_WORD_ID
from engine.bench.peer_process import PeerProcess
from engine.bench.peers import BATCH_TOKENS
from engine.errors import EngineFailure

LARGE_BATCH_TOKENS = 2048

_WARM_TOKENS = 4
_WORK_BYTES = 700 << 20  # CUDA's context and llama.cpp's buffers, before it is measured


@dataclass(frozen=True, slots=True)
class Match:
    """What a rival is measured on.

    Attributes:
        model: The model.
        path: Its file.
        vram_bytes: VRAM that it may take in all.
        scenarios: The conversations.
        threads: CPU threads.
        context_tokens: Length of the context.
        repeat: Counted runs; the median counts.
        vram_used: VRAM in use by all programs; None where nobody can tell.
    """

    model: Model
    path: Path
    vram_bytes: int
    scenarios: Sequence[Scenario]
    threads: int
    context_tokens: int
    repeat: int
    vram_used: Callable[[], int | None]


def llama_cpp(match: Match) -> dict[str, Any]:
    """llama.cpp, its best setting for each scenario."""
    if importlib.util.find_spec("llama_cpp") is None:
        return _absent("llama-cpp-python is not installed.")
    variants: list[dict[str, Any]] = []
    try:
        for batch_tokens in (BATCH_TOKENS, LARGE_BATCH_TOKENS):
            found = _fewest(match, batch_tokens)
            variants += found
            if found and batch_tokens == BATCH_TOKENS and found[-1]["cpu_layers"] < match.model.shape.layers:
                variants.append(_llama_cpp(match, found[-1]["cpu_layers"] + 1, batch_tokens))
    except EngineFailure as error:
        if not variants:
            return _absent(str(error))
    fitting = [variant for variant in variants if variant["fits"]]
    return {"variants": variants, "best": _best(fitting)} if fitting else _absent("No setting fits the VRAM.", variants)


def accelerate(match: Match) -> dict[str, Any]:
    """Layers copied to the GPU when they are needed."""
    if importlib.util.find_spec("accelerate") is None:
        return _absent("accelerate is not installed.")
    if match.model.shape is match.model.stands_for:
        return _absent("Its 16-bit weights would take four times the RAM of the file; only the small size is measured.")
    try:
        variant = _measured(match, "accelerate", vram_bytes=match.vram_bytes)
    except EngineFailure as error:
        return _absent(str(error))
    return {"variants": [variant], "best": _best([variant])}


def _fewest(match: Match, batch_tokens: int) -> list[dict[str, Any]]:
    """Settings with ever more layers on the CPU until one fits, which is the last."""
    tried = []
    for cpu_layers in range(_estimate(match), match.model.shape.layers + 1):
        tried.append(_llama_cpp(match, cpu_layers, batch_tokens))
        if tried[-1]["fits"]:
            break
    return tried


def _estimate(match: Match) -> int:
    """How many layers' experts must stay on the CPU, by arithmetic."""
    model = match.model.config
    sizes = [model.experts * model.layer_expert_bytes(layer) for layer in range(model.layers)]
    other = (
        match.path.stat().st_size - sum(sizes) + model.kv_bytes_per_token("auto") * match.context_tokens + _WORK_BYTES
    )
    for cpu_layers in range(model.layers):
        if other + sum(sizes[cpu_layers:]) <= match.vram_bytes:
            return cpu_layers
    return model.layers


def _llama_cpp(match: Match, cpu_layers: int, batch_tokens: int) -> dict[str, Any]:
    """One setting of llama.cpp."""
    options = {"cpu_layers": cpu_layers, "batch_tokens": batch_tokens}
    return options | _measured(match, "llama.cpp", **options)


def _measured(match: Match, name: Any, **options: int) -> dict[str, Any]:  # noqa: ANN401 - a PeerName
    """All scenarios, and the VRAM that they took."""
    before = match.vram_used()
    with PeerProcess(name, match.path, match.threads, match.context_tokens, **options) as peer:
        peer.decode(_tokens(match, BATCH_TOKENS), _tokens(match, _WARM_TOKENS))  # warms up, and takes all it needs
        after = match.vram_used()
        taken = after - before if after is not None and before is not None else None
        fits = taken is None or taken <= match.vram_bytes
        speeds = {scenario.name: _speeds(match, peer, scenario) for scenario in match.scenarios} if fits else {}
        details = peer.details
    return {"details": details, "speeds": speeds, "vram_bytes": taken, "fits": fits}


def _speeds(match: Match, peer: PeerProcess, scenario: Scenario) -> dict[str, float]:
    """Medians of one scenario: of decode where it decodes, else of the prompt."""
    name = "decode_tokens_per_s" if scenario.decodes else "prefill_tokens_per_s"
    found = []
    for _ in range(match.repeat):
        prompt = _tokens(match, scenario.prompt_tokens)
        decodes = scenario.decodes
        found.append(peer.decode(prompt, _tokens(match, scenario.new_tokens - 1)) if decodes else peer.prefill(prompt))
    return {name: statistics.median(found)}


def _tokens(match: Match, count: int) -> list[int]:
    """Any tokens: these engines place experts whatever the routing."""
    return [FIRST_WORD_ID + index * 7919 % (match.model.shape.vocabulary - FIRST_WORD_ID) for index in range(count)]


def _best(variants: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """For each scenario and figure the highest."""
    best: dict[str, dict[str, float]] = {}
    for variant in variants:
        for scenario, speeds in variant["speeds"].items():
            for name, speed in speeds.items():
                figures = best.setdefault(scenario, {})
                figures[name] = max(speed, figures.get(name, 0.0))
    return best


def _absent(why: str, variants: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """Nothing was measured."""
    return {"absent": why, "variants": list(variants)}
