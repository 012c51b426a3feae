"""The report: one JSON with everything, one Markdown with tables, and plots where matplotlib is there."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from engine.bench.gpu.journal import Journal, Result
from engine.bench.gpu.measure import GOAL_ERROR
from engine.bench.gpu.overhead import GOAL_LAYER_S
from engine.bench.models import SIZES

_GIB = 1 << 30
_GB = 1e9

_NOTES = f"""
- *static*: Fiddler as in the paper, residents fixed by popularity; *fiddler*: they follow the conversation where that
  pays. *gpu_stream* copies every expert that is not resident, *cpu_only* runs all experts on the CPU.
- Speeds are medians of the counted replies (least..most); the first reply of a cell is not counted.
- *of bound*: least time of a token by its bytes, for the hit rate that was measured, over its measured time. The least:
  (dense + KV) / VRAM speed + max(hits / VRAM speed, on the CPU / RAM speed, streamed / link speed), all in bytes.
- *predicted*: the cost model's time of a token over the measured one (goal: within {GOAL_ERROR:.0%}); *layers within*:
  share of layers, token by token, whose experts' time was predicted that well. *plan*: the speed promised before any
  token, over the measured one.
- *rest per layer*: (token - longer sides of all layers) / layers - dense and KV bytes / VRAM speed: launches, waiting,
  and what the dense part takes beyond its bytes.
- *overlap*: share of a token's experts in a layer that the token before used too.
- VRAM: the plan's total with its margin; what torch reserved at most; what the driver saw more than before the load.
""".strip()


def write_report(stem: Path, journal: Journal, *, complete: bool, size: str) -> dict[str, Any]:
    """Write JSON, Markdown and plots beside the journal.

    Args:
        stem: The files' path without an ending.
        journal: What is done.
        complete: Whether nothing is left to do.
        size: "small" or "full".

    Returns:
        What the JSON holds.

    Raises:
        OSError: A file cannot be written.
    """
    report = _report(journal, complete=complete, size=size)
    pictures: list[Path] = []
    if importlib.util.find_spec("matplotlib") and report["cells"]:
        from engine.bench.gpu.plots import write_plots

        pictures = write_plots(stem, report)
    markdown = stem.with_name(f"{stem.name}.md")
    report |= {"pictures": [path.name for path in pictures], "markdown": str(markdown)}
    _replace(stem.with_name(f"{stem.name}.json"), json.dumps(report, indent=1) + "\n")
    _replace(markdown, "\n".join(as_markdown(report)) + "\n")
    return report


def _report(journal: Journal, *, complete: bool, size: str) -> dict[str, Any]:
    """Everything by kind."""
    results = journal.results
    machine = results.get("machine", {})
    found = {name: result for name, result in results.items() if name.startswith("check ")}
    return {
        "simulated": bool(machine.get("simulated")),
        "complete": complete,
        "size": size,
        "machine": machine,
        "overhead": results.get("overhead", {}),
        "checks": {name.removeprefix("check "): result for name, result in found.items()},
        "checks_failed": [
            *(name for name, result in found.items() if result.get("passed") is False or "refused" in result),
            *(name for name in journal.all_crashed if name.startswith("check ")),
        ],
        "models": [_model(shape) for shape in SIZES[size]],
        "cells": [{"key": name, **result} for name, result in results.items() if name.startswith("cell ")],
        "rivals": {
            name.removeprefix("rival "): result for name, result in results.items() if name.startswith("rival ")
        },
        "crashed": journal.all_crashed,
    }


def _model(shape: Any) -> Result:  # noqa: ANN401 - a Shape with routing
    """A model's shape and the parameters of its routing."""
    routing = shape.routing
    names = ("name", "hidden", "width", "layers", "experts", "experts_per_token", "vocabulary")
    return {name: getattr(shape, name) for name in names} | {
        "zipf_exponent": routing.zipf,
        "common_share": routing.common,
        "token_noise": routing.noise,
        "topic_tokens": routing.topic_tokens,
    }


def _replace(path: Path, text: str) -> None:
    """Write a file in one step."""
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


# ---- Markdown -------------------------------------------------------------------------------------------------------


