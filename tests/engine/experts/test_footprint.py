"""What weights take in memory depends on what runs them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.config import EngineConfig, ModelConfig
from engine.experts.footprint import (
    LAUNCHED_TOKENS,
    LOOKED_UP_STRIPS,
    UNPACKED_WEIGHTS,
    UNPACKING_BYTES_PER_WEIGHT,
    PlannedDevice,
    graph_bytes,
    has_blocks,
    held_dense_bytes,
    host_dense_bytes,
    launching_bytes,
    read_dense_bytes,
    step_bytes,
    unpacking_bytes,
)
from engine.experts.memory import Needs, workspace_bytes
from engine.kernels.gpu_decoder_plans import attend_workspace_bytes
from engine.kernels.gpu_plans import MAX_TOKENS, experts_workspace_bytes, linear_workspace_bytes
from engine.kernels.packed import CPU_SLICE_WEIGHTS, GPU_SLICE_WEIGHTS
from tests.engine.experts.shapes import MIXTRAL, QWEN, QWEN_Q4_K_M

EXPERT = 2048 * 768


def test_floats_are_no_blocks() -> None:
    assert not has_blocks(MIXTRAL)
    assert not has_blocks(replace(MIXTRAL, layers=1, expert_formats=(("F16", "BF16", "F32"),)))
    assert has_blocks(replace(MIXTRAL, layers=1, expert_formats=(("F16", "BF16", "Q8_0"),)))


def test_unpacking_is_planned_for_as_it_is_done() -> None:
    assert UNPACKED_WEIGHTS == {"cpu": CPU_SLICE_WEIGHTS, "simulated": CPU_SLICE_WEIGHTS, "cuda": GPU_SLICE_WEIGHTS}


@pytest.mark.parametrize(
    ("device", "kernels", "gpu_kernels", "size"),
    [
        ("cpu", "torch", True, EXPERT * (2 + UNPACKING_BYTES_PER_WEIGHT)),
        ("cpu", "avx512", True, 0),
        ("cuda", "avx512", True, 2 * GPU_SLICE_WEIGHTS + LOOKED_UP_STRIPS * 16 * 2048 // 256 * 144),
        ("cuda", "avx512", False, EXPERT * (2 + UNPACKING_BYTES_PER_WEIGHT)),
        ("simulated", "torch", True, EXPERT * (2 + UNPACKING_BYTES_PER_WEIGHT)),
    ],
)
def test_what_is_unpacked_for_the_moment(device: PlannedDevice, kernels: str, gpu_kernels: bool, size: int) -> None:
    """Torch needs more than the floats; our kernels unpack lm_head too, where torch holds floats."""
    assert unpacking_bytes(QWEN_Q4_K_M, device, kernels, gpu_kernels=gpu_kernels) == size
    assert unpacking_bytes(QWEN, device, kernels, gpu_kernels=gpu_kernels) == 0
    needs = Needs.of(QWEN_Q4_K_M, EngineConfig(), device, kernels, gpu_kernels=gpu_kernels)
    table = 0 if device == "cpu" else 8 * QWEN.total_experts
    steps = step_bytes(QWEN_Q4_K_M, device, "auto")
    assert needs.workspace == workspace_bytes(QWEN_Q4_K_M, EngineConfig()) + size + table + steps


@pytest.mark.parametrize("model", [QWEN, MIXTRAL], ids=lambda model: model.name)
def test_launches_of_few_tokens_are_planned_for_as_they_are_done(model: ModelConfig) -> None:
    assert LAUNCHED_TOKENS == MAX_TOKENS
    sizes = model.hidden_size, model.intermediate_size
    assert launching_bytes(model, "cuda") == experts_workspace_bytes(MAX_TOKENS, model.experts_per_token, *sizes)
    needs = Needs.of(model, EngineConfig(), "cuda")
    extra = launching_bytes(model, "cuda") + 8 * model.total_experts + step_bytes(model, "cuda", "auto")
    assert needs.workspace == workspace_bytes(model, EngineConfig()) + extra
    assert Needs.of(model, EngineConfig(), "cpu").workspace == workspace_bytes(model, EngineConfig())


def test_a_large_matrix_is_unpacked_in_slices() -> None:
    large = replace(MIXTRAL, expert_formats=(("Q4_0", "Q4_0", "Q4_0"),) * 32)
    for device, weights in UNPACKED_WEIGHTS.items():
        by_torch = weights * (2 + UNPACKING_BYTES_PER_WEIGHT)
        assert unpacking_bytes(large, device, "torch", gpu_kernels=False) == by_torch
    assert unpacking_bytes(large, "cuda", "torch") == 2 * UNPACKED_WEIGHTS["cuda"]


def test_wide_heads_need_room_for_their_activations() -> None:
    wide = replace(MIXTRAL, heads=512, intermediate_size=64)
    assert launching_bytes(wide, "cuda") == linear_workspace_bytes(MAX_TOKENS, 512 * 128)


def test_dense_weights_are_packed_only_where_our_kernels_run_them() -> None:
    assert held_dense_bytes(QWEN_Q4_K_M, "cpu", "avx2") == 1 << 30
    assert held_dense_bytes(QWEN_Q4_K_M, "cpu", "torch") == QWEN_Q4_K_M.dense_bytes
    assert held_dense_bytes(QWEN_Q4_K_M, "cuda", "avx2", gpu_kernels=False) == QWEN_Q4_K_M.dense_bytes
    assert held_dense_bytes(QWEN_Q4_K_M, "simulated", "avx2") == QWEN_Q4_K_M.dense_bytes
    norms_and_routers = 2 * (48 * (2 + 128) + 1) * 2048
    assert held_dense_bytes(QWEN_Q4_K_M, "cuda", "torch") == 495_452_160 + 275_896_320 + norms_and_routers
    assert held_dense_bytes(QWEN, "cpu", "avx2") == QWEN.dense_bytes


def test_an_embedding_that_is_only_looked_up_is_in_ram_beside_our_gpu_kernels() -> None:
    embedding = 2 * QWEN.vocab_size * QWEN.hidden_size
    assert held_dense_bytes(QWEN, "cuda", "torch") == QWEN.dense_bytes - embedding
    assert host_dense_bytes(QWEN, "cuda") == embedding
    assert host_dense_bytes(QWEN_Q4_K_M, "cuda") == embedding // 2 // 256 * 144
    tied = replace(QWEN, tie_word_embeddings=True)
    assert held_dense_bytes(tied, "cuda", "torch") == tied.dense_bytes
    assert host_dense_bytes(tied, "cuda") == host_dense_bytes(QWEN, "cpu") == host_dense_bytes(QWEN, "simulated") == 0
    assert host_dense_bytes(QWEN, "cuda", gpu_kernels=False) == 0


def test_a_token_reads_all_but_what_is_looked_up() -> None:
    embedding = 2 * QWEN.vocab_size * QWEN.hidden_size
    without = pytest.approx(QWEN.dense_bytes - embedding)
    assert read_dense_bytes(QWEN, "cuda", "torch") == without
    assert read_dense_bytes(QWEN, "cuda", "torch", gpu_kernels=False) == without
    assert read_dense_bytes(QWEN_Q4_K_M, "cuda", "torch") == held_dense_bytes(QWEN_Q4_K_M, "cuda", "torch")
    assert read_dense_bytes(QWEN_Q4_K_M, "cpu", "avx2") < 1 << 30


@pytest.mark.parametrize("model", [QWEN, MIXTRAL], ids=lambda model: model.name)
def test_steps_on_a_gpu_are_planned_for(model: ModelConfig) -> None:
    counted = step_bytes(model, "cuda", "auto") - graph_bytes(model)
    attention = attend_workspace_bytes(1, model.heads, model.kv_heads, model.head_dim, 1 << 20)
    inside = 4 * model.experts_per_token * model.intermediate_size
    assert 1.0 <= counted / (attention + inside + 4 * 4 * model.hidden_size) < 3.0
    blocks = replace(model, embedding_format="Q8_0")
    strip = 16 * (4 * model.hidden_size + model.hidden_size // 32 * 34)  # unpacked, and as it is
    assert step_bytes(blocks, "cuda", "auto") == step_bytes(model, "cuda", "auto") + strip
    assert graph_bytes(model) > model.layers << 20
    assert step_bytes(model, "cuda", "q8") == step_bytes(model, "simulated", "auto") == 0
