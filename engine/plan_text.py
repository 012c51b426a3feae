"""What a plan looks like on the command line: one JSON object, or a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from engine.experts.explain import human_bytes

if TYPE_CHECKING:
    from engine.messages import PlacementPlan, PlanningInputs


def plan_as_json(inputs: PlanningInputs, plan: PlacementPlan) -> dict[str, Any]:
    """A plan for programs: every field of it, and what it is about."""
    fields = asdict(plan)
    if plan.expert_parts > 1:
        fields |= {"resident_by_layer": plan.residents_by_layer, "resident_parts_by_layer": plan.resident_by_layer}
    for terms in ("vram_bytes", "host_bytes"):
        fields[terms] = {"total": 0, **fields[terms]}
    return {
        "model": inputs.model.name,
        "family": inputs.model.family,
        "quantization": inputs.model.quantization,
        "fits": plan.fits,
        "resident_experts": plan.resident_experts,
        "total_experts": inputs.model.total_experts,
        "costs": inputs.costs.source,
        **fields,
    }


def plan_as_lines(inputs: PlanningInputs, plan: PlacementPlan) -> list[str]:
    """A plan for people."""
    model, hardware = inputs.model, inputs.hardware
    gpu = hardware.gpu.name if hardware.gpu and plan.device == "cuda" else f"{plan.device} device"
    lines = [
        f"{model.name} ({model.family}, {model.layers} layers x {model.routed_experts} experts, "
        f"{model.quantization or model.dtype})",
        f"on {gpu}, {hardware.cpu_name}",
        "",
    ]
    for title, terms, limit in (
        ("VRAM", plan.vram_bytes, plan.vram_budget_bytes),
        ("RAM", plan.host_bytes, hardware.ram_available_bytes),
    ):
        if terms:
            lines.append(f"{title:16}{human_bytes(limit, 'down'):>12} available")
            lines += [f"  {name:14}{human_bytes(size):>12}" for name, size in terms.items()]
    if plan.fits:
        lines += _placement_as_lines(inputs, plan)
    return [*lines, "", *plan.reasons, *filter(None, [plan.remedy])]


def _placement_as_lines(inputs: PlanningInputs, plan: PlacementPlan) -> list[str]:
    lines = ["", f"{plan.resident_experts} of {inputs.model.total_experts} experts in VRAM"]
    if plan.resident_experts:
        lines += [
            f"  layer {index:3}: {_residents(layer, plan.expert_parts) or '-'}"
            for index, layer in enumerate(plan.resident_by_layer)
        ]
    return [
        *lines,
        "",
        f"Predicted: {plan.predicted_decode_tokens_per_s:.1f} tokens/s, "
        f"prompt {plan.predicted_prefill_tokens_per_s:.0f} tokens/s "
        f"({plan.prefill_chunk_tokens} tokens per pass), "
        f"{plan.predicted_hit_rate:.0%} of expert visits in VRAM ({inputs.costs.source} costs)",
    ]


def _residents(layer: Sequence[int], parts: int) -> str:
    """Experts of one layer in VRAM, with how many of their parts where not all are."""
    present = Counter(part // parts for part in layer)
    return " ".join(
        f"{expert}" if count == parts else f"{expert}({count}/{parts})" for expert, count in present.items()
    )
