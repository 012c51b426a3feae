"""Converts a model again and again, killed without warning at another moment each time; run as a process of its own.

`python -m tests.engine.convert.kill_driver SOURCE FOLDER`: a first conversion runs undisturbed. Then, for every
moment at which something reaches the drive (a write, half a line of the journal, a rename, ...), a fork of this process
converts into a fresh folder and is killed there (SIGKILL), and is then run again to its end. Prints one JSON object.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from engine.convert import conversion, drive_file, journal, source, workplace
from engine.convert.conversion import convert
from engine.convert.description import describe

TYPES: tuple[tuple[Any, str], ...] = (
    (drive_file.DriveFile, "_put"),
    (journal.Journal, "_append"),
    (Path, "mkdir"),
    (Path, "rmdir"),
    (Path, "rename"),
    (workplace, "_copy"),
    (workplace, "sync_folder"),
)


class _Moments:
    """Counts what reaches the drive, and kills this process at one of them."""

    def __init__(self, deadly: int) -> None:
        self._deadly = deadly
        self._passed = 0

    def wrap(self, owner: Any, name: str) -> None:
        """Make each call of a function a moment: just before it, or for the journal's lines in their middle."""
        real: Callable[..., Any] = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            self._passed += 1
            if self._passed == self._deadly:
                if name == "_append":
                    _tear(*arguments)
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        setattr(owner, name, call)


def _tear(held: Any, lines: list[dict[str, Any]]) -> None:
    """Write a part of what would be written to the journal."""
    held._file.seek(0, os.SEEK_END)
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    held._file.write(content[: len(content) * 2 // 3])


def _nothing(_handle: int) -> None:
    """Instead of waiting for the drive."""


def _in_fork(model: Path, target: Path, deadly: int) -> int:
    """Convert in a fork of this process; its exit status as `os.waitpid` tells it."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        moments = _Moments(deadly)
        for owner, name in TYPES:
            moments.wrap(owner, name)
        convert(model, target, "q4", threads=1, describe=describe)
    except BaseException as error:  # noqa: BLE001 - told by the exit status
        sys.stderr.write(f"{error!r}\n")
        os._exit(1)
    os._exit(0)


def _contents(folder: Path) -> dict[str, str]:
    """Every file but the journal, by its checksum."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.name != journal.JOURNAL
    }


def _deaths(model: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """One for each moment."""
    convert(model, folder / "whole", "q4", threads=1, describe=describe)
    whole = _contents(folder / "whole")
    for deadly in range(1, 10_000):
        target = folder / str(deadly)
        status = _in_fork(model, target, deadly)
        if status == 0:
            return
        after = "none" if not target.exists() else "whole" if _contents(target) == whole else "half"
        kept = conversion.find_unfinished(target)
        again = _in_fork(model, target, 0)
        yield {
            "killed": os.WIFSIGNALED(status),
            "after": after,
            "kept": kept is not None,
            "resumed": again == 0 and _contents(target) == whole and not workplace.unfinished_folder(target).exists(),
        }


if __name__ == "__main__":
    os.fsync = _nothing  # type: ignore[assignment] # slow, and a process that dies loses nothing that the system has
    source.PIECE_BYTES = 64 << 10
    conversion.COMMIT_S = 0.0
    sys.stdout.write(json.dumps(list(_deaths(Path(sys.argv[1]), Path(sys.argv[2])))))
