"""A mark on disk while something is tried that may break the GPU for the whole process.

What it leaves behind when it does is found at the next start, which then does without.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.kernels.cuda_driver import CudaDriverError
from engine.kernels.gpu_kernels import GpuKernelsUnavailableError
from engine.sentences import say


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
def on_trial(mark: Path) -> Iterator[None]:
    """Try something.

    Args:
        mark: There while it is tried, and afterwards if it broke the GPU; a folder that takes no marks has none.

    Raises:
        GpuKernelsUnavailableError: It broke the GPU before, or what was tried says so.
    """
    if mark.exists():
        raise GpuKernelsUnavailableError(say("They broke off the GPU's work when they were tried at an earlier start."))
    with suppress(OSError):
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    try:
        yield
    except (GpuKernelsUnavailableError, CudaDriverError):
        _clear(mark)
        raise
    _clear(mark)


def _clear(mark: Path) -> None:
    with suppress(OSError):
        mark.unlink(missing_ok=True)
