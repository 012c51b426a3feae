"""What is launched on the GPU: programs of `cuda/`, and their kernels with grids and arguments.

Which kernels do a piece of work is planned by `gpu_plans` (packed matrices) and `gpu_decoder_plans` (the rest of a
decoder layer), from tensors and shapes alone. Who launches them is another matter: NVIDIA's driver
(`engine.kernels.gpu_kernels`), or the emulation of the tests.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from engine.kernels.nvrtc import Source
from engine.quant.formats import ALIGNMENT_BYTES

THREADS = 256  # of every block: kThreads
WARPS = THREADS // 32
LOAD_BYTES = 16  # the widest of the kernels' loads and stores
TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}  # kFloat32, kFloat16, kBfloat16

_FOLDER = Path(__file__).parent / "cuda"


@dataclass(frozen=True, slots=True)
class Program:
    """What is compiled at once.

    Attributes:
        main: Its main file.
        macros: What is chosen when it is compiled: names and texts.
    """

    main: str
    macros: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """For the eye, e.g. "kernels.cu (Q4_K, Q6_K)"."""
        return f"{self.main} ({', '.join(text for _, text in self.macros)})" if self.macros else self.main

    def source(self) -> Source:
        """Its text."""
        return Source(self.main, _files(), dict(self.macros))


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel on its way; blocks have `THREADS` threads and no dynamic shared memory.

    Attributes:
        program: Where it is.
        kernel: Its name.
        blocks: The grid, x and y.
        arguments: Its only argument.
    """

    program: Program
    kernel: str
    blocks: tuple[int, int]
    arguments: ctypes.Structure


def aligned_bytes(size_bytes: int) -> int:
    """Up to the next boundary of a buffer."""
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


@cache
def _files() -> dict[str, str]:
    """The sources by name."""
    return {path.name: path.read_text() for path in sorted(_FOLDER.iterdir()) if path.suffix in {".cu", ".cuh"}}
