"""JSON files that outlive a crash: written beside their target, synced, then renamed over it; the copy before is kept.

A file that another program, a full drive or a lost power supply has damaged is for the caller to answer, with the copy
before (`backup_path`) where there is one.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.held_files import rename

if TYPE_CHECKING:
    from collections.abc import Callable


SMALLEST_FILE_BYTES = 4096


def read_object(path: Path, max_bytes: int) -> dict[str, Any]:
    """The object in a file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is too large, no JSON, or no object.
    """
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError("too large")
    try:
        values = json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(values, dict):
        raise ValueError("not an object")  # noqa: TRY004 - callers treat every unusable file alike
    return values


def write_object(path: Path, values: dict[str, Any], is_sound: Callable[[Path], bool] = lambda _path: False) -> None:
    """Write an object so that a crash at any moment leaves the old file or the new one.

    Args:
        path: The file; its folder is made.
        values: What it holds.
        is_sound: Whether the file that is there may become the backup; a damaged one must not replace a good one.

    Raises:
        OSError: It could not be written; the old file is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _write_synced(path, json.dumps(values, indent=2) + "\n")
    try:
        if path.exists() and is_sound(path):
            rename(path, backup_path(path))
        rename(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def folder_problem(folder: Path) -> str:
    """Why nothing can be kept in a folder, which is made; "" where it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(SMALLEST_FILE_BYTES))
            file.flush()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def backup_path(path: Path) -> Path:
    """Where the copy before is kept."""
    return path.with_name(path.name + ".bak")


def _write_synced(path: Path, text: str) -> Path:
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _sync_folder(folder: Path) -> None:
    """Make the rename durable where folders can be synced."""
    if os.name == "posix":
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
