"""All models on all PCs, as JSON and as a page for the docs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from engine.bench.gpu.pcs import PCS, Pc, costs
from engine.bench.models import SIZES, Shape
from engine.bench.predict.conversation import Conversation, Decoded, converse, planning_inputs, together
from engine.bench.predict.rival import Rival, Setting
from engine.bench.predict.stream import Chosen, Stream
from engine.config import EngineConfig
from engine.errors import ConfigurationError, DoesNotFitError
from engine.experts.parts import placed_model
from engine.messages import PlanningInputs

MIX = "Q4_K_M"
CONFIG = EngineConfig(device="cuda", context_tokens=8192)
PROFILE_TOKENS, PROMPT_TOKENS, REPLY_TOKENS = 1024, 128, 256
PROMPTS_TOKENS = (512, 2048, 4096)
GOAL_BOUND_SHARE, GOAL_PROMPT_RATIO = 0.8, 1.3
GOALS_DECODE = {"mixtral-8x7b": 1.26, "qwen3-30b-a3b": 2.5}

_GIB, _GB = 1 << 30, 1e9
_PROFILE_SEED, _PROMPT_SEED, _SEEDS = 0, 1, (2, 3, 4, 5)

_ASSUMPTIONS = f"""
- **These are predictions, not measurements.** No GPU has run them. They come from the engine's own planner (what lives
  in VRAM, how many prompt tokens a pass takes, which side runs which expert) and its own replacement policy, with costs
  worked out from the bandwidths above.
- An expert takes max(bytes / bandwidth, operations / rate), on the GPU with a call of 20 us; all of a layer's experts
  on the CPU are one call of 10 us; a copy takes bytes / link + 20 us. Residents that follow each other are one call,
  with up to 16 tokens all of a layer. While the dense part of a prompt's layer runs, experts that are popular are
  copied for it; one that the layer does not use has cost the link's time. The CPU's kernels are taken to read at RAM
  speed; where they were measured, they reach 80 to 91 % of it.
- Dense layers take their bytes / VRAM speed (packed as in the file, the embedding in RAM), or their arithmetic;
  launches of a decode layer's dense part are not charged. Keys and values are read from VRAM.
- Experts of Mixtral are in parts (`docs/decisions/0051-experts-in-parts.md`): while the CPU computes some, others are
  copied. RAM gives the CPU alone what the table says, CPU and link together nine tenths of what its two channels
  transfer: a copy takes the rest of its bytes from the CPU's experts. *If copies took all of theirs*: as if the CPU
  alone could already read all that RAM gives.
- A prompt of more than 512 tokens has residents make way (`docs/decisions/0052-vram-in-segments-lent-to-prompts.md`);
  they are copied back beside the reply, which waits for what that takes of the CPU's reading.
- Routing is synthetic (`engine/bench/routing.py`: Zipf, topics, noise): Mixtral's is hardly better than chance,
  as published. Popularity is profiled on {PROFILE_TOKENS:,} other tokens. Context: {CONFIG.context_tokens:,} tokens;
  {len(_SEEDS)} replies of {REPLY_TOKENS} tokens to prompts of {PROMPT_TOKENS}.
- *of bound*: least time by bytes at that hit rate, dense and KV bytes / VRAM speed + max(hits / VRAM speed, misses /
  what RAM gives CPU and link together), over the predicted time.
- *x* of a prompt: predicted time over the least with every side busy all the time: bytes over the link, arithmetic of
  the GPU, arithmetic of the CPU, for the best split (`engine/bench/predict/bound.py`).
- llama.cpp is modelled, not measured (`engine/bench/predict/rival.py`): the best `--n-cpu-moe N`, as few layers as fit
  the same VRAM, batches of 512 or 2,048, and `--n-gpu-layers` as its default. RAM, VRAM and link at full speed, dense
  weights as in the file, launches as ours but one for all experts of a layer, no overlap of CPU and GPU.
