"""Quantised models end to end against transformers' eager model of the weights that their blocks mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import Engine, EngineConfig
from engine.checkpoint import gguf_config
from engine.checkpoint.checkpoint import read_config
from engine.config import ExpertFormats
from engine.quant.formats import FORMATS
from tests.engine.shapes import simulated_budget
from tests.gguf_files import Shape, write_gguf
from tests.oracle import oracle_logits, write_dequantised

Architecture = Literal["llama", "qwen3moe"]

SHAPE = Shape(layers=3, experts=4, kv_heads=2)
TOKENS = [int(token) for token in np.random.default_rng(3).integers(0, 300, 40)]
# A mix as llama.cpp makes them: the down projections of some layers have more bits.
Q4_K_M: tuple[ExpertFormats, ...] = (("Q4_K", "Q4_K", "Q6_K"), ("Q4_K", "Q4_K", "Q4_K"))
SIMULATED = EngineConfig(
    device="simulated", isa="torch", context_tokens=64, cpu_threads=1, simulated_vram_bytes=1 << 30,
    prefill_chunk_tokens=16,
)  # fmt: skip
CPU = replace(SIMULATED, device="cpu")
BLOCKS = [name for name, entry in FORMATS.items() if not entry.is_float]


@pytest.fixture
def _in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Activations in fp32 beside the blocks, so that what is left to see is the weights."""
    monkeypatch.setattr(gguf_config, "BLOCK_DTYPE", "float32")


def assert_alike(logits: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """Hold that every token's logits point the same way and are near."""
    lengths = np.linalg.norm(logits, axis=1) * np.linalg.norm(expected, axis=1)  # 0 where an embedding is all zeros
    assert bool(((logits * expected).sum(axis=1) >= 0.9999 * lengths).all())
    np.testing.assert_allclose(logits, expected, atol=1e-3 * float(np.abs(expected).max()), rtol=0)


@pytest.fixture(scope="module", params=["llama", "qwen3moe"])
def mixed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A model of a mix of formats, and the oracle's logits."""
    folder = tmp_path_factory.mktemp(request.param)
    path = write_gguf(folder / "m.gguf", request.param, shape=SHAPE, formats=Q4_K_M, dense_format="Q6_K")
    return path, oracle_logits(write_dequantised(path, folder / "dequantised"), TOKENS)


@pytest.mark.usefixtures("_in_fp32")
@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("architecture", ["llama", "qwen3moe"])
def test_every_format_equals_the_oracle(tmp_path: Path, architecture: Architecture, name: str) -> None:
    formats: ExpertFormats = (name, name, name)
    path = write_gguf(tmp_path / "m.gguf", architecture, formats=[formats], dense_format=name)
    expected = oracle_logits(write_dequantised(path, tmp_path / "dequantised"), TOKENS)
    with Engine.load(str(path), CPU) as engine:
        assert engine.model.expert_formats == (formats,) * 2
        assert_alike(engine.logits(TOKENS), expected)


@pytest.mark.usefixtures("_in_fp32")
@pytest.mark.parametrize("policy", ["fiddler", "gpu_stream", "cpu_only"])
@pytest.mark.parametrize("residents", [0, 5, 12])
def test_all_policies_and_budgets_agree_with_the_oracle(mixed: tuple[Path, Any], policy: Any, residents: int) -> None:
    path, expected = mixed
    budget = simulated_budget(read_config(path), SIMULATED, residents)
    with Engine.load(str(path), replace(SIMULATED, policy=policy, vram_budget_bytes=budget)) as engine:
        assert engine.plan.resident_experts == residents
        assert_alike(engine.logits(TOKENS), expected)
        used = engine.snapshot()
        assert sum(used.vram_bytes.values()) <= used.vram_budget_bytes


@pytest.mark.usefixtures("_in_fp32")
def test_streaming_copies_each_layers_own_bytes(mixed: tuple[Path, Any]) -> None:
    path, _ = mixed
    model = read_config(path)
    config = replace(SIMULATED, policy="gpu_stream", vram_budget_bytes=simulated_budget(model, SIMULATED, 0))
    with Engine.load(str(path), config) as engine:
        engine.logits(TOKENS[:1])
        streamed = engine.snapshot()
    sizes = [model.layer_expert_bytes(layer) for layer in range(model.layers)]
    assert len(set(sizes)) == 2
    assert streamed.streamed_bytes == model.experts_per_token * sum(sizes)


@pytest.mark.usefixtures("_in_fp32")
def test_experts_on_disk_are_the_same(mixed: tuple[Path, Any], tmp_path: Path) -> None:
    path, expected = mixed
    with Engine.load(str(path), replace(CPU, experts_on_disk=True, cost_cache_dir=str(tmp_path))) as engine:
        assert_alike(engine.logits(TOKENS), expected)
        assert engine.plan.host_bytes["experts_on_disk"] == engine.model.experts_bytes
        assert "experts" not in engine.snapshot().host_bytes
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"], "only the measured costs are kept"


def test_as_it_comes_in_bfloat16_it_stays_near_the_oracle(mixed: tuple[Path, Any]) -> None:
    path, expected = mixed
    with Engine.load(str(path), CPU) as engine:
        assert engine.model.dtype == "bfloat16"
        logits = engine.logits(TOKENS)
    # A token whose router is nearly undecided may take another expert in half precision: the median token may not.
    tolerance = 0.08 * float(np.abs(expected).max())
    assert float(np.median(np.abs(logits - expected).max(axis=1))) < tolerance
