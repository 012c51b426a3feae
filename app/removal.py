"""Folders with large files are removed without waiting: at once from their name, from the drive as that has time."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

REMOVED = ".removed-"
"""What names of folders begin with that are being removed."""
NAME = "removal"

log = logging.getLogger(__name__)


def remove(folder: Path) -> None:
    """Remove a folder, if it is there; where its name cannot be taken from it, under its name."""
    aside = folder.with_name(f"{REMOVED}{time.time_ns()}")
    try:
        folder.rename(aside)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("%s cannot be renamed: %s", folder, error)
        aside = folder
    _remove_later(aside)


def remove_leftovers(parent: Path) -> None:
    """Go on with what an earlier run had no time for.

    Args:
        parent: The folder that the removed ones were in.
    """
    for leftover in parent.glob(f"{REMOVED}*"):
        _remove_later(leftover)


def _remove_later(folder: Path) -> None:
    work = partial(shutil.rmtree, folder, ignore_errors=True)
    threading.Thread(target=work, name=NAME, daemon=True).start()
