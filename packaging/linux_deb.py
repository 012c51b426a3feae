"""The .deb: the app's folder as /usr/lib/rooftop, with the menu entry, icons and papers that Debian asks for."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
from email.utils import formatdate
from time import gmtime, strftime
from typing import TYPE_CHECKING

import linux_python
import tree
import wheels

if TYPE_CHECKING:
    from pathlib import Path

HOME = "usr/lib/rooftop"
ICON_SIZES = (16, 24, 32, 48, 64, 128, 256, 512)
MAINTAINER = "The Rooftop developers <rooftop@users.noreply.github.com>"
_SOURCES = wheels.ROOT / "packaging" / "linux"
_ICON = wheels.ROOT / "resources" / "icons" / "rooftop.svg"
_LIBRARIES = wheels.ROOT / "packaging" / "system_libraries.sh"
_C_LIBRARY = "libc6 (>= 2.35)"


def build(root: Path, staging: Path, deb: Path) -> None:
    """Pack the app's folder.

    Args:
        root: The app's folder, which `linux_tree` made; its files are linked, not copied.
        staging: Where the package's own tree is laid out; made anew.
        deb: The package.
    """
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(root, staging / HOME, copy_function=os.link)
    (staging / "usr/bin").mkdir(parents=True)
    (staging / "usr/bin/rooftop").symlink_to("../lib/rooftop/rooftop")
    add_desktop_files(staging / "usr/share")
    _add_papers(staging / "usr/share")
    _add_control(staging)
    _date(staging)
    wheels.run(["dpkg-deb", "--root-owner-group", "-Zxz", "-z2", "--build", str(staging), str(deb)])


def add_desktop_files(share: Path) -> None:
    """The menu entry, its icons, the association with .gguf files and the description for software centres.

    Args:
        share: /usr/share or what stands for it.
    """
    _write(share / "applications/rooftop.desktop", (_SOURCES / "rooftop.desktop").read_text(encoding="utf-8"))
    _write(share / "applications/rooftop-open.desktop", (_SOURCES / "rooftop-open.desktop").read_text(encoding="utf-8"))
    _write(share / "mime/packages/rooftop.xml", (_SOURCES / "rooftop-mime.xml").read_text(encoding="utf-8"))
    metainfo = (_SOURCES / "rooftop.metainfo.xml").read_text(encoding="utf-8")
    _write(share / "metainfo/io.github.rooftop.Rooftop.metainfo.xml", filled(metainfo))
    _write(share / "icons/hicolor/scalable/apps/rooftop.svg", _ICON.read_text(encoding="utf-8"))
    for size in ICON_SIZES:
        _render(share / f"icons/hicolor/{size}x{size}/apps/rooftop.png", size)


def filled(template: str, **values: str) -> str:
    """A template with its @NAMES@ replaced: VERSION, DATE, RFC_DATE, MAINTAINER and those that are given."""
    moment = build_moment()
    known = {
        "VERSION": wheels.version(),
        "DATE": strftime("%Y-%m-%d", gmtime(moment)),
        "RFC_DATE": formatdate(moment).replace("-0000", "+0000"),
        "MAINTAINER": os.environ.get("ROOFTOP_MAINTAINER", MAINTAINER),
    }
    return re.sub(r"@([A-Z_]+)@", lambda found: (known | values)[found[1]], template)


def build_moment() -> int:
    """When the packaged state of the source is from, in seconds: SOURCE_DATE_EPOCH, or the last commit's date."""
    stated = os.environ.get("SOURCE_DATE_EPOCH")
    return int(stated or wheels.run(["git", "log", "-1", "--format=%ct"]))


def dependencies() -> list[str]:
    """The system's packages that the app needs: those that a checkout needs too, less what is inside."""
    listed = re.search(r'^packages="([^"]+)"', _LIBRARIES.read_text(encoding="utf-8"), re.MULTILINE)
    assert listed is not None
    names = listed[1].replace("\\\n", " ").split()
    return [_C_LIBRARY, *(name for name in names if name not in linux_python.XCB_PACKAGES)]


def _render(path: Path, size: int) -> None:
    from PySide6.QtCore import Qt
    from PySide6.QtGui import QImage, QPainter
    from PySide6.QtSvg import QSvgRenderer

    image = QImage(size, size, QImage.Format.Format_ARGB32)
    image.fill(Qt.GlobalColor.transparent)
    painter = QPainter(image)
    QSvgRenderer(str(_ICON)).render(painter)
    painter.end()
    path.parent.mkdir(parents=True, exist_ok=True)
    if not image.save(str(path)):
        raise wheels.BuildError(f"{path} cannot be written.")


def _add_papers(share: Path) -> None:
    papers = share / "doc/rooftop"
    _write(papers / "copyright", (_SOURCES / "copyright").read_text(encoding="utf-8"))
    _pack(papers / "changelog.gz", filled((_SOURCES / "changelog").read_text(encoding="utf-8")))
    _pack(share / "man/man1/rooftop.1.gz", filled((_SOURCES / "rooftop.1").read_text(encoding="utf-8")))
    _write(share / "lintian/overrides/rooftop", (_SOURCES / "lintian-overrides").read_text(encoding="utf-8"))


def _add_control(staging: Path) -> None:
    sums = [
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(staging)}\n"
        for path in sorted(staging.rglob("*"))
        if path.is_file() and not path.is_symlink()
    ]
    size_kib = str(tree.size_bytes(staging) // 1024)
    control = filled(
        (_SOURCES / "control").read_text(encoding="utf-8"), INSTALLED_KIB=size_kib, DEPENDS=", ".join(dependencies())
    )
    _write(staging / "DEBIAN/control", control)
    _write(staging / "DEBIAN/md5sums", "".join(sums))


def _date(staging: Path) -> None:
    """The same content gives the same package."""
    moment = build_moment()
    for path in (*staging.rglob("*"), staging):
        os.utime(path, (moment, moment), follow_symlinks=False)


def _pack(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    path.chmod(0o644)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
