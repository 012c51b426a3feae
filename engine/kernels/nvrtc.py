"""NVIDIA's run-time compiler through ctypes: CUDA C++ -> machine code of one GPU generation, kept on disk.

NVRTC comes with CUDA builds of torch on Linux and Windows, and needs no GPU, driver or toolkit. For a GPU newer than it
knows it makes PTX, which the driver compiles. Imports no torch.

A kept binary is a file of its own, named by a hash of all that it was made from: 32 bytes SHA-256 of the rest, then the
rest. It is written beside its place and then moved there; one that does not match its hash is made again.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.sentences import say

Capability = tuple[int, int]

_PATTERNS = (
    ("nvidia/*/bin/nvrtc64_*.dll", "nvidia/*/bin/*/nvrtc64_*.dll", "torch/lib/nvrtc64_*.dll")
    if sys.platform == "win32"
    else ("nvidia/*/lib/libnvrtc.so.*", "torch/lib/libnvrtc*.so*")
)
_SYSTEM_NAMES = (
    ("nvrtc64_130_0.dll", "nvrtc64_120_0.dll")
    if sys.platform == "win32"
    else ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so")
)
_DIGEST_BYTES = hashlib.sha256().digest_size
_OPTIONS = ("--std=c++17",)

_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "nvrtcVersion": (c_void_p, c_void_p),
    "nvrtcGetNumSupportedArchs": (c_void_p,),
    "nvrtcGetSupportedArchs": (c_void_p,),
    "nvrtcCreateProgram": (c_void_p, c_char_p, c_char_p, c_int, POINTER(c_char_p), POINTER(c_char_p)),
    "nvrtcCompileProgram": (c_void_p, c_int, POINTER(c_char_p)),
    "nvrtcGetProgramLogSize": (c_void_p, POINTER(c_size_t)),
    "nvrtcGetProgramLog": (c_void_p, c_char_p),
    "nvrtcGetCUBINSize": (c_void_p, POINTER(c_size_t)),
    "nvrtcGetCUBIN": (c_void_p, c_char_p),
    "nvrtcGetPTXSize": (c_void_p, POINTER(c_size_t)),
    "nvrtcGetPTX": (c_void_p, c_char_p),
    "nvrtcDestroyProgram": (c_void_p,),
}


class NvrtcError(Exception):
    """The compiler is not there, or does not compile.

    Args:
        message: One sentence.
        log: What the compiler said, empty if it was not asked.
    """

    def __init__(self, message: str, log: str = "") -> None:
        """See the class."""
        super().__init__(message)
        self.log = log


@dataclass(frozen=True, slots=True)
class Source:
    """A program.

    Attributes:
        name: Of its main file.
        files: Texts by file name, what it includes as well.
        macros: Defined before the first line.
    """

    name: str
    files: Mapping[str, str]
    macros: Mapping[str, str]


def find_nvrtc(newest_major: int | None = None, folders: Iterable[str | Path] = ()) -> Path | None:
    """NVRTC's library among what is installed for this Python, or where the caller says.

    Args:
        newest_major: Of CUDA, that the driver supports; a newer compiler's code would not load.
        folders: Searched instead of Python's own path.

    Returns:
        The newest suitable one; None if there is none. Those of the system have no path: see `Nvrtc`.
    """
    found: dict[Path, tuple[int, ...]] = {}
    for folder in folders or sys.path:
        for pattern in _PATTERNS:
            for path in Path(folder or ".").glob(pattern):
                version = _version_of(path.name)
                if version is not None and (newest_major is None or version[0] <= newest_major):
                    found[path] = version
    return max(found, key=lambda path: found[path], default=None)


def _version_of(name: str) -> tuple[int, ...] | None:
    """CUDA's version of a library, as far as its name tells; None for names that are none of them."""
    windows = re.fullmatch(r"nvrtc64_(\d+)(\d)_\d+\.dll", name)
    linux = re.fullmatch(r"libnvrtc(?:-[0-9a-f]+)?\.so\.([\d.]+)", name)
    if windows:
        return int(windows[1]), int(windows[2])
    return tuple(int(part) for part in linux[1].split(".")) if linux else None


