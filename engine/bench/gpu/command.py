"""The suite's part of the command line; importing it costs nothing."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.errors import ConfigurationError

_FOLDER = "build/bench"
_MOST_MINUTES = 1 << 20


def add_suite_options(parser: argparse.ArgumentParser) -> None:
    """Add what only `bench --suite` takes; `--device`, `--cpu-threads` and `--repeat` are shared."""
    suite = parser.add_argument_group("suite", "everything on this machine's GPU, in parts that go on where they were")
    add = suite.add_argument
    add(
        "--suite", choices=["gpu", "predict"], help="gpu: check and measure all; predict: the real models by arithmetic"
    )
    add(
        "--size", choices=["small", "full"], default="full", help="the real models' shapes, or small ones of their kind"
    )
    add("--pc", default="8gb-ddr4-pcie3", metavar="NAME", help="the PC of --device simulated")
    add("--minutes", type=_minutes, metavar="N", help="begin nothing that would take longer; run it again to go on")
    add("--models", default=_FOLDER, metavar="DIR", help="where the model files are kept (full: 45 GB)")
    add("--out", default=_FOLDER, metavar="DIR", help="where the journal and the report go")


def run_suite(options: argparse.Namespace, on_note: Callable[[str], None]) -> dict[str, Any]:
    """Run it as the command line asks.

    Args:
        options: With those of `add_suite_options`.
        on_note: Hears what is being done.

    Returns:
        The report.

    Raises:
        ConfigurationError: The device is no GPU, or the PC is not known.
    """
    if options.suite == "predict":
        from engine.bench.predict.report import write_predictions

        return {"complete": True, "checks_failed": [], **write_predictions(Path(options.out), on_note)}
    from engine.bench.gpu.pcs import PCS
    from engine.bench.gpu.suite import Options, journal_path, run
    from engine.bench.gpu.supervisor import supervise

    if options.device == "cpu":
        raise ConfigurationError("The GPU suite needs a GPU.", "Leave --device out, or simulate one.")
    if options.pc not in PCS:
        raise ConfigurationError(f"{options.pc[:40]!r} is no PC to simulate.", f"Choose among {', '.join(PCS)}.")
    wanted = Options(
        out=Path(options.out),
        models=Path(options.models),
        size=options.size,
        pc=PCS[options.pc] if options.device == "simulated" else None,
        minutes=options.minutes,
        threads=options.cpu_threads,
        repeat=options.repeat,
        on_note=on_note,
    )
    return run(wanted) if wanted.pc else supervise(run, wanted, journal_path(wanted))


def _minutes(text: str) -> float:
    """A number of minutes."""
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes <= _MOST_MINUTES:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no number of minutes")
    return minutes
