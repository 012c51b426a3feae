"""What the packages for every system have in common: where they go, how large they may be, their sums."""

from __future__ import annotations

import hashlib
import sys
import time
from typing import TYPE_CHECKING

import wheels

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PACKAGES = wheels.ROOT / "build" / "packages"
MAX_INSTALLED_BYTES = 1_000_000_000
MAX_PACKAGE_BYTES = 350_000_000


def write_sums(packages: Path) -> None:
    """Write SHA256SUMS of every file in a folder, as `sha256sum --check` reads it."""
    files = sorted(path for path in packages.iterdir() if path.is_file() and path.name != "SHA256SUMS")
    lines = []
    for path in files:
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    (packages / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def refuse_larger(name: str, size_bytes: int, most_bytes: int) -> None:
    """End the build where something takes more room than it may.

    Raises:
        BuildError: It does.
    """
    if size_bytes > most_bytes:
        raise wheels.BuildError(f"{name} takes {size_bytes / 1e6:.0f} MB, more than the {most_bytes / 1e6:.0f} it may.")


def main(build: Callable[[Path], list[Path]]) -> int:
    """Build and tell what came of it.

    Args:
        build: Builds into a folder and returns what it made.

    Returns:
        1 where it could not be built.
    """
    started_s = time.monotonic()
    try:
        made = build(PACKAGES)
    except wheels.BuildError as error:
        sys.stderr.write(f"packaging: {error}\n")
        return 1
    for path in made:
        sys.stdout.write(f"{path.stat().st_size / 1e6:7.1f} MB  {path.relative_to(wheels.ROOT)}\n")
    sys.stdout.write(f"built in {(time.monotonic() - started_s) / 60:.1f} minutes\n")
    return 0
