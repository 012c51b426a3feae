"""What is done, one JSON object per line, so that a suite that was stopped goes on where it was.

A step writes a line when it starts and one when it ends. One that started twice and never ended took the process with
it each time, and is not tried again. A line that was cut off is ignored.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

MOST_STARTS = 2

Result = dict[str, Any]


class Journal:
    """The steps of one suite.

    Args:
        path: The file; made with its folder by the first step.

    Attributes:
        results: What each finished step found, by its key, in order.
    """

    def __init__(self, path: Path) -> None:
        """Read what is there."""
        self._path = path
        self.results: dict[str, Result] = {}
        self._starts: Counter[str] = Counter()
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        self._cut_off = not text.endswith("\n") and bool(text)
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                key, result = entry["key"], entry.get("result")
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            if result is None:
                self._starts[key] += 1 if entry.get("started", True) else -1
            else:
                self.results[key] = result

    def crashed(self, key: str) -> bool:
        """Whether a step took the process with it too often."""
        return key not in self.results and self._starts[key] >= MOST_STARTS

    @property
    def all_crashed(self) -> list[str]:
        """Those steps."""
        return [key for key in self._starts if self.crashed(key)]

    def start(self, key: str) -> None:
        """A step begins."""
        self._starts[key] += 1
        self._append({"key": key})

    def interrupt(self, key: str) -> None:
        """It was stopped on purpose, and is not to blame."""
        self._starts[key] -= 1
        self._append({"key": key, "started": False})

    def finish(self, key: str, result: Result) -> None:
        """It is done."""
        self.results[key] = result
        self._append({"key": key, "result": result})

    def _append(self, entry: dict[str, Any]) -> None:
        """One more line, on the disk when this returns as far as the system's cache."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write("\n" * self._cut_off + json.dumps(entry) + "\n")
        self._cut_off = False
