"""Builds the installers for Linux into build/packages: `make package`.

A .deb for Debian 12, Ubuntu 22.04 and newer, and an archive that runs from any folder. What they hold is in
packaging/README.md.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import linux_deb
import linux_tree
import tree
import wheels
from packages import MAX_INSTALLED_BYTES, MAX_PACKAGE_BYTES, main, refuse_larger, write_sums


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


def _pack(root: Path, archive: Path) -> None:
    tar = archive.with_suffix("")
    plain = ["--owner=0", "--group=0", "--numeric-owner", "--sort=name", f"--mtime=@{linux_deb.build_moment()}"]
    wheels.run(["tar", *plain, "-C", str(root.parent), "-cf", str(tar), root.name])
    wheels.run(["zstd", "-q", "-f", "-T0", "-12", "--long=27", "--rm", str(tar), "-o", str(archive)])


if __name__ == "__main__":
    raise SystemExit(main(build))
