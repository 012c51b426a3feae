"""Our GPU kernels on torch's current stream: all of a decoder layer but its products with float matrices.

Compiled when first needed (`engine.kernels.nvrtc`), launched through the driver (`engine.kernels.cuda_driver`). Nothing
here allocates, waits or looks at a value on the GPU, so that a CUDA graph can capture it; only programs must have been
compiled before (`load`, `load_decoder`). Where the kernels cannot be had, `GpuKernelsUnavailableError` says why, and
torch does the work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from engine.config import ExpertFormats
from engine.kernels.cuda_driver import CudaDriver, CudaDriverError
from engine.kernels.gpu_decoder_plans import (
    HeadNorms,
    decoder_programs,
    plan_attend,
    plan_join_norm,
    plan_rotate_store,
    plan_route,
)
from engine.kernels.gpu_decoder_self_test import find_decoder_mismatch
from engine.kernels.gpu_launch import THREADS, Launch, Program
from engine.kernels.gpu_plans import LayerTable, matrix_program, plan_experts, plan_linear, plan_unpack
from engine.kernels.gpu_self_test import find_mismatch, find_mixed_mismatch
from engine.kernels.nvrtc import KernelCache, Nvrtc, NvrtcError, find_nvrtc
from engine.kernels.packed import PackedMatrix
from engine.sentences import said_by, say

OLDEST_CAPABILITY = (7, 5)  # the first with an int8 matrix unit


class GpuKernelsUnavailableError(Exception):
    """This machine cannot run the kernels; the message is one sentence with the reason."""


class Launcher(Protocol):
    """Who launches."""

    def load(self, program: Program) -> None:
        """Make a program's kernels ready; again does no harm."""

    def launch(self, launch: Launch) -> None:
        """Put one kernel on its way, loading its program if it must."""


class DriverLauncher:
    """Launches through the driver, on torch's current stream of one device.

    A thread that launches must have used torch on that device before: it then has the device's context.
    """

    def __init__(self, device: torch.device, driver: CudaDriver, cache: KernelCache) -> None:
        """Compile nothing yet."""
        self._device, self._driver, self._cache = device, driver, cache
        self._functions: dict[tuple[Program, str], Any] = {}
        self._modules: dict[Program, Any] = {}

    def load(self, program: Program) -> None:
        """Compile, or fetch from the cache.

        Args:
            program: What.

        Raises:
            GpuKernelsUnavailableError: It does not compile, or the driver does not take it.
        """
        if program in self._modules:
            return
        try:
            binary = self._cache.binary(program.source(), self._driver.capability)
            self._modules[program] = self._driver.load(binary)
        except (NvrtcError, CudaDriverError) as error:
            raise GpuKernelsUnavailableError(
                say("The GPU kernels of {program} failed: {reason}", program=str(program), reason=said_by(error))
            ) from error

    def launch(self, launch: Launch) -> None:
        """Launch.

        Args:
            launch: What.

        Raises:
            GpuKernelsUnavailableError: Its program cannot be had.
            CudaDriverError: The driver refused.
        """
        key = (launch.program, launch.kernel)
        function = self._functions.get(key)
        if function is None:
            self.load(launch.program)
            function = self._functions[key] = self._modules[launch.program].function(launch.kernel)
        stream = torch.cuda.current_stream(self._device).cuda_stream
        self._driver.launch(function, (*launch.blocks, 1), (THREADS, 1, 1), 0, stream, (launch.arguments,))


