"""`python -m engine compare`: this engine against llama.cpp on a row of files, as a table, as JSON and as a plot.

The files are made one at a time and kept for the next run, unless the disk is short. What was found is written after
each file, so that a long run may be interrupted.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from engine.bench.apart import both_fit, compare_apart
from engine.bench.duel import Course, compare_file
from engine.bench.limits import MachineLimits, open_meter
from engine.bench.models import SHAPES, SIZES, WRITTEN, Shape, model_bytes, model_file, model_path
from engine.bench.plot import write_plot
from engine.bench.results import Report
from engine.errors import ConfigurationError
from engine.experts.explain import human_bytes
from engine.hardware import probe_hardware
from engine.kernels.cpu_library import available_isas

DISK_RESERVE_BYTES = 2_000_000_000
JSON_NAME = "comparison.json"
PLOT_NAME = "comparison.png"

_PACKAGES = ("gguf", "llama_cpp", "matplotlib")
_VERSIONS = ("rooftop", "llama_cpp_python", "torch", "numpy", "gguf")


def run(
    shapes: str,
    formats: str,
    *,
    threads: int | None,
    repeat: int,
    models: Path,
    out: Path,
    on_note: Callable[[str], None],
) -> Report:
    """Compare as the command line asks.

    Args:
        shapes: Names of `engine.bench.models.SHAPES`, or of those of full size, with commas.
        formats: Some of `engine.bench.models.WRITTEN`, with commas.
        threads: CPU threads of each engine; None for the physical cores.
        repeat: Counted pairs per metric.
        models: Folder of the model files.
        out: Folder of the JSON file and the plot.
        on_note: Hears what is being done.

    Raises:
        ConfigurationError: A name is not known, a package is missing, or a file cannot be written.
        EngineFailure: An engine refused a file, or its process ended.
    """
    known = {**SHAPES, **{shape.name: shape for shape in SIZES["full"]}}
    chosen = [known[name] for name in _chosen(shapes, known, "shape")], _chosen(formats, WRITTEN, "format")
    check_packages()
    threads = threads or probe_hardware().physical_cores
    on_note("the machine's limits")
    wide = {"avx2", "avx512"} <= set(available_isas())
    with open_meter(threads) or nullcontext() as meter:
        return compare(*chosen, models, out, Course(threads, repeat, meter=meter, avx2=wide, on_note=on_note))


def check_packages() -> None:
    """Refuse at once what cannot be compared.

    Raises:
        ConfigurationError: A package that only comparisons need is missing.
    """
    if not all(importlib.util.find_spec(name) for name in _PACKAGES):
        raise ConfigurationError("The comparison needs extra packages.", "Run: pip install -e '.[bench]'")


def compare(shapes: Sequence[Shape], mixes: Sequence[str], models: Path, out: Path, course: Course) -> Report:
    """Compare the engines on every shape in every mix of formats, and write what was found.

    Args:
        shapes: The models, at least one.
        mixes: Some of `engine.bench.models.WRITTEN`, at least one.
        models: Folder of the model files, made if it is missing.
        out: Folder of the JSON file and the plot, made if it is missing.
        course: How to compare.

    Raises:
        ConfigurationError: There is no room for a file, or it cannot be written.
        EngineFailure: An engine refused a file, or its process ended.
    """
    report = _empty_report(course, course.meter.measure() if course.meter else None)
    ours = [model_path(models, shape, mix) for shape in shapes for mix in mixes]
    for shape in shapes:
        for mix in mixes:
            course.on_note(f"{shape.name} {mix}: the file")
            path = _made(models, shape, mix, ours)
            result = (compare_file if both_fit(path) else compare_apart)(path, shape, mix, course)
            report = replace(report, files=(*report.files, result))
            _write(report, out)
    return report


def make_room(folder: Path, needed_bytes: int, removable: Sequence[Path]) -> None:
    """Delete files until so many bytes fit beside a reserve.

    Args:
        folder: Where they must fit; it exists.
        needed_bytes: What will be written.
        removable: What may go, in this order; those that are missing count for nothing.

    Raises:
        ConfigurationError: They do not fit even then.
    """
    needed_bytes += DISK_RESERVE_BYTES
    for path in removable:
        if shutil.disk_usage(folder).free >= needed_bytes:
            return
        path.unlink(missing_ok=True)
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        needed, free = human_bytes(needed_bytes, "up"), human_bytes(free_bytes, "down")
        raise ConfigurationError(
            f"A model file needs {needed} in {folder}, where {free} are free.", "Choose another folder with --models."
        )


def _made(models: Path, shape: Shape, mix: str, removable: Sequence[Path]) -> Path:
    """The model file, which is made if it is missing.

    Raises:
        ConfigurationError: It cannot be written.
    """
    path = model_path(models, shape, mix)
    try:
        models.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            make_room(models, model_bytes(shape, mix), removable)
        return model_file(models, shape, mix)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written ({error.strerror}).", "Choose another folder with --models."
        ) from error


def _empty_report(course: Course, limits: MachineLimits | None) -> Report:
    """A report of nothing yet."""
    return Report(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        cpu=probe_hardware().cpu_name,
        threads=course.threads,
        repeat=course.repeat,
        versions={"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in _VERSIONS},
        read_bytes_per_s=limits.read_bytes_per_s if limits else None,
        int8_operations_per_s=limits.int8_operations_per_s if limits else None,
        files=(),
    )


def _write(report: Report, out: Path) -> None:
    """Write the report as JSON and as a plot.

    Raises:
        ConfigurationError: They cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        unfinished = out / f"{JSON_NAME}.part"
        unfinished.write_text(json.dumps(report.as_json(), indent=1) + "\n", encoding="utf-8")
        unfinished.replace(out / JSON_NAME)
        write_plot(report, out / PLOT_NAME)
    except OSError as error:
        raise ConfigurationError(
            f"{out} cannot be written ({error.strerror}).", "Choose another folder with --out."
        ) from error


def _chosen(names: str, known: Iterable[str], what: str) -> list[str]:
    """Names of a list with commas.

    Raises:
        ConfigurationError: One of them is not known.
    """
    choices = list(known)
    chosen = [name.strip() for name in names.split(",")]
    for name in chosen:
        if name not in choices:
            raise ConfigurationError(f"{name[:40]!r} is no {what}.", f"Choose among {', '.join(choices)}.")
    return list(dict.fromkeys(chosen))
