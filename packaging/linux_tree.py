"""The app's folder on Linux: the private Python with all packages, the launcher, the licences; checked as it stands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import elf
import linux_python
import notices
import tree
import wheels

if TYPE_CHECKING:
    from collections.abc import Iterable

LAUNCHER = "rooftop"
_SOURCE = wheels.ROOT / "packaging" / "linux" / "launcher.c"
_PROGRAMS = (LAUNCHER, "python3.11", "torch_shm_manager")
OPTIONAL = ("libqgtk3.so", "readline.cpython-311-x86_64-linux-gnu.so")  # Qt and Python go on without what these need
SYSTEM = frozenset(
    [
        "ld-linux-x86-64.so.2",
        "libc.so.6",
        "libm.so.6",
        "libdl.so.2",
        "libpthread.so.0",
        "librt.so.1",
        "libresolv.so.2",
        "libutil.so.1",
        "libgcc_s.so.1",
        "libstdc++.so.6",
        "libEGL.so.1",
        "libGL.so.1",
        "libX11-xcb.so.1",
        "libX11.so.6",
        "libbrotlicommon.so.1",
        "libbrotlidec.so.1",
        "libdbus-1.so.3",
        "libexpat.so.1",
        "libfontconfig.so.1",
        "libfreetype.so.6",
        "libglib-2.0.so.0",
        "libgssapi_krb5.so.2",
        "libgthread-2.0.so.0",
        "libwayland-client.so.0",
        "libwayland-cursor.so.0",
        "libwayland-egl.so.1",
        "libxcb-glx.so.0",
        "libxcb-randr.so.0",
        "libxcb-render.so.0",
        "libxcb-shape.so.0",
        "libxcb-shm.so.0",
        "libxcb-sync.so.1",
        "libxcb-xfixes.so.0",
        "libxcb-xkb.so.1",
        "libxcb.so.1",
        "libxkbcommon-x11.so.0",
        "libxkbcommon.so.0",
        "libz.so.1",
        "libzstd.so.1",
    ]
)
"""The system's libraries that the app may ask for; packaging/system_libraries.sh names the packages that bring them."""


def build(root: Path, work: Path) -> None:
    """Make the app's folder.

    Args:
        root: The folder; made anew.
        work: What is kept between builds: wheels and Debian's packages.

    Raises:
        BuildError: Something is missing, or a check found what must not be.
    """
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    python = root / "python"
    debian = linux_python.install(python, work / "debian")
    own_wheel = wheels.build_own_wheel(work)
    tree.fill(wheels.LINUX, python / linux_python.SITE_PACKAGES, own_wheel)
    for path in (python / linux_python.SITE_PACKAGES).rglob("*.so*"):
        if elf.is_native(path):
            elf.strip_symbols(path)
    tree.compile_bytecode(python / linux_python.LIBRARY)
    _compile_launcher(root / LAUNCHER)
    _write_notices(root, debian)
    set_modes(root)
    check(root)


def check(root: Path) -> None:
    """Look through the finished folder.

    Args:
        root: The app's folder.

    Raises:
        BuildError: A library asks for what the oldest supported system does not have.
    """
    natives = {path: elf.read_needs(path) for path in root.rglob("*") if elf.is_native(path)}
    names = {path.name for path in natives} | SYSTEM
    for path, needs in natives.items():
        newer = elf.too_new(needs.versions)
        if newer:
            raise wheels.BuildError(f"{path.name} needs {newer[0]}, which Ubuntu 22.04 does not have.")
        unknown = missing(needs.libraries, names)
        if unknown and path.name not in OPTIONAL:
            raise wheels.BuildError(
                f"{path.name} needs {unknown[0]}, which is neither inside nor in linux_tree.SYSTEM."
            )


def missing(libraries: Iterable[str], present: Iterable[str]) -> list[str]:
    """The libraries that are not there."""
    there = set(present)
    return [name for name in libraries if name not in there]


def set_modes(root: Path) -> None:
    """Everybody may read everything; only programs may be run; nothing depends on the builder's umask."""
    for path in root.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path.name in _PROGRAMS else 0o644)
    root.chmod(0o755)


def _compile_launcher(path: Path) -> None:
    options = ["-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror", "-std=c11", "-D_GNU_SOURCE"]
    wheels.run(["musl-gcc", *options, "-o", str(path), str(_SOURCE)])


def _write_notices(root: Path, debian: list[linux_python.DebianPackage]) -> None:
    site_packages = root / "python" / linux_python.SITE_PACKAGES
    musl = Path("/usr/share/doc/musl-dev/copyright").read_text(encoding="utf-8")
    parts = [
        *notices.packages(site_packages),
        *notices.bundled(),
        *(_debian_part(package) for package in debian),
        notices.Part("musl", "", "MIT", {"copyright.txt": musl}, "", "https://musl.libc.org"),
    ]
    folder = root / "licences"
    notices.write(folder, parts, f"python/{linux_python.QT_LIBRARIES} and python/{linux_python.SITE_PACKAGES}/PySide6")
    _validate_sbom(folder / notices.SBOM)


def _debian_part(package: linux_python.DebianPackage) -> notices.Part:
    licences = {"python3.11": "PSF-2.0", "libpython3.11": "PSF-2.0", "libssl3": "Apache-2.0"}
    licence = next((name for start, name in licences.items() if package.name.startswith(start)), "see copyright.txt")
    purl = f"pkg:deb/debian/{package.name}@{quote(package.version, safe='')}?arch=amd64&distro=debian-12"
    home = f"https://packages.debian.org/bookworm/{package.name}"
    return notices.Part(package.name, package.version, licence, {"copyright.txt": package.copyright}, purl, home)


def _validate_sbom(path: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(
        json.dumps(json.loads(path.read_text(encoding="utf-8")))
    )
    if problem is not None:
        raise wheels.BuildError(f"The SBOM is not CycloneDX 1.6: {problem}")
