"""Builds the emulation with g++ and launches plans on it."""

from __future__ import annotations

import ctypes
import subprocess
from ctypes import c_char_p, c_int, c_int64, c_void_p
from pathlib import Path

import torch

import engine.kernels
from engine.kernels.gpu_launch import Launch, Program

_HERE = Path(__file__).parent
_SOURCES = Path(engine.kernels.__path__[0]) / "cuda"
_FLAGS = (
    "-std=c++17 -O0 -g1 -DROOFTOP_EMULATION -ffp-contract=off -fsanitize=undefined -shared -fPIC -Wall -Wextra -Werror "
    "-Wno-unknown-pragmas -Wno-unused-parameter -Wno-missing-field-initializers"
)


class EmulationError(AssertionError):
    """A kernel did what hardware would punish."""


class Range(ctypes.Structure):
    """Memory that a kernel may touch."""

    _fields_ = (("first", c_void_p), ("size", c_int64), ("writable", c_int64))


def build(compiler: str, folder: Path) -> Path:
    """Compile the emulation; its diagnostics go to stderr."""
    library = folder / "libemulation.so"
    command = [compiler, *_FLAGS.split(), "-I", str(_HERE), "-I", str(_SOURCES), str(_HERE / "emulation.cpp")]
    subprocess.run([*command, "-o", str(library)], check=True)
    return library


class EmulatedLauncher:
    """A launcher of `GpuKernels` on the CPU.

    Attributes:
        readable: What kernels may read; empty, with `writable`, for no check.
        writable: What they may also change.
        backwards: Whether threads take turns in the opposite order.
        launched: The kernels so far.
        by_hand: Whether bf16 is multiplied as where the matrix unit does not know it.
    """

    def __init__(self, library: Path) -> None:
        self._emulate = ctypes.CDLL(str(library)).emulate
        self._emulate.restype = c_char_p
        self._emulate.argtypes = (c_char_p, c_int, c_int, c_void_p, c_void_p, c_int64, c_int)
        self.readable: list[torch.Tensor] = []
        self.writable: list[torch.Tensor] = []
        self.backwards, self.by_hand = False, False
        self.launched: list[str] = []

    def load(self, program: Program) -> None:
        """Nothing: all programs were built together."""

    def launch(self, launch: Launch) -> None:
        held = [(tensor, 0) for tensor in self.readable] + [(tensor, 1) for tensor in self.writable]
        ranges = (Range * len(held))(*(Range(tensor.data_ptr(), tensor.nbytes, flag) for tensor, flag in held))
        macros = [
            f"{text}ByHand" if self.by_hand and text == "Bfloat16" else text
            for name, text in launch.program.macros
            if name != "ROOFTOP_FLOATS"
        ]
        name = "/".join([launch.program.main, *macros, launch.kernel])
        arguments = ctypes.addressof(launch.arguments)
        fault = self._emulate(name.encode(), *launch.blocks, arguments, ranges, len(held), int(self.backwards))
        if fault:
            raise EmulationError(f"{name}: {fault.decode()}")
        self.launched.append(launch.kernel)
