"""An option for all tests: which build of the native library they use."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.kernels import library_path


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--native-library", type=Path, metavar="PATH", help="use this build of librooftop_cpu")


def pytest_configure(config: pytest.Config) -> None:
    if path := config.getoption("--native-library"):
        assert path.is_file(), f"--native-library {path}: no such file"
        patch = pytest.MonkeyPatch()
        config.add_cleanup(patch.undo)
        patch.setattr(library_path, "find_library", path.resolve)
