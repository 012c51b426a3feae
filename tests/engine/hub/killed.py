"""A download that is killed at each of its writes in turn, and resumed: `python -m tests.engine.hub.killed`.

One process imports everything and forks for each moment, so that a moment costs milliseconds. Prints one line of JSON
for each: the moment, whether a model was found after the kill, and whether it was complete after resuming.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.errors import RooftopError
from engine.hub import connection, parts, record
from engine.hub.api import Hub
from engine.hub.places import target_of
from engine.hub.repository import Choice, choices
from engine.hub.transfer import Transfer


class Killer:
    """Ends this process at a storage operation; a write is cut in half."""

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
        for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "rename"), (Path, "unlink")):
            setattr(owner, name, self._mortal(getattr(owner, name)))

    def _mortal(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def operate(*values: Any, **named: Any) -> Any:
            self.strike()
            return operation(*values, **named)

        return operate


def run(choice: Choice, models: Path, endpoint: str, moment: int) -> int:
    """Download in a fork of this process; returns how it ended, as `os.waitpid` says."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        Killer(moment).install()
        Transfer(choice, models, endpoint=endpoint, connections=2).run()
    except RooftopError as error:
        sys.stderr.write(f"{error}\n")
        os._exit(1)
    os._exit(0)


def found(choice: Choice, models: Path) -> dict[str, str] | None:
    """What a search for models would find: names and sizes."""
    target = target_of(models, choice)
    return {item.name: str(item.stat().st_size) for item in target.iterdir()} if target.exists() else None


def main(endpoint: str, repo_id: str, folder: str) -> None:
    """Kill at moment 1, 2, 3 ... until a download is no longer killed."""
    choice = choices(Hub(endpoint=endpoint).look_up(repo_id))[0]
    connection.trusted()
    moment, ended = 0, -1
    while ended != 0:
        moment += 1
        models = Path(folder) / str(moment)
        ended = run(choice, models, endpoint, moment)
        after_kill = found(choice, models)
        resumed = run(choice, models, endpoint, 0)
        line = {"moment": moment, "ended": ended, "found": after_kill, "resumed": resumed}
        sys.stdout.write(json.dumps({**line, "complete": found(choice, models)}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
