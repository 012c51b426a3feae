"""Right before fast: what must hold on this device before any time that it takes is worth a word.

Small random models, whose every tensor takes part; logits of the CPU lane are the measure, which this repository's
tests hold against transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.bench.gpu.cells import POLICIES
from engine.bench.models import Shape, model_file
from engine.config import DeviceName, EngineConfig, SamplingParams
from engine.engine import Engine
from engine.errors import RooftopError
from engine.experts.footprint import PlannedDevice
from engine.experts.memory import Needs, Vram
from engine.kernels.gpu_kernels import GpuKernels, GpuKernelsUnavailableError
from engine.messages import Token
from engine.planning import planned_kernels
from engine.quant.formats import FORMATS

SHAPES = (
    Shape("check-mixtral", "llama", 256, 512, 2, 8, 2, 4, 2, 64, vocabulary=512, context_tokens=256),
    Shape("check-qwen3", "qwen3moe", 256, 256, 2, 16, 4, 4, 2, 128, vocabulary=512, context_tokens=256),
)
MIXES = ("F16", "Q4_0", "Q8_0", "Q4_K_M", "Q5_K_M", "Q6_K", "IQ4_XS")
# Floats differ by rounding to 16 bits; blocks also by the CPU's int8 activations, which now and then choose another
# expert.
LEAST_COSINE = {"F16": 0.999}
LEAST_COSINE_BLOCKS = 0.995
MOST_GAP = 0.2  # of the logits' spread: how far a greedy token may be from the CPU lane's best

_PROMPT_TOKENS, _NEW_TOKENS = 24, 24
_LONG_PROMPT_TOKENS = 640
_RESIDENT_SHARES = (0.0, 0.5, 1.0)

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found.

    Attributes:
        detail: A sentence with the figure.
        passed: Whether it holds; None where it does not apply to this machine.
    """

    detail: str
    passed: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """Both."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Bed:
    """Where checks are made.

    Attributes:
        device: The device under test.
        models: Folder of the model files.
        state: Folder of compiled kernels and measured costs.
    """

    device: DeviceName
    models: Path
    state: Path

    def engine(self, shape: Shape, mix: str, device: DeviceName, **fields: Any) -> Engine:  # noqa: ANN401 - settings
        """An engine on a small model."""
        config = EngineConfig(
            device=device, context_tokens=shape.context_tokens, cost_cache_dir=str(self.state), **fields
        )
        return Engine.load(str(model_file(self.models, shape, mix)), config)


def checks(bed: Bed) -> Iterator[tuple[str, Callable[[], Check]]]:
    """Every check by its name."""
    for name in FORMATS:
        yield f"kernels {name}", partial(_kernels, bed, name)
    for shape in SHAPES:
        for mix in MIXES:
            yield f"logits {shape.name} {mix}", partial(_logits, bed, shape, mix)
    for shape in SHAPES:
        for mix in ("F16", "Q4_K_M"):
            yield f"greedy {shape.name} {mix}", partial(_greedy, bed, shape, mix)
    for shape in SHAPES:
        yield f"long prompt {shape.name} Q4_K_M", partial(_long_prompt, bed, shape, "Q4_K_M")


def _kernels(bed: Bed, name: str) -> Check:
    """Our GPU kernels of a format against torch."""
    if bed.device != "cuda":
        return Check("There is no GPU.")
    device = torch.device("cuda", 0)
    try:
        GpuKernels.open(device, bed.state).self_test([name], device)
    except GpuKernelsUnavailableError as error:
        return Check(str(error), passed=False)
    return Check("All kernels of the format compute what torch does.", passed=True)


def _logits(bed: Bed, shape: Shape, mix: str) -> Check:
    """Logits of this device against the CPU lane's."""
    tokens = _prompt(shape)
    with bed.engine(shape, mix, "cpu") as engine:
        expected = engine.logits(tokens)
    try:
        with bed.engine(shape, mix, bed.device) as engine:
            found = engine.logits(tokens)
    except RooftopError as error:
        return Check(str(error), passed=False)
    cosines = _cosines(found, expected)
    least = LEAST_COSINE.get(mix, LEAST_COSINE_BLOCKS)
    same = float(np.mean(found.argmax(axis=1) == expected.argmax(axis=1)))
    middle = float(np.median(cosines))
    detail = f"cosine {middle:.5f} (at least {least}), worst {cosines.min():.5f}, same best {same:.0%}"
    return Check(detail, passed=middle >= least)


