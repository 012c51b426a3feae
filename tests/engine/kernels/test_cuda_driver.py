"""The driver's binding says what it means, to a stub that listens; the real one is for machines that have it."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.kernels import cuda_driver
from engine.kernels.cuda_driver import CudaDriver, CudaDriverError

STUB = Path(__file__).parent / "cuda_emulation" / "driver_stub.cpp"


class Two(ctypes.Structure):
    _fields_ = (("first", ctypes.c_longlong), ("second", ctypes.c_int))


@pytest.fixture(scope="session")
def stub(tmp_path_factory: pytest.TempPathFactory) -> str:
    compiler = shutil.which("g++")
    if compiler is None or sys.platform != "linux":
        pytest.skip("there is no Linux with g++ to build the stub")
    library = tmp_path_factory.mktemp("driver") / "libstub.so"
    subprocess.run([compiler, "-std=c++17", "-Wall", "-shared", "-fPIC", str(STUB), "-o", str(library)], check=True)
    return str(library)


@pytest.fixture
def driver(stub: str, monkeypatch: pytest.MonkeyPatch) -> CudaDriver:
    monkeypatch.setattr(cuda_driver, "LIBRARY", stub)
    return CudaDriver(0)


def test_what_device_it_is(driver: CudaDriver) -> None:
    assert driver.version == (13, 2)
    assert driver.capability == (8, 6)


def test_a_launch_arrives_as_it_was_meant(driver: CudaDriver, stub: str) -> None:
    function = driver.load(b"good").function("kernel")
    driver.launch(function, (70000, 8, 1), (256, 1, 1), 0, 0x7FFF12345678, (Two(-(1 << 40), -5),))
    said = ctypes.CDLL(stub).said_so_far
    said.restype = ctypes.c_char_p
    assert said() == b"77: 70000 8 1, 256 1 1, 0, 7fff12345678: -1099511627776 -5 "


def test_values_are_written_and_waited_for_round_the_circle(driver: CudaDriver) -> None:
    number = ctypes.c_uint32(0)
    address = ctypes.addressof(number)
    driver.write_value(5, address, 0xFFFFFFFF)
    assert number.value == 0xFFFFFFFF
    driver.wait_value(5, address, 0xFFFFFFFE)
    with pytest.raises(CudaDriverError, match="cuStreamWaitValue32_v2"):
        driver.wait_value(5, address, 1)


def test_pages_are_locked_once_and_a_refusal_is_an_error(driver: CudaDriver) -> None:
    driver.lock_pages(0x7FFF12345000, 3 << 32)
    driver.unlock_pages(0x7FFF12345000)
    with pytest.raises(CudaDriverError, match="cuMemHostUnregister"):
        driver.unlock_pages(0x7FFF12345000)
    with pytest.raises(CudaDriverError, match="cuMemHostRegister_v2"):
        driver.lock_pages(0x7FFF12345000, 2 << 40)


def test_the_driver_calls_a_c_function_with_its_argument(driver: CudaDriver) -> None:
    heard: list[int] = []
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(heard.append)
    driver.call_host(5, ctypes.cast(function, ctypes.c_void_p).value or 0, 77)
    assert heard == [77]


def test_an_old_driver_has_no_such_calls(driver: CudaDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_library", object())
    with pytest.raises(CudaDriverError, match="too old for cuStreamWriteValue32_v2"):
        driver.write_value(5, 0, 1)


def test_errors_have_the_drivers_names(driver: CudaDriver) -> None:
    with pytest.raises(CudaDriverError, match=r"kernel image is invalid\. ptxas was not amused") as raised:
        driver.load(b"bad")
    assert raised.value.name == "CUDA_ERROR_INVALID_IMAGE"
    with pytest.raises(CudaDriverError, match="cuModuleGetFunction: CUDA_ERROR_NOT_FOUND: unknown error"):
        driver.load(b"good").function("no_kernel")


def test_a_device_that_is_not_there(driver: CudaDriver) -> None:
    with pytest.raises(CudaDriverError, match="CUDA_ERROR_101"):
        CudaDriver(1)


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libno-such-driver.so")
    with pytest.raises(CudaDriverError, match=r"libno-such-driver\.so cannot be loaded") as raised:
        CudaDriver(0)
    assert raised.value.name == "CUDA_ERROR_NO_DEVICE"
