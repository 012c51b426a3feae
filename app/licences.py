"""What Rooftop consists of and under which licences, read from the installed packages themselves. Knows no widgets."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
RESOURCES = ROOT / "resources"
LICENCE_FILE = re.compile(r"(^|/)(licen[cs]e|copying|notice|authors)[^/]*$", re.IGNORECASE)
MAX_LICENCE_CHARS = 60
QT_PACKAGES = ("pyside6-essentials", "shiboken6")


@dataclass(frozen=True, slots=True)
class Component:
    """One part of what is installed.

    Attributes:
        name: As its makers call it.
        version: "" where it has none.
        licence: Its name, as short as its makers give it; "" where they give none.
        texts: The full texts, as far as the package has them.
    """

    name: str
    version: str
    licence: str
    texts: tuple[str, ...]


def components() -> list[Component]:
    """Rooftop, what it brings along, and every installed package that it needs, by name."""
    packages = sorted(dependency_closure("rooftop") - {"rooftop"})
    return [_rooftop(), *_bundled(), *(_package(name) for name in packages)]


def dependency_closure(root: str) -> set[str]:
    """The installed packages that one needs, itself included, without extras that nobody asked for."""
    seen: set[tuple[str, str]] = set()
    waiting = [(root, "")]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        seen.add((name, extra))
        for text in requirements:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                needed = _normalised(requirement.name)
                waiting += [(needed, part) for part in ("", *requirement.extras)]
    return {name for name, _ in seen}


def versions() -> list[tuple[str, str]]:
    """The versions that a report of a problem needs, by name; torch's without importing it."""
    from PySide6.QtCore import qVersion

    known = [("Rooftop", _version("rooftop")), ("Python", platform.python_version()), ("Qt", qVersion())]
    known += [(name, _version(package)) for name, package in (("PySide6", "PySide6-Essentials"), ("torch", "torch"))]
    known += [("transformers", _version("transformers")), ("System", f"{platform.system()} {platform.machine()}")]
    return [(name, version) for name, version in known if version]


def qt_folder() -> Path:
    """Where Qt's shared libraries lie."""
    import PySide6

    return Path(PySide6.__file__).parent / "Qt" / "lib"


def _rooftop() -> Component:
    return Component("Rooftop", _version("rooftop"), "Apache-2.0", _package_texts("rooftop"))


def _bundled() -> list[Component]:
    font = (RESOURCES / "fonts" / "OFL.txt").read_text(encoding="utf-8")
    return [Component("Inter", "", "OFL-1.1", (font,))]


def _package(name: str) -> Component:
    fields = metadata.metadata(name)
    texts = _package_texts(name)
    if name in QT_PACKAGES and not texts:  # the wheels name the licence and have no text of it
        texts = tuple(_licence_text(stem) for stem in ("LGPL-3.0", "GPL-3.0"))
    return Component(fields["Name"], fields["Version"], licence_name(fields), texts)


def licence_name(fields: metadata.PackageMetadata) -> str:
    """A package's licence, as short as its makers give it; "" where they give none."""
    if "License-Expression" in fields:
        return fields["License-Expression"]
    stated = fields["License"].strip() if "License" in fields else ""
    if stated and "\n" not in stated and len(stated) <= MAX_LICENCE_CHARS:
        return stated
    kinds = [line.split(" :: ")[-1] for line in fields.get_all("Classifier") or [] if line.startswith("License ::")]
    return ", ".join(kind for kind in kinds if kind != "OSI Approved")


def _package_texts(name: str) -> tuple[str, ...]:
    files = metadata.files(name) or []
    found = [file for file in files if ".dist-info/" in file.as_posix() and LICENCE_FILE.search(file.as_posix())]
    paths = [Path(str(file.locate())) for file in sorted(found)]
    return tuple(path.read_text(encoding="utf-8", errors="replace") for path in paths if path.is_file())


def _licence_text(stem: str) -> str:
    return (RESOURCES / "licences" / f"{stem}.txt").read_text(encoding="utf-8")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
