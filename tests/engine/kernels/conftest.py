"""For the tests of the native library."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.kernels.cpu_library import ISAS, CpuPool, available_isas


@pytest.fixture(params=ISAS)
def pool(request: pytest.FixtureRequest) -> Iterator[CpuPool]:
    """A pool of two threads of every instruction set that this machine runs."""
    if request.param not in available_isas():
        pytest.skip(f"no {request.param} here")
    with CpuPool(request.param, 2) as pool:
        yield pool
