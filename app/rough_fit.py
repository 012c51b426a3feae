"""What can be said of a model that is not here yet, by its size alone: whether memory and drive hold it. No Qt."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.language import tr
from app.units import bytes_text
from engine.experts.memory import ram_room

if TYPE_CHECKING:
    from engine.hardware import HardwareProfile


@dataclass(frozen=True, slots=True)
class RoughFit:
    """Whether a model of some size has room.

    Attributes:
        in_memory: Whether this computer's memory holds its weights.
        on_drive: Whether the drive has room for its files.
        ram_bytes: What memory there is for it.
        free_bytes: What the drive has free.
    """

    in_memory: bool
    on_drive: bool
    ram_bytes: int
    free_bytes: int


def rough_fit(size_bytes: int, hardware: HardwareProfile, folder: Path) -> RoughFit:
    """Hold a model's size against this computer.

    Args:
        size_bytes: Of its files.
        hardware: The machine without a model.
        folder: Where it would be kept; it need not exist.
    """
    room, free = max(0, ram_room(hardware)), free_bytes(folder)
    return RoughFit(size_bytes <= room, size_bytes <= free, room, free)


def fit_words(fit: RoughFit) -> str:
    """The same for the user."""
    if not fit.on_drive:
        return tr("Not enough room on the drive: {free} free.").format(free=bytes_text(fit.free_bytes, "down"))
    if fit.in_memory:
        return tr("Its weights fit in this PC's memory.")
    words = tr("Larger than the {available} of memory that are free: would run from disk, slowly.")
    return words.format(available=bytes_text(fit.ram_bytes, "down"))


def free_bytes(folder: Path) -> int:
    """What is free on the drive of a folder that need not exist; 0 where nobody can tell."""
    for there in (folder, *folder.parents):
        try:
            return shutil.disk_usage(there).free
        except FileNotFoundError:
            continue
        except OSError:
            return 0
    return 0