class GpuKernels:
    """All that the engine asks of them. For what they know, see `runs_...` in `gpu_plans` and `gpu_decoder_plans`."""

    def __init__(self, launcher: Launcher) -> None:
        """Use a launcher; `open` makes the real one."""
        self._launcher = launcher

    @classmethod
    def open(cls, torch_device: torch.device, cache_folder: Path) -> GpuKernels:
        """The kernels for a device; nothing is compiled yet.

        Args:
            torch_device: A CUDA device.
            cache_folder: Where compiled programs are kept.

        Raises:
            GpuKernelsUnavailableError: There is no NVIDIA driver or NVRTC, or they or the GPU are too old.
        """
        with torch.cuda.device(torch_device):
            device = torch.device("cuda", torch.cuda.current_device())
            torch.cuda.current_stream(device).synchronize()  # makes the context
        try:
            driver = CudaDriver(device.index)
            compiler = Nvrtc(find_nvrtc(driver.version[0]))
            if driver.capability < OLDEST_CAPABILITY:
                found, oldest = (f"{major}.{minor}" for major, minor in (driver.capability, OLDEST_CAPABILITY))
                raise GpuKernelsUnavailableError(
                    say("The GPU has compute capability {found}, {oldest} is the oldest.", found=found, oldest=oldest)
                )
            compiler.target(driver.capability)
        except (CudaDriverError, NvrtcError) as error:
            raise GpuKernelsUnavailableError(said_by(error)) from error
        return cls(DriverLauncher(device, driver, KernelCache(compiler, cache_folder)))

    def launch(self, launch: Launch) -> None:
        """Launch what was planned before, by `gpu_plans` or `gpu_decoder_plans`.

        Args:
            launch: What; the memory that it names is still there.

        Raises:
            GpuKernelsUnavailableError: Its program cannot be had.
            CudaDriverError: The driver refused.
        """
        self._launcher.launch(launch)

    def load(self, experts: Iterable[ExpertFormats], matrices: Iterable[str] = ()) -> None:
        """Compile what some experts and matrices need, or fetch it from the cache: about a second for each program.

        Args:
            experts: Formats of gate, up and down.
            matrices: Formats that `linear` and `unpack` will see.

        Raises:
            GpuKernelsUnavailableError: One cannot be had.
        """
        programs = [matrix_program(name) for name in matrices]
        for gate, up, down in experts:
            programs += [matrix_program(gate, up), matrix_program(down)]
        for program in dict.fromkeys(programs):
            self._launcher.load(program)

    def experts(
        self,
        layer: LayerTable,
        hidden: torch.Tensor,
        top_experts: torch.Tensor,
        top_weights: torch.Tensor,
        activation_buffer: torch.Tensor,
        out: torch.Tensor,
    ) -> None:
        """Add the weighted outputs of those chosen experts that are on the GPU. Equal inputs give equal bits.

        Args:
            layer: Where they lie, read when the kernels run.
            hidden: Normed hidden states [T, H], T up to `MAX_TOKENS`; float32, float16 or bfloat16.
            top_experts: Chosen experts [T, A], int32 or int64, a token's all different; read when the kernels run.
            top_weights: Router weights fp32 [T, A].
            activation_buffer: uint8 [experts_workspace_bytes] or more; its contents are lost.
            out: fp32 [T, H], changed in place.
        """
        for launch in plan_experts(layer, hidden, top_experts, top_weights, activation_buffer, out):
            self._launcher.launch(launch)

    def linear(
        self, matrix: PackedMatrix, hidden: torch.Tensor, activation_buffer: torch.Tensor, out: torch.Tensor
    ) -> torch.Tensor:
        """Multiply.

        Args:
            matrix: [rows, columns].
            hidden: [s, columns], s up to `MAX_TOKENS`; float32, float16 or bfloat16.
            activation_buffer: uint8 [linear_workspace_bytes] or more; its contents are lost.
            out: [s, rows], any of those types.

        Returns:
            `out`.
        """
        for launch in plan_linear(matrix, hidden, activation_buffer, out):
            self._launcher.launch(launch)
        return out

    def unpack(self, matrix: PackedMatrix, out: torch.Tensor) -> torch.Tensor:
        """The weights as floats, rounded once: those of `torch_unpack`, bit for bit.

        Args:
            matrix: [rows, columns], or a slice of one.
            out: [rows, columns], float32, float16 or bfloat16.

        Returns:
            `out`.
        """
        if matrix.values is not None:
            return out.copy_(matrix.values)
        self._launcher.launch(plan_unpack(matrix, out))
        return out

    def load_decoder(self, head_dim: int, cache_type: torch.dtype) -> None:
        """Compile what the rest of a decoder layer needs, or fetch it from the cache.

        Args:
            head_dim: Columns of a head.
            cache_type: Of keys and values.

        Raises:
            GpuKernelsUnavailableError: One cannot be had.
        """
        for program in decoder_programs(head_dim, cache_type):
            self._launcher.load(program)

    def join_norm(
        self,
        residual: torch.Tensor,
        additions: Sequence[torch.Tensor],
        weight: torch.Tensor,
        epsilon: float,
        out: torch.Tensor,
    ) -> torch.Tensor:
        """Add to the residual stream, and take its RMS norm.

        Args:
            residual: fp32 [T, H], changed in place; H in fours.
            additions: Up to two [T, H], float32, float16 or bfloat16: on the GPU, or page-locked in the host's memory
                at an address that both share (allocated so by torch, not registered later).
            weight: [H], any of those types.
            epsilon: Added to the mean square.
            out: [T, H], any of those types.

        Returns:
            `out`.
        """
        self._launcher.launch(plan_join_norm(residual, additions, weight, epsilon, out))
        return out

    def rotate_store(
        self,
        qkv: torch.Tensor,
        norms: HeadNorms | None,
        inverse_frequencies: torch.Tensor,
        position: torch.Tensor,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> None:
        """Norm heads, rotate queries and keys to their positions (RoPE, by halves), and store keys and values.

        Args:
            qkv: [T, (N + 2 K) * D], float32, float16 or bfloat16; T up to `MAX_STEP_TOKENS`.
            norms: Of the heads, where there are any.
            inverse_frequencies: Radians per position, fp32 [D / 2].
            position: int32 or int64 [1], of the first token; read when the kernel runs.
            queries: [T, N, D], of the cache's type; what there is is lost.
            keys: One layer's, [K, S, D]; changed from `position` on. Tokens past S are not stored.
            values: [K, S, D], likewise.
        """
        self._launcher.launch(plan_rotate_store(qkv, norms, inverse_frequencies, position, queries, keys, values))

    def attend(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        position: torch.Tensor,
        window: int | None,
        workspace: torch.Tensor,
        out: torch.Tensor,
    ) -> torch.Tensor:
        """Causal attention of T tokens over the cache, their own keys and values in it. Equal inputs give equal bits.

        Args:
            queries: [T, N, D], of the cache's type, rotated; T up to `MAX_STEP_TOKENS`.
            keys: One layer's, [K, S, D].
            values: [K, S, D].
            position: int32 or int64 [1], of the first token; read when the kernels run.
            window: Keys that a token sees, its own among them; None for all before it.
            workspace: uint8 [attend_workspace_bytes] or more; its contents are lost.
            out: [T, N, D], float32, float16 or bfloat16.

        Returns:
            `out`.
        """
        for launch in plan_attend(queries, keys, values, position, window, workspace, out):
            self._launcher.launch(launch)
        return out

    def route(
        self, logits: torch.Tensor, normalise_top_k: bool, ids: torch.Tensor, weights: torch.Tensor, parts: int = 1
    ) -> None:
        """Choose each token's experts: the largest logits in descending order, of equal ones the lowest ids first.

        Args:
            logits: [T, E], float32, float16 or bfloat16.
            normalise_top_k: Whether softmax is over the chosen alone, or over all.
            ids: int32 [T, A * P], all parts of each; what there is is lost.
            weights: fp32 [T, A * P], likewise.
            parts: Parts that an expert is in (P), numbered expert * P + part.
        """
        self._launcher.launch(plan_route(logits, normalise_top_k, ids, weights, parts))

    def self_test(self, formats: Iterable[str], device: torch.device) -> None:
        """Compare every kernel for packed matrices with torch on small random ones.

        Args:
            formats: Those to try; their programs are loaded.
            device: Where.

        Raises:
            GpuKernelsUnavailableError: One cannot be had, or computes something else.
        """
        for name in formats:
            _raise_where(find_mismatch(self, name, device))

    def self_test_experts(self, experts: Iterable[ExpertFormats], device: torch.device) -> None:
        """Compare experts whose matrices are of several formats with torch; `self_test` tries those of one.

        Args:
            experts: Formats of gate, up and down; their programs are loaded.
            device: Where.

        Raises:
            GpuKernelsUnavailableError: Some compute something else.
        """
        for formats in experts:
            if len(set(formats)) > 1:
                _raise_where(find_mixed_mismatch(self, formats, device))

    def self_test_decoder(
        self, heads: int, kv_heads: int, head_dim: int, cache_type: torch.dtype, device: torch.device
    ) -> None:
        """Compare the other kernels of a decoder layer with torch on a small random cache; loads their programs.

        Args:
            heads: Query heads.
            kv_heads: Key/value heads.
            head_dim: Columns of a head.
            cache_type: Of keys and values.
            device: Where.

        Raises:
            GpuKernelsUnavailableError: One cannot be had, or computes something else.
        """
        _raise_where(find_decoder_mismatch(self, heads, kv_heads, head_dim, cache_type, device))


def _raise_where(mismatch: str) -> None:
    """Report what was found, if anything was."""
    if mismatch:
        raise GpuKernelsUnavailableError(mismatch)
