"""What goes where before anything is loaded: dense weights, KV cache and workspace first, then experts by popularity.

Pure arithmetic (Fiddler section 3.2, but with KV cache and workspace counted, which its code forgets), fast enough to
follow a slider. Every expert keeps its copy in RAM, residents too, so that the budget can change while the engine runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.config import MIN_CONTEXT_TOKENS, EngineConfig, KvPrecision
from engine.errors import DoesNotFitError
from engine.experts.disk import from_disk, reading_seconds
from engine.experts.explain import human_bytes, human_speed
from engine.experts.forecast import Forecast, forecast, prompt_seconds
from engine.experts.memory import LEAST_CHUNK_TOKENS, host_terms, ram_room
from engine.experts.ranking import Mask, as_mask
from engine.experts.reasons import reasons_of, shortage_reason
from engine.experts.situation import Situation
from engine.messages import PlacementPlan, PlanningInputs
from engine.sentences import Sentence, join, say

CONTEXT_STEP_TOKENS = MIN_CONTEXT_TOKENS
PASS_CHOICES_TOKENS = (1024, 2048, 4096)  # of prompts, besides the least

_WORTH_IT = 0.95  # a longer pass must save more than it takes those that make way to come back
_SAMPLED_LAYERS = 4  # enough to choose by, and quick enough for a slider


@dataclass(frozen=True, slots=True)
class _Shortage:
    """Why something does not fit, and what to do."""

    reason: Sentence
    remedy: Sentence
    needed: int = 0
    available: int = 0


# ---- the plan -------------------------------------------------------------------------------------------------------


def make_plan(inputs: PlanningInputs, config: EngineConfig, held: Sequence[Sequence[int]] = ()) -> PlacementPlan:
    """Place a model on a machine; pure, a few milliseconds for the largest models.

    Args:
        inputs: The model, the machine as it is without this engine, costs and popularity.
        config: The settings.
        held: Per layer experts that shall stay in VRAM before others come; () to rank all alike.

    Returns:
        A plan; where it does not fit, `fits` is False, and `reasons`, `remedy`, `needed_bytes` and `available_bytes`
        say why and what to do. No byte is promised twice: the VRAM terms of a plan that fits add up to at most the
        budget.
    """
    passes = _with_longer_passes(Situation.of(inputs, config, held), held)
    situation = passes[-1]
    shortage = _shortage(situation)
    if shortage is not None:
        return _refused(situation, shortage)
    speed = _forecast(situation, situation.resident)
    return PlacementPlan(
        fits=True,
        device=situation.device,
        resident_by_layer=tuple(tuple(np.flatnonzero(layer).tolist()) for layer in situation.resident),
        vram_bytes=situation.vram_bytes,
        host_bytes=situation.host_bytes,
        vram_budget_bytes=situation.vram.budget,
        context_tokens=situation.context_tokens,
        predicted_decode_tokens_per_s=speed.decode_tokens_per_s,
        predicted_prefill_tokens_per_s=speed.prefill_tokens_per_s,
        predicted_hit_rate=speed.hit_rate,
        reasons=(*reasons_of(situation), speed.limit),
        kv_precision=situation.config.kv_precision,
        prefill_chunk_tokens=situation.chunk_tokens,
        lent_bytes=_lent_bytes(passes),
        expert_parts=inputs.model.expert_parts,
    )


def _with_longer_passes(least: Situation, held: Sequence[Sequence[int]]) -> list[Situation]:
    """Situations that differ in the longest pass of a prompt, each for prompts of its length, the longest last.

    A longer pass streams the experts less often, and more residents make way for its workspace meanwhile; the reply has
    them back. There is but one where the settings say how long it is, and on the CPU, where nothing is streamed.
    """
    passes = [least]
    open_choice = least.config.prefill_chunk_tokens is None and least.device != "cpu"
    if not open_choice or _shortage(least) is not None:
        return passes
    for tokens in PASS_CHOICES_TOKENS:
        if tokens > least.context_tokens:
            break
        longer = Situation.of(least.inputs, replace(least.config, prefill_chunk_tokens=tokens), held)
        if not (longer.fits_vram and longer.fits_ram) or longer.resident_bytes < least.resident_bytes:
            break  # the last is where all experts live in VRAM, if only just
        if _prompt_seconds(longer, tokens) < _WORTH_IT * _prompt_seconds(passes[-1], tokens):
            passes.append(longer)
    return passes


def _lent_bytes(passes: Sequence[Situation]) -> dict[int, int]:
    """What residents lend the passes of a prompt, as in `PlacementPlan`; the last situation is what will be."""
    longest = passes[-1]
    if not longest.lent_bytes:
        return {}
    standing = longest.vram_bytes["workspace"]
    sizes = {one.chunk_tokens: one.needs.workspace + one.needs.prompt_workspace for one in passes}
    return {LEAST_CHUNK_TOKENS: 0} | {tokens: max(0, size - standing) for tokens, size in sizes.items()}


def _prompt_seconds(situation: Situation, prompt: int) -> float:
    """A prompt of so many tokens, more than any pass has workspace for without residents making way."""
    inputs, chunk = situation.inputs, situation.chunk_tokens
    policy, staying = situation.config.policy, situation.staying
    seconds = prompt_seconds(inputs, policy, staying, prompt, chunk, _SAMPLED_LAYERS, situation.pinned)
    if situation.needs.on_disk:
        seconds += -(-prompt // chunk) * reading_seconds(inputs.model, situation.ram_left)
    return seconds


def _forecast(situation: Situation, resident: Mask) -> Forecast:
    """How fast it will be, with what reading from disk adds."""
    inputs, chunk_tokens = situation.inputs, situation.chunk_tokens
    speed = forecast(inputs, situation.config, resident, chunk_tokens, situation.pinned)
    if not situation.needs.on_disk:
        return speed
    return from_disk(speed, inputs.model, situation.ram_left, chunk_tokens)


def in_force(
    plan: PlacementPlan,
    inputs: PlanningInputs,
    config: EngineConfig,
    resident_by_layer: tuple[tuple[int, ...], ...],
    vram_bytes: dict[str, int],
    context_tokens: int,
    kv_precision: KvPrecision,
) -> PlacementPlan:
    """A plan after it was carried out: the same, unless the GPU had less memory than it promised.

    Args:
        plan: One that fits.
        inputs: What it was made from.
        config: The settings.
        resident_by_layer: The experts that live in VRAM now.
        vram_bytes: Term -> bytes really allocated; {} without a GPU.
        context_tokens: Tokens that the KV cache holds now.
        kv_precision: What it holds now.

    Returns:
        What is really there, with its own predictions, and a sentence about what is missing.
    """
    no_streaming = bool(vram_bytes) and vram_bytes.get("staging", 0) < plan.vram_bytes["staging"]
    real = (resident_by_layer, context_tokens, kv_precision, no_streaming)
    if real == (plan.resident_by_layer, plan.context_tokens, plan.kv_precision, False):
        return plan
    config = replace(
        config,
        context_tokens=context_tokens,
        kv_precision=kv_precision,
        prefill_chunk_tokens=plan.prefill_chunk_tokens,
    )
    situation = Situation.of(inputs, config)
    resident = as_mask(inputs.model, resident_by_layer)
    speed = _forecast(situation, resident)
    terms = _real_terms(plan, vram_bytes) if vram_bytes else {}
    return replace(
        plan,
        resident_by_layer=resident_by_layer,
        vram_bytes=terms,
        host_bytes=host_terms(situation.device, situation.needs, terms)
        | {term: size for term, size in plan.host_bytes.items() if term == "experts_pinned"},
        context_tokens=context_tokens,
        predicted_decode_tokens_per_s=speed.decode_tokens_per_s,
        predicted_prefill_tokens_per_s=speed.prefill_tokens_per_s,
        predicted_hit_rate=speed.hit_rate,
        kv_precision=kv_precision,
        prefill_chunk_tokens=situation.chunk_tokens,
        reasons=(
            *plan.reasons,
            shortage_reason(plan, int(resident.sum()) // plan.expert_parts, context_tokens, kv_precision),
        ),
    )


def _real_terms(plan: PlacementPlan, vram_bytes: dict[str, int]) -> dict[str, int]:
    """The VRAM terms of a plan with the bytes that are really allocated."""
    terms = {term: vram_bytes.get(term, 0) for term in plan.vram_bytes if term not in ("margin", "total")}
    terms["margin"] = plan.vram_bytes["margin"]
    return terms | {"total": sum(terms.values())}


def check_fits(plan: PlacementPlan) -> None:
    """Let a plan that fits pass.

    Args:
        plan: From `make_plan`.

    Raises:
        DoesNotFitError: It does not fit; with the plan's reasons, remedy and byte counts.
    """
    if not plan.fits:
        raise DoesNotFitError(join(plan.reasons), plan.remedy, plan.needed_bytes, plan.available_bytes)


def budget_range(inputs: PlanningInputs, config: EngineConfig) -> tuple[int, int]:
    """The VRAM budgets worth choosing from: (least that fits, enough for every expert or all that is free).

    Both are 0 without a GPU, and both are what is free where nothing fits.

    Args:
        inputs: As for `make_plan`.
        config: As for `make_plan`; its own budget does not matter.
    """
    situation = Situation.of(inputs, config)
    needs, vram = situation.needs, situation.vram
    longest = replace(config, prefill_chunk_tokens=config.prefill_chunk_tokens or max(PASS_CHOICES_TOKENS))
    most = min(vram.free, vram.budget_for(Situation.of(inputs, longest).needs.everything))
    return min(most, vram.budget_for(needs.least)), most


def _refused(situation: Situation, shortage: _Shortage) -> PlacementPlan:
    """A plan that does not fit: what it would need, no residents, no promises."""
    return PlacementPlan(
        fits=False,
        device=situation.device,
        resident_by_layer=((),) * situation.inputs.model.layers,
        vram_bytes=situation.vram_bytes,
        host_bytes=situation.host_bytes,
        vram_budget_bytes=situation.vram.budget,
        context_tokens=situation.context_tokens,
        predicted_decode_tokens_per_s=0.0,
        predicted_prefill_tokens_per_s=0.0,
        predicted_hit_rate=0.0,
        reasons=(shortage.reason,),
        remedy=shortage.remedy,
        needed_bytes=shortage.needed,
        available_bytes=shortage.available,
        kv_precision=situation.config.kv_precision,
        prefill_chunk_tokens=situation.chunk_tokens,
        expert_parts=situation.inputs.model.expert_parts,
    )


# ---- what does not fit, and what to do ------------------------------------------------------------------------------


def _shortage(situation: Situation) -> _Shortage | None:
    """What is missing; None where all fits."""
    if situation.device == "cuda" and situation.inputs.hardware.gpu is None:
        return _Shortage(
            say("There is no NVIDIA GPU with a working driver."), say("Choose the CPU, or automatic, as the device.")
        )
    if not situation.fits_vram:
        return _vram_shortage(situation)
    return None if situation.fits_ram else _ram_shortage(situation)


def _vram_shortage(situation: Situation) -> _Shortage:
    """Too little VRAM even for no resident."""
    needs, vram = situation.needs, situation.vram
    needed = vram.budget_for(needs.least)
    reason = say(
        "Dense weights, KV cache, workspace and streaming need {needed} of VRAM, {available} available.",
        needed=human_bytes(needed, "up"),
        available=human_bytes(vram.budget, "down"),
    )
    shorter = _longest_context(situation, lambda other: other.fits_vram)
    if needed <= vram.free:
        remedy = say("Raise the VRAM budget to at least {size}.", size=human_bytes(needed, "up"))
    elif shorter:
        remedy = say("Shorten the context to {number} tokens.", number=shorter)
    elif needed <= vram.total:
        remedy = say("Close other programs that use the GPU: they hold {size}.", size=human_bytes(vram.used))
    else:
        remedy = say("Run this model on the CPU, or choose a smaller one.")
    return _Shortage(reason, remedy, needed, vram.budget)


def _ram_shortage(situation: Situation) -> _Shortage:
    """Too little RAM."""
    hardware, needs, vram = situation.inputs.hardware, situation.needs, situation.vram
    needed, available = situation.host_bytes["total"], ram_room(hardware)
    reason = say(
        "The model needs {needed} of RAM, {available} available (after {reserve} kept free).",
        needed=human_bytes(needed, "up"),
        available=human_bytes(available, "down"),
        reserve=human_bytes(hardware.ram_available_bytes - available),
    )
    lower = available - needs.experts - needs.engine
    shorter = _longest_context(situation, lambda other: other.fits_ram)
    if situation.device == "simulated" and lower >= vram.budget_for(needs.least):
        remedy = say(
            "Lower the simulated GPU's VRAM budget to {size}: it is taken from RAM.", size=human_bytes(lower, "down")
        )
    elif shorter:
        remedy = say("Shorten the context to {number} tokens.", number=shorter)
    elif needed <= hardware.ram_total_bytes - (hardware.ram_available_bytes - available):
        in_use = hardware.ram_total_bytes - hardware.ram_available_bytes
        close = say("Close other programs: {size} of RAM is in use.", size=human_bytes(in_use))
        remedy = join([close, *_disk_remedy(situation)])
    else:
        smaller = say("Choose a smaller model, or the same one with fewer bits per weight.")
        remedy = join([smaller, *_disk_remedy(situation)])
    return _Shortage(reason, remedy, needed, available)


def _disk_remedy(situation: Situation) -> list[Sentence]:
    """The slow way out, with its speed, where it is one."""
    if situation.needs.on_disk:
        return []
    plan = make_plan(situation.inputs, replace(situation.config, experts_on_disk=True))
    if not plan.fits:
        return []
    speed = human_speed(plan.predicted_decode_tokens_per_s)
    return [say("Or keep the experts on disk (--experts-on-disk), about {speed}.", speed=speed)]


def _longest_context(situation: Situation, fits: Callable[[Situation], bool]) -> int:
    """The longest shorter context, in whole steps, with which it would fit; 0 where none would."""

    def fits_with(steps: int) -> bool:
        """Whether a context of so many steps fits."""
        config = replace(situation.config, context_tokens=steps * CONTEXT_STEP_TOKENS)
        return fits(Situation.of(situation.inputs, config))

    low, high = 0, situation.context_tokens // CONTEXT_STEP_TOKENS
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits_with(middle) else (low, middle - 1)
    return low * CONTEXT_STEP_TOKENS
