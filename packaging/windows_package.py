"""Builds the installer for Windows into build/packages, on Linux: `make package-windows`."""

from __future__ import annotations

import shutil
from pathlib import Path

import tree
import wheels
import windows_tree
from packages import MAX_INSTALLED_BYTES, MAX_PACKAGE_BYTES, main, refuse_larger, write_sums


def build(packages: Path) -> list[Path]:
    """Build the installer.

    Args:
        packages: Where it goes; its folder `work` is kept between builds.

    Returns:
        The installer and the SBOM.

    Raises:
        BuildError: Something is missing or too large.
    """
    work = packages / "work"
    work.mkdir(parents=True, exist_ok=True)
    root = work / f"rooftop-{wheels.version()}-windows-x86_64"
    windows_tree.build(root, work)
    refuse_larger("The installed app", tree.size_bytes(root), MAX_INSTALLED_BYTES)
    installer = packages / f"rooftop-{wheels.version()}-windows-x86_64.exe"
    make_installer(root, wheels.version(), work, installer)
    sbom = installer.with_suffix(".cdx.json")
    shutil.copyfile(root / "licences/sbom.cdx.json", sbom)
    refuse_larger(installer.name, installer.stat().st_size, MAX_PACKAGE_BYTES)
    write_sums(packages)
    return [installer, sbom]


def make_installer(root: Path, version: str, work: Path, installer: Path) -> None:
    """Compile the installer around an app's folder.

    Args:
        root: The folder.
        version: What it calls itself.
        work: Where the launcher's icon lies.
        installer: Where the program goes.
    """
    defines = {
        "VERSION": version,
        "VERSION_NUMBERS": windows_tree.version_numbers(version).replace(",", "."),
        "PAYLOAD": str(root),
        "ICON": str(work / "launcher" / "rooftop.ico"),
        "SIZE_KB": str(tree.size_bytes(root) // 1000),
        "OUTPUT": str(installer),
    }
    options = [f"-D{name}={value}" for name, value in defines.items()]
    script = windows_tree.SOURCES / "installer.nsi"
    wheels.run(["makensis", "-V2", "-WX", "-INPUTCHARSET", "UTF8", *options, str(script)])


if __name__ == "__main__":
    raise SystemExit(main(build))
