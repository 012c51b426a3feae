"""The folder `licences` of the installed app: who made what is inside, under which licences, and an SBOM.

All of it is read from what is really there. A package that brings no licence text and is not named in `_TEXTS` stops
the build: somebody has to look. The SBOM is CycloneDX 1.6, the same for the same content.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import wheels

from app.licences import LICENCE_FILE, licence_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SBOM = "sbom.cdx.json"
OVERVIEW = "THIRD-PARTY.txt"
RELINKING = "REPLACING-QT.txt"
_OWN_TEXTS = wheels.ROOT / "packaging" / "licence_texts"
_RESOURCES = wheels.ROOT / "resources"
_LGPL = (_RESOURCES / "licences" / "LGPL-3.0.txt", _RESOURCES / "licences" / "GPL-3.0.txt")
# Packages whose wheels name their licence and leave its text out.
_TEXTS: Mapping[str, tuple[Path, ...]] = {
    "pyside6-essentials": _LGPL,
    "shiboken6": _LGPL,
    "tokenizers": (wheels.ROOT / "LICENSE",),
    "latex2mathml": (_OWN_TEXTS / "latex2mathml.txt",),
    "nvidia-ml-py": (_OWN_TEXTS / "nvidia-ml-py.txt",),
}
_SPDX = re.compile(r"^[A-Za-z0-9.+-]+( (AND|OR|WITH) [A-Za-z0-9.+-]+)*$")
_NAMESPACE = uuid.UUID("5f1d3f2c-9f1e-4c43-8a57-6c4f1b8c9a10")


@dataclass(frozen=True, slots=True)
class Part:
    """One thing inside.

    Attributes:
        name: As its makers call it.
        version: "" where it has none.
        licence: An SPDX expression, or what its makers call it.
        texts: Licence texts, by file name.
        purl: Its package URL; "" where there is none.
        home: Where its source is.
    """

    name: str
    version: str
    licence: str
    texts: Mapping[str, str] = field(default_factory=dict)
    purl: str = ""
    home: str = ""


def packages(site_packages: Path) -> list[Part]:
    """Every Python package in a folder but Rooftop itself, by name.

    Args:
        site_packages: The folder.

    Raises:
        BuildError: One has no licence, or no text of it.
    """
    found = [package(one) for one in metadata.distributions(path=[str(site_packages)]) if one.name != "rooftop"]
    return sorted(found, key=lambda part: part.name.lower())


def package(one: metadata.Distribution) -> Part:
    """What one Python package says of itself.

    Args:
        one: The one.

    Raises:
        BuildError: It has no licence, or no text of it.
    """
    name, key = one.name, re.sub(r"[-_.]+", "-", one.name).lower()
    files = [file for file in one.files or [] if ".dist-info/" in file.as_posix()]
    paths = {_flat(file): Path(str(one.locate_file(file))) for file in files if LICENCE_FILE.search(file.as_posix())}
    texts = {name: _text(path) for name, path in paths.items() if path.is_file()}
    texts = texts or {path.name: _text(path) for path in _TEXTS.get(key, ())}
    licence = licence_name(one.metadata)
    if not texts or not licence:
        raise wheels.BuildError(f"{name} brings no licence text; find it and add it to packaging/notices.py.")
    addresses = [line.partition(", ") for line in one.metadata.get_all("Project-URL") or []]
    homes = [address for _, _, address in addresses] or one.metadata.get_all("Home-page") or [""]
    return Part(name, one.version, licence, texts, f"pkg:pypi/{key}@{quote(one.version)}", homes[0])


def bundled() -> list[Part]:
    """What the wheels bring along without saying so in a way that programs read: Qt's own parts, the fonts."""
    qt = {"qt6-base-third-party.txt": _text(_OWN_TEXTS / "qt6-base.txt"), **{path.name: _text(path) for path in _LGPL}}
    version = wheels.pins(wheels.lock_path(wheels.LINUX).read_text(encoding="utf-8"))["pyside6-essentials"]
    expression = "LGPL-3.0-only OR GPL-2.0-only OR GPL-3.0-only"
    fonts = {
        "Inter": ("OFL-1.1", _RESOURCES / "fonts" / "OFL.txt", "https://rsms.me/inter/"),
        "STIX Two Math": ("OFL-1.1", _OWN_TEXTS / "stix-two-math.txt", "https://github.com/stipub/stixfonts"),
        "DejaVu Sans": ("Bitstream-Vera", _OWN_TEXTS / "dejavu-sans.txt", "https://dejavu-fonts.github.io"),
    }
    home, icu = "https://download.qt.io/official_releases/qt/", {"LICENSE.txt": _text(_OWN_TEXTS / "icu.txt")}
    return [
        Part("Qt", version, expression, qt, f"pkg:generic/qt@{version}", home),
        Part("ICU", "", "Unicode-3.0", icu, "pkg:generic/icu", "https://icu.unicode.org"),
        *(Part(name, "", licence, {path.name: _text(path)}, "", home) for name, (licence, path, home) in fonts.items()),
    ]


