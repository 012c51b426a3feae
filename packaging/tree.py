"""The packages' part of the app's folder: wheels, without what nobody needs, byte-compiled, and looked through.

Used for every system; the private Python and the launcher around it are each system's own.
"""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path, PurePosixPath

import wheels
from qt_licences import gpl_parts
from strip_rules import is_dropped

RARELY_IMPORTED = (
    "transformers/models",
    "sympy",
    "networkx",
    "mpmath",
    "torch/_inductor",
    "torch/onnx",
    "torch/testing/_internal",
)
"""Packages that no start imports and few models need: their bytecode would take more room than it saves time."""


def fill(target: wheels.Target, site_packages: Path, own_wheel: Path) -> None:
    """Install everything that the app needs into its Python's site-packages and take out what it does not.

    Args:
        target: The system that the app is built for.
        site_packages: The folder.
        own_wheel: Rooftop's wheel.

    Raises:
        BuildError: A package cannot be had, or one under the GPL alone is inside.
    """
    wheels.install(target, site_packages, own_wheel)
    strip(site_packages)
    refuse_gpl(site_packages)


def strip(site_packages: Path) -> int:
    """Take out what `strip_rules` names, and the empty folders that stay; the records of the packages follow.

    Args:
        site_packages: The folder.

    Returns:
        How many bytes went.
    """
    dropped_bytes = 0
    for path in [path for path in site_packages.rglob("*") if path.is_symlink() or path.is_file()]:
        if is_dropped(PurePosixPath(path.relative_to(site_packages).as_posix())):
            dropped_bytes += path.lstat().st_size
            path.unlink()
    for folder in sorted((path for path in site_packages.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    for record in site_packages.glob("*.dist-info/RECORD"):
        _prune_record(record)
    return dropped_bytes


def compile_bytecode(folder: Path) -> None:
    """Compile every module once, here: nothing is written where the app is installed.

    The bytecode is not compared with its source again, which makes it independent of the files' dates. It is the same
    for every system, but must be written by the same Python version as the app's.

    Args:
        folder: Whose modules.
    """
    if sys.version_info[:2] != tuple(map(int, wheels.PYTHON_VERSION.split("."))):
        raise wheels.BuildError(f"Build with Python {wheels.PYTHON_VERSION}, the app's own version.")
    rare = ["-x", "/(" + "|".join(RARELY_IMPORTED) + ")/"]
    options = ["-q", "-f", "-j", "0", "--invalidation-mode", "unchecked-hash", *rare, "-s", str(folder)]
    # Some packages carry templates and files for other Pythons that do not compile; what is imported is tried later.
    subprocess.run([sys.executable, "-m", "compileall", *options, str(folder)], check=False, stdout=subprocess.DEVNULL)


def refuse_gpl(folder: Path) -> None:
    """Stop the build if a module of Qt under the GPL alone is inside.

    Args:
        folder: Anywhere above PySide6.

    Raises:
        BuildError: One is, named.
    """
    found = gpl_parts(path for path in folder.rglob("*") if path.is_file())
    if found:
        raise wheels.BuildError(f"Under the GPL alone, so it must not be inside: {', '.join(found[:5])}")


def size_bytes(folder: Path) -> int:
    """What a folder's files take together."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def _prune_record(record: Path) -> None:
    """A package's record names the files that are there: `importlib.metadata` and the licence page read it."""
    site_packages = record.parent.parent
    rows = list(csv.reader(io.StringIO(record.read_text(encoding="utf-8"))))
    kept = io.StringIO(newline="")
    csv.writer(kept, lineterminator="\n").writerows(row for row in rows if row and (site_packages / row[0]).exists())
    record.write_text(kept.getvalue(), encoding="utf-8")
