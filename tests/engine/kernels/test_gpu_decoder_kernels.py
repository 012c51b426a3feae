"""The kernels of a decoder layer around its products compute what torch's decoder does: emulated, and on a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from engine.kernels.gpu_decoder_plans import (
    attend_workspace_bytes,
    plan_join_norm,
    plan_rotate_store,
    runs_attention,
    runs_routing,
)
from engine.kernels.gpu_kernels import GpuKernels, GpuKernelsUnavailableError
from engine.kernels.gpu_launch import Launch
from engine.model.decoder import Decoder
from engine.model.weights import LayerWeights, linear
from tests.engine.kernels.cuda_emulation.launcher import EmulatedLauncher
from tests.engine.kernels.decoder_layers import (
    BF16,
    EPSILON,
    EXACT,
    FP16,
    FP32,
    TYPES,
    a_decoder,
    a_model,
    a_random,
    error,
    norms_of,
)

CPU = torch.device("cpu")


class TestJoinNorm:
    @pytest.mark.parametrize("additions", [0, 1, 2])
    @pytest.mark.parametrize(("tokens", "hidden_size"), [(1, 64), (3, 1028), (8, 4096)])
    def test_equals_torch(self, launcher: EmulatedLauncher, tokens: int, hidden_size: int, additions: int) -> None:
        decoder, layer = a_decoder(a_model(1, 1, 8, hidden_size))
        parts = a_random(1 + additions, tokens, hidden_size)
        residual, out = parts[0].clone(), torch.full((tokens, hidden_size), torch.nan)
        launcher.readable, launcher.writable = [layer.attention_norm, parts[1:]], [residual, out]
        GpuKernels(launcher).join_norm(residual, list(parts[1:]), layer.attention_norm, EPSILON, out)
        assert error(residual, parts.sum(0)) <= EXACT
        assert error(out, decoder._norm(parts.sum(0), layer.attention_norm)) <= EXACT

    @pytest.mark.parametrize("dtype", TYPES)
    def test_takes_and_gives_every_type(self, launcher: EmulatedLauncher, dtype: torch.dtype) -> None:
        residual, weight = a_random(2, 64), a_random(64).to(dtype)
        first, second = a_random(2, 64, seed=1).to(dtype), a_random(2, 64, seed=2).to(dtype)
        expected = residual + first.float() + second.float()
        out = GpuKernels(launcher).join_norm(residual, [first, second], weight, EPSILON, torch.empty_like(first))
        assert error(residual, expected) <= EXACT
        assert error(out, F.rms_norm(expected, (64,), weight.float(), EPSILON)) <= EXACT + torch.finfo(dtype).eps

    def test_rows_of_zero_stay_so(self, launcher: EmulatedLauncher) -> None:
        out = GpuKernels(launcher).join_norm(torch.zeros(1, 64), [], torch.ones(64), EPSILON, torch.ones(1, 64))
        assert torch.equal(out, torch.zeros(1, 64))

    def test_what_is_no_number_stays_so(self, launcher: EmulatedLauncher) -> None:
        residual = torch.ones(2, 64)
        residual[1, 40] = torch.inf
        out = GpuKernels(launcher).join_norm(residual, [], torch.ones(64), EPSILON, torch.empty(2, 64))
        assert out[0].isfinite().all()
        assert out[1].isnan().any()


class TestRotateStore:
    @staticmethod
    def rotated(
        kernels: GpuKernels, decoder: Decoder, layer: LayerWeights, qkv: torch.Tensor, start: int, into: torch.Tensor
    ) -> torch.Tensor:
        """Queries; keys and values are in `into` then."""
        queries = torch.full((qkv.shape[0], decoder._model.heads, into.shape[-1]), torch.nan, dtype=into.dtype)
        position = torch.tensor([start])
        frequencies = decoder._inverse_frequencies
        launcher = kernels._launcher
        if isinstance(launcher, EmulatedLauncher):
            held = [layer.query_norm, layer.key_norm, qkv, position, frequencies]
            launcher.readable = [tensor for tensor in held if tensor is not None]
            launcher.writable = [queries, into]
        kernels.rotate_store(qkv, norms_of(layer), frequencies, position, queries, into[0], into[1])
        return queries

    @pytest.mark.parametrize("query_key_norm", [False, True])
    @pytest.mark.parametrize("head_dim", [8, 24, 64, 80, 96, 128, 256])
    @pytest.mark.parametrize(("tokens", "start"), [(1, 0), (3, 5), (8, 12)])
    def test_equals_torch(
        self, launcher: EmulatedLauncher, head_dim: int, tokens: int, start: int, query_key_norm: bool
    ) -> None:
        decoder, layer = a_decoder(a_model(3, 1, head_dim, query_key_norm=query_key_norm), capacity=20)
        qkv = a_random(tokens, 5 * head_dim)
        before = torch.stack([decoder.cache.keys[0], decoder.cache.values[0]])
        after = before.clone()
        queries = self.rotated(GpuKernels(launcher), decoder, layer, qkv, start, after)
        rows = qkv.view(tokens, 5, head_dim)
        expected = decoder._rotate(0, rows[:, :4], decoder.rotation(start, tokens, FP32))
        assert error(queries, expected[:, :3]) <= EXACT
        before[0, :, start : start + tokens] = expected[:, 3:].transpose(0, 1)
        before[1, :, start : start + tokens] = rows[:, 4:].transpose(0, 1)
        assert error(after[0], before[0]) <= EXACT
        assert torch.equal(after[1], before[1])
        after[:, :, start : start + tokens] = before[:, :, start : start + tokens]
        assert torch.equal(after, before)  # what lies around is as it was

    @pytest.mark.parametrize("dtype", TYPES)
    def test_every_type(self, launcher: EmulatedLauncher, dtype: torch.dtype) -> None:
        decoder, layer = a_decoder(a_model(2, 2, 64, query_key_norm=True), capacity=20)
        layer = replace(layer, query_norm=a_random(64).to(dtype), key_norm=a_random(64, seed=1).to(dtype))
        decoder._head_norms = (decoder._heads_norm(layer),)
        qkv, cache = a_random(2, 6 * 64).to(dtype), torch.zeros(2, 2, 20, 64, dtype=dtype)
        queries = self.rotated(GpuKernels(launcher), decoder, layer, qkv, 7, cache)
        expected = decoder._rotate(0, qkv.view(2, 6, 64)[:, :4].float(), decoder.rotation(7, 2, FP32))
        limit = EXACT + torch.finfo(dtype).eps
        assert error(queries, expected[:, :2]) <= limit
        assert error(cache[0, :, 7:9], expected[:, 2:].transpose(0, 1)) <= limit
        assert torch.equal(cache[1, :, 7:9], qkv.view(2, 6, 64)[:, 4:].transpose(0, 1))

    @pytest.mark.parametrize("start", [4095, 131064, 131071])
    def test_far_positions(self, launcher: EmulatedLauncher, start: int) -> None:
        """Against the sines of torch's angles, in fp64: angles up to 131,071 radians."""
        decoder, layer = a_decoder(a_model(1, 1, 64))
        queries = self.rotated(
            GpuKernels(launcher), decoder, layer, torch.ones(1, 3 * 64), start, torch.zeros(2, 1, 8, 64)
        )
        angles = (torch.tensor(float(start)) * decoder._inverse_frequencies).double()
        expected = torch.cat([angles.cos() - angles.sin(), angles.cos() + angles.sin()])
        assert float((queries[0, 0].double() - expected).abs().max()) <= 1e-6

    @pytest.mark.parametrize("start", [-2, 18, 20, 1000])
    def test_what_does_not_fit_is_not_stored(self, launcher: EmulatedLauncher, start: int) -> None:
        decoder, layer = a_decoder(a_model(2, 2, 24), capacity=20)
        before = torch.stack([decoder.cache.keys[0], decoder.cache.values[0]])
        after = before.clone()
        self.rotated(GpuKernels(launcher), decoder, layer, a_random(4, 6 * 24), start, after)
        changed = (after != before).any(dim=-1).any(dim=1)
        inside = [position for position in range(start, start + 4) if 0 <= position < 20]
        assert changed.nonzero().tolist() == [[part, position] for part in (0, 1) for position in inside]


