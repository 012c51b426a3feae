"""Builds the installers for Linux into build/packages: `make package`.

A .deb for Debian 12, Ubuntu 22.04 and newer, and an archive that runs from any folder. What they hold is in
packaging/README.md.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from pathlib import Path

import linux_deb
import linux_tree
import tree
import wheels

PACKAGES = wheels.ROOT / "build" / "packages"
MAX_INSTALLED_BYTES = 1_000_000_000
MAX_PACKAGE_BYTES = 350_000_000


def build(packages: Path) -> list[Path]:
    """Build both packages.

    Args:
        packages: Where they go; its folder `work` is kept between builds.

    Returns:
        The packages and the SBOM.

    Raises:
        BuildError: Something is missing or too large.
    """
    work = packages / "work"
    work.mkdir(parents=True, exist_ok=True)
    name = f"rooftop-{wheels.version()}-linux-x86_64"
    root = work / name
    linux_tree.build(root, work)
    refuse_larger("The installed app", tree.size_bytes(root), MAX_INSTALLED_BYTES)
    deb = packages / f"rooftop_{wheels.version()}_amd64.deb"
    archive = packages / f"{name}.tar.zst"
    sbom = packages / f"{name}.cdx.json"
    linux_deb.build(root, work / "deb", deb)
    _pack(root, archive)
    shutil.copyfile(root / "licences/sbom.cdx.json", sbom)
    for path in (deb, archive):
        refuse_larger(path.name, path.stat().st_size, MAX_PACKAGE_BYTES)
    write_sums(packages)
    return [deb, archive, sbom]


def write_sums(packages: Path) -> None:
    """Write SHA256SUMS of every file in a folder, as `sha256sum --check` reads it."""
    files = sorted(path for path in packages.iterdir() if path.is_file() and path.name != "SHA256SUMS")
    lines = []
    for path in files:
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    (packages / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def _pack(root: Path, archive: Path) -> None:
    tar = archive.with_suffix("")
    plain = ["--owner=0", "--group=0", "--numeric-owner", "--sort=name", f"--mtime=@{linux_deb.build_moment()}"]
    wheels.run(["tar", *plain, "-C", str(root.parent), "-cf", str(tar), root.name])
    wheels.run(["zstd", "-q", "-f", "-T0", "-12", "--long=27", "--rm", str(tar), "-o", str(archive)])


def refuse_larger(name: str, size_bytes: int, most_bytes: int) -> None:
    """End the build where something takes more room than it may."""
    if size_bytes > most_bytes:
        raise wheels.BuildError(f"{name} takes {size_bytes / 1e6:.0f} MB, more than the {most_bytes / 1e6:.0f} it may.")


def main() -> int:
    """Build and tell what came of it; 1 where it could not be built."""
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


if __name__ == "__main__":
    raise SystemExit(main())
