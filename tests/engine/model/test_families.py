"""Every family in both lanes against transformers' eager model, from safetensors and from GGUF."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import Engine, EngineConfig, SamplingParams
from engine.checkpoint.checkpoint import open_checkpoint, read_config
from engine.devices import CpuDevice
from engine.hardware import probe_hardware
from engine.kernels.cpu_library import available_isas
from engine.messages import Token
from engine.model.weights import load_dense
from tests.checkpoints import edit_json
from tests.engine.shapes import simulated_budget
from tests.families import long_rope, write_family, yarn_rope
from tests.family_gguf import write_family_gguf
from tests.mxfp4 import shipped_logits, write_as_shipped
from tests.oracle import oracle_greedy, oracle_logits

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "olmoe": ("olmoe", {}),
    "olmoe, every head its own keys": ("olmoe", {"num_key_value_heads": 4}),
    "olmoe, clipped": ("olmoe", {"clip_qkv": 0.7}),
    "olmoe, biased and normalised": ("olmoe", {"attention_bias": True, "norm_topk_prob": True}),
    "granitemoe": ("granitemoe", {}),
    "granitemoe, biased": ("granitemoe", {"attention_bias": True}),
    "granitemoe, all factors 1": (
        "granitemoe",
        {"embedding_multiplier": 1, "residual_multiplier": 1, "attention_multiplier": 1, "logits_scaling": 1},
    ),
    "granitemoe, tied": ("granitemoe", {"tie_word_embeddings": True}),
    "qwen2_moe": ("qwen2_moe", {}),
    "qwen2_moe, unbiased and normalised": ("qwen2_moe", {"qkv_bias": False, "norm_topk_prob": True}),
    "phimoe": ("phimoe", {}),
    "phimoe, unbiased": ("phimoe", {"attention_bias": False, "lm_head_bias": False, "router_jitter_noise": 0.3}),
    "phimoe, stretched": ("phimoe", {"rope_parameters": long_rope(64)}),
    "phimoe, window": ("phimoe", {"sliding_window": 9}),
    "granitemoeshared": ("granitemoeshared", {}),
    "granitemoeshared, without the shared one": ("granitemoeshared", {"shared_intermediate_size": 0}),
    "gpt_oss": ("gpt_oss", {}),
    "gpt_oss, heads of 64, unbiased attention": ("gpt_oss", {"head_dim": 64, "attention_bias": False}),
    "gpt_oss, clamped hard": ("gpt_oss", {"swiglu_limit": 0.4, "swiglu_alpha": 0.9}),
    "gpt_oss, full layers first": (
        "gpt_oss",
        {"layer_types": ["full_attention", "full_attention", "sliding_attention"]},
    ),
    "gpt_oss, ramp of whole pairs": ("gpt_oss", {"rope_parameters": yarn_rope(truncate=True, attention_factor=1.5)}),
    "gpt_oss, plain rotation": ("gpt_oss", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}),
    "qwen2_moe, odd widths": ("qwen2_moe", {"shared_expert_intermediate_size": 70, "hidden_size": 40}),
}
FAMILIES = ("olmoe", "granitemoe", "qwen2_moe", "phimoe", "granitemoeshared", "gpt_oss")
LANES = ("torch", *(isa for isa in ("scalar", *available_isas()[-1:]) if isa in available_isas()))
CPU = EngineConfig(device="cpu", context_tokens=128, cpu_threads=1)
TOKENS = [int(token) for token in np.random.default_rng(1).integers(0, 300, 40)]

in_every_lane = pytest.mark.parametrize("lane", LANES)


class Models:
    """Models and what transformers makes of them, each made once for all lanes and devices.

    Args:
        root: Where they are written.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.folder = cache(self._write)
        self.logits = cache(lambda variant: oracle_logits(self.folder(variant), TOKENS))
        self.greedy = cache(lambda variant: oracle_greedy(self.folder(variant), TOKENS[:9], 32))
        self.gguf = cache(self._convert)

    def _write(self, variant: str) -> Path:
        family, changes = VARIANTS[variant]
        return write_family(self._root / variant, family, **changes)

    def _convert(self, family: str, stored: str) -> tuple[Path, NDArray[np.float32]]:
        """A GGUF file, and the logits of what its weights mean."""
        widths: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 64}
        if family == "qwen2_moe":
            widths |= {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 96}
        if family == "granitemoeshared":
            widths |= {"shared_intermediate_size": 96}
        path = self._root / f"{family}-{stored}.gguf"
        meant = write_family_gguf(write_family(self._root / path.stem, family, **widths), path, stored)
        return path, oracle_logits(meant, TOKENS)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("families"))


@in_every_lane
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_the_oracle(models: Models, variant: str, lane: Any) -> None:
    with Engine.load(str(models.folder(variant)), replace(CPU, isa=lane)) as engine:
        logits = engine.logits(TOKENS)
    np.testing.assert_allclose(logits, models.logits(variant), atol=1e-4, rtol=0)


