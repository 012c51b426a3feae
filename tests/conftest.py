"""For all tests: which build of the native library they use, and how property tests draw their examples.

`make test` draws the same examples each time, so that green says something about the tree and not about luck; `make
explore` draws many others.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.internal.conjecture import providers

from engine.kernels import library_path
from tests.examples import REPEATABLE

settings.load_profile(REPEATABLE)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--native-library", type=Path, metavar="PATH", help="use this build of librooftop_cpu")


@pytest.hookimpl(trylast=True)  # once the profile is chosen
def pytest_configure(config: pytest.Config) -> None:
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    if path := config.getoption("--native-library"):
        assert path.is_file(), f"--native-library {path}: no such file"
        patch.setattr(library_path, "find_library", path.resolve)
    if settings.get_current_profile_name() == REPEATABLE:
        # Else every number and text in the modules loaded so far has a part in what is drawn.
        patch.setattr(providers, "_get_local_constants", lambda: providers._local_constants)
