"""What the GPU component consists of: the very wheels, by name, size and SHA-256, one list for each platform.

`packaging/pin_gpu_component.py` makes the lists. They are for one torch and one Python; nothing else is ever fetched.
"""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import UnsafeRepositoryError
from engine.gpu_packages import Build
from engine.hub.names import SHA256, check_path

FOLDER = Path(__file__).resolve().parent.parent / "resources" / "gpu"
MAX_LIST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class PinnedWheel:
    """One file.

    Attributes:
        project: Whose it is on an index, e.g. "nvidia-cublas".
        name: The file's.
        url: Where it is.
        size_bytes: Its length.
        sha256: Of its bytes.
        unpacked_bytes: What of it is kept takes on the drive.
    """

    project: str
    name: str
    url: str
    size_bytes: int
    sha256: str
    unpacked_bytes: int


@dataclass(frozen=True, slots=True)
class Pins:
    """The component for one platform.

    Attributes:
        build: Which torch it is.
        driver: The oldest driver that works, e.g. "580".
        capability: The oldest kind of GPU that it has code for, e.g. (7, 5).
        wheels: All of its files.
    """

    build: Build
    driver: str
    capability: tuple[int, int]
    wheels: tuple[PinnedWheel, ...]

    @property
    def download_bytes(self) -> int:
        """Of all wheels."""
        return sum(wheel.size_bytes for wheel in self.wheels)

    @property
    def unpacked_bytes(self) -> int:
        """Of all that is kept."""
        return sum(wheel.unpacked_bytes for wheel in self.wheels)


def platform_name() -> str:
    """What this platform's list is called, e.g. "linux-x86_64" or "windows-amd64"."""
    return f"{platform.system().lower()}-{platform.machine().lower()}"


def read_pins(path: Path | None = None) -> Pins | None:
    """The list for this platform; None where Rooftop has none, or a file that is none of ours.

    Args:
        path: Of the list; None for this platform's.
    """
    path = path or FOLDER / f"{platform_name()}.json"
    try:
        with path.open("rb") as file:
            values: dict[str, Any] = json.loads(file.read(MAX_LIST_BYTES))
        wheels = tuple(PinnedWheel(**wheel) for wheel in values["wheels"])
        major, minor = values["capability"]
        pins = Pins(Build(**values["build"]), str(values["driver"]), (int(major), int(minor)), wheels)
        sound = bool(wheels) and all(map(_is_sound, wheels))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return pins if sound else None


def fits(pins: Pins, own: Build) -> bool:
    """Whether a list is for the torch and the Python that run here."""
    return (pins.build.version, pins.build.python) == (own.version, own.python)


def _is_sound(wheel: PinnedWheel) -> bool:
    try:
        check_path(wheel.name)
    except UnsafeRepositoryError:
        return False
    return (
        "/" not in wheel.name
        and wheel.name.endswith(".whl")
        and SHA256.fullmatch(wheel.sha256) is not None
        and wheel.size_bytes > 0
        and wheel.unpacked_bytes >= 0
        and wheel.url.startswith(("https://", "http://"))
    )