class TestRoute:
    @staticmethod
    def routed(
        launcher: EmulatedLauncher, logits: torch.Tensor, per_token: int, normalise: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ids = torch.full((logits.shape[0], per_token), -1, dtype=torch.int32)
        weights = torch.full((logits.shape[0], per_token), torch.nan)
        launcher.readable, launcher.writable = [logits], [ids, weights]
        GpuKernels(launcher).route(logits, normalise, ids, weights)
        return ids, weights

    @pytest.mark.parametrize("normalise", [False, True])
    @pytest.mark.parametrize(
        ("tokens", "experts", "per_token"), [(1, 8, 2), (8, 128, 8), (3, 512, 16), (2, 3, 3), (5, 33, 1)]
    )
    def test_equals_torch(
        self, launcher: EmulatedLauncher, tokens: int, experts: int, per_token: int, normalise: bool
    ) -> None:
        model = a_model(1, 1, 8, experts=experts, experts_per_token=per_token, normalise_top_k=normalise)
        decoder, layer = a_decoder(model)
        normed, expected, chosen = decoder.route(layer, a_random(tokens, 64))
        ids, weights = self.routed(launcher, linear(normed, layer.router), per_token, normalise)
        assert torch.equal(ids.long(), chosen)
        assert error(weights, expected) <= EXACT

    @pytest.mark.parametrize("parts", [2, 7])
    def test_chooses_all_parts_of_an_expert(self, launcher: EmulatedLauncher, parts: int) -> None:
        logits = a_random(3, 8)
        whole, whole_weights = self.routed(launcher, logits, 2)
        ids = torch.full((3, 2 * parts), -1, dtype=torch.int32)
        weights = torch.full((3, 2 * parts), torch.nan)
        launcher.readable, launcher.writable = [logits], [ids, weights]
        GpuKernels(launcher).route(logits, normalise_top_k=True, ids=ids, weights=weights, parts=parts)
        assert torch.equal(ids.view(3, 2, parts), whole[..., None] * parts + torch.arange(parts, dtype=torch.int32))
        assert torch.equal(weights.view(3, 2, parts), whole_weights[..., None].expand(3, 2, parts))

    @pytest.mark.parametrize("dtype", TYPES)
    def test_takes_every_type(self, launcher: EmulatedLauncher, dtype: torch.dtype) -> None:
        logits = a_random(2, 40).to(dtype)
        ids, weights = self.routed(launcher, logits, 4)
        top, chosen = logits.float().topk(4)
        assert torch.equal(logits.gather(1, ids.long()), logits.gather(1, chosen))
        assert error(weights, top.softmax(-1)) <= EXACT

    def test_of_equals_the_lowest_id_is_first(self, launcher: EmulatedLauncher) -> None:
        logits = torch.zeros(2, 70)
        logits[0, ::2] = -0.0
        logits[1, [69, 33, 5]] = 1.0
        ids, weights = self.routed(launcher, logits, 4)
        assert ids.tolist() == [[0, 1, 2, 3], [5, 33, 69, 0]]
        assert weights[0].tolist() == [0.25] * 4

    def test_extremes(self, launcher: EmulatedLauncher) -> None:
        """Whatever the logits are, ids are different experts."""
        logits = torch.full((4, 40), -torch.inf)
        logits[1, 7], logits[2, 8], logits[3] = torch.inf, torch.nan, torch.finfo(FP32).min
        logits[0, 39] = 0.0
        ids, weights = self.routed(launcher, logits, 3)
        assert ids.tolist() == [[39, 0, 1], [7, 0, 1], [8, 0, 1], [0, 1, 2]]
        assert weights[0].tolist() == [1, 0, 0]
        assert weights[1:3].isnan().any(dim=1).all()
        assert error(weights[3], torch.full((3,), 1 / 3)) <= EXACT


class TestLayer:
    """A layer's attention from residual to residual, as `Decoder.attend` has it."""

    @pytest.mark.parametrize("query_key_norm", [False, True])
    @pytest.mark.parametrize(("tokens", "start", "window"), [(1, 0, None), (1, 131, 20), (4, 100, None), (8, 126, 9)])
    def test_equals_torch(
        self, launcher: EmulatedLauncher, tokens: int, start: int, window: int | None, query_key_norm: bool
    ) -> None:
        model = a_model(4, 2, 24, sliding_window=window, query_key_norm=query_key_norm)
        decoder, layer = a_decoder(model, capacity=140)
        keys, values = decoder.cache.keys[0].clone(), decoder.cache.values[0].clone()
        hidden, kernels = a_random(tokens, 64), GpuKernels(launcher)
        residual, normed = hidden.clone(), torch.empty(tokens, 64)
        queries = torch.empty(tokens, 4, 24)
        workspace = torch.empty(attend_workspace_bytes(tokens, 4, 2, 24, 140), dtype=torch.uint8)
        position = torch.tensor([start])
        kernels.join_norm(residual, [], layer.attention_norm, EPSILON, normed)
        kernels.rotate_store(
            linear(normed, layer.qkv), norms_of(layer), decoder._inverse_frequencies, position, queries, keys, values
        )
        out = kernels.attend(queries, keys, values, position, window, workspace, torch.empty_like(queries))
        kernels.join_norm(residual, [linear(out.flatten(1), layer.output)], layer.expert_norm, EPSILON, normed)

        mask = decoder._mask(start, tokens, window) if tokens > 1 else None
        expected = decoder.attend(0, layer, hidden, start, decoder.rotation(start, tokens, FP32), mask)
        assert error(residual, expected) <= 2 * EXACT
        assert error(normed, decoder._norm(expected, layer.expert_norm)) <= 2 * EXACT
        assert error(keys, decoder.cache.keys[0]) <= EXACT
        assert error(values, decoder.cache.values[0]) <= EXACT


class TestPlans:
    def test_what_the_kernels_know(self) -> None:
        assert runs_attention(8, 64, 4, 128)
        assert runs_attention(1, 128, 1, 256)
        assert not runs_attention(9, 8, 8, 128)
        assert not runs_attention(2, 128, 1, 256)
        assert not runs_attention(1, 8, 8, 36)
        assert not runs_attention(1, 8, 8, 264)
        assert not runs_attention(1, 8, 3, 64)
        assert runs_routing(512, 16)
        assert not runs_routing(513, 1)
        assert not runs_routing(60, 17)
        assert not runs_routing(2, 3)

    def test_what_does_not_fit_is_refused(self) -> None:
        queries, cache = torch.zeros(1, 2, 24), torch.zeros(2, 1, 20, 24)
        with pytest.raises(AssertionError, match="does not fit"):
            plan_rotate_store(torch.zeros(1, 24), None, torch.zeros(12), torch.tensor([0]), queries, *cache)
        with pytest.raises(AssertionError, match="in fours"):
            plan_join_norm(torch.zeros(1, 6), [], torch.zeros(6), EPSILON, torch.zeros(1, 6))


class WrongLauncher(EmulatedLauncher):
    """A GPU that does nothing where it should run one kernel."""

    wrong = ""

    def launch(self, launch: Launch) -> None:
        if launch.kernel != self.wrong:
            super().launch(launch)


class TestSelfTest:
    @pytest.mark.parametrize(("heads", "dtype"), [((2, 1, 24), FP32), ((4, 2, 24), FP16), ((4, 1, 64), BF16)])
    def test_passes(self, launcher: EmulatedLauncher, heads: tuple[int, int, int], dtype: torch.dtype) -> None:
        GpuKernels(launcher).self_test_decoder(*heads, dtype, CPU)
        assert set(launcher.launched) == {"join_norm", "rotate_store", "attend", "combine", "route"}

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [("join_norm", "norm"), ("route", "choice of experts"), ("rotate_store", "rotation"), ("combine", "attention")],
    )
    def test_tells_what_is_wrong(self, emulation: Path, wrong: str, message: str) -> None:
        launcher = WrongLauncher(emulation)
        launcher.wrong = wrong
        with pytest.raises(GpuKernelsUnavailableError, match=f"The GPU's {message} with 1 tokens is off"):
            GpuKernels(launcher).self_test_decoder(2, 1, 24, FP16, CPU)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
class TestOnAGpu:
    """The same, compiled and run for real."""

    device = torch.device("cuda")

    @pytest.fixture(scope="class")
    def kernels(self, tmp_path_factory: pytest.TempPathFactory) -> GpuKernels:
        return GpuKernels.open(self.device, tmp_path_factory.mktemp("gpu_kernels"))

    @pytest.mark.parametrize("dtype", TYPES)
    @pytest.mark.parametrize("heads", [(32, 8, 128), (64, 4, 128), (16, 16, 64), (6, 2, 80), (12, 1, 96), (8, 2, 256)])
    def test_passes_the_self_test(self, kernels: GpuKernels, heads: tuple[int, int, int], dtype: torch.dtype) -> None:
        kernels.self_test_decoder(*heads, dtype, self.device)

    def test_adds_what_lies_in_page_locked_memory(self, kernels: GpuKernels) -> None:
        residual, pinned = a_random(1, 64).to(self.device), a_random(1, 64, seed=1).pin_memory()
        expected = residual.cpu() + pinned
        kernels.join_norm(residual, [pinned], torch.ones(64, device=self.device), EPSILON, torch.empty_like(residual))
        assert error(residual.cpu(), expected) <= EXACT
