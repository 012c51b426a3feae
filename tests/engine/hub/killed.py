"""A download that is killed at each of its writes in turn, and resumed: `python -m tests.engine.hub.killed`.

One process imports everything and forks for each moment, so that a moment costs milliseconds. Prints one line of JSON
for each: the moment, whether a model was found after the kill, and whether it was complete after resuming.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from engine.errors import RooftopError
from engine.hub import connection
from engine.hub.api import Hub
from engine.hub.places import target_of
from engine.hub.repository import Choice, choices
from engine.hub.transfer import Transfer
from tests.killer import Killer


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
