"""`python -m engine convert | verify`: options, progress on stderr, the result on stdout.

With `--json` stderr has a JSON line for each step of progress; an error is such a line too, before the one for people:
`{"error": code, "message": ..., "remedy": ...}`, both sentences as `engine.sentences.to_json` keeps them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.checkpoint.catalog import resolve_model
from engine.convert.conversion import Progress, convert
from engine.convert.description import describe
from engine.convert.recipe import CONVERSION_FORMATS, DEFAULT_FORMAT
from engine.convert.report import Conversion
from engine.convert.verification import Verified, verify
from engine.errors import RooftopError
from engine.sentences import to_json

PROGRESS_S = 0.25


def add_convert_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("--model", required=True, metavar="M", help="a folder with safetensors, or a .gguf file, in 16 or 32 bits")
    add("--to", required=True, metavar="DIR", help="the new folder; DIR.unfinished until it is whole")
    add("--format", choices=CONVERSION_FORMATS, default=DEFAULT_FORMAT)
    add("--threads", type=_threads, metavar="N", help="else the processor's")
    add("--json", action="store_true", help="print one JSON object, and progress as JSON lines on stderr")


def run_convert(options: argparse.Namespace) -> Conversion:
    """Convert as asked.

    Raises:
        RooftopError: As `convert`.
    """
    show = _AsJson() if options.json else _AsLine()
    try:
        source, target = resolve_model(options.model), Path(options.to)
        return convert(source, target, options.format, show, threads=options.threads, describe=describe)
    except RooftopError as error:
        show.fail(error)
        raise
    finally:
        show.end()


def add_verify_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--model", required=True, metavar="DIR", help="a folder that convert has made")
    parser.add_argument("--json", action="store_true", help="print one JSON object, and progress as JSON lines")


def run_verify(options: argparse.Namespace) -> Verified:
    """Hold a converted model against its checksums.

    Raises:
        RooftopError: As `verify`.
    """
    show = _AsJson() if options.json else _AsLine()
    try:
        return verify(Path(options.model), lambda done, total: show(Progress("verifying", done, total, None)))
    except RooftopError as error:
        show.fail(error)
        raise
    finally:
        show.end()


class _AsLine:
    """A line that rewrites itself, where somebody watches."""

    def __init__(self) -> None:
        self._shown = 0.0
        self._watched = sys.stderr.isatty()

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() - self._shown < PROGRESS_S:
            return
        self._shown = time.monotonic()
        self.show(progress)

    def show(self, progress: Progress) -> None:
        if self._watched:
            share = progress.done_bytes / progress.total_bytes
            left = "" if progress.seconds_left is None else f", {_in_words(progress.seconds_left)} left"
            sys.stderr.write(f"\r\x1b[K{progress.phase.capitalize()}: {share:.1%}{left}")
            sys.stderr.flush()

    def fail(self, error: RooftopError) -> None:
        """The error's own line says it."""

    def end(self) -> None:
        if self._watched:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


class _AsJson(_AsLine):
    """A line for each message."""

    def show(self, progress: Progress) -> None:
        self._write(asdict(progress))

    def fail(self, error: RooftopError) -> None:
        message, remedy = to_json(error.message), to_json(error.remedy)
        self._write({"error": error.code, "message": message, "remedy": remedy})

    def _write(self, fields: dict[str, Any]) -> None:
        sys.stderr.write(json.dumps(fields) + "\n")
        sys.stderr.flush()

    def end(self) -> None:
        """Nothing is left on a line."""


def _in_words(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 60 else f"{minutes} min" if minutes < 100 else f"{seconds / 3600:.1f} h"


def _threads(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number from 1 to 256")
    return int(text)
