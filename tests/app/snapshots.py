"""Realistic `Ready` and `Snapshot` events for tests and demos: three model shapes on three devices.

Everything is deterministic in its arguments: a step is one moment of a reply, so that steps 0, 1, 2... animate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from engine.config import EngineConfig, ModelConfig
from engine.experts.parts import placed_model
from engine.experts.pass_history import PassHistory
from engine.experts.placement import make_plan
from engine.hardware import GpuProfile, HardwareProfile
from engine.messages import (
    CostCurve,
    CostModel,
    ExpertRun,
    LayerTrace,
    PassRecord,
    Place,
    PlanningInputs,
    Ready,
    Snapshot,
)

Shape = Literal["guide", "mixtral", "qwen", "gguf", "parts", "wide", "deep"]
Device = Literal["cuda", "simulated", "cpu"]
GIB = 1 << 30
MIB = 1 << 20
GPU_NAME = "NVIDIA GeForce RTX 3060"

GUIDE = ModelConfig(
    name="Guide", family="mixtral", hidden_size=256, intermediate_size=512, layers=6, heads=8, kv_heads=2, head_dim=32,
    experts=8, experts_per_token=2, vocab_size=4096, max_position_embeddings=2048, dtype="bfloat16",
)  # fmt: skip
MIXTRAL = ModelConfig(
    name="Mixtral 8x7B Instruct", family="mixtral", hidden_size=4096, intermediate_size=14336, layers=32, heads=32,
    kv_heads=8, head_dim=128, experts=8, experts_per_token=2, vocab_size=32000, max_position_embeddings=32768,
)  # fmt: skip
QWEN = ModelConfig(
    name="Qwen3 30B A3B", family="qwen3_moe", hidden_size=2048, intermediate_size=768, layers=48, heads=32,
    kv_heads=4, head_dim=128, experts=128, experts_per_token=8, vocab_size=151936, max_position_embeddings=40960,
)  # fmt: skip
GGUF = replace(
    MIXTRAL, name="Mixtral 8x7B Instruct v0.1", quantization="Q4_K_M", dense_packed_bytes=1_100_000_000,
    expert_formats=(("Q4_K", "Q4_K", "Q6_K"), ("Q4_K", "Q4_K", "Q4_K")) * 16,
)  # fmt: skip
WIDE = replace(QWEN, name="Wide 512x48", experts=512, intermediate_size=256)
DEEP = replace(QWEN, name="Deep 128x94", layers=94, intermediate_size=384)
MODELS: dict[Shape, ModelConfig] = {
    "guide": GUIDE,
    "mixtral": MIXTRAL,
    "qwen": QWEN,
    "gguf": GGUF,
    "parts": placed_model(GGUF, "cuda"),
    "wide": WIDE,
    "deep": DEEP,
}
VRAM_BYTES: dict[Shape, int] = {
    "guide": 44 * MIB,
    "mixtral": 24 * GIB,
    "qwen": 16 * GIB,
    "gguf": 12 * GIB,
    "parts": 12 * GIB,
    "wide": 24 * GIB,
    "deep": 24 * GIB,
}


@dataclass(frozen=True)
class Step:
    """One moment of a reply: how many tokens its pass has, and which pass it is."""

    number: int = 0
    tokens: int = 1


def make_popularity(model: ModelConfig, seed: int = 7) -> tuple[tuple[float, ...], ...]:
    """Shares of visits per layer, rows sum to 1."""
    rng = np.random.default_rng(seed)
    whole = rng.dirichlet(np.full(model.routed_experts, 2.0), size=model.layers)
    shares = np.repeat(whole / model.expert_parts, model.expert_parts, axis=1)
    return tuple(tuple(float(share) for share in row) for row in shares)


def make_costs(model: ModelConfig, *, gpu: bool) -> CostModel:
    """Costs as if measured on an ordinary gaming PC."""
    size = model.expert_bytes
    cpu = CostCurve(size / 42e9, size / 42e9 / 24, 4e-6, fit_error=0.06)
    if not gpu:
        return CostModel(cpu, None, None, None, 2e-4, source="measured")
    return CostModel(
        cpu_expert=cpu,
        gpu_expert=CostCurve(size / 360e9, size / 360e9 / 200, 8e-6, fit_error=0.04),
        weight_copy=CostCurve(0.0, size / 22e9, 1e-5, fit_error=0.03),
        activation_copy=CostCurve(1e-5, 2e-7, 0.0, fit_error=0.05),
        dense_layer_s=2e-4,
        source="measured",
    )


def make_hardware(shape: Shape, device: Device) -> HardwareProfile:
    """A PC with 128 GiB of RAM, and the GPU that the device asks for."""
    vram = max(VRAM_BYTES[shape], 8 * GIB)
    gpu = GpuProfile(GPU_NAME, vram, vram // 12) if device == "cuda" else None
    return HardwareProfile("AMD Ryzen 7 7700", 8, 128 * GIB, 118 * GIB, gpu)


def make_ready(
    shape: Shape = "mixtral",
    device: Device = "cuda",
    *,
    context_tokens: int | None = None,
    budget_bytes: int | None = None,
    kernels: str = "avx2",
    on_disk: bool = False,
) -> Ready:
    """A loaded model of that shape on that device."""
    model = MODELS[shape]
    context = context_tokens or min(8192, model.max_position_embeddings)
    costs = make_costs(model, gpu=device != "cpu")
    inputs = PlanningInputs(model, make_hardware(shape, device), costs, make_popularity(model), kernels)
    config = EngineConfig(
        device=device, vram_budget_bytes=budget_bytes, context_tokens=context, cpu_threads=8,
        simulated_vram_bytes=VRAM_BYTES[shape], experts_on_disk=on_disk,
    )  # fmt: skip
    plan = make_plan(inputs, config)
    assert plan.fits, plan.reasons
    effective = replace(config, vram_budget_bytes=plan.vram_budget_bytes)
    names: dict[Device, str] = {"cuda": GPU_NAME, "simulated": "Simulated GPU", "cpu": "AMD Ryzen 7 7700"}
    return Ready(model, names[device], device == "simulated", plan, effective, inputs)


def make_snapshot(ready: Ready, step: Step | None = None) -> Snapshot:
    """The engine at that step of a reply; step None is the snapshot of a model that has not run yet."""
    model, plan = ready.model, ready.plan
    idle = Snapshot(
        plan.resident_by_layer, ((0.0,) * model.experts,) * model.layers, (), _allocated(plan.vram_bytes),
        plan.vram_budget_bytes, _allocated(plan.host_bytes), 0, 0, 0, 0, 0.0,
    )  # fmt: skip
    if step is None:
        return idle
    traces = tuple(_trace(ready, layer, step) for layer in range(model.layers))
    runs = [(layer.layer, run) for layer in traces for run in layer.runs]
    streamed = sum(run.place == "stream" for _, run in runs)
    return replace(
        idle,
        recent_use=_recent_use(ready, step),
        layers=traces,
        hits=sum(run.tokens for _, run in runs if run.place == "gpu") * (step.number + 1),
        visits=sum(run.tokens for _, run in runs) * (step.number + 1),
        streamed=streamed * (step.number + 1),
        streamed_bytes=streamed * (step.number + 1) * model.expert_bytes,
        tokens_per_s=plan.predicted_decode_tokens_per_s * (1 + 0.08 * np.sin(step.number)).item(),
    )


WORDS = (" A", " mixture", " of", " experts", " keeps", " the", " busiest", " part", " in", " VRAM", ".", "\n")


def make_passes(ready: Ready, count: int, *, prompt_tokens: int = 64) -> tuple[PassRecord, ...]:
    """Records of a reply's first tokens: the first comes from the prompt, token i from `make_snapshot` at step i."""
    model = ready.model
    history = PassHistory(model.layers, model.experts)
    for number in range(count):
        step = Step(number, prompt_tokens if number == 0 else 1)
        for trace in make_snapshot(ready, step).layers:
            history.layer_ran(trace.layer, trace.tokens, trace.runs, trace.measured_cpu_s, ready.planning.costs)
            history.gpu_took(trace.layer, trace.measured_gpu_s)
        residents = [set(layer) for layer in ready.plan.resident_by_layer]
        history.token(number, WORDS[number % len(WORDS)], 0.1 + 0.01 * number, residents, 0)
    return history.take()