@in_every_lane
@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_32_greedy_tokens(models: Models, family: str, lane: Any) -> None:
    sampling = SamplingParams(max_tokens=32, temperature=0.0, ignore_eos=True)
    config = replace(CPU, isa=lane, cpu_threads=2, prefill_chunk_tokens=4)
    with Engine.load(str(models.folder(family)), config) as engine:
        drawn = [event.id for event in engine.generate(TOKENS[:9], sampling) if isinstance(event, Token)]
    assert drawn == models.greedy(family)


@pytest.mark.parametrize("policy", ["fiddler", "gpu_stream", "cpu_only"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_simulated_gpu_computes_the_same(models: Models, family: str, policy: Any) -> None:
    folder = models.folder(family)
    config = replace(CPU, device="simulated", policy=policy, simulated_vram_bytes=1 << 30)
    budget = simulated_budget(read_config(folder), config, 5)
    with Engine.load(str(folder), replace(config, vram_budget_bytes=budget)) as engine:
        assert engine.plan.resident_experts == 5
        logits = engine.logits(TOKENS)
        used = engine.snapshot()
    np.testing.assert_allclose(logits, models.logits(family), atol=1e-4, rtol=0)
    assert sum(used.vram_bytes.values()) <= used.vram_budget_bytes


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_plan_counts_every_byte(models: Models, variant: str) -> None:
    device = CpuDevice(probe_hardware())
    with open_checkpoint(models.folder(variant)) as checkpoint:
        load_dense(checkpoint, device, lambda _: None)
        assert device.allocated == {"dense": checkpoint.config.dense_bytes}


@in_every_lane
@pytest.mark.parametrize(
    ("family", "stored"),
    [*product(FAMILIES, ("F32", "Q8_0", "Q4_0")), ("gpt_oss", "MXFP4")],
)
def test_from_gguf_it_is_what_the_weights_mean(models: Models, family: str, stored: str, lane: Any) -> None:
    path, expected = models.gguf(family, stored)
    with Engine.load(str(path), replace(CPU, isa=lane)) as engine:
        assert family.startswith(engine.model.family)  # llama.cpp has one name for both kinds of Granite
        logits = engine.logits(TOKENS)
    _check_alike(logits, expected)
    if stored == "F32":
        np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=0)


@in_every_lane
def test_gpt_oss_as_shipped_is_what_transformers_unpacks(tmp_path: Path, lane: Any) -> None:
    folder = write_family(tmp_path / "x", "gpt_oss", dtype="bfloat16", hidden_size=64, intermediate_size=96)
    shipped = write_as_shipped(folder, tmp_path / "shipped")
    expected = shipped_logits(shipped, TOKENS)
    edit_json(shipped / "config.json", dtype="float32")  # of torch's activations
    with Engine.load(str(shipped), replace(CPU, isa=lane)) as engine:
        assert engine.model.quantization == "MXFP4"
        logits = engine.logits(TOKENS)
    _check_alike(logits, expected)
    if lane == "torch":
        np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=0)


def _check_alike(logits: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """Nearly the same direction, token for token."""
    lengths = np.linalg.norm(logits, axis=1) * np.linalg.norm(expected, axis=1)
    # A token whose router is nearly undecided may take another expert where activations are rounded.
    cosines = (logits * expected).sum(axis=1) / lengths
    assert float(np.median(cosines)) >= 0.999
    assert float(cosines.mean()) >= 0.99


@in_every_lane
def test_a_long_sequence_turns_by_the_long_factors(tmp_path: Path, lane: Any) -> None:
    """Beyond the original length; transformers 5 takes the short factors there, so its short ones are made the long."""
    rope = long_rope(16)
    folder = write_family(tmp_path / "model", "phimoe", rope_parameters=rope)
    told = write_family(tmp_path / "told", "phimoe", rope_parameters={**rope, "short_factor": rope["long_factor"]})
    with Engine.load(str(folder), replace(CPU, isa=lane)) as engine:
        short, long = engine.logits(TOKENS[:16]), engine.logits(TOKENS)
        sampling = SamplingParams(max_tokens=16, temperature=0.0, ignore_eos=True)
        drawn = [event.id for event in engine.generate(TOKENS[:9], sampling) if isinstance(event, Token)]
    np.testing.assert_allclose(short, oracle_logits(folder, TOKENS[:16]), atol=1e-4, rtol=0)
    np.testing.assert_allclose(long, oracle_logits(told, TOKENS), atol=1e-4, rtol=0)
    scaled = {**rope, "short_factor": rope["long_factor"], "short_mscale": rope["long_mscale"]}
    assert drawn == oracle_greedy(write_family(tmp_path / "x", "phimoe", rope_parameters=scaled), TOKENS[:9], 16)


@in_every_lane
def test_stretched_factors_are_read_from_gguf(tmp_path: Path, lane: Any) -> None:
    rope = {**long_rope(64, head_dim=16), "long_mscale": 1.2}
    widths: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 64}
    folder = write_family(tmp_path / "model", "phimoe", rope_parameters=rope, **widths)
    expected = oracle_logits(write_family_gguf(folder, tmp_path / "model.gguf"), TOKENS)
    with Engine.load(str(tmp_path / "model.gguf"), replace(CPU, isa=lane)) as engine:
        assert engine.model.traits.long_rope is not None
        np.testing.assert_allclose(engine.logits(TOKENS), expected, atol=1e-4, rtol=0)
