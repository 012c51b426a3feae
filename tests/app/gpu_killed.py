"""An installation that is killed at each of its changes to the drive, and begun again.

`python -m tests.app.gpu_killed ADDRESS WHEELS FOLDER`: one process imports everything and forks for each moment. Prints
one line of JSON for each: the moment, what an engine would find after the kill, and after the next run.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

from app.gpu_files import discard
from app.gpu_install import Installation
from engine.errors import RooftopError
from engine.gpu_packages import find_component
from engine.hub import connection
from engine.hub.api import Hub
from tests.gpu_wheels import OWN, pins_for
from tests.killer import Killer

TRIED = ("sh", "-c", 'echo \'{"cuda": "13.0", "version": "2.13.0+cu130"}\'')


class InstallationKiller(Killer):
    """Counts all changes that an installation makes."""

    def install(self) -> None:
        super().install()
        os.sync = lambda: None  # all that other programs have written would be waited for
        for owner, name in ((Path, "mkdir"), (Path, "chmod"), (os, "sync"), (shutil, "rmtree")):
            self.watch(owner, name)
        killer, opened = self, Path.open

        def mortal_open(path: Path, mode: str = "r", *values: Any, **named: Any) -> Any:
            file = opened(path, mode, *values, **named)
            if mode in ("xb", "w"):
                killer.strike()
            return file

        Path.open = mortal_open  # type: ignore[method-assign, assignment]


def run(wheels: Path, root: Path, address: str, moment: int) -> int:
    """Install in a fork of this process; returns how it ended, as `os.waitpid` says."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        InstallationKiller(moment).install()
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
