"""The names and shapes on disk, against the list that the tests' own writer spells out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.checkpoint import tensor_names
from engine.checkpoint.model_config import read_model_config
from engine.checkpoint.safetensors_file import read_header
from tests.checkpoints import write_mixtral, write_qwen3_moe


@pytest.mark.parametrize("options", [{}, {"tied": True}, {"head_dim": 16, "kv_heads": 1}, {"layers": 3, "experts": 5}])
def test_expected_tensors_are_what_a_model_has(tmp_path: Path, options: dict[str, Any]) -> None:
    folder = write_mixtral(tmp_path, **options)
    stored = {name: entry.shape for name, entry in read_header(folder / "model.safetensors").items()}
    assert dict(tensor_names.expected_tensors(read_model_config(folder))) == stored


@pytest.mark.parametrize("options", [{}, {"tied": True}, {"kv_heads": 1}, {"layers": 3, "experts": 5}])
def test_names_in_the_files_of_a_qwen3_moe(tmp_path: Path, options: dict[str, Any]) -> None:
    folder = write_qwen3_moe(tmp_path, **options)
    stored = {name: entry.shape for name, entry in read_header(folder / "model.safetensors").items()}
    expected = tensor_names.expected_tensors(read_model_config(folder))
    assert {tensor_names.name_in_file("qwen3_moe", name): shape for name, shape in expected} == stored


def test_names_of_one_layer() -> None:
    assert tensor_names.expert_tensor(3, 5, "w2") == "model.layers.3.block_sparse_moe.experts.5.w2.weight"
    assert tensor_names.query_norm(3) == "model.layers.3.self_attn.q_norm.weight"
    assert tensor_names.key_norm(3) == "model.layers.3.self_attn.k_norm.weight"
    assert tensor_names.router(3) == "model.layers.3.block_sparse_moe.gate.weight"
    assert tensor_names.attention(0, "o") == "model.layers.0.self_attn.o_proj.weight"
    assert tensor_names.attention_norm(0) == "model.layers.0.input_layernorm.weight"
    assert tensor_names.expert_norm(0) == "model.layers.0.post_attention_layernorm.weight"


def test_only_experts_are_experts() -> None:
    assert tensor_names.is_expert(tensor_names.expert_tensor(0, 0, "w1"))
    assert not tensor_names.is_expert(tensor_names.router(0))
