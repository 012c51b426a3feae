"""The attention of the GPU kernels computes what torch's decoder does: emulated, and on a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from engine.kernels.gpu_decoder_plans import MAX_STEP_TOKENS, attend_workspace_bytes, plan_attend
from engine.kernels.gpu_kernels import GpuKernels
from engine.model.decoder import first_key
from tests.engine.kernels.cuda_emulation.launcher import EmulatedLauncher, EmulationError
from tests.engine.kernels.decoder_layers import BF16, EXACT, FP16, FP32, TYPES, a_decoder, a_model, a_random, error


@dataclass
class Attention:
    """Random queries, and a cache that holds numbers only where they may be read."""

    queries: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    position: torch.Tensor
    window: int | None
    workspace: torch.Tensor
    out: torch.Tensor

    @classmethod
    def random(
        cls, heads: tuple[int, int, int], dtype: torch.dtype, tokens: int, capacity: int, window: int | None
    ) -> Attention:
        query_heads, kv_heads, head_dim = heads
        keys, values = a_random(2, kv_heads, capacity, head_dim).to(dtype)
        size = attend_workspace_bytes(tokens, query_heads, kv_heads, head_dim, capacity)
        return cls(
            queries=a_random(tokens, query_heads, head_dim, seed=1).to(dtype),
            keys=keys,
            values=values,
            position=torch.tensor([0], dtype=torch.int32),
            window=window,
            workspace=torch.full((size,), 0xAB, dtype=torch.uint8),
            out=torch.full((tokens, query_heads, head_dim), torch.nan),
        )

    def run(self, kernels: GpuKernels, start: int) -> torch.Tensor:
        self.position.fill_(start)
        end, first = start + self.queries.shape[0], max(0, start - self.window + 1) if self.window else 0
        keys, values = self.keys.clone(), self.values.clone()
        for tensor in (keys, values):
            tensor[:, :first], tensor[:, end:] = torch.nan, torch.nan
        launcher = kernels._launcher
        if isinstance(launcher, EmulatedLauncher):
            launcher.readable = [self.queries, keys, values, self.position]
            launcher.writable = [self.workspace, self.out]
        return kernels.attend(self.queries, keys, values, self.position, self.window, self.workspace, self.out)

    def expected(self, start: int) -> torch.Tensor:
        """What the decoder makes of them, in fp32."""
        tokens, heads, head_dim = self.queries.shape
        decoder, _ = a_decoder(a_model(heads, self.keys.shape[0], head_dim, sliding_window=self.window))
        kv_heads, first, end = self.keys.shape[0], first_key(start, self.window), start + tokens
        grouped = self.queries.float().view(tokens, kv_heads, -1, head_dim).permute(1, 2, 0, 3)
        attended = F.scaled_dot_product_attention(
            grouped.reshape(1, kv_heads, -1, head_dim),
            self.keys[None, :, first:end].float(),
            self.values[None, :, first:end].float(),
            attn_mask=decoder._mask(start, tokens, self.window),
        )
        return attended.view(kv_heads, -1, tokens, head_dim).permute(2, 0, 1, 3).reshape(tokens, heads, head_dim)

    def check(self, kernels: GpuKernels, start: int) -> None:
        dtype = self.keys.dtype
        limit = EXACT if dtype == FP32 else torch.finfo(dtype).eps  # weights are rounded to the cache's type
        assert error(self.run(kernels, start), self.expected(start)) <= limit


class TestAttend:
    @pytest.mark.parametrize(
        ("heads", "dtype", "tokens", "capacity", "window", "starts"),
        [
            ((4, 2, 64), BF16, 1, 300, None, (0, 1, 127, 128, 299)),
            ((6, 3, 80), FP16, 3, 140, 50, (0, 49, 50, 137)),
            ((12, 1, 96), BF16, 5, 200, None, (122, 195)),
            ((8, 2, 128), BF16, 1, 270, None, (255,)),
            ((3, 1, 128), FP32, 2, 140, 64, (131,)),
            ((4, 2, 256), FP16, 4, 140, None, (120,)),
            ((1, 1, 256), FP32, 1, 20, None, (16,)),
            ((6, 2, 24), FP32, 7, 33, 1, (0, 26)),
            ((2, 1, 24), FP16, 1, 1, None, (0,)),
        ],
    )
    def test_equals_torch(
        self, launcher: EmulatedLauncher, heads: tuple[int, int, int], dtype: torch.dtype, tokens: int, capacity: int,
        window: int | None, starts: tuple[int, ...],
    ) -> None:  # fmt: skip
        attention = Attention.random(heads, dtype, tokens, capacity, window)
        for start in starts:
            attention.check(GpuKernels(launcher), start)

    @pytest.mark.parametrize("tokens", range(1, MAX_STEP_TOKENS + 1))
    @pytest.mark.parametrize(("heads", "window"), [((1, 1, 24), None), ((4, 1, 24), 130), ((16, 1, 24), 5)])
    def test_every_number_of_tokens(
        self, launcher: EmulatedLauncher, tokens: int, heads: tuple[int, int, int], window: int | None
    ) -> None:
        attention = Attention.random(heads, FP16, tokens, 270, window)
        for start in (0, 127, 270 - tokens):
            attention.check(GpuKernels(launcher), start)

    def test_every_position(self, launcher: EmulatedLauncher) -> None:
        attention = Attention.random((2, 1, 24), FP16, 2, 136, 40)
        for start in range(135):
            attention.check(GpuKernels(launcher), start)

    @pytest.mark.parametrize("dtype", TYPES)
    def test_gives_every_type(self, launcher: EmulatedLauncher, dtype: torch.dtype) -> None:
        attention = Attention.random((2, 1, 24), FP16, 2, 20, None)
        exact = attention.run(GpuKernels(launcher), 9)
        attention.out = torch.empty_like(exact, dtype=dtype)
        assert torch.equal(attention.run(GpuKernels(launcher), 9), exact.to(dtype))

    def test_bf16_where_the_matrix_unit_does_not_know_it(self, launcher: EmulatedLauncher) -> None:
        attention = Attention.random((2, 1, 64), BF16, 3, 40, None)
        launcher.by_hand = True
        attention.check(GpuKernels(launcher), 30)

    def test_large_and_small_scores(self, launcher: EmulatedLauncher) -> None:
        """One key has all the weight, in whatever order it is met."""
        for key in (0, 77, 139):
            attention = Attention.random((2, 1, 24), FP16, 1, 140, None)
            attention.queries.fill_(100)
            attention.keys.fill_(-100)
            attention.keys[:, key] = 100
            out = attention.run(GpuKernels(launcher), 139)
            assert torch.equal(out[0, 0], attention.values[0, key].float())

    def test_what_is_no_number_stays_so(self, launcher: EmulatedLauncher) -> None:
        attention = Attention.random((2, 2, 24), FP16, 2, 20, None)
        attention.keys[1, 11] = torch.nan  # which the second token sees, of the second head
        out = attention.run(GpuKernels(launcher), 10)
        assert out[0].isfinite().all()
        assert out[1, 0].isfinite().all()
        assert out[1, 1].isnan().all()

    @pytest.mark.parametrize("dtype", [FP32, FP16])
    def test_equal_bits_in_any_order_of_threads(self, launcher: EmulatedLauncher, dtype: torch.dtype) -> None:
        attention = Attention.random((4, 1, 24), dtype, 5, 300, None)
        first = attention.run(GpuKernels(launcher), 280).clone()
        launcher.backwards = True
        attention.workspace.fill_(0x77)
        assert torch.equal(attention.run(GpuKernels(launcher), 280), first)

    @pytest.mark.parametrize("start", [-3, 19, 20, 1 << 20])
    def test_no_position_reads_outside_of_the_cache(self, launcher: EmulatedLauncher, start: int) -> None:
        attention = Attention.random((2, 1, 24), FP16, 2, 20, 5)
        attention.position.fill_(start)
        launcher.readable = [attention.queries, attention.keys, attention.values, attention.position]
        launcher.writable = [attention.workspace, attention.out]
        GpuKernels(launcher).attend(
            attention.queries, attention.keys, attention.values, attention.position, 5, attention.workspace,
            attention.out,
        )  # fmt: skip

    def test_launches_that_were_made_once_serve_every_position(self, launcher: EmulatedLauncher) -> None:
        attention = Attention.random((4, 2, 24), FP16, 1, 300, None)
        launches = plan_attend(
            attention.queries, attention.keys, attention.values, attention.position, None, attention.workspace,
            attention.out,
        )  # fmt: skip
        for start in (0, 5, 130, 299):
            attention.position.fill_(start)
            for launch in launches:
                launcher.launch(launch)
            assert error(attention.out, attention.expected(start)) <= torch.finfo(FP16).eps

    def test_a_read_past_the_cache_is_seen(self, launcher: EmulatedLauncher) -> None:
        attention = Attention.random((2, 1, 24), FP16, 1, 20, None)
        attention.position.fill_(19)
        launcher.readable = [attention.queries, attention.keys[:, :19].contiguous(), attention.position]
        launcher.writable = [attention.workspace, attention.out]
        with pytest.raises(EmulationError, match="a read out of bounds"):
            GpuKernels(launcher).attend(
                attention.queries, attention.keys, attention.values, attention.position, None, attention.workspace,
                attention.out,
            )  # fmt: skip


class TestPlans:
    @pytest.mark.parametrize(
        ("heads", "capacity", "tokens", "splits", "tiles"),
        [((32, 8), 8192, 1, 16, 1), ((32, 4), 8192, 4, 32, 2), ((64, 4), 300, 3, 3, 4), ((16, 1), 99, 8, 1, 8)],
    )
    def test_parts_and_tiles(self, heads: tuple[int, int], capacity: int, tokens: int, splits: int, tiles: int) -> None:
        attention = Attention.random((*heads, 8), BF16, tokens, capacity, None)
        attend, combine = plan_attend(
            attention.queries, attention.keys, attention.values, attention.position, None, attention.workspace,
            attention.out,
        )  # fmt: skip
        assert attend.blocks == (splits, heads[1])
        assert combine.blocks == (tokens * heads[0], 1)
        assert (attend.arguments.splits, attend.arguments.tiles) == (splits, tiles)

    def test_what_does_not_fit_is_refused(self) -> None:
        attention = Attention.random((2, 1, 24), FP16, 1, 20, None)
        queries, keys, values = attention.queries, attention.keys, attention.values
        position, workspace, out = attention.position, attention.workspace, attention.out
        with pytest.raises(AssertionError, match="fewer than"):
            plan_attend(queries, keys, values, position, None, workspace[:-1], out)
        with pytest.raises(AssertionError, match="a window of 0"):
            plan_attend(queries, keys, values, position, 0, workspace, out)
        with pytest.raises(AssertionError, match=r"is not torch\.float16"):
            plan_attend(queries.float(), keys, values, position, None, workspace, out)
        with pytest.raises(AssertionError, match="is no position"):
            plan_attend(queries, keys, values, position.float(), None, workspace, out)
        with pytest.raises(AssertionError, match="no boundary"):
            plan_attend(queries, keys, values, position, None, torch.empty(1 << 16, dtype=torch.uint8)[1:], out)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
class TestOnAGpu:
    """The same, compiled and run for real."""

    @pytest.mark.parametrize("window", [None, 1000])
    def test_a_graph_serves_every_position(self, tmp_path: Path, window: int | None) -> None:
        device = torch.device("cuda")
        kernels = GpuKernels.open(device, tmp_path)
        attention = Attention.random((32, 8, 128), BF16, 2, 5000, window)
        operands = (attention.queries, attention.keys, attention.values, attention.position)
        queries, keys, values, position = (tensor.to(device) for tensor in operands)
        workspace, out = attention.workspace.to(device), attention.out.to(device)
        kernels.load_decoder(128, BF16)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            kernels.attend(queries, keys, values, position, window, workspace, out)
        for start in (0, 500, 4095, 4998):
            position.fill_(start)
            graph.replay()
            assert error(out.cpu(), attention.expected(start)) <= torch.finfo(BF16).eps
