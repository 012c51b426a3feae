"""The machine's speed: measured once, by kernels that are there, and never an error."""

from __future__ import annotations

from unittest import mock

import pytest

from engine.errors import ConfigurationError
from engine.kernels import machine_speed as module
from engine.kernels.cpu_library import available_isas
from engine.kernels.machine_speed import machine_speed


@pytest.fixture(autouse=True)
def nothing_is_known() -> None:
    module._measured.cache_clear()


def test_torch_is_not_measured() -> None:
    assert machine_speed("torch", 1) is None


@pytest.mark.skipif(not available_isas(), reason="needs the native library")
def test_it_is_measured_once() -> None:
    first = machine_speed(available_isas()[-1], 1)
    assert first is not None
    assert first.threads == 1
    assert 1e8 < first.read_bytes_per_s < 1e12
    assert 1e8 < first.int8_operations_per_s < 1e14
    assert 1e8 < first.cached_bytes_per_s < 1e13
    with mock.patch.object(module, "CpuPool", side_effect=AssertionError("measured again")):
        assert machine_speed(available_isas()[-1], 1) is first


@pytest.mark.skipif(not available_isas(), reason="needs the native library")
@pytest.mark.parametrize(
    ("what", "error"), [("CpuPool", ConfigurationError("No threads.", "Wait.")), ("mmap.mmap", OSError("no memory"))]
)
def test_a_machine_that_gives_nothing_is_not_known(what: str, error: Exception) -> None:
    with mock.patch(f"engine.kernels.machine_speed.{what}", side_effect=error):
        assert machine_speed(available_isas()[0], 1) is None
