"""NVIDIA's driver through ctypes: loads compiled kernels and launches them on streams that torch made.

Imports no torch. Contexts are those that the CUDA runtime, and so torch, uses: the primary one of each device. A module
belongs to the context of its device, which is made current in the thread that loads.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_uint32, c_uint64, c_void_p
from typing import Any

from engine.sentences import say

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"

Size3 = tuple[int, int, int]

_COMPUTE_CAPABILITY = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_ERROR_LOG, _ERROR_LOG_BYTES = 5, 6  # CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES
_LOG_BYTES = 4096

_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (c_void_p,),
    "cuDeviceGet": (c_void_p, c_int),
    "cuDeviceGetAttribute": (c_void_p, c_int, c_int),
    "cuDevicePrimaryCtxRetain": (c_void_p, c_int),
    "cuCtxGetCurrent": (c_void_p,),
    "cuCtxSetCurrent": (c_void_p,),
    "cuModuleLoadDataEx": (c_void_p, c_char_p, c_uint, c_void_p, c_void_p),
    "cuModuleGetFunction": (c_void_p, c_void_p, c_char_p),
    "cuLaunchKernel": (c_void_p, *(c_uint,) * 7, c_void_p, c_void_p, c_void_p),
    "cuLaunchHostFunc": (c_void_p, c_void_p, c_void_p),
    "cuMemHostRegister_v2": (c_void_p, c_size_t, c_uint),
    "cuMemHostUnregister": (c_void_p,),
    "cuGetErrorName": (c_int, c_void_p),
    "cuGetErrorString": (c_int, c_void_p),
}
# Since CUDA 11.7, on all platforms; an older driver has only a version that is switched off.
_OPTIONAL: dict[str, tuple[Any, ...]] = {
    "cuStreamWaitValue32_v2": (c_void_p, c_uint64, c_uint32, c_uint),
    "cuStreamWriteValue32_v2": (c_void_p, c_uint64, c_uint32, c_uint),
}
_FOR_ALL_CONTEXTS = 1  # CU_MEMHOSTREGISTER_PORTABLE
_WAIT_REACHED = 0  # CU_STREAM_WAIT_VALUE_GEQ: value or further, round a circle of 32 bits
_WRITE_BEHIND_ALL = 0  # CU_STREAM_WRITE_VALUE_DEFAULT: what was written before is seen before


class CudaDriverError(Exception):
    """The driver is not there, or refused a call.

    Args:
        name: The driver's own name of the error, e.g. CUDA_ERROR_INVALID_IMAGE.
        message: One sentence.
    """

    def __init__(self, name: str, message: str) -> None:
        """See the class."""
        super().__init__(message)
        self.name = name


class CudaDriver:
    """The driver and one device.

    Attributes:
        version: The newest CUDA that the driver supports: major, minor.
        capability: The device's compute capability: major, minor.
    """

    def __init__(self, ordinal: int) -> None:
        """Find the device and its primary context.

        Args:
            ordinal: As torch counts devices.

        Raises:
            CudaDriverError: There is no driver, or no such device.
        """
        self._library = _load()
        self._call("cuInit", 0)
        version, device, context = c_int(), c_int(), c_void_p()
        self._call("cuDriverGetVersion", byref(version))
        self.version = (version.value // 1000, version.value % 1000 // 10)
        self._call("cuDeviceGet", byref(device), ordinal)
        numbers = [c_int(), c_int()]
        for number, attribute in zip(numbers, _COMPUTE_CAPABILITY, strict=True):
            self._call("cuDeviceGetAttribute", byref(number), attribute, device)
        self.capability = (numbers[0].value, numbers[1].value)
        self._call(
            "cuDevicePrimaryCtxRetain", byref(context), device
        )  # kept for the life of the process, as torch does
        self._context = context

    def load(self, image: bytes) -> CudaModule:
        """Load kernels onto the device.

        Args:
            image: A cubin, or PTX that ends with a zero byte.

        Raises:
            CudaDriverError: The driver does not take it; the message has its log.
        """
        self.enter()
        log = ctypes.create_string_buffer(_LOG_BYTES)
        options = (c_int * 2)(_ERROR_LOG, _ERROR_LOG_BYTES)
        values = (c_void_p * 2)(ctypes.addressof(log), _LOG_BYTES)
        module = c_void_p()
        try:
            self._call("cuModuleLoadDataEx", byref(module), image, 2, options, values)
        except CudaDriverError as error:
            said = log.value.decode(errors="replace").strip()
            raise CudaDriverError(error.name, f"{error} {said}".strip()) from error
        return CudaModule(self, module)

    def enter(self) -> None:
        """Make the device's context current in this thread, where another or none is."""
        current = c_void_p()
        self._call("cuCtxGetCurrent", byref(current))
        if current.value != self._context.value:
            self._call("cuCtxSetCurrent", self._context)

    def launch(
        self,
        function: c_void_p,
        grid: Size3,
        block: Size3,
        shared_bytes: int,
        stream: int,
        arguments: Sequence[ctypes.Structure],
    ) -> None:
        """Put a kernel into a stream; does not wait.

        Args:
            function: Of `CudaModule.function`.
            grid: Blocks.
            block: Threads of a block.
            shared_bytes: Shared memory beyond what the kernel declares.
            stream: Handle, as of `torch.cuda.current_stream().cuda_stream`; its device's context is current.
            arguments: The kernel's, in order, of its types.

        Raises:
            CudaDriverError: The driver refused.
        """
        addresses = (c_void_p * len(arguments))(*(ctypes.addressof(argument) for argument in arguments))
        self._call("cuLaunchKernel", function, *grid, *block, shared_bytes, stream, addresses, None)

    def lock_pages(self, address: int, size_bytes: int) -> None:
        """Page-lock memory of this process, so that copies to the GPU run at the link's speed beside the host's work.

        The runtime's call for this would leave a refusal behind, which torch raises at its next launch.

        Args:
            address: Where it begins.
            size_bytes: Its length; no page of it is locked already.

        Raises:
            CudaDriverError: The system gives no more of it.
        """
        self.enter()
        self._call("cuMemHostRegister_v2", address, size_bytes, _FOR_ALL_CONTEXTS)

    def unlock_pages(self, address: int) -> None:
        """Let the system move what `lock_pages` locked.

        Args:
            address: As it was given there.

        Raises:
            CudaDriverError: It is not locked, or the GPU broke off.
        """
        self.enter()
        self._call("cuMemHostUnregister", address)

    def call_host(self, stream: int, function: int, argument: int) -> None:
        """Have a thread of the driver call a C function when all before it in a stream is done; does not wait.

        Args:
            stream: Handle.
            function: Address of a `void (*)(void*)` that calls nothing of CUDA.
            argument: What it is given.

        Raises:
            CudaDriverError: The driver refused.
        """
        self._call("cuLaunchHostFunc", stream, function, argument)

    def write_value(self, stream: int, address: int, value: int) -> None:
        """Have a stream write 32 bits, behind all that it did before; does not wait.

        Args:
            stream: Handle.
            address: Of pinned memory.
            value: What.

        Raises:
            CudaDriverError: The driver does not know this, or refused.
        """
        self._call("cuStreamWriteValue32_v2", stream, address, value, _WRITE_BEHIND_ALL)

    def wait_value(self, stream: int, address: int, value: int) -> None:
        """Have a stream wait, without occupying the GPU, until 32 bits have reached a value; the host does not wait.

        Until then nothing may be asked of the driver that waits for this stream.

        Args:
            stream: Handle.
            address: Of pinned memory.
            value: What, or further round the circle.

        Raises:
            CudaDriverError: The driver does not know this, or refused.
        """
        self._call("cuStreamWaitValue32_v2", stream, address, value, _WAIT_REACHED)

    def _call(self, name: str, *arguments: Any) -> None:  # noqa: ANN401 - what ctypes converts
        """Call the driver.

        Raises:
            CudaDriverError: It returned an error.
        """
        function = getattr(self._library, name, None)
        if function is None:
            raise CudaDriverError("CUDA_ERROR_NOT_SUPPORTED", say("The driver is too old for {name}.", name=name))
        code: int = function(*arguments)
        if code:
            error, text = c_char_p(), c_char_p()
            self._library.cuGetErrorName(code, byref(error))
            self._library.cuGetErrorString(code, byref(text))
            named = (error.value or b"CUDA_ERROR_%d" % code).decode()
            raise CudaDriverError(named, f"{name}: {named}: {(text.value or b'unknown error').decode()}.")


class CudaModule:
    """Kernels on a device, for the life of the process."""

    def __init__(self, driver: CudaDriver, handle: c_void_p) -> None:
        """Take over what `CudaDriver.load` made."""
        self._driver, self._handle = driver, handle

    def function(self, name: str) -> c_void_p:
        """A kernel.

        Args:
            name: As exported (extern "C").

        Raises:
            CudaDriverError: There is none of that name.
        """
        function = c_void_p()
        self._driver._call("cuModuleGetFunction", byref(function), self._handle, name.encode())
        return function


def _load() -> ctypes.CDLL:
    """The driver's library.

    Raises:
        CudaDriverError: The system has none.
    """
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise CudaDriverError(
            "CUDA_ERROR_NO_DEVICE", say("{library} cannot be loaded: {reason}.", library=LIBRARY, reason=str(error))
        ) from error
    for name, arguments in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = c_int, arguments
    for name, arguments in _OPTIONAL.items():
        if hasattr(library, name):
            getattr(library, name).restype, getattr(library, name).argtypes = c_int, arguments
    return library
