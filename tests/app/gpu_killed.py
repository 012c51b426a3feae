"""An installation that is killed at each of its changes to the drive, and begun again.

`python -m tests.app.gpu_killed ADDRESS WHEELS FOLDER`: one process imports everything and forks for each moment. Prints
one line of JSON for each: the moment, what an engine would find after the kill, and after the next run.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.gpu_files import discard
from app.gpu_install import Installation
from engine.errors import RooftopError
from engine.gpu_packages import find_component
from engine.hub import connection, parts, record
from engine.hub.api import Hub
from tests.gpu_wheels import OWN, pins_for

TRIED = ("sh", "-c", 'echo \'{"cuda": "13.0", "version": "2.13.0+cu130"}\'')


class Killer:
    """Ends this process at a change to the drive; a write is cut in half."""

    def __init__(self, moment: int) -> None:
        self.left = moment

    def strike(self, half: Callable[[], object] = lambda: None) -> None:
        self.left -= 1
        if self.left == 0:
            half()
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        killer = self

        class Mortal(io.FileIO):
            def write(self, data: Any) -> int:
                write = super().write
                killer.strike(lambda: write(bytes(data)[: len(data) // 2]))
                return write(data)

        for module in (parts, record):
            module.FileIO = Mortal  # type: ignore[attr-defined]
        names = ((Path, "replace"), (Path, "rename"), (Path, "unlink"), (Path, "mkdir"), (Path, "chmod"), (os, "sync"))
        os.sync = lambda: None  # all that other programs have written would be waited for
        for owner, name in (*names, (os, "fsync"), (shutil, "rmtree")):
            setattr(owner, name, self._mortal(getattr(owner, name)))
        opened = Path.open

        def mortal_open(path: Path, mode: str = "r", *values: Any, **named: Any) -> Any:
            file = opened(path, mode, *values, **named)
            if mode in ("xb", "w"):
                killer.strike()
            return file

        Path.open = mortal_open  # type: ignore[method-assign, assignment]

    def _mortal(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def operate(*values: Any, **named: Any) -> Any:
            self.strike()
            return operation(*values, **named)

        return operate


def run(wheels: Path, root: Path, address: str, moment: int) -> int:
    """Install in a fork of this process; returns how it ended, as `os.waitpid` says."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        Killer(moment).install()
        discard(root)  # as Rooftop does when it starts
        Installation(
            pins_for(wheels, address),
            root,
            address=lambda wheel: wheel.url,
            told=lambda _progress: None,
            stopping=threading.Event(),
            command=TRIED,
        ).run()
    except RooftopError as error:
        sys.stderr.write(f"{error}\n")
        os._exit(1)
    os._exit(0)


def main(address: str, wheels: str, folder: str) -> None:
    """Kill at moment 1, 2, 3 ... until an installation is no longer killed."""
    connection.trusted()
    assert Hub(endpoint=address).endpoint  # imports what takes long, before the forks
    moment, ended = 0, -1
    while ended != 0:
        moment += 1
        root = Path(folder) / str(moment)
        ended = run(Path(wheels), root, address, moment)
        after_kill = find_component(root, OWN).state
        again = run(Path(wheels), root, address, 0)
        left = sorted(path.name for path in root.iterdir()) if root.exists() else []
        line = {"moment": moment, "ended": ended, "found": after_kill, "again": again, "left": left}
        sys.stdout.write(json.dumps({**line, "complete": find_component(root, OWN).state}) + "\n")
        shutil.rmtree(root)


if __name__ == "__main__":
    main(*sys.argv[1:])
