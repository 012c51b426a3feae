"""The emulation of our GPU kernels, built once."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.engine.kernels.cuda_emulation.launcher import EmulatedLauncher, build


@pytest.fixture(scope="session")
def emulation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("g++")
    if compiler is None or sys.platform != "linux":
        pytest.skip("there is no Linux with g++ to build the emulation")
    return build(compiler, tmp_path_factory.mktemp("cuda_emulation"))


@pytest.fixture
def launcher(emulation: Path) -> EmulatedLauncher:
    return EmulatedLauncher(emulation)
