"""Models, machines and costs that the tests of this folder share, and hypothesis strategies for random ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from engine.config import ModelConfig
from engine.hardware import GpuProfile, HardwareProfile
from engine.messages import CostCurve, CostModel, PlanningInputs
from engine.traits import DenseBlocks

MIB = 1 << 20
GIB = 1 << 30

TINY = ModelConfig(
    name="tiny", family="mixtral", hidden_size=64, intermediate_size=96, layers=3, heads=4, kv_heads=2, head_dim=16,
    experts=6, experts_per_token=2, vocab_size=320, max_position_embeddings=128,
)  # fmt: skip
MIXTRAL = ModelConfig(
    name="Mixtral 8x7B", family="mixtral", hidden_size=4096, intermediate_size=14336, layers=32, heads=32, kv_heads=8,
    head_dim=128, experts=8, experts_per_token=2, vocab_size=32000, max_position_embeddings=32768,
)  # fmt: skip
QWEN = ModelConfig(
    name="Qwen3 30B A3B", family="qwen3_moe", hidden_size=2048, intermediate_size=768, layers=48, heads=32, kv_heads=4,
    head_dim=128, experts=128, experts_per_token=8, vocab_size=151936, max_position_embeddings=40960,
)  # fmt: skip
_BETTER_DOWN, _PLAIN = ("Q4_K", "Q4_K", "Q6_K"), ("Q4_K", "Q4_K", "Q4_K")
QWEN_Q4_K_M = replace(
    QWEN, quantization="Q4_K_M", expert_formats=(_BETTER_DOWN, _PLAIN) * 24, dense_packed_bytes=1 << 30,
    dense_blocks=(DenseBlocks("Q4_K", 880_803_840, 495_452_160), DenseBlocks("Q6_K", 336_330_752, 275_896_320)),
    embedding_format="Q4_K",
)  # fmt: skip

RTX_24 = GpuProfile("RTX 4090", 24 * GIB, 1 * GIB)


def machine(gpu: GpuProfile | None = RTX_24, ram_available: int = 120 * GIB) -> HardwareProfile:
    """A gaming PC."""
    return HardwareProfile("Ryzen", 8, 128 * GIB, ram_available, gpu)


def uniform(model: ModelConfig) -> tuple[tuple[float, ...], ...]:
    """Every expert alike."""
    return ((1.0 / model.experts,) * model.experts,) * model.layers


def skewed(model: ModelConfig, seed: int = 0) -> tuple[tuple[float, ...], ...]:
    """Some experts liked more than others."""
    shares = np.random.default_rng(seed).dirichlet(np.full(model.experts, 2.0), size=model.layers)
    return tuple(tuple(row) for row in shares.tolist())


def pc_costs(model: ModelConfig, *, gpu: bool = True) -> CostModel:
    """A PC whose GPU runs all of a token's experts before the CPU has run one."""
    size = model.expert_bytes
    cpu = CostCurve(size / 40e9, size / 40e9 / 16, 5e-6)
    if not gpu:
        return CostModel(cpu, None, None, None, 2e-4)
    fast = 40e9 * 10 * model.experts_per_token
    return CostModel(
        cpu_expert=cpu,
        gpu_expert=CostCurve(size / fast, size / fast / 100, 0.0),
        weight_copy=CostCurve(0.0, size / 20e9, 1e-5),
        activation_copy=CostCurve(0.0, 1e-9, 5e-6),
        dense_layer_s=2e-4,
    )


def planning(
    model: ModelConfig = MIXTRAL,
    hardware: HardwareProfile | None = None,
    costs: CostModel | None = None,
    popularity: tuple[tuple[float, ...], ...] | None = None,
) -> PlanningInputs:
    """Inputs of a plan, ordinary where nothing else is said."""
    return PlanningInputs(model, hardware or machine(), costs or pc_costs(model), popularity or skewed(model))


def _seconds(low: float, high: float) -> st.SearchStrategy[float]:
    """Times spread over orders of magnitude."""
    return st.floats(np.log10(low), np.log10(high)).map(lambda power: 10.0**power)


@st.composite
def realistic_costs(draw: st.DrawFn) -> CostModel:
    """One expert of 1 GB/s-scaled size on random but possible machines: the GPU computes faster than it is fed."""
    size = draw(st.floats(5e6, 4e8))
    ram, link, vram = draw(st.floats(10e9, 100e9)), draw(st.floats(3e9, 50e9)), draw(st.floats(150e9, 1500e9))
    tokens_cpu, tokens_gpu = draw(st.floats(1.0, 64.0)), draw(st.floats(30.0, 300.0))
    return CostModel(
        cpu_expert=CostCurve(size / ram, size / ram / tokens_cpu, draw(_seconds(1e-6, 1e-4))),
        gpu_expert=CostCurve(size / vram, size / vram / tokens_gpu, draw(_seconds(1e-6, 1e-4))),
        weight_copy=CostCurve(0.0, size / link, draw(_seconds(1e-6, 1e-4))),
        activation_copy=CostCurve(draw(_seconds(1e-6, 1e-4)), 1e-7, 0.0),
        dense_layer_s=1e-4,
        cpu_correction=draw(st.floats(0.5, 2.0)),
        gpu_correction=draw(st.floats(0.5, 2.0)),
        cpu_call_s=draw(st.just(0.0) | _seconds(1e-6, 1e-4)),
        copy_drag=draw(st.just(0.0) | st.floats(0.0, 1.0)),
    )


def _curves() -> st.SearchStrategy[CostCurve]:
    """Any curve, zeros included."""
    time_s = st.just(0.0) | _seconds(1e-7, 1e-1)
    return st.builds(CostCurve, time_s, time_s, time_s)


def _curves_with_one() -> st.SearchStrategy[CostCurve]:
    """Any curve of the CPU, which may say what a single token was measured to take."""
    time_s = st.just(0.0) | _seconds(1e-7, 1e-1)
    return st.builds(replace, _curves(), one_s=st.none() | time_s)


def wild_costs() -> st.SearchStrategy[CostModel]:
    """Any costs at all, also senseless ones."""
    return st.builds(
        CostModel,
        _curves_with_one(),
        _curves(),
        _curves(),
        st.none() | _curves(),
        st.just(1e-4),
        cpu_call_s=st.sampled_from((0.0, 1e-5)),
        attention_key_s=st.sampled_from((0.0, 1e-8)),
        token_s=st.sampled_from((0.0, 3e-4)),
        copy_drag=st.sampled_from((0.0, 0.3, 1.0)),
    )


def routings(most: int = 16) -> st.SearchStrategy[tuple[list[tuple[int, int]], frozenset[int]]]:
    """(expert, tokens) of the active experts, and the residents, among `most` experts.

    By a seed: element by element, Hypothesis draws few of either, and next to never both in a pass of many tokens.
    """
    return st.builds(routing, st.integers(0, 1 << 32), st.just(most))


def routing(seed: int, most: int) -> tuple[list[tuple[int, int]], frozenset[int]]:
    """One of them: any number of active experts and of residents, in a pass of few tokens or of many."""
    chance = np.random.default_rng(seed)
    experts = chance.permutation(most)[: chance.integers(1, most + 1)].tolist()
    tokens = chance.integers(1, chance.choice([1, 4, 64, 512]) + 1, len(experts)).tolist()
    residents = chance.permutation(most)[: chance.integers(0, most + 1)].tolist()
    return list(zip(experts, tokens, strict=True)), frozenset(residents)
