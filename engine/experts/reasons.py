"""Why a plan is as it is, in sentences for the user."""

from __future__ import annotations

from engine.config import KvPrecision
from engine.experts.explain import human_bytes
from engine.experts.memory import LEAST_CHUNK_TOKENS, Vram
from engine.experts.ranking import layer_expert_bytes
from engine.experts.situation import Situation
from engine.messages import PlacementPlan
from engine.sentences import Sentence, join, say, say_count


def reasons_of(situation: Situation) -> list[str]:
    """What decided the numbers of a plan that fits.

    Args:
        situation: With its residents chosen.
    """
    model, asked = situation.inputs.model, situation.config.context_tokens
    reasons = [situation.inputs.gpu_note] if situation.inputs.gpu_note else []
    if model.compatibility is not None:
        lane = say(
            "The model runs in transformers' own decoder, with its experts run from here: right, but slower around "
            "them, and the KV cache has the model's own precision."
        )
        reasons.append(lane)
    if situation.context_tokens < asked:
        cut = say(
            "The context is cut from {asked} to {possible} tokens, the model's own limit.",
            asked=asked,
            possible=situation.context_tokens,
        )
        reasons.append(cut)
    if situation.device == "cpu":
        return [*reasons, say("No GPU is used: all {number} experts run on the CPU.", number=model.total_experts)]
    if situation.device == "cuda" and model.traits.clamped_gate is not None:
        reasons.append(
            say("Torch runs the GPU's experts, more slowly: our kernels there do not know experts with biases.")
        )
    if model.expert_parts > 1:
        reasons.append(
            say(
                "Each expert is placed in {number} parts, so that CPU and GPU can share one.", number=model.expert_parts
            )
        )
    return [
        _budget_reason(situation.vram),
        *reasons,
        _experts_reason(situation),
        *_lending_reasons(situation),
        *_pinned_reasons(situation),
    ]


def _lending_reasons(situation: Situation) -> list[Sentence]:
    """Who makes way for long prompts."""
    number = int((situation.resident & ~situation.staying).sum())
    if not number:
        return []
    return [
        say_count(
            "While a prompt of more than {tokens} tokens is read, 1 expert makes way for its workspace.",
            "While a prompt of more than {tokens} tokens is read, up to %n experts make way for its workspace.",
            -(-number // situation.inputs.model.expert_parts),
            tokens=LEAST_CHUNK_TOKENS,
        )
    ]


def _pinned_reasons(situation: Situation) -> list[Sentence]:
    """What is not page-locked, and what that means, where that is anything."""
    pinned, model = situation.pinned, situation.inputs.model
    if pinned is None or pinned.all() or situation.needs.on_disk:
        return []
    locked = int(pinned.sum(axis=1) @ layer_expert_bytes(model))
    return [
        say(
            "{size} of experts in RAM are page-locked, the most that the system bears: the other {number} experts are "
            "computed on the CPU rather than copied, which would be slow.",
            size=human_bytes(locked),
            number=-(-int((~pinned).sum()) // model.expert_parts),
        )
    ]


def _budget_reason(vram: Vram) -> Sentence:
    """What decided the budget."""
    gpu = _gpu_words(vram)
    size = human_bytes(vram.budget)
    if vram.asked is None and vram.reserve > vram.used:
        return say(
            "Budget {size}, chosen automatically: all that is free of {gpu}, less what is kept for others ({reserve}).",
            size=size,
            gpu=gpu,
            reserve=human_bytes(vram.reserve),
        )
    if vram.asked is None:
        return say("Budget {size}, chosen automatically: all that is free of {gpu}.", size=size, gpu=gpu)
    if vram.asked > vram.free:
        return say(
            "The budget of {asked} is cut to {free}: the GPU has {gpu}.",
            asked=human_bytes(vram.asked),
            free=human_bytes(vram.free),
            gpu=gpu,
        )
    return say("Budget {size}, as set, of {gpu}.", size=size, gpu=gpu)


def _gpu_words(vram: Vram) -> Sentence:
    """How much memory the GPU has, and what of it is taken."""
    kind = say("simulated VRAM") if vram.simulated else say("VRAM")
    if not vram.used:
        return say("{size} of {vram}", size=human_bytes(vram.total), vram=kind)
    return say(
        "{size} of {vram}; other programs hold {used}",
        size=human_bytes(vram.total),
        vram=kind,
        used=human_bytes(vram.used),
    )


def shortage_reason(plan: PlacementPlan, residents: int, context_tokens: int, precision: KvPrecision) -> Sentence:
    """What the GPU's memory did not allow.

    Args:
        plan: What was to be.
        residents: Experts that are in VRAM instead.
        context_tokens: Tokens that the KV cache holds instead.
        precision: Its precision instead.
    """
    parts = [
        say(
            "The GPU ran out of memory: {number} of {planned} planned experts live in VRAM",
            number=residents,
            planned=plan.resident_experts,
        )
    ]
    if context_tokens != plan.context_tokens:
        parts.append(say("and the context holds {number} tokens", number=context_tokens))
    if precision != plan.kv_precision:
        parts.append(say("and the KV precision is {precision}", precision=precision))
    return say("{parts}.", parts=join(parts, ", "))


def _experts_reason(situation: Situation) -> Sentence:
    """How many experts fit, and why not more."""
    model, parts = situation.inputs.model, situation.inputs.model.expert_parts
    sizes, total = parts * layer_expert_bytes(model), model.total_experts
    residents = int(situation.resident.sum()) // parts
    each = human_bytes(int(sizes.max()))
    if sizes.min() < sizes.max():
        each = say("{least} to {most}", least=human_bytes(int(sizes.min())), most=each)
    if residents == total:
        return say("All {total} experts of {each} live in VRAM.", total=total, each=each)
    return say(
        "{number} of {total} experts of {each} live in VRAM: "
        "dense weights, KV cache, workspace, streaming and margin take {rest} of the budget.",
        number=residents,
        total=total,
        each=each,
        rest=human_bytes(situation.vram_bytes["total"] - situation.vram_bytes["experts"]),
    )
