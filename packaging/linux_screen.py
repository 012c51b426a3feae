"""A screen with nobody before it, and hands that type: Xvfb, openbox, xdotool and ImageMagick, for the proof."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from typing import TYPE_CHECKING, TypeVar

import wheels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_S = 90.0
POLL_S = 0.02
_SOCKETS = "/tmp/.X11-unix"  # noqa: S108 - where every X server has them
Found = TypeVar("Found")


class Screen:
    """One X display.

    Args:
        display: Its name, such as ":7".
    """

    def __init__(self, display: str) -> None:
        self.display = display
        self._environment = os.environ | {"DISPLAY": display}

    def ask(self, *command: str) -> str:
        """Run a program on this display; "" where it found nothing."""
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    def window(self) -> str:
        """Rooftop's visible window; "" while there is none."""
        return self.ask("xdotool", "search", "--onlyvisible", "--class", "^rooftop$").partition("\n")[0]

    def classes(self, window: str) -> str:
        """What a window says it belongs to."""
        return self.ask("xprop", "-id", window, "WM_CLASS")

    def type(self, text: str, *keys: str) -> None:
        """Type into whatever has the focus, then press keys."""
        if text:
            self.ask("xdotool", "type", "--delay", "15", text)
        for key in keys:
            self.ask("xdotool", "key", "--clearmodifiers", key)

    def picture(self, path: Path) -> None:
        """Save what is on the screen."""
        self.ask("import", "-window", "root", str(path))


@contextlib.contextmanager
def screen(sockets: Path | None = None) -> Iterator[Screen]:
    """A display with a window manager, until the block ends.

    Args:
        sockets: Where those in another root find it, by a mount that they undo; None for nobody.
    """
    read, write = os.pipe()
    quiet = subprocess.DEVNULL
    size = ["-screen", "0", "1280x860x24", "-nolisten", "tcp"]
    with subprocess.Popen(["Xvfb", *size, "-displayfd", str(write)], pass_fds=[write], stderr=quiet) as server:
        os.close(write)
        with os.fdopen(read) as answer:
            display = f":{answer.readline().strip()}"
        if sockets:
            sockets.mkdir(parents=True, exist_ok=True)
            wheels.run(["mount", "--bind", _SOCKETS, str(sockets)])
        environment = os.environ | {"DISPLAY": display}
        with subprocess.Popen(["openbox"], env=environment, stdout=quiet, stderr=quiet) as manager:
            try:
                yield Screen(display)
            finally:
                manager.terminate()
                server.terminate()


def wait_for(what: str, found: Callable[[], Found], patience_s: float = PATIENCE_S) -> Found:
    """Ask until there is something.

    Args:
        what: For the sentence where it never comes.
        found: What is asked.
        patience_s: How long.

    Raises:
        BuildError: It never came.
    """
    ends_s = time.monotonic() + patience_s
    while time.monotonic() < ends_s:
        answer = found()
        if answer:
            return answer
        time.sleep(POLL_S)
    raise wheels.BuildError(f"Waited {patience_s:.0f} s for {what}, in vain.")
