"""Where the build left the native library: beside this package, in a checkout as in an installed wheel. Torch-free."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import engine.kernels

FILE_NAMES = {"win32": "rooftop_cpu.dll", "darwin": "librooftop_cpu.dylib"}
OTHER_FILE_NAME = "librooftop_cpu.so"


def find_library() -> Path | None:
    """The native library's file, or None where it was built without a C++ compiler."""
    return library_in(engine.kernels.__path__)


def library_in(folders: Iterable[str | Path]) -> Path | None:
    """This platform's library in the first of the folders that holds it."""
    file_name = FILE_NAMES.get(sys.platform, OTHER_FILE_NAME)
    candidates = (Path(folder) / file_name for folder in folders)
    return next((path for path in candidates if path.is_file()), None)
