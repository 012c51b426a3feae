"""NVRTC is found, compiles every kernel for every GPU generation, and what it made is kept and checked.

Looks for NVRTC where Python's packages are, and in the folder that ROOFTOP_NVRTC names (of an unpacked wheel).
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

import pytest
import torch

from engine.kernels.gpu_decoder_plans import decoder_programs
from engine.kernels.gpu_plans import matrix_program
from engine.kernels.nvrtc import KernelCache, Nvrtc, NvrtcError, Source, find_nvrtc
from engine.quant.formats import FORMATS

CAPABILITIES = ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0))
ELF = b"\x7fELF"
TRIVIAL = Source("a.cu", {"a.cu": '#include "b.cuh"\n', "b.cuh": 'extern "C" __global__ void a() {}\n'}, {})


@pytest.fixture(scope="module")
def nvrtc() -> Nvrtc:
    path = find_nvrtc() or find_nvrtc(folders=[os.environ.get("ROOFTOP_NVRTC", "")])
    try:
        return Nvrtc(path)
    except NvrtcError as error:
        pytest.skip(str(error))


class TestCompiling:
    @pytest.mark.parametrize(("name", "capability"), list(zip(FORMATS, itertools.cycle(CAPABILITIES))))
    def test_every_format_and_every_generation(self, nvrtc: Nvrtc, name: str, capability: tuple[int, int]) -> None:
        target = nvrtc.target(capability)
        assert target == "sm_{}{}".format(*capability)
        assert nvrtc.compile(matrix_program(name).source(), target).startswith(ELF)

    def test_gate_and_up_of_two_formats(self, nvrtc: Nvrtc) -> None:
        assert nvrtc.compile(matrix_program("Q4_K", "Q6_K").source(), "sm_86").startswith(ELF)

    @pytest.mark.parametrize("capability", CAPABILITIES)
    @pytest.mark.parametrize("cache_type", [torch.float32, torch.float16, torch.bfloat16])
    def test_the_rest_of_a_layer(self, nvrtc: Nvrtc, cache_type: torch.dtype, capability: tuple[int, int]) -> None:
        for program in decoder_programs(80, cache_type):
            assert nvrtc.compile(program.source(), nvrtc.target(capability)).startswith(ELF)

    @pytest.mark.parametrize("head_dim", [8, 64, 96, 128, 192, 256])
    def test_every_head_width(self, nvrtc: Nvrtc, head_dim: int) -> None:
        _, attention = decoder_programs(head_dim, torch.bfloat16)
        assert nvrtc.compile(attention.source(), "sm_86").startswith(ELF)

    def test_a_newer_gpu_gets_ptx(self, nvrtc: Nvrtc) -> None:
        target = nvrtc.target((99, 0))
        assert target == f"compute_{nvrtc.architectures[-1]}"
        assert b".entry a" in nvrtc.compile(TRIVIAL, target)

    def test_an_older_gpu_gets_a_reason(self, nvrtc: Nvrtc) -> None:
        with pytest.raises(NvrtcError, match=r"compute capability .* and above"):
            nvrtc.target((1, 0))

    def test_the_log_is_told(self, nvrtc: Nvrtc) -> None:
        broken = Source("a.cu", {"a.cu": "__device__ int f() { return wrong_name; }"}, {})
        with pytest.raises(NvrtcError, match=r"a\.cu does not compile for sm_86: .*wrong_name") as raised:
            nvrtc.compile(broken, "sm_86")
        assert "1 error detected" in raised.value.log


class Recorder(Nvrtc):
    """Compiles nothing, and counts."""

    def __init__(self, version: tuple[int, int] = (13, 0)) -> None:
        self.version, self.architectures, self.compiled = version, (75, 86), 0

    def compile(self, source: Source, target: str) -> bytes:
        self.compiled += 1
        return f"{source.name} for {target}".encode()


class TestCache:
    def test_compiles_once(self, tmp_path: Path) -> None:
        compiler = Recorder()
        for _ in range(2):
            assert KernelCache(compiler, tmp_path / "kept").binary(TRIVIAL, (8, 6)) == b"a.cu for sm_86"
        assert compiler.compiled == 1
        assert [path.suffix for path in (tmp_path / "kept").iterdir()] == [".cubin"]

    @pytest.mark.parametrize("damaged", [b"", b"short", bytes(100)])
    def test_what_is_damaged_is_made_again(self, tmp_path: Path, damaged: bytes) -> None:
        compiler = Recorder()
        cache = KernelCache(compiler, tmp_path)
        whole = cache.binary(TRIVIAL, (8, 6))
        path = cache.path(TRIVIAL, "sm_86")
        kept = path.read_bytes()
        path.write_bytes(damaged)
        assert cache.binary(TRIVIAL, (8, 6)) == whole
        assert path.read_bytes() == kept
        assert compiler.compiled == 2

    def test_one_changed_bit_is_seen(self, tmp_path: Path) -> None:
        compiler = Recorder()
        cache = KernelCache(compiler, tmp_path)
        whole = cache.binary(TRIVIAL, (8, 6))
        path = cache.path(TRIVIAL, "sm_86")
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
        assert cache.binary(TRIVIAL, (8, 6)) == whole

    def test_all_that_matters_is_in_the_name(self, tmp_path: Path) -> None:
        cache = KernelCache(Recorder(), tmp_path)
        others = (
            Source("a.cu", {**TRIVIAL.files, "b.cuh": ""}, {}),
            Source("a.cu", dict(TRIVIAL.files), {"FORMAT": "Q4_K"}),
        )
        paths = {cache.path(source, "sm_86") for source in (TRIVIAL, *others)}
        paths |= {cache.path(TRIVIAL, "sm_75"), KernelCache(Recorder((12, 9)), tmp_path).path(TRIVIAL, "sm_86")}
        assert len(paths) == 5

    def test_a_folder_that_takes_nothing_costs_only_time(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        cache = KernelCache(Recorder(), tmp_path / "file" / "folder")
        assert cache.binary(TRIVIAL, (7, 5)) == b"a.cu for sm_75"

    def test_ptx_says_so(self, tmp_path: Path) -> None:
        KernelCache(Recorder(), tmp_path).binary(TRIVIAL, (12, 0))
        assert [path.suffix for path in tmp_path.iterdir()] == [".ptx"]


@pytest.mark.skipif(sys.platform == "win32", reason="the names are those of Linux")
class TestFinding:
    @pytest.fixture
    def site(self, tmp_path: Path) -> Path:
        for name in (
            "nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
            "nvidia/cuda_nvrtc/lib/libnvrtc.alt.so.12",
            "nvidia/cu13/lib/libnvrtc.so.13",
            "nvidia/cu13/lib/libnvrtc-builtins.so.13.0",
        ):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    def test_the_newest_that_the_driver_supports(self, site: Path) -> None:
        assert find_nvrtc(folders=[site]) == site / "nvidia/cu13/lib/libnvrtc.so.13"
        assert find_nvrtc(12, folders=[site]) == site / "nvidia/cuda_nvrtc/lib/libnvrtc.so.12"
        assert find_nvrtc(11, folders=[site]) is None

    def test_one_that_does_not_load(self, site: Path) -> None:
        with pytest.raises(NvrtcError, match="cannot be loaded"):
            Nvrtc(site / "nvidia/cuda_nvrtc/lib/libnvrtc.so.12")
