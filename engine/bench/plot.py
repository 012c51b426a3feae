"""A comparison as a picture for the README: per file, how many times as fast as llama.cpp each metric is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.bench.results import FileResult, Pairs, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#c2571a", "#2b6c8f", "#7fb3c8")  # decode; long and short prompts, which are of a kind
_INK, _PALE = "#2a2a2a", "#8a8a8a"
_WIDTH_IN, _HEIGHT_IN, _DPI = 9.6, 4.2, 160
_GROUP = 0.8  # of the distance between two files


def write_plot(report: Report, path: Path) -> None:
    """Draw a report with at least one file.

    Args:
        report: What was found.
        path: The PNG file.

    Raises:
        OSError: It cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN), dpi=_DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw_bars(axes, report)
    _draw_frame(axes, report)
    figure.savefig(path, format="png")


def _draw_bars(axes: Axes, report: Report) -> None:
    """One group of bars per file, with spread, goal and figure on each."""
    names = list(dict.fromkeys(pairs.metric for file in report.files for pairs in file.pairs))
    width = _GROUP / len(names)
    for index, name in enumerate(names):
        places = [place + (index - (len(names) - 1) / 2) * width for place in range(len(report.files))]
        found = [(at, pairs) for at, file in zip(places, report.files, strict=True) if (pairs := _named(file, name))]
        colour = _COLOURS[index % len(_COLOURS)]
        axes.bar([at for at, _ in found], [pairs.ratio for _, pairs in found], width * 0.92, color=colour, label=name)
        for at, pairs in found:
            _draw_notes(axes, at, width, pairs)


def _named(file: FileResult, name: str) -> Pairs | None:
    """A file's pairs of one metric."""
    return next((pairs for pairs in file.pairs if pairs.metric == name), None)


def _draw_notes(axes: Axes, at: float, width: float, pairs: Pairs) -> None:
    """The spread, the goal and the ratio of one bar."""
    low, high = min(pairs.ratios), max(pairs.ratios)
    axes.plot([at, at], [low, high], color=_INK, linewidth=0.9, alpha=0.7)
    if pairs.goal is not None:
        edge = at + width * 0.44
        axes.plot([edge], [pairs.goal], "<", color=_INK, markersize=5.5, markeredgecolor="white", zorder=4)
    axes.annotate(
        f"{pairs.ratio:.2f}", (at, high), (0, 3), textcoords="offset points", ha="center", fontsize=7, color=_INK
    )


def _draw_frame(axes: Axes, report: Report) -> None:
    """Title, axes, the line of equal speed, and the legend."""
    version = report.versions.get("llama_cpp_python", "")
    axes.axhline(1.0, color=_INK, linewidth=1.0, linestyle=(0, (4, 3)), zorder=3)
    count = len(report.files)
    axes.set_xlim(min(-0.5, count / 2 - 2.5), max(count - 0.5, count / 2 + 1.5))
    axes.set_xticks(range(count), [f"{file.mix}\n{file.shape}" for file in report.files], fontsize=9)
    axes.set_ylabel("times as fast as llama.cpp", fontsize=9, color=_INK)
    axes.set_ylim(bottom=0)
    axes.margins(y=0.12)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.tick_params(length=0, labelcolor=_INK)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_PALE)
    axes.set_title(
        "Rooftop against llama.cpp on the CPU", loc="left", fontsize=12, fontweight="bold", color=_INK, pad=24
    )
    setting = f"{report.cpu}, {report.threads} threads, llama-cpp-python {version}"
    caption = f"{setting}; triangles are goals, thin lines the spread"
    axes.text(0, 1.035, caption, transform=axes.transAxes, fontsize=8, color=_PALE)
    axes.legend(loc="upper right", ncols=3, frameon=False, fontsize=8, bbox_to_anchor=(1.0, 1.19))
