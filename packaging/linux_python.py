"""The Linux app's private CPython: Debian 12's own packages, made to run from any folder.

Debian builds it against an older C library than its own, keeps it patched for years, and its binary finds its
standard library beside itself; `docs/decisions/0042-the-installed-app.md` says what else was looked at. The files are
pinned in packaging/locks/linux-python.txt by their SHA-256. libexpat and zlib stay the system's: fontconfig and
freetype, without which Qt opens no window, bring them everywhere. readline is used where the system has it.

`ROOFTOP_DEBIAN_MIRROR` names another mirror than https://deb.debian.org.
"""

from __future__ import annotations

import lzma
import os
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import wheels
from pinned import PinnedFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK = wheels.LOCKS / "linux-python.txt"
EXECUTABLE = PurePosixPath("bin/python3.11")
LIBRARY = PurePosixPath("lib/python3.11")
SITE_PACKAGES = LIBRARY / "dist-packages"  # as Debian's Python calls it, in its own frozen `site`
QT_LIBRARIES = SITE_PACKAGES / "PySide6/Qt/lib"
_SUITES = (("debian", "bookworm"), ("debian-security", "bookworm-security"))
XCB_PACKAGES = {
    "libxcb-cursor0": "libxcb-cursor.so.0",
    "libxcb-icccm4": "libxcb-icccm.so.4",
    "libxcb-image0": "libxcb-image.so.0",
    "libxcb-keysyms1": "libxcb-keysyms.so.1",
    "libxcb-render-util0": "libxcb-render-util.so.0",
    "libxcb-util1": "libxcb-util.so.1",
}
"""Small libraries that Qt needs on X11 and that many desktops do not have; they go beside Qt's own."""
_PACKAGES = (
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libssl3",
    "libffi8",
    "libsqlite3-0",
    "libbz2-1.0",
    "liblzma5",
    "libuuid1",
    *XCB_PACKAGES,
)
_SHARED = (
    "libssl.so.3",
    "libcrypto.so.3",
    "libffi.so.8",
    "libsqlite3.so.0",
    "libbz2.so.1.0",
    "liblzma.so.5",
    "libuuid.so.1",
)
# Parts of the standard library that no application uses, or that need libraries which are not here.
_LEFT_OUT = (
    "EXTERNALLY-MANAGED",
    "sitecustomize.py",
    "test",
    "turtle.py",
    "curses",
    "dbm",
    "crypt.py",
    "lib-dynload/_crypt.*",
    "lib-dynload/_curses*",
    "lib-dynload/_dbm.*",
    "lib-dynload/_test*",
    "lib-dynload/_xxtestfuzz.*",
    "lib-dynload/nis.*",
    "lib-dynload/ossaudiodev.*",
    "lib-dynload/xxlimited*",
)


@dataclass(frozen=True, slots=True)
class DebianPackage:
    """One of Debian's packages inside.

    Attributes:
        name: As Debian calls it.
        version: Debian's.
        copyright: The text of its copyright file.
    """

    name: str
    version: str
    copyright: str


def renew_lock() -> None:
    """Pin the newest versions of Debian 12."""
    newest: dict[str, tuple[str, str]] = {}
    for archive, suite in _SUITES:
        for fields in _index(archive, suite):
            name, version = fields["Package"], fields["Version"]
            if name in _PACKAGES and (name not in newest or _is_newer(version, newest[name][0])):
                newest[name] = (version, f"{fields['SHA256']}  {archive}/{fields['Filename']}")
    LOCK.write_text("".join(f"{newest[name][1]}\n" for name in _PACKAGES), encoding="utf-8")


def install(python: Path, downloads: Path) -> list[DebianPackage]:
    """Put the private CPython into a folder.

    Args:
        python: The folder; made anew.
        downloads: Where Debian's packages are kept between builds.

    Returns:
        What it is made of.

    Raises:
        BuildError: A package cannot be had, or is not the pinned one.
    """
    unpacked = downloads / "unpacked"
    for folder in (unpacked, python):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    files = _files()
    for address, sha256 in files.pins():
        wheels.run(["dpkg-deb", "-x", str(files.fetch(address, sha256, downloads)), str(unpacked)])
    _copy(unpacked, python)
    packages = [_described(address, unpacked) for address, _ in files.pins()]
    shutil.rmtree(unpacked)
    return packages


def _files() -> PinnedFiles:
    mirror = os.environ.get("ROOFTOP_DEBIAN_MIRROR", "https://deb.debian.org")
    return PinnedFiles(LOCK, mirror, "to pin what is there now, run: make package-lock")


def _copy(unpacked: Path, python: Path) -> None:
    (python / "bin").mkdir()
    shutil.copy2(unpacked / "usr" / EXECUTABLE, python / EXECUTABLE)
    shutil.copytree(unpacked / "usr" / LIBRARY, python / LIBRARY, ignore_dangling_symlinks=True)
    for pattern in _LEFT_OUT:
        for path in (python / LIBRARY).glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (python / QT_LIBRARIES).mkdir(parents=True)
    for name in _SHARED:
        _copy_library(unpacked, name, python / "lib")
    for name in XCB_PACKAGES.values():
        _copy_library(unpacked, name, python / QT_LIBRARIES)
    for module in (python / LIBRARY / "lib-dynload").glob("*.so"):
        _look_in(module, "$ORIGIN/../..")


def _copy_library(unpacked: Path, name: str, folder: Path) -> None:
    found = [place / name for place in unpacked.glob("**/lib/x86_64-linux-gnu") if (place / name).exists()]
    shutil.copy2(found[0].resolve(), folder / name)  # no links: some file systems have none
    _look_in(folder / name, "$ORIGIN")


def _look_in(library: Path, folder: str) -> None:
    wheels.run(["patchelf", "--set-rpath", folder, str(library)])


def _index(archive: str, suite: str) -> Iterator[dict[str, str]]:
    text = lzma.decompress(_files().read(f"{archive}/dists/{suite}/main/binary-amd64/Packages.xz")).decode()
    for paragraph in text.split("\n\n"):
        lines = (line.partition(": ") for line in paragraph.splitlines() if not line.startswith(" "))
        fields = {key: value for key, _, value in lines}
        if fields:
            yield fields


def _is_newer(version: str, other: str) -> bool:
    try:
        wheels.run(["dpkg", "--compare-versions", version, "gt", other])
    except wheels.BuildError:
        return False
    return True


def _described(address: str, unpacked: Path) -> DebianPackage:
    name, version, _ = PurePosixPath(address).name.split("_")
    text = (unpacked / "usr/share/doc" / name / "copyright").read_text(encoding="utf-8")
    return DebianPackage(name, version.replace("%3a", ":"), text)


if __name__ == "__main__":
    renew_lock()
