"""Ends a process in the midst of its work, as a power cut would, so that a test can look at what is left."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.hub import parts, record


class Killer:
    """Ends this process at a change to the drive; a write is cut in half.

    Args:
        moment: At which of them; 0 for never.
    """

    def __init__(self, moment: int) -> None:
        self.left = moment

    def strike(self, half: Callable[[], object] = lambda: None) -> None:
        """A change is about to happen; `half` does half of it."""
        self.left -= 1
        if self.left == 0:
            half()
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Count the changes that a transfer makes."""
        killer = self

        class Mortal(io.FileIO):
            def write(self, data: Any) -> int:
                write = super().write
                killer.strike(lambda: write(bytes(data)[: len(data) // 2]))
                return write(data)

        for module in (parts, record):
            module.FileIO = Mortal  # type: ignore[attr-defined]
        for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "rename"), (Path, "unlink")):
            self.watch(owner, name)

    def watch(self, owner: object, name: str) -> None:
        """Count calls of something else as changes, too."""
        setattr(owner, name, self._mortal(getattr(owner, name)))

    def _mortal(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def operate(*values: Any, **named: Any) -> Any:
            self.strike()
            return operation(*values, **named)

        return operate
