"""A mark on disk while something is tried that may break the GPU for the whole process.

What it leaves behind when it does is found at the next start, which then does without. A process that ended meanwhile
may have been ended by anybody, so that two of them are needed to say as much.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import GpuLostError
from engine.kernels.gpu_kernels import GpuKernelsUnavailableError
from engine.sentences import say

MOST_TRIES = 2  # that ended with the process


def trial_mark(folder: Path, files: Mapping[str, str], machine: str) -> Path:
    """Where the mark of some kernels on some machine is; others have others.

    Args:
        folder: Of the kernels.
        files: Their sources.
        machine: GPU and versions.
    """
    digest = hashlib.sha256(repr((machine, sorted(files.items()))).encode())
    return folder / f"{digest.hexdigest()[:32]}.trying"


@contextmanager
def on_trial(mark: Path, settle: Callable[[], object]) -> Iterator[None]:
    """Try something.

    Args:
        mark: There while it is tried, and afterwards if it broke the GPU; a folder that takes no marks has none.
        settle: Waits for the GPU; raises if it is broken.

    Raises:
        GpuKernelsUnavailableError: It broke the GPU before, or what was tried says so.
    """
    tries = _tries(mark)
    if tries >= MOST_TRIES:
        raise GpuKernelsUnavailableError(say("They broke off the GPU's work when they were tried at an earlier start."))
    _write(mark, tries + 1)
    try:
        yield
    except GpuLostError:  # a stream may stand still for good: nothing waits for it
        _write(mark, MOST_TRIES)
        raise
    except BaseException:
        _settle(mark, settle)
        raise
    _settle(mark, settle)


def _settle(mark: Path, settle: Callable[[], object]) -> None:
    """Take the mark away, as whatever was tried has left the GPU whole.

    Raises:
        Exception: Of `settle`: it has not.
    """
    try:
        settle()
    except Exception:
        _write(mark, MOST_TRIES)
        raise
    with suppress(OSError):
        mark.unlink(missing_ok=True)


def _tries(mark: Path) -> int:
    """How often it was begun and never ended."""
    try:
        return int(mark.read_text())
    except FileNotFoundError:
        return 0
    except (OSError, ValueError):
        return 1


def _write(mark: Path, tries: int) -> None:
    """Leave the mark."""
    with suppress(OSError):
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(str(tries))