def as_markdown(report: dict[str, Any]) -> Iterator[str]:
    """The lines of the report."""
    machine = report["machine"]
    label = " (SIMULATED: times are virtual, of a GPU and a CPU that are not there)" if report["simulated"] else ""
    yield f"# GPU suite: {machine.get('gpu', 'not measured yet')}{label}"
    yield ""
    if not report["complete"]:
        yield "**Not complete**: run the same command again to go on."
        yield ""
    yield from _machine_lines(machine)
    yield from _overhead_lines(report["overhead"])
    yield from _check_lines(report)
    yield from _model_lines(report)
    for model in dict.fromkeys(cell["model"] for cell in report["cells"] if "model" in cell):
        yield from _cell_lines(report, model)
    yield from _rival_lines(report)
    refused = [f"- {cell['key']}: {cell['refused']}" for cell in report["cells"] if "refused" in cell]
    refused += [f"- {key}: took the process with it, twice" for key in report["crashed"]]
    if refused:
        yield from ("", "## Not measured", "", *refused)
    for picture in report.get("pictures", ()):
        yield from ("", f"![{picture}]({picture})")
    yield from ("", "## How to read this", "", _NOTES)
    if report["size"] == "small":
        yield from _small_lines()


def _small_lines() -> Iterator[str]:
    """What small models stand for."""
    for small, full in zip(SIZES["small"], SIZES["full"], strict=True):
        yield (
            f"- *{small.name}* has {small.layers} of {full.name}'s {full.layers} layers, and the share of its experts "
            "in VRAM that a card of that size would hold of the real one's. Simulated, each of its experts and layers "
            "costs what the real one's would; on a GPU it costs what it is."
        )


def _machine_lines(machine: Result) -> Iterator[str]:
    """One row per fact."""
    yield "## Machine"
    yield ""
    rows = []
    for name, value in machine.items():
        if name.endswith("_bytes_per_s"):
            rows.append((name.removesuffix("_bytes_per_s").replace("_", " "), f"{value / _GB:.1f} GB/s"))
        elif name.endswith("_bytes"):
            rows.append((name.removesuffix("_bytes"), f"{value / _GIB:.1f} GiB"))
        elif name == "versions":
            rows.append((name, ", ".join(f"{package} {version}" for package, version in value.items())))
        elif isinstance(value, float):
            rows.append((name.replace("_", " "), f"{value:.4g}"))
        elif value not in ("", None):
            rows.append((name.replace("_", " "), str(value)))
    yield from _table(("fact", "value"), rows)


def _overhead_lines(overhead: Result) -> Iterator[str]:
    """What launches and the hand-off of a decode layer take, by mode."""
    if not overhead:
        return
    yield from ("", "## Launches and hand-off of a decode layer", "")
    reason = overhead.get("absent") or overhead.get("refused")
    if reason:
        yield f"Not measured: {reason}"
        return
    modes = {name: found for name, found in overhead.items() if isinstance(found, dict)}
    rows = [
        (name, f"{found['hand_off_layer_s'] * 1e6:.1f} us", f"{found['step_layer_s'] * 1e6:.1f} us", found["note"])
        for name, found in modes.items()
    ]
    rows.append(("torch", "", f"{overhead['torch_layer_s'] * 1e6:.1f} us", ""))
    yield from _table(("mode", "dense part and hand-off", "with plan and residents", ""), rows)
    yield ""
    yield (
        "Of a model with almost nothing to compute, all experts in VRAM; "
        f"goal of the first: {GOAL_LAYER_S * 1e6:.0f} us. The engine hands over by {overhead['chosen']} here."
    )


def _check_lines(report: dict[str, Any]) -> Iterator[str]:
    """One row per check; those that do not apply in one line."""
    yield from ("", "## Checks", "")
    if report["checks_failed"]:
        yield f"**{len(report['checks_failed'])} FAILED: the times below are of something that is not right.**"
        yield ""
    words = {True: "holds", False: "**FAILED**", None: "not here"}
    rows = [
        (name, words[result.get("passed", False)], result.get("detail") or result.get("refused", ""))
        for name, result in report["checks"].items()
    ]
    yield from _table(("check", "", "found"), rows)


def _model_lines(report: dict[str, Any]) -> Iterator[str]:
    """Shapes, and how the weights were made to route."""
    yield from ("", "## Models", "", "Random weights in Q4_K_M, made to route as `engine/bench/routing.py` says:", "")
    models = report["models"]
    names = [name for name in models[0] if name != "name"]
    yield from _table(("model", *(name.replace("_", " ") for name in names)),
                      [(model["name"], *(str(model[name]) for name in names)) for model in models])  # fmt: skip


