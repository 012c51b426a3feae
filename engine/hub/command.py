"""`python -m engine download`: the same transfer as the window's, with its progress on stderr.

The account's token is the one that huggingface_hub finds: `HF_TOKEN`, or what `hf auth login` has kept.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from engine.checkpoint.untrusted import quote
from engine.errors import ConfigurationError
from engine.hub.api import Hub
from engine.hub.blocks import CONNECTIONS, MAX_CONNECTIONS
from engine.hub.places import default_models_folder, key_of, unfinished
from engine.hub.progress import TransferProgress
from engine.hub.repository import Choice, choices
from engine.sentences import say
from engine.sizes import human_bytes


def add_download_options(parser: argparse.ArgumentParser) -> None:
    """The options of `download`."""
    add = parser.add_argument
    add("--repo", required=True, metavar="OWNER/NAME", help="the repository on the hub")
    add("--file", metavar="PATTERN", help="which of its models: a file's name with *, or a title such as Q4_K_M")
    add("--to", metavar="DIR", help="the folder of all models; else Rooftop's own")
    add("--connections", type=int, choices=range(1, MAX_CONNECTIONS + 1), default=CONNECTIONS, metavar="N")
    add("--json", action="store_true", help="print one JSON object")


def run_download(options: argparse.Namespace, on_note: Callable[[str], None]) -> dict[str, Any]:
    """Download one model; what an earlier run has begun goes on.

    Args:
        options: Those of `add_download_options`.
        on_note: Takes a line for people.

    Returns:
        Where the model is, and what it is.

    Raises:
        RooftopError: It cannot be had; what has come is kept.
    """
    from huggingface_hub import get_token

    from engine.hub.transfer import Transfer

    token = get_token()
    models = Path(options.to).expanduser() if options.to else default_models_folder()
    choice = pick(choices(Hub(token).look_up(options.repo)), options.file)
    choice = unfinished(models).get(key_of(choice), choice)  # the commit that was begun is the one to complete
    on_note(
        f"{choice.repo_id} {choice.title}: {human_bytes(choice.total_bytes)} in {len(choice.files)} files"
        f"{f', licence {choice.licence}' if choice.licence else ''}"
    )
    transfer = Transfer(
        choice, models, token=lambda: token, on_progress=_show_progress, connections=options.connections
    )
    try:
        path = transfer.run()
    finally:
        transfer.stop()
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
    return {
        "path": str(path),
        "repo": choice.repo_id,
        "commit": choice.commit,
        "title": choice.title,
        "format": choice.format,
        "bytes": choice.total_bytes,
        "fetched_bytes": transfer.meter.fetched_bytes,
        "licence": choice.licence,
    }


def pick(found: tuple[Choice, ...], pattern: str | None) -> Choice:
    """The one choice that a pattern means, or the only one there is.

    Args:
        found: At least one.
        pattern: A file's name with `*`, or a title; compared without regard to case.

    Raises:
        ConfigurationError: None fits, or several.
    """
    titles = ", ".join(choice.title for choice in found)
    if pattern is None:
        fitting = list(found)
    else:
        wanted = pattern.lower()
        exact = [choice for choice in found if choice.title.lower() == wanted]
        fitting = exact or [choice for choice in found if _fits(choice, wanted)]
    if not fitting:
        raise ConfigurationError(
            say("No file there fits {pattern}.", pattern=quote(pattern)),
            say("Choose one of these with --file: {titles}.", titles=titles),
        )
    if len(fitting) > 1:
        raise ConfigurationError(
            say("Several models fit."),
            say("Choose one with --file: {titles}.", titles=", ".join(choice.title for choice in fitting)),
        )
    return fitting[0]


def _fits(choice: Choice, pattern: str) -> bool:
    names = (choice.title, *(file.path for file in choice.files), *(file.name for file in choice.files))
    return any(fnmatchcase(name.lower(), pattern) for name in names)


def _show_progress(progress: TransferProgress) -> None:
    """A line that rewrites itself, where somebody watches."""
    if not sys.stderr.isatty():
        return
    share = progress.done_bytes / max(1, progress.total_bytes)
    if progress.stalled or progress.trouble:
        rest = f"stalled{f': {progress.trouble}' if progress.trouble else ''}"
    elif progress.phase == "checking":
        rest = "checking"
    else:
        rest = f"{human_bytes(round(progress.bytes_per_s))}/s{_time_left(progress.seconds_left)}"
    sys.stderr.write(f"\r\x1b[K{share:6.1%} of {human_bytes(progress.total_bytes)}, {rest}")
    sys.stderr.flush()


def _time_left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f", {minutes // 60}:{minutes % 60:02d}:{rest:02d} left"
