"""The same random tensors in each test, whatever ran before it; and the emulation of our GPU kernels, built once."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.engine.kernels.cuda_emulation.launcher import EmulatedLauncher, build


@pytest.hookimpl(tryfirst=True)  # fixtures draw, too
def pytest_runtest_setup() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _measured_briefly(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine measures its machine when it loads a model: as short as can be, but where that is what is tested."""
    if request.node.get_closest_marker("measures") is None:
        monkeypatch.setattr("engine.reply.TRIAL_TOKENS", 8)
        monkeypatch.setattr("engine.experts.calibration.REPEATS", 1)


@pytest.fixture(scope="session")
def emulation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("g++")
    if compiler is None or sys.platform != "linux":
        pytest.skip("there is no Linux with g++ to build the emulation")
    return build(compiler, tmp_path_factory.mktemp("cuda_emulation"))


@pytest.fixture
def launcher(emulation: Path) -> Iterator[EmulatedLauncher]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # nothing here is large enough for more, which would wait for each other
    yield EmulatedLauncher(emulation)
    torch.set_num_threads(threads)