def _cell_lines(report: dict[str, Any], model: str) -> Iterator[str]:
    """One table per budget: a row for each scenario and policy."""
    measured = [cell for cell in report["cells"] if cell.get("model") == model]
    for vram_bytes in dict.fromkeys(cell["vram_bytes"] for cell in measured):
        mine = [cell for cell in measured if cell["vram_bytes"] == vram_bytes]
        yield from ("", f"## {model}, {vram_bytes / _GIB:g} GiB", "", "### Speed", "")
        head = (
            "in+out", "policy", "prompt tokens/s", "first token s", "tokens/s", "hits", "planned", "overlap",
            "uploads", "streamed GB", "of bound", "experts in VRAM",
        )  # fmt: skip
        yield from _table(head, [_speed_row(cell) for cell in mine])
        yield from ("", "### Predictions and memory", "")
        columns = (
            "in+out", "policy", "plan", "predicted", "layers within", "rest per layer us",
            "VRAM GiB: plan", "torch", "driver",
        )  # fmt: skip
        yield from _table(columns, [_prediction_row(cell) for cell in mine])


def _speed_row(cell: Result) -> tuple[str, ...]:
    """How fast, and from where."""
    spread = cell.get("decode_tokens_per_s_all", [])
    decode = f"{cell['decode_tokens_per_s']:.1f} ({min(spread):.1f}..{max(spread):.1f})" if spread else "-"
    streamed: Any = cell.get("streamed_bytes", cell["prefill_streamed_bytes"])
    return (
        cell["scenario"],
        cell["policy"],
        f"{cell['prefill_tokens_per_s']:.0f}",
        f"{cell['ttft_s']:.3f}",
        decode,
        f"{cell.get('hit_rate', cell['prefill_hit_rate']):.0%}",
        _format(cell.get("planned_hit_rate"), ".0%"),
        _format(cell.get("token_overlap"), ".0%"),
        _format(cell.get("uploads"), "g"),
        f"{streamed / _GB:.2f}",
        _format(cell.get("share_of_bound"), ".0%"),
        f"{cell['resident_experts']} / {cell['total_experts']}",
    )


def _prediction_row(cell: Result) -> tuple[str, ...]:
    """How well foreseen."""
    speed, plan = cell.get("decode_tokens_per_s"), cell.get("planned_tokens_per_s")
    overhead_s = cell.get("overhead_layer_s")
    memory = ("plan_vram_bytes", "torch_peak_vram_bytes", "device_vram_bytes")
    return (
        cell["scenario"],
        cell["policy"],
        _format(plan / speed if plan and speed else None, ".2f"),
        _format(cell.get("predicted_by_measured"), ".2f"),
        _format(cell.get("layers_within_goal"), ".0%"),
        _format(overhead_s and overhead_s * 1e6, ".0f"),
        *(_format(cell[name] and cell[name] / _GIB, ".3g") for name in memory),
    )


def _rival_lines(report: dict[str, Any]) -> Iterator[str]:
    """What the others reached, or why they did not."""
    yield from ("", "## Other engines at the same VRAM", "")
    if report["simulated"]:
        yield "None runs on a simulated GPU."
        return
    rows = []
    for name, result in report["rivals"].items():
        if "best" not in result:
            rows.append((name, "-", "-", "-", f"absent: {result.get('absent') or result.get('refused', '')}"))
            continue
        tried = ", ".join(
            f"{v.get('cpu_layers', '')} layers on the CPU" for v in result["variants"] if "cpu_layers" in v
        )
        for scenario, speeds in result["best"].items():
            prefill, decode = (_format(speeds.get(f"{kind}_tokens_per_s"), ".1f") for kind in ("prefill", "decode"))
            rows.append((name, scenario, prefill, decode, tried or result["variants"][0]["details"]))
    yield from _table(("engine, model, VRAM", "in+out", "prompt tokens/s", "tokens/s", "settings tried"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table; the cells' own bars do no harm."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"


def _format(value: float | None, how: str) -> str:
    """A number, or a dash for none."""
    return "-" if value is None else format(value, how)
