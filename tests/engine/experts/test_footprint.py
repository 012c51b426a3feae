"""What weights take in memory depends on what runs them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.config import EngineConfig, ModelConfig
from engine.experts.footprint import (
    LAUNCHED_TOKENS,
    UNPACKED_WEIGHTS,
    UNPACKING_BYTES_PER_WEIGHT,
    PlannedDevice,
    graph_bytes,
    has_blocks,
    held_dense_bytes,
    launching_bytes,
    step_bytes,
    unpacking_bytes,
)
from engine.experts.memory import Needs, workspace_bytes
from engine.kernels.gpu_decoder_plans import attend_workspace_bytes
from engine.kernels.gpu_plans import MAX_TOKENS, experts_workspace_bytes
from engine.kernels.packed import CPU_SLICE_WEIGHTS, GPU_SLICE_WEIGHTS
from tests.engine.experts.shapes import MIXTRAL, QWEN, QWEN_Q4_K_M


def test_floats_are_no_blocks() -> None:
    assert not has_blocks(MIXTRAL)
    assert not has_blocks(replace(MIXTRAL, layers=1, expert_formats=(("F16", "BF16", "F32"),)))
    assert has_blocks(replace(MIXTRAL, layers=1, expert_formats=(("F16", "BF16", "Q8_0"),)))


def test_unpacking_is_planned_for_as_it_is_done() -> None:
    assert UNPACKED_WEIGHTS == {"cpu": CPU_SLICE_WEIGHTS, "simulated": CPU_SLICE_WEIGHTS, "cuda": GPU_SLICE_WEIGHTS}


@pytest.mark.parametrize(
    ("device", "kernels", "weights"),
    [
        ("cpu", "torch", 2048 * 768),
        ("cpu", "avx512", 0),
        ("cuda", "avx512", 2048 * 768),
        ("simulated", "torch", 2048 * 768),
    ],
)
def test_only_torch_unpacks(device: PlannedDevice, kernels: str, weights: int) -> None:
    expected = weights * (2 + UNPACKING_BYTES_PER_WEIGHT)
    assert unpacking_bytes(QWEN_Q4_K_M, device, kernels) == expected
    assert unpacking_bytes(QWEN, device, kernels) == 0
    needs = Needs.of(QWEN_Q4_K_M, EngineConfig(), device, kernels)
    table = 0 if device == "cpu" else 8 * QWEN.total_experts
    steps = step_bytes(QWEN_Q4_K_M, device, "auto")
    assert needs.workspace == workspace_bytes(QWEN_Q4_K_M, EngineConfig()) + expected + table + steps


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
        assert unpacking_bytes(large, device, "torch") == weights * (2 + UNPACKING_BYTES_PER_WEIGHT)


def test_dense_weights_are_packed_only_where_our_kernels_run_them() -> None:
    assert held_dense_bytes(QWEN_Q4_K_M, "cpu", "avx2") == 1 << 30
    assert held_dense_bytes(QWEN_Q4_K_M, "cpu", "torch") == QWEN_Q4_K_M.dense_bytes
    assert held_dense_bytes(QWEN_Q4_K_M, "cuda", "avx2") == QWEN_Q4_K_M.dense_bytes
    assert held_dense_bytes(QWEN, "cpu", "avx2") == QWEN.dense_bytes


@pytest.mark.parametrize("model", [QWEN, MIXTRAL], ids=lambda model: model.name)
def test_steps_on_a_gpu_are_planned_for(model: ModelConfig) -> None:
    counted = step_bytes(model, "cuda", "auto") - graph_bytes(model)
    attention = attend_workspace_bytes(1, model.heads, model.kv_heads, model.head_dim, 1 << 20)
    inside = 4 * model.experts_per_token * model.intermediate_size
    assert 1.0 <= counted / (attention + inside + 4 * 4 * model.hidden_size) < 3.0
    assert graph_bytes(model) > model.layers << 20
    assert step_bytes(model, "cuda", "q8") == step_bytes(model, "simulated", "auto") == 0