def write(folder: Path, parts: Iterable[Part], qt_folder: str) -> None:
    """Write the notices and the SBOM.

    Args:
        folder: Where; made if it is missing.
        parts: All that is inside.
        qt_folder: Where Qt's libraries are, from the app's own folder.
    """
    parts = list(parts)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / OVERVIEW).write_text(_overview(parts), encoding="utf-8")
    (folder / RELINKING).write_text(_RELINKING_NOTE.format(folder=qt_folder), encoding="utf-8")
    (folder / "LICENSE.txt").write_text(_text(wheels.ROOT / "LICENSE"), encoding="utf-8")
    (folder / SBOM).write_text(json.dumps(sbom(parts), indent=1) + "\n", encoding="utf-8")
    for part in parts:
        own = folder / _file_name(part)
        own.mkdir(exist_ok=True)
        for name, text in part.texts.items():
            (own / name).write_text(text, encoding="utf-8")


def sbom(parts: Iterable[Part]) -> dict[str, object]:
    """What is inside, as CycloneDX 1.6."""
    version = wheels.version()
    components = [_component(part) for part in parts]
    rooftop = {"type": "application", "bom-ref": "rooftop", "name": "rooftop", "version": version}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, json.dumps(components))}",
        "version": 1,
        "metadata": {"component": rooftop | {"licenses": [{"expression": "Apache-2.0"}]}},
        "components": components,
    }


def _component(part: Part) -> dict[str, object]:
    licence = {"expression": part.licence} if _SPDX.match(part.licence) else {"license": {"name": part.licence}}
    reference = part.purl or f"{part.name}@{part.version}"
    found: dict[str, object] = {"type": "library", "bom-ref": reference, "name": part.name, "licenses": [licence]}
    found |= {key: value for key, value in (("version", part.version), ("purl", part.purl)) if value}
    if part.home:
        found["externalReferences"] = [{"type": "website", "url": part.home}]
    return found


def _flat(file: metadata.PackagePath) -> str:
    """A licence's path below the package's metadata, as one file name."""
    inner = file.as_posix().partition(".dist-info/")[2].removeprefix("licenses/")
    name = inner.replace("/", "-")
    return name if "." in file.name else f"{name}.txt"


def _overview(parts: Iterable[Part]) -> str:
    lines = [
        f"Rooftop {wheels.version()} is under the Apache License 2.0 (LICENSE.txt).",
        "It contains the following parts, unchanged but for files left out. Their texts are in the folders here;",
        f"{SBOM} lists them for programs; {RELINKING} tells how to use another build of Qt.",
        "",
    ]
    lines += [
        f"{part.name} {part.version}\n    {part.licence}\n    {part.home}".replace("\n    \n", "\n") for part in parts
    ]
    return "\n".join(lines).rstrip() + "\n"


def _file_name(part: Part) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", f"{part.name}-{part.version}").strip("-")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


_RELINKING_NOTE = """\
Qt, PySide6 and Shiboken in this program
========================================

They are used under the GNU Lesser General Public License, version 3 (see Qt-*/LGPL-3.0.txt). They are unchanged, linked
dynamically, and lie as separate files in

    {folder}

You may replace them by your own, modified or newer ones:

1. Get the source of the version that THIRD-PARTY.txt names:
   Qt: https://download.qt.io/official_releases/qt/
   PySide6 and Shiboken: https://download.qt.io/official_releases/QtForPython/pyside6/
2. Build it as shared libraries with the same major and minor version.
3. Put the libraries over those in that folder, under the same names, and start Rooftop. Nothing checks them.

Rooftop's own code is Python, in readable form, and under the Apache License 2.0; you may change it for your own use and
debug it, as the LGPL asks. No module of Qt that is under the GPL alone is included.
"""