""".strip()


def write_predictions(out: Path, on_note: Callable[[str], None]) -> dict[str, Any]:
    """Predict, and write predicted.json and predicted.md.

    Args:
        out: Their folder; made if it is missing.
        on_note: Hears what is being worked out.

    Returns:
        What the JSON holds.

    Raises:
        ConfigurationError: The folder cannot be written to.
    """
    report = predictions(on_note)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "predicted.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        (out / "predicted.md").write_text("\n".join(as_markdown(report)) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{out} cannot be written ({error.strerror}).", "Choose another --out.") from error
    return report | {"markdown": str(out / "predicted.md")}


def predictions(on_note: Callable[[str], None], shapes: tuple[Shape, ...] = SIZES["full"]) -> dict[str, Any]:
    """Figures of all models on all PCs.

    Args:
        on_note: Hears what is being worked out.
        shapes: The models.
    """
    cells = []
    for shape in shapes:
        published = replace(shape, routing=None).config(MIX)
        model = placed_model(published, "cuda")
        stream = Stream(shape, model.expert_parts)
        profile = stream.draw(PROFILE_TOKENS, _PROFILE_SEED)
        prompts = {tokens: stream.draw(tokens, _PROMPT_SEED) for tokens in PROMPTS_TOKENS}
        for pc in PCS.values():
            on_note(f"{shape.name} on {pc.name}")
            inputs = planning_inputs(model, pc, profile)
            try:
                cells.append(_cell(stream, inputs, pc, prompts))
            except DoesNotFitError as error:
                cells.append({"model": shape.name, "pc": pc.name, "refused": str(error)})
    return {"predicted": True, "mix": MIX, "pcs": [asdict(pc) for pc in PCS.values()], "cells": cells}


def _cell(stream: Stream, inputs: PlanningInputs, pc: Pc, prompts: dict[int, Chosen]) -> dict[str, Any]:
    """One model on one PC."""
    policies = {}
    for name, adaptive in (("adaptive", True), ("static", False)):
        config = replace(CONFIG, adaptive=adaptive)
        policies[name] = _decode_figures(
            together(converse(stream, inputs, pc, config, PROMPT_TOKENS, REPLY_TOKENS, _SEEDS))
        )
    plan = Conversation(inputs, pc, CONFIG).plan
    rivals = _rivals(pc, inputs, prompts)
    ours = policies["adaptive"]["tokens_per_s"]
    careful = _all_from_the_cpu(stream, inputs, pc)
    return {
        "model": inputs.model.name,
        "pc": pc.name,
        "resident_experts": plan.resident_experts,
        "total_experts": inputs.model.total_experts,
        "prefill_chunk_tokens": plan.prefill_chunk_tokens,
        "planned_tokens_per_s": plan.predicted_decode_tokens_per_s,
        "decode": policies,
        "prompts": {str(tokens): _prompt_figures(inputs, pc, chosen) for tokens, chosen in prompts.items()},
        "llama_cpp": rivals,
        "decode_by_best_split": ours / rivals["n_cpu_moe"]["tokens_per_s"],
        "careful_decode_by_best_split": careful / rivals["n_cpu_moe"]["tokens_per_s"],
        "decode_by_default": ours / rivals["default"]["tokens_per_s"],
    }


def _all_from_the_cpu(stream: Stream, inputs: PlanningInputs, pc: Pc) -> float:
    """Tokens/s if copies took all of their bytes from what the CPU reads."""
    pc = replace(pc, memory_bytes_per_s=None)
    inputs = replace(inputs, costs=replace(inputs.costs, copy_drag=pc.copy_drag))
    decoded = together(converse(stream, inputs, pc, CONFIG, PROMPT_TOKENS, REPLY_TOKENS, _SEEDS))
    return decoded.tokens / decoded.seconds


def _decode_figures(decoded: Decoded) -> dict[str, float]:
    return {
        "tokens_per_s": decoded.tokens / decoded.seconds,
        "hit_rate": decoded.hits / decoded.visits,
        "share_of_bound": decoded.bound_s / decoded.seconds,
        "uploads": decoded.uploads / len(_SEEDS),
    }


def _prompt_figures(inputs: PlanningInputs, pc: Pc, chosen: Chosen) -> dict[str, float]:
    seconds, bound_s = Conversation(inputs, pc, CONFIG).prompt(chosen)
    return {"tokens_per_s": len(chosen) / seconds, "seconds": seconds, "by_bound": seconds / bound_s}


def _rivals(pc: Pc, inputs: PlanningInputs, prompts: dict[int, Chosen]) -> dict[str, Any]:
    """llama.cpp's best split, and its default; it knows no parts."""
    whole, parts = inputs.model.whole, inputs.model.expert_parts
    rival = Rival(whole, pc, replace(costs(pc, whole), dense_layer_s=inputs.costs.dense_layer_s), CONFIG)
    prompts = {tokens: chosen[:, :, ::parts] // parts for tokens, chosen in prompts.items()}
    found = {}
    for name, whole_layers in (("n_cpu_moe", False), ("default", True)):
        settings = list(rival.settings(whole_layers=whole_layers))
        context = PROMPT_TOKENS + REPLY_TOKENS / 2

        def token_s(setting: Setting, context: float = context) -> float:
            return rival.token_seconds(setting, context)

        best = min(settings, key=token_s)
        prompt_s = {
            str(tokens): min(rival.prompt_seconds(setting, chosen) for setting in settings)
            for tokens, chosen in prompts.items()
        }
        found[name] = {"setting": best.words, "tokens_per_s": 1 / token_s(best), "prompt_s": prompt_s}
    return found


# ---- Markdown -------------------------------------------------------------------------------------------------------


def as_markdown(report: dict[str, Any]) -> Iterator[str]:
    """The page."""
    yield "# Predicted: the real models on gaming PCs"
    yield ""
    yield "Written by `python -m engine bench --suite predict --out docs`, without weights and without a GPU."
    yield "**Predictions of the cost model; nothing here was measured.** What is assumed stands at the end."
    yield ""
    yield "| PC | VRAM GB/s | RAM GB/s: CPU alone | with the link | link GB/s | GPU TFLOPS | CPU int8 TOPS |"
    yield "|---|---|---|---|---|---|---|"
    for pc in report["pcs"]:
        names = ("vram_bytes_per_s", "ram_bytes_per_s", "memory_bytes_per_s", "link_bytes_per_s")
        speeds = [f"{pc[name] / _GB:g}" for name in names]
        rates = [f"{pc[name] / 1e12:g}" for name in ("gpu_flops", "cpu_operations_per_s")]
        yield f"| {pc['name']} | {' | '.join([*speeds, *rates])} |"
    fitting = [cell for cell in report["cells"] if "refused" not in cell]
    yield from _decode_lines(fitting)
    yield from _prompt_lines(fitting)
    yield from _refused_lines(report)
    yield from ("", "## What is assumed", "", *_ASSUMPTIONS.splitlines())


def _decode_lines(cells: list[dict[str, Any]]) -> Iterator[str]:
    yield from ("", f"## Decode, {MIX}", "")
    yield (
        "| model, PC | experts in VRAM | tokens/s | hits | of bound (goal 80 %) | static residents | "
        "llama.cpp, best split | ours / best split | if copies took all of theirs | llama.cpp, default | "
        "ours / default |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for cell in cells:
        ours, static, rivals = cell["decode"]["adaptive"], cell["decode"]["static"], cell["llama_cpp"]
        goal = GOALS_DECODE.get(cell["model"])
        goal_words = f" (goal {goal:g}x)" if goal else ""
        yield (
            f"| {cell['model']}, {cell['pc']} | {cell['resident_experts']} / {cell['total_experts']} "
            f"| {ours['tokens_per_s']:.1f} | {ours['hit_rate']:.0%} | {ours['share_of_bound']:.0%} "
            f"| {static['tokens_per_s']:.1f}, {static['hit_rate']:.0%} hits "
            f"| {rivals['n_cpu_moe']['tokens_per_s']:.1f} (`{rivals['n_cpu_moe']['setting']}`) "
            f"| {cell['decode_by_best_split']:.2f}x{goal_words} | {cell['careful_decode_by_best_split']:.2f}x "
            f"| {rivals['default']['tokens_per_s']:.1f} | {cell['decode_by_default']:.2f}x |"
        )


def _prompt_lines(cells: list[dict[str, Any]]) -> Iterator[str]:
    yield from ("", f"## Prompts, {MIX}", "")
    yield "Tokens/s, seconds, and how many times the bound (goal: at most 1.3); then llama.cpp's best split by ours."
    yield ""
    heads = " | ".join(f"{tokens:,} tokens" for tokens in PROMPTS_TOKENS)
    yield f"| model, PC | tokens per pass | {heads} | llama.cpp's time / ours |"
    yield f"|---|---|{'---|' * len(PROMPTS_TOKENS)}---|"
    for cell in cells:
        parts = [
            f"{one['tokens_per_s']:.0f}, {one['seconds']:.2f} s, {one['by_bound']:.2f}x"
            for one in cell["prompts"].values()
        ]
        theirs = cell["llama_cpp"]["n_cpu_moe"]["prompt_s"]
        ratios = [f"{theirs[tokens] / one['seconds']:.1f}x" for tokens, one in cell["prompts"].items()]
        yield (
            f"| {cell['model']}, {cell['pc']} | {cell['prefill_chunk_tokens']} | {' | '.join(parts)} "
            f"| {', '.join(ratios)} |"
        )
    ratios_by_bound = [one["by_bound"] for cell in cells for one in cell["prompts"].values()]
    if ratios_by_bound:
        within = sum(ratio <= GOAL_PROMPT_RATIO for ratio in ratios_by_bound)
        median = statistics.median(ratios_by_bound)
        yield ""
        of_all = f"{within} of {len(ratios_by_bound)} are within {GOAL_PROMPT_RATIO}x of their bound"
        yield f"{of_all}; the median is {median:.2f}x."


def _refused_lines(report: dict[str, Any]) -> Iterator[str]:
    refused = [cell for cell in report["cells"] if "refused" in cell]
    if refused:
        yield from ("", "## What does not fit", "")
        yield from (f"- {cell['model']} on {cell['pc']}: {cell['refused']}" for cell in refused)
