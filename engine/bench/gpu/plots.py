"""Pictures for the report: decode by scenario and prompts by length, a bar or line per policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.bench.gpu.cells import POLICIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#c2571a", "#e0a458", "#2b6c8f", "#8a8a8a")
_INK = "#2a2a2a"
_GROUP = 0.8  # of the distance between two scenarios


def write_plots(stem: Path, report: dict[str, Any]) -> list[Path]:
    """One PNG for each model and VRAM that has cells.

    Args:
        stem: Path of the files, without what tells them apart.
        report: What was found.

    Returns:
        The files.

    Raises:
        OSError: One cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    measured = [cell for cell in report["cells"] if "policy" in cell]
    paths = []
    for model, vram_bytes in dict.fromkeys((cell["model"], cell["vram_bytes"]) for cell in measured):
        mine = [cell for cell in measured if (cell["model"], cell["vram_bytes"]) == (model, vram_bytes)]
        figure = Figure(figsize=(9.6, 4.2), dpi=140, facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        decode, prefill = figure.subplots(1, 2)
        _draw(decode, [cell for cell in mine if "decode_tokens_per_s" in cell], "decode_tokens_per_s", "decode")
        _draw(prefill, [cell for cell in mine if cell["new_tokens"] == 1], "prefill_tokens_per_s", "prompts")
        title = f"{model}, {vram_bytes / (1 << 30):g} GiB, {report['machine'].get('gpu', '')}"
        figure.suptitle(title, fontsize=11, color=_INK)
        paths.append(stem.with_name(f"{stem.name}-{model}-{vram_bytes / (1 << 30):g}gib.png"))
        figure.savefig(paths[-1], format="png")
    return paths


def _draw(axes: Axes, cells: list[dict[str, Any]], figure: str, title: str) -> None:
    """Bars of tokens/s, grouped by scenario, with their spread."""
    scenarios = list(dict.fromkeys(cell["scenario"] for cell in cells))
    width = _GROUP / len(POLICIES)
    for index, policy in enumerate(POLICIES):
        mine = [cell for cell in cells if cell["policy"] == policy]
        places = [scenarios.index(cell["scenario"]) + (index - (len(POLICIES) - 1) / 2) * width for cell in mine]
        axes.bar(places, [cell[figure] for cell in mine], width * 0.92, color=_COLOURS[index], label=policy)
        for place, cell in zip(places, mine, strict=True):
            samples = cell[f"{figure}_all"]
            axes.plot([place, place], [min(samples), max(samples)], color=_INK, linewidth=0.9)
    axes.set_xticks(range(len(scenarios)), scenarios, fontsize=8)
    axes.set_title(f"{title}, tokens/s", loc="left", fontsize=9, color=_INK)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    if cells:
        axes.legend(frameon=False, fontsize=7)