def _allocated(terms: dict[str, int]) -> dict[str, int]:
    return {term: size for term, size in terms.items() if term not in ("total", "margin", "experts_on_disk")}


def _visits(ready: Ready, layer: int, step: Step) -> dict[int, int]:
    """Expert -> tokens routed to it in one layer of one pass."""
    model = ready.model
    rng = np.random.default_rng((layer, step.number, step.tokens))
    shares = np.array(ready.planning.popularity[layer][:: model.expert_parts])
    scores = np.log(shares) + rng.gumbel(size=(step.tokens, model.routed_experts))
    chosen = np.argpartition(-scores, model.routed_per_token, axis=1)[:, : model.routed_per_token]
    counts = np.repeat(np.bincount(chosen.ravel(), minlength=model.routed_experts), model.expert_parts)
    return {expert: int(tokens) for expert, tokens in enumerate(counts) if tokens}


def _trace(ready: Ready, layer: int, step: Step) -> LayerTrace:
    runs = tuple(_run(ready, layer, expert, tokens) for expert, tokens in _visits(ready, layer, step).items())
    cpu_s = sum(run.cpu_s for run in runs if run.place == "cpu")
    gpu_s = sum(run.gpu_s + run.copy_s for run in runs if run.place != "cpu")
    rng = np.random.default_rng((layer, step.number))
    noise = rng.uniform(0.85, 1.3, 2)
    return LayerTrace(
        layer, step.tokens, runs, cpu_s, gpu_s, cpu_s * float(noise[0]), gpu_s * float(noise[1]),
        expert_parts=ready.model.expert_parts,
    )  # fmt: skip


def _run(ready: Ready, layer: int, expert: int, tokens: int) -> ExpertRun:
    costs = ready.planning.costs
    cpu_s = _seconds(costs.cpu_expert, tokens)
    if costs.gpu_expert is None or costs.weight_copy is None:
        return ExpertRun(expert, tokens, "cpu", cpu_s, 0.0, 0.0)
    gpu_s = _seconds(costs.gpu_expert, tokens)
    if expert in ready.plan.resident_by_layer[layer]:
        return ExpertRun(expert, tokens, "gpu", cpu_s, gpu_s, 0.0)
    copy_s = _seconds(costs.weight_copy, 1)
    place: Place = "stream" if cpu_s > gpu_s + copy_s else "cpu"
    return ExpertRun(expert, tokens, place, cpu_s, gpu_s, copy_s)


def _seconds(curve: CostCurve, units: int) -> float:
    return max(curve.floor_s, units * curve.per_unit_s) + curve.overhead_s


def _recent_use(ready: Ready, step: Step) -> tuple[tuple[float, ...], ...]:
    """1 for experts of this pass, fading over the passes before."""
    use = np.zeros((ready.model.layers, ready.model.experts))
    for age in range(min(step.number, 5), -1, -1):
        for layer in range(ready.model.layers):
            for expert in _visits(ready, layer, Step(step.number - age, step.tokens)):
                use[layer, expert] = max(use[layer, expert], 0.72**age)
    return tuple(tuple(float(value) for value in row) for row in use)
