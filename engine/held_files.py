"""Renaming where another program may hold a file for a moment, as virus scanners and indexers do on Windows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TRIES = 10
FILE_WAIT_S = 0.05  # a window may be waiting
FOLDER_WAIT_S = 0.3  # large files take a scanner longer


def rename(source: Path, target: Path, wait_s: float = FILE_WAIT_S) -> None:
    """Rename a file or folder, over a file that is there; while somebody holds one of them, try again.

    Args:
        source: The file or folder.
        target: Its new path, on the same drive.
        wait_s: Between two tries.

    Raises:
        OSError: It cannot be done, or whoever holds it does not let go.
    """
    for _ in range(TRIES - 1):
        try:
            source.replace(target)
        except PermissionError:
            time.sleep(wait_s)
        else:
            return
    source.replace(target)