class Nvrtc:
    """The compiler.

    Attributes:
        version: Of CUDA: major, minor.
        architectures: Compute capabilities it makes machine code for, ascending, e.g. 86.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Load it.

        Args:
            path: The library; None asks the system by name.

        Raises:
            NvrtcError: There is none that loads.
        """
        self._library = _load([str(path)] if path else _SYSTEM_NAMES)
        major, minor, count = c_int(), c_int(), c_int()
        self._call("nvrtcVersion", byref(major), byref(minor))
        self.version = (major.value, minor.value)
        self._call("nvrtcGetNumSupportedArchs", byref(count))
        numbers = (c_int * count.value)()
        self._call("nvrtcGetSupportedArchs", numbers)
        self.architectures = tuple(sorted(numbers))

    def target(self, capability: Capability) -> str:
        """What to compile for.

        Args:
            capability: Of the GPU.

        Returns:
            "sm_86" for machine code; "compute_120", PTX, for a GPU that this compiler does not know.

        Raises:
            NvrtcError: The GPU is older than all that it knows.
        """
        number = capability[0] * 10 + capability[1]
        if number in self.architectures:
            return f"sm_{number}"
        older = [known for known in self.architectures if known < number]
        if not older:
            oldest = _dotted(divmod(self.architectures[0], 10))
            raise NvrtcError(
                say(
                    "NVRTC {version} makes code for compute capability {oldest} and above.",
                    version=_dotted(self.version),
                    oldest=oldest,
                )
            )
        return f"compute_{older[-1]}"

    def compile(self, source: Source, target: str) -> bytes:
        """Compile.

        Args:
            source: The program.
            target: Of `target`.

        Returns:
            A cubin, or PTX with its closing zero.

        Raises:
            NvrtcError: With the log, when it does not compile.
        """
        headers = [(name, text) for name, text in source.files.items() if name != source.name]
        program = c_void_p()
        main = source.files[source.name].encode()
        texts, names = _strings([text for _, text in headers]), _strings([name for name, _ in headers])
        self._call("nvrtcCreateProgram", byref(program), main, source.name.encode(), len(headers), texts, names)
        try:
            options = _options(source, target)
            if self._library.nvrtcCompileProgram(program, len(options), _strings(options)):
                log = self._read("nvrtcGetProgramLog", program).rstrip(b"\0").decode(errors="replace")
                first = next((line for line in log.splitlines() if "error" in line), say("no reason given"))
                raise NvrtcError(
                    say(
                        "{name} does not compile for {target}: {reason}", name=source.name, target=target, reason=first
                    ),
                    log,
                )
            return self._read("nvrtcGetCUBIN" if target.startswith("sm_") else "nvrtcGetPTX", program)
        finally:
            self._library.nvrtcDestroyProgram(byref(program))

    def _read(self, name: str, program: c_void_p) -> bytes:
        """One of the program's results, by the name of the call that gives it."""
        size = c_size_t()
        self._call(f"{name}Size", program, byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(name, program, buffer)
        return buffer.raw

    def _call(self, name: str, *arguments: Any) -> None:  # noqa: ANN401 - what ctypes converts
        """Call the library.

        Raises:
            NvrtcError: It returned an error.
        """
        code: int = getattr(self._library, name)(*arguments)
        if code:
            raise NvrtcError(f"{name}: {self._library.nvrtcGetErrorString(code).decode()}.")


class KernelCache:
    """Compiled programs in a folder, made when first asked for."""

    def __init__(self, compiler: Nvrtc, folder: Path) -> None:
        """Remember where.

        Args:
            compiler: Makes what is not there.
            folder: Made if missing; one that cannot be written to only costs time.
        """
        self._compiler, self._folder = compiler, folder

    def binary(self, source: Source, capability: Capability) -> bytes:
        """A program, ready to load.

        Args:
            source: What is compiled.
            capability: Of the GPU.

        Raises:
            NvrtcError: It does not compile.
        """
        target = self._compiler.target(capability)
        path = self.path(source, target)
        kept = _read_checked(path)
        if kept is None:
            kept = self._compiler.compile(source, target)
            with contextlib.suppress(OSError):  # it is only a cache
                _write_checked(path, kept)
        return kept

    def path(self, source: Source, target: str) -> Path:
        """Where a program's binary is kept."""
        digest = hashlib.sha256(f"{self._compiler.version} {_options(source, target)}".encode())
        for name in sorted(source.files):
            text = source.files[name].encode()
            digest.update(f"\0{name}\0{len(text)}\0".encode() + text)
        kind = "cubin" if target.startswith("sm_") else "ptx"
        return self._folder / f"{digest.hexdigest()[:32]}.{kind}"


def _read_checked(path: Path) -> bytes | None:
    """What was kept; None if nothing was, or not whole."""
    try:
        held = path.read_bytes()
    except OSError:
        return None
    digest, binary = held[:_DIGEST_BYTES], held[_DIGEST_BYTES:]
    return binary if hashlib.sha256(binary).digest() == digest else None


def _write_checked(path: Path, binary: bytes) -> None:
    """Keep a binary: others see all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(hashlib.sha256(binary).digest() + binary)
            file.close()
            temporary.replace(path)
        except OSError:
            file.close()
            temporary.unlink(missing_ok=True)
            raise


def _options(source: Source, target: str) -> list[str]:
    """The compiler's options."""
    return [f"--gpu-architecture={target}", *_OPTIONS, *(f"-D{name}={text}" for name, text in source.macros.items())]


def _strings(texts: Sequence[str]) -> ctypes.Array[c_char_p]:
    """A C array of strings."""
    return (c_char_p * len(texts))(*(text.encode() for text in texts))


def _dotted(version: tuple[int, int]) -> str:
    """A version for the eye."""
    return f"{version[0]}.{version[1]}"


def _load(names: Iterable[str]) -> ctypes.CDLL:
    """The first of the libraries that loads.

    Raises:
        NvrtcError: None does.
    """
    reason = ""
    for name in names:
        try:
            for built_ins in sorted(Path(name).parent.glob("*nvrtc-builtins*")) if Path(name).is_absolute() else ():
                if ".alt." not in built_ins.name:
                    ctypes.CDLL(str(built_ins))  # NVRTC asks for it by name alone, and finds what is loaded
            library = ctypes.CDLL(name)
        except OSError as error:
            reason = reason or str(error)
            continue
        for function_name, arguments in _SIGNATURES.items():
            function = getattr(library, function_name)
            function.restype, function.argtypes = c_int, arguments
        library.nvrtcGetErrorString.restype, library.nvrtcGetErrorString.argtypes = c_char_p, (c_int,)
        return library
    raise NvrtcError(say("NVRTC cannot be loaded: {reason}.", reason=reason))