def _greedy(bed: Bed, shape: Shape, mix: str) -> Check:
    """Greedy tokens under every policy and budget: the same, or as good as the same to the CPU lane."""
    prompt, replies = _prompt(shape), dict[str, list[int]]()
    try:
        for name, share in ((name, share) for name in POLICIES for share in _RESIDENT_SHARES):
            policy = POLICIES[name]
            fields = {"policy": policy.policy, "adaptive": policy.adaptive, **_vram(bed, shape, mix, share)}
            with bed.engine(shape, mix, bed.device, **fields) as engine:
                replies[f"{name} {share:.0%}"] = _reply(engine, prompt)
    except RooftopError as error:
        return Check(str(error), passed=False)
    with bed.engine(shape, mix, "cpu") as engine:
        distinct = {tuple(reply) for reply in replies.values()}
        gap = max(_gap(engine, prompt, reply) for reply in distinct)
    counts = f"{len(distinct)} different replies of {len(replies)}"
    furthest = f"furthest from the CPU lane's best: {gap:.3f} of the spread (at most {MOST_GAP})"
    return Check(f"{counts}, {furthest}", passed=gap <= MOST_GAP)


def _long_prompt(bed: Bed, shape: Shape, mix: str) -> Check:
    """Logits of a prompt that residents make way for, and whether they are back when it is read."""
    shape = replace(shape, name=f"{shape.name}-long", context_tokens=2 * _LONG_PROMPT_TOKENS)
    tokens = _prompt(shape, _LONG_PROMPT_TOKENS)
    with bed.engine(shape, mix, "cpu") as engine:
        expected = engine.logits(tokens)
    fields: dict[str, Any] = {"prefill_chunk_tokens": _LONG_PROMPT_TOKENS, "adaptive": False}
    try:
        with bed.engine(shape, mix, bed.device, **fields, **_vram(bed, shape, mix, 0.5, _LONG_PROMPT_TOKENS)) as engine:
            before, lent = engine.snapshot().resident_by_layer, max(engine.plan.lent_bytes.values(), default=0)
            found = engine.logits(tokens)
            _reply(engine, tokens[:_PROMPT_TOKENS])
            after, shortages = engine.snapshot().resident_by_layer, engine.snapshot().memory_shortages
    except RooftopError as error:
        return Check(str(error), passed=False)
    cosine = float(np.median(_cosines(found, expected)))
    back = "all back" if before == after else "not all back"
    detail = f"cosine {cosine:.5f} (at least {LEAST_COSINE_BLOCKS}), {lent} bytes lent, {back}"
    return Check(detail, passed=cosine >= LEAST_COSINE_BLOCKS and lent > 0 and before == after and not shortages)


def _vram(bed: Bed, shape: Shape, mix: str, share: float, chunk_tokens: int | None = None) -> dict[str, int]:
    """The budget for a share of the experts."""
    config = EngineConfig(device=bed.device, context_tokens=shape.context_tokens, prefill_chunk_tokens=chunk_tokens)
    device: PlannedDevice = "simulated" if bed.device == "simulated" else "cuda"
    needs = Needs.of(shape.config(mix), config, device, planned_kernels(config))
    needed = needs.everything if share == 1.0 else needs.least + int(share * needs.experts)
    return {"vram_budget_bytes": Vram(1 << 50, 0, None, device == "simulated").budget_for(needed)}


def _reply(engine: Engine, prompt: Sequence[int]) -> list[int]:
    """Greedy tokens."""
    sampling = SamplingParams(max_tokens=_NEW_TOKENS, temperature=0.0, ignore_eos=True)
    return [event.id for event in engine.generate(prompt, sampling) if isinstance(event, Token)]


def _gap(engine: Engine, prompt: Sequence[int], reply: Sequence[int]) -> float:
    """By how much the worst token of a reply is less likely to an engine than its best, in spreads of the logits."""
    logits = engine.logits([*prompt, *reply[:-1]])[len(prompt) - 1 :]
    chosen = logits[np.arange(len(reply)), list(reply)]
    return float(np.max((logits.max(axis=1) - chosen) / logits.std(axis=1)))


def _prompt(shape: Shape, tokens: int = _PROMPT_TOKENS) -> list[int]:
    """The same tokens each time."""
    drawn = np.random.default_rng(0).integers(3, shape.vocabulary, tokens)
    return [int(token) for token in drawn]


def _cosines(found: Logits, expected: Logits) -> Logits:
    """Of each token."""
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosines: Logits = (found * expected).sum(axis=1) / lengths
    return cosines
