"""The lean decoder against transformers' eager models, over shapes usual and odd."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pytest
import torch

from engine import Engine, EngineConfig, SamplingParams
from engine.messages import Token
from engine.model.decoder import Decoder
from engine.model.gpu_steps import GpuSteps
from tests.checkpoints import write_mixtral, write_qwen3_moe
from tests.oracle import oracle_greedy, oracle_logits

SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "multi-query": {"heads": 4, "kv_heads": 1},
    "groups of four": {"heads": 8, "kv_heads": 2, "hidden": 64},
    "every head its own": {"heads": 4, "kv_heads": 4},
    "wide heads": {"hidden": 32, "heads": 4, "kv_heads": 2, "head_dim": 16},
    "narrow heads": {"hidden": 48, "heads": 4, "kv_heads": 1, "head_dim": 6},
    "three experts, one each": {"experts": 3, "experts_per_token": 1},
    "all experts": {"experts": 4, "experts_per_token": 4},
    "tied": {"tied": True},
    "window": {"sliding_window": 7},
    "window of one": {"sliding_window": 1},
    "deep": {"layers": 5, "shards": 3},
    "odd widths": {"hidden": 36, "heads": 3, "kv_heads": 3, "intermediate": 50},
    "far positions": {"rope_theta": 1e6, "rms_norm_eps": 1e-6},
}
QWEN_SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "router weights as they are": {"normalise_top_k": False},
    "narrower than the heads together": {"hidden": 32, "heads": 8, "kv_heads": 1, "head_dim": 16},
    "many experts": {"experts": 16, "experts_per_token": 8, "intermediate": 8},
    "one expert each, as it is": {"experts_per_token": 1, "normalise_top_k": False},
    "tied": {"tied": True},
    "deep": {"layers": 5, "shards": 3},
    "far positions": {"rope_theta": 1e7},
}
CPU = EngineConfig(device="cpu", isa="torch", context_tokens=256, cpu_threads=1)


def some_tokens(count: int, vocab: int = 300, seed: int = 1) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(0, vocab, count)]


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_equal_the_oracle(tmp_path: Path, shape: str) -> None:
    folder = write_mixtral(tmp_path / "model", **SHAPES[shape])
    tokens = some_tokens(40)
    with Engine.load(str(folder), CPU) as engine:
        logits = engine.logits(tokens)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, oracle_logits(folder, tokens), atol=1e-4, rtol=0)


def test_only_a_single_token_goes_by_steps(tmp_path: Path) -> None:
    class Steps:
        """Computes nothing, and counts what it is asked for."""

        asked: ClassVar[list[int]] = []

        def forward(self, token: int, _check: Callable[[], None]) -> Generator[None, None, torch.Tensor]:
            self.asked.append(token)
            yield
            return torch.zeros(1, 32)

    with Engine.load(str(write_mixtral(tmp_path / "model")), CPU) as engine:
        decoder = engine.loaded.decoder
        assert isinstance(decoder, Decoder)
        decoder.steps = cast("GpuSteps", Steps())
        assert decoder.forward_at_once([5, 6]).shape == (2, 32)
        assert decoder.forward_at_once([7]).shape == (1, 32)
        assert (Steps.asked, decoder.cache.tokens) == ([7], [5, 6, 7])
        decoder.steps = None


@pytest.mark.parametrize("shape", QWEN_SHAPES)
def test_qwen3_logits_equal_the_oracle(tmp_path: Path, shape: str) -> None:
    folder = write_qwen3_moe(tmp_path / "model", **QWEN_SHAPES[shape])
    tokens = some_tokens(40)
    with Engine.load(str(folder), CPU) as engine:
        assert engine.model.query_key_norm
        assert engine.model.normalise_top_k == QWEN_SHAPES[shape].get("normalise_top_k", True)
        logits = engine.logits(tokens)
    np.testing.assert_allclose(logits, oracle_logits(folder, tokens), atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", ["plain", "router weights as they are"])
def test_qwen3_gives_the_same_64_greedy_tokens(tmp_path: Path, shape: str) -> None:
    folder = write_qwen3_moe(tmp_path / "model", **QWEN_SHAPES[shape])
    assert greedy(folder) == oracle_greedy(folder, some_tokens(9), 64)


@pytest.mark.parametrize("shape", ["plain", "window", "three experts, one each"])
def test_the_same_64_greedy_tokens(tmp_path: Path, shape: str) -> None:
    folder = write_mixtral(tmp_path / "model", **SHAPES[shape])
    assert greedy(folder) == oracle_greedy(folder, some_tokens(9), 64)


def greedy(folder: Path) -> list[int]:
    """The engine's next 64 tokens."""
    sampling = SamplingParams(max_tokens=64, temperature=0.0, ignore_eos=True)
    with Engine.load(str(folder), CPU) as engine:
        return [event.id for event in engine.generate(some_tokens(9), sampling) if isinstance(event, Token)]


@pytest.mark.parametrize("shape", ["plain", "window"])
@pytest.mark.parametrize("chunk", [1, 3, 16])
def test_prefill_in_chunks_equals_prefill_at_once(tmp_path: Path, shape: str, chunk: int) -> None:
    folder = write_mixtral(tmp_path / "model", **SHAPES[shape])
    tokens = some_tokens(33)
    with Engine.load(str(folder), CPU) as at_once:
        expected = at_once.logits(tokens)
    with Engine.load(str(folder), replace(CPU, prefill_chunk_tokens=chunk)) as chunked:
        np.testing.assert_allclose(chunked.logits(tokens), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("write", [write_mixtral, write_qwen3_moe])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_near_the_oracle(tmp_path: Path, dtype: Any, write: Callable[..., Path]) -> None:
    folder = write(tmp_path / "model", dtype=dtype)
    tokens = some_tokens(24)
    with Engine.load(str(folder), CPU) as engine:
        logits = engine.logits(tokens)
    expected = oracle_logits(folder, tokens)
    tolerance = {"bfloat16": 0.08, "float16": 0.01}[dtype] * float(np.abs(expected).max())
    # A token whose router is nearly undecided may take another expert in half precision: the median token may not.
    assert float(np.median(np.abs(logits - expected).max(axis=1))) < tolerance
