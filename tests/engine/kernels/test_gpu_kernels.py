"""The GPU kernels compute what the reference says: their own source emulated on the CPU, and on a GPU where one is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.kernels import gpu_self_test
from engine.kernels.gpu_kernels import DriverLauncher, GpuKernels, GpuKernelsUnavailableError
from engine.kernels.gpu_launch import Launch
from engine.kernels.gpu_plans import (
    MAX_TOKENS,
    LayerTable,
    experts_workspace_bytes,
    linear_workspace_bytes,
    matrix_program,
    plan_experts,
    plan_linear,
    runs_experts,
    runs_matrix,
    runs_tokens,
)
from engine.kernels.gpu_self_test import EXPERTS_ERROR, LINEAR_ERROR, as_seen, random_weights
from engine.kernels.packed import PackedMatrix
from engine.quant.formats import FORMATS, WeightFormat
from engine.quant.reference import decode
from tests.engine.kernels.cuda_emulation.launcher import EmulatedLauncher, EmulationError

BLOCK_FORMATS = [name for name, entry in FORMATS.items() if not entry.is_float]
CPU = torch.device("cpu")

# What int8 activations lose, of a result's length: of one product, and of an expert's three.
INT8_LINEAR, INT8_EXPERTS = 1e-2, 3e-2


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def a_matrix(name: str, rows: int, columns: int, seed: int = 0) -> PackedMatrix:
    packed = random_weights(FORMATS[name], rows, columns, np.random.default_rng(seed))
    return PackedMatrix(packed, FORMATS[name], rows, columns)


def reference(matrix: PackedMatrix) -> torch.Tensor:
    return torch.from_numpy(decode(matrix.format, matrix.rows, matrix.columns, matrix.data.numpy()))


@dataclass
class Layer:
    """A layer of random experts, some of them absent, and tokens that visit it."""

    table: LayerTable
    slots: list[torch.Tensor]
    floats: list[tuple[torch.Tensor, ...]]
    hidden: torch.Tensor
    ids: torch.Tensor
    weights: torch.Tensor
    buffer: torch.Tensor
    out: torch.Tensor

    @classmethod
    def random(
        cls, formats: tuple[str, str, str], tokens: int, per_token: int, experts: int, sizes: tuple[int, int]
    ) -> Layer:
        hidden_size, width = sizes
        random = np.random.default_rng(tokens)
        shapes = ((width, hidden_size), (width, hidden_size), (hidden_size, width))
        slots, floats = [], []
        for _ in range(experts):
            parts = [random_weights(FORMATS[f], *shape, random) for f, shape in zip(formats, shapes, strict=True)]
            matrices = [PackedMatrix(p, FORMATS[f], *s) for p, f, s in zip(parts, formats, shapes, strict=True)]
            slots.append(torch.cat(parts))
            floats.append(tuple(reference(matrix) for matrix in matrices))
        addresses = torch.tensor([slot.data_ptr() for slot in slots])
        return cls(
            table=LayerTable(addresses, formats, hidden_size, width),
            slots=slots,
            floats=floats,
            hidden=torch.from_numpy(random.standard_normal((tokens, hidden_size), dtype=np.float32)),
            ids=torch.from_numpy(np.argsort(random.random((tokens, experts)))[:, :per_token].copy()),
            weights=torch.from_numpy(random.random((tokens, per_token), dtype=np.float32)),
            buffer=torch.full((experts_workspace_bytes(tokens, per_token, *sizes),), 0xAB, dtype=torch.uint8),
            out=torch.from_numpy(random.standard_normal((tokens, hidden_size), dtype=np.float32)),
        )

    def run(self, launcher: EmulatedLauncher) -> torch.Tensor:
        out = self.out.clone()
        present = [slot for slot, address in zip(self.slots, self.table.addresses.tolist(), strict=True) if address]
        launcher.readable = [self.table.addresses, self.hidden, self.ids, self.weights, *present]
        launcher.writable = [self.buffer, out]
        GpuKernels(launcher).experts(self.table, self.hidden, self.ids, self.weights, self.buffer, out)
        return out

    def check(self, out: torch.Tensor) -> None:
        """What was added: as the reference says from activations as the kernels see them, and nearly so in fp32."""
        added = out - self.out
        assert error(added, self.expected(as_seen)) <= EXPERTS_ERROR
        assert error(added, self.expected(lambda activations, _: activations)) <= INT8_EXPERTS

    def expected(self, seen: Callable[[torch.Tensor, WeightFormat], torch.Tensor]) -> torch.Tensor:
        out = torch.zeros_like(self.out)
        for token, choice in np.ndindex(*self.ids.shape):
            expert = int(self.ids[token, choice])
            if not 0 <= expert < len(self.slots) or self.table.addresses[expert] == 0:
                continue
            gate, up, down = self.floats[expert]
            x = seen(self.hidden[token], FORMATS[self.table.formats[0]])
            inner = torch.nn.functional.silu(gate @ x) * (up @ x)
            out[token] += self.weights[token, choice] * (down @ seen(inner, FORMATS[self.table.formats[2]]))
        return out


class TestLinear:
    @pytest.mark.parametrize("name", FORMATS)
    @pytest.mark.parametrize(("tokens", "rows", "blocks"), [(1, 40, 3), (8, 16, 1), (16, 21, 2)])
    def test_equals_the_reference(
        self, launcher: EmulatedLauncher, name: str, tokens: int, rows: int, blocks: int
    ) -> None:
        matrix = a_matrix(name, rows, blocks * (36 if FORMATS[name].is_float else FORMATS[name].block_columns))
        hidden = torch.randn(tokens, matrix.columns, generator=torch.Generator().manual_seed(rows))
        buffer = torch.empty(linear_workspace_bytes(tokens, matrix.columns), dtype=torch.uint8)
        out = torch.full((tokens, rows), torch.nan)
        launcher.readable, launcher.writable = [matrix.data, hidden], [buffer, out]
        GpuKernels(launcher).linear(matrix, hidden, buffer, out)
        assert error(out, as_seen(hidden, matrix.format) @ reference(matrix).T) <= LINEAR_ERROR
        assert error(out, hidden @ reference(matrix).T) <= INT8_LINEAR

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("name", ["Q4_K", "BF16"])
    def test_takes_and_gives_every_type(self, launcher: EmulatedLauncher, name: str, dtype: torch.dtype) -> None:
        matrix = a_matrix(name, 16, 256)
        hidden = torch.randn(2, 256, generator=torch.Generator().manual_seed(1)).to(dtype)
        buffer = torch.empty(linear_workspace_bytes(2, 256), dtype=torch.uint8)
        out = GpuKernels(launcher).linear(matrix, hidden, buffer, torch.empty(2, 16, dtype=dtype))
        expected = as_seen(hidden.float(), matrix.format) @ reference(matrix).T
        assert error(out, expected) <= LINEAR_ERROR + torch.finfo(dtype).eps

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_what_is_no_number_stays_so(self, launcher: EmulatedLauncher, value: float) -> None:
        matrix = a_matrix("Q4_0", 16, 64)
        hidden = torch.ones(2, 64)
        hidden[1, 5] = value
        buffer = torch.empty(linear_workspace_bytes(2, 64), dtype=torch.uint8)
        out = GpuKernels(launcher).linear(matrix, hidden, buffer, torch.empty(2, 16))
        assert out[0].isfinite().all()
        assert not out[1].isfinite().any()

    def test_activations_of_zero_give_zero(self, launcher: EmulatedLauncher) -> None:
        matrix = a_matrix("Q5_1", 16, 64)
        buffer = torch.empty(linear_workspace_bytes(1, 64), dtype=torch.uint8)
        out = GpuKernels(launcher).linear(matrix, torch.zeros(1, 64), buffer, torch.empty(1, 16))
        assert torch.equal(out, torch.zeros(1, 16))


class TestUnpack:
    @pytest.mark.parametrize("name", BLOCK_FORMATS)
    def test_has_the_bits_of_the_reference(self, launcher: EmulatedLauncher, name: str) -> None:
        matrix = a_matrix(name, 40, 3 * FORMATS[name].block_columns)
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            out = torch.full((40, matrix.columns), torch.nan, dtype=dtype)
            launcher.readable, launcher.writable = [matrix.data], [out]
            assert torch.equal(GpuKernels(launcher).unpack(matrix, out), reference(matrix).to(dtype))

    def test_a_slice_of_whole_tiles(self, launcher: EmulatedLauncher) -> None:
        matrix = a_matrix("Q6_K", 100, 256)
        out = GpuKernels(launcher).unpack(matrix.slice(64, 100), torch.empty(36, 256))
        assert torch.equal(out, reference(matrix)[64:])

    def test_the_smallest_scales_of_mxfp4(self, launcher: EmulatedLauncher) -> None:
        matrix = a_matrix("MXFP4", 16, 32)
        matrix.data[:16] = torch.arange(16, dtype=torch.uint8)
        out = GpuKernels(launcher).unpack(matrix, torch.empty(16, 32))
        assert torch.equal(out, reference(matrix))

    def test_floats_are_copied(self, launcher: EmulatedLauncher) -> None:
        matrix = a_matrix("F16", 4, 8)
        out = GpuKernels(launcher).unpack(matrix, torch.empty(4, 8))
        assert torch.equal(out, reference(matrix))
        assert launcher.launched == []


class TestExperts:
    @pytest.mark.parametrize("name", FORMATS)
    @pytest.mark.parametrize("tokens", [1, 3])
    def test_every_format(self, launcher: EmulatedLauncher, name: str, tokens: int) -> None:
        columns = FORMATS[name].block_columns
        sizes = (256, 256) if columns == 256 else (96, 64) if columns == 32 else (52, 36)
        layer = Layer.random((name,) * 3, tokens, 2, 3, sizes)
        layer.table.addresses[1] = 0
        layer.check(layer.run(launcher))

    @pytest.mark.parametrize("formats", [("Q4_K", "Q6_K", "F16"), ("BF16", "BF16", "Q4_0"), ("Q4_0", "Q4_0", "Q8_0")])
    @pytest.mark.parametrize("tokens", [2, 8, 9, 16])
    def test_mixed_formats_and_numbers_of_tokens(
        self, launcher: EmulatedLauncher, formats: tuple[str, str, str], tokens: int
    ) -> None:
        sizes = (256, 128) if formats[0] == "Q4_K" else (64, 96)
        layer = Layer.random(formats, tokens, 2, 4, sizes)
        layer.table.addresses[2] = 0
        layer.check(layer.run(launcher))

    @pytest.mark.parametrize("name", ["Q4_0", "F16"])
    def test_equal_bits_in_any_order_of_threads(self, launcher: EmulatedLauncher, name: str) -> None:
        layer = Layer.random((name,) * 3, 5, 3, 6, (160, 64))
        first = layer.run(launcher)
        launcher.backwards = True
        layer.buffer.fill_(0x77)
        assert torch.equal(layer.run(launcher), first)

    def test_one_token_with_many_experts(self, launcher: EmulatedLauncher) -> None:
        layer = Layer.random(("Q4_0",) * 3, 1, 22, 30, (32, 32))
        layer.ids = layer.ids.int()
        layer.check(layer.run(launcher))

    def test_as_many_visits_as_there_may_be(self, launcher: EmulatedLauncher) -> None:
        layer = Layer.random(("Q4_0",) * 3, MAX_TOKENS, 16, 20, (32, 32))
        layer.check(layer.run(launcher))

    def test_experts_that_are_not_there_add_nothing(self, launcher: EmulatedLauncher) -> None:
        layer = Layer.random(("Q4_0",) * 3, 2, 2, 3, (32, 32))
        layer.table.addresses.zero_()
        assert torch.equal(layer.run(launcher), layer.out)
        layer.ids[:] = torch.tensor([[-1, 3], [1 << 40, -(1 << 40)]])  # no experts of this layer
        layer.table.addresses.fill_(layer.slots[0].data_ptr())
        assert torch.equal(layer.run(launcher), layer.out)

    def test_launches_depend_on_no_value(self, launcher: EmulatedLauncher) -> None:
        layer = Layer.random(("Q4_0",) * 3, 4, 2, 3, (32, 32))
        operands = (layer.table, layer.hidden, layer.ids, layer.weights, layer.buffer, layer.out)
        before = [(launch.kernel, launch.blocks, bytes(launch.arguments)) for launch in plan_experts(*operands)]
        layer.ids.zero_(), layer.table.addresses.zero_(), layer.weights.zero_()
        assert before == [(launch.kernel, launch.blocks, bytes(launch.arguments)) for launch in plan_experts(*operands)]

    def test_a_token_alone_has_the_bits_it_has_in_company(self, launcher: EmulatedLauncher) -> None:
        layer = Layer.random(("Q4_0",) * 3, 3, 1, 2, (64, 64))
        together = layer.run(launcher)
        layer.hidden, layer.ids, layer.weights = layer.hidden[1:2], layer.ids[1:2], layer.weights[1:2]
        layer.out = layer.out[1:2]
        assert torch.equal(layer.run(launcher), together[1:2])


class TestEmulation:
    """The emulation sees what it is there to see."""

    def test_a_read_out_of_bounds(self, launcher: EmulatedLauncher) -> None:
        matrix = a_matrix("Q4_0", 16, 64)
        hidden, out = torch.ones(1, 64), torch.empty(1, 16)
        buffer = torch.empty(linear_workspace_bytes(1, 64), dtype=torch.uint8)
        launcher.readable, launcher.writable = [matrix.data[:-8], hidden], [buffer, out]
        with pytest.raises(EmulationError, match="a read out of bounds"):
            GpuKernels(launcher).linear(matrix, hidden, buffer, out)

    def test_a_write_out_of_bounds(self, launcher: EmulatedLauncher) -> None:
        matrix = a_matrix("Q4_0", 16, 64)
        out = torch.empty(16, 64)
        launcher.readable, launcher.writable = [matrix.data, out], [out[:8]]
        with pytest.raises(EmulationError, match="a write out of bounds"):
            GpuKernels(launcher).unpack(matrix, out)


class TestPlans:
    def test_what_the_kernels_know(self) -> None:
        assert runs_experts(("Q4_K", "Q5_K", "Q6_K"), 512, 256)
        assert runs_experts(("F16", "BF16", "Q8_0"), 36, 32)
        assert not runs_experts(("F16", "Q8_0", "Q8_0"), 512, 256)
        assert not runs_experts(("F16", "F16", "F16"), 34, 36)
        assert runs_matrix(a_matrix("F32", 3, 4))
        assert not runs_matrix(a_matrix("F32", 3, 5))

    def test_how_many_tokens(self) -> None:
        assert runs_tokens(1, 128)
        assert runs_tokens(MAX_TOKENS, 16)
        assert not runs_tokens(MAX_TOKENS, 17)
        assert not runs_tokens(MAX_TOKENS + 1, 1)

    def test_fp32_is_read_where_it_lies(self) -> None:
        matrix, hidden = a_matrix("F16", 16, 8), torch.ones(1, 8)
        (launch,) = plan_linear(matrix, hidden, torch.empty(0, dtype=torch.uint8), torch.empty(1, 16))
        assert launch.arguments.activations == hidden.data_ptr()

    def test_the_source_is_complete(self) -> None:
        source = matrix_program("BF16").source()
        assert source.name in source.files
        assert source.macros == {"FORMAT": "BF16", "UP_FORMAT": "BF16", "ROOFTOP_FLOATS": "1"}


class WrongLauncher(EmulatedLauncher):
    """A GPU that gets one kernel wrong."""

    wrong = ""

    def launch(self, launch: Launch) -> None:
        if not launch.kernel.startswith(self.wrong):
            super().launch(launch)


class TestSelfTest:
    @pytest.mark.parametrize(("name", "size"), [("Q4_K", 256), ("BF16", 32)])
    def test_passes(self, launcher: EmulatedLauncher, name: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gpu_self_test, "_HIDDEN", size)
        monkeypatch.setattr(gpu_self_test, "_INTERMEDIATE", size)
        GpuKernels(launcher).self_test([name], CPU)

    def test_tries_mixes_of_formats(
        self, launcher: EmulatedLauncher, emulation: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mixes = [("Q8_0", "Q8_0", "Q8_0"), ("Q4_K", "Q6_K", "Q8_0")]
        monkeypatch.setattr(gpu_self_test, "_TOKENS", (3,))
        launcher.launched.clear()
        GpuKernels(launcher).self_test_experts(mixes, CPU)
        tried = ["prepare", "gate_up_8", "down_8", "prepare", "group_gate_up", "group_down", "group_add"]
        assert launcher.launched == tried, "a single format is tried by itself"
        wrong = WrongLauncher(emulation)
        wrong.wrong = "down_8"
        with pytest.raises(GpuKernelsUnavailableError, match="experts in Q4_K, Q6_K, Q8_0 with 3 tokens"):
            GpuKernels(wrong).self_test_experts(mixes, CPU)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ("down_16", "experts in MXFP4 with 9 tokens"),
            ("unpack", "unpacks MXFP4"),
            ("group_down", "experts in MXFP4, MXFP4, MXFP4 with 40 tokens"),
        ],
    )
    def test_tells_what_is_wrong(
        self, emulation: Path, wrong: str, message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gpu_self_test, "_HIDDEN", 32)
        launcher = WrongLauncher(emulation)
        launcher.wrong = wrong
        with pytest.raises(GpuKernelsUnavailableError, match=message):
            GpuKernels(launcher).self_test(["MXFP4"], CPU)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
class TestOnAGpu:
    """The same, compiled and run for real."""

    device = torch.device("cuda")

    @pytest.fixture(scope="class")
    def kernels(self, tmp_path_factory: pytest.TempPathFactory) -> GpuKernels:
        return GpuKernels.open(self.device, tmp_path_factory.mktemp("gpu_kernels"))

    @pytest.mark.parametrize("name", FORMATS)
    def test_every_format_passes_the_self_test(self, kernels: GpuKernels, name: str) -> None:
        kernels.self_test([name], self.device)

    def test_a_graph_follows_residency(self, kernels: GpuKernels) -> None:
        layer = Layer.random(("Q4_K", "Q4_K", "Q6_K"), 2, 2, 4, (512, 256))
        slots = [slot.to(self.device) for slot in layer.slots]
        addresses = torch.zeros(4, dtype=torch.int64, device=self.device)
        table = LayerTable(addresses, layer.table.formats, 512, 256)
        hidden, ids, weights = (t.to(self.device) for t in (layer.hidden, layer.ids, layer.weights))
        out, buffer = torch.zeros(2, 512, device=self.device), layer.buffer.to(self.device)
        kernels.load([table.formats])
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            kernels.experts(table, hidden, ids, weights, buffer, out)
        for absent in range(4):
            here = [0 if expert == absent else slot.data_ptr() for expert, slot in enumerate(slots)]
            addresses.copy_(torch.tensor(here))
            layer.table.addresses.copy_(torch.tensor(here))
            out.zero_()
            graph.replay()
            layer.check(layer.out + out.cpu())

    def test_a_kernel_that_is_not_there(self, kernels: GpuKernels) -> None:
        assert isinstance(kernels._launcher, DriverLauncher)
        with pytest.raises(GpuKernelsUnavailableError, match="does not compile"):
            kernels._launcher.load(matrix_program("Q8_0", "NO_FORMAT"))
