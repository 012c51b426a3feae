"""Whether a model would run on this computer, and how fast: the engine's own plan, made from headers alone. No Qt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from app.engine_words import in_window
from app.language import tr, translated
from app.units import bytes_text, speed_text
from engine.planning import plan_shape
from engine.sentences import join

if TYPE_CHECKING:
    from app.model_scan import FoundModel
    from engine.config import EngineConfig
    from engine.hardware import HardwareProfile
    from engine.messages import PlacementPlan, Ready

Kind = Literal["fits", "disk", "too_big", "cannot_run", "offline"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of asking.

    Attributes:
        kind: It fits; it fits with its experts on disk; it does not; it cannot be run at all; its drive is away.
        plan: How it would run, None where it cannot. For "disk" the plan with the experts there.
        short: For "disk" and "too_big", the plan in memory, which does not fit.
        total_experts: Experts of the whole model.
        measured: Whether this computer's speed with such a model was measured, at an earlier start.
        problem: Why it cannot be run.
        remedy: What to do about that.
        hardware: The machine that it was planned for, None where nothing was planned.
        vram_total_bytes: Of the GPU that was planned for, which may be a simulated one; 0 without.
    """

    kind: Kind
    plan: PlacementPlan | None = None
    short: PlacementPlan | None = None
    total_experts: int = 0
    measured: bool = False
    problem: str = ""
    remedy: str = ""
    hardware: HardwareProfile | None = None
    vram_total_bytes: int = 0


def judge(model: FoundModel, config: EngineConfig, hardware: HardwareProfile) -> Verdict:
    """Plan a model as loading would; some milliseconds.

    Args:
        model: From a scan.
        config: How it would be run.
        hardware: The machine, without a model that would make room for it.
    """
    if model.offline or model.config is None:
        kind: Kind = "offline" if model.offline else "cannot_run"
        return Verdict(kind, problem=model.problem, remedy=model.remedy)
    shape = (Path(model.path), model.config, hardware)
    inputs, plan = plan_shape(*shape, config)
    verdict = Verdict(
        "fits",
        plan,
        total_experts=model.config.total_experts,
        measured=inputs.costs.source != "assumed",
        hardware=hardware,
        vram_total_bytes=_vram_bytes(plan, config, hardware),
    )
    if plan.fits:
        return replace(verdict, kind="disk") if plan.host_bytes.get("experts_on_disk") else verdict
    from_disk = plan if config.experts_on_disk else plan_shape(*shape, replace(config, experts_on_disk=True))[1]
    if from_disk.fits:
        return replace(verdict, kind="disk", plan=from_disk, short=plan, measured=False)
    return replace(verdict, kind="too_big", plan=None, short=plan, problem=join(plan.reasons), remedy=plan.remedy)


def _vram_bytes(plan: PlacementPlan, config: EngineConfig, hardware: HardwareProfile) -> int:
    if plan.device == "simulated":
        return config.simulated_vram_bytes
    return hardware.gpu.total_bytes if plan.device == "cuda" and hardware.gpu is not None else 0


def machine_without(hardware: HardwareProfile, ready: Ready | None) -> HardwareProfile:
    """The machine as it would be with the loaded model gone, which makes room for the next one.

    Args:
        hardware: As it is now.
        ready: The model that is loaded, None for none.
    """
    if ready is None:
        return hardware
    plan, gpu = ready.plan, hardware.gpu
    if gpu is not None and plan.device == "cuda":
        held = plan.vram_bytes["total"] - plan.vram_bytes["margin"]
        gpu = replace(gpu, used_bytes=max(0, gpu.used_bytes - held))
    available = min(hardware.ram_total_bytes, hardware.ram_available_bytes + plan.host_bytes["total"])
    return replace(hardware, ram_available_bytes=available, gpu=gpu)


def sentence(verdict: Verdict) -> str:
    """The verdict for the user."""
    plan, short = verdict.plan, verdict.short
    if verdict.kind == "offline":
        return tr("The drive that this model is on is not there. Connect it, then look again.")
    if plan is None:
        return in_window(translated(verdict.problem))
    speed = speed_text(plan.predicted_decode_tokens_per_s)
    if short is not None and short.needed_bytes:
        words = tr(
            "Too big for this PC's memory: needs {needed}, you have {available}; runs from disk, slowly, about {speed}."
        )
        needed, available = bytes_text(short.needed_bytes, "up"), bytes_text(short.available_bytes, "down")
        return words.format(needed=needed, available=available, speed=speed)
    if verdict.kind == "disk":
        return tr("Runs from disk, as set: about {speed}.").format(speed=speed)
    if plan.device == "cpu":
        return tr("Fits: about {speed}, all experts on the CPU.").format(speed=speed)
    words = tr("Fits: about {speed}, {residents} of {total} experts on your GPU.")
    if plan.device == "simulated":
        words = tr("Fits: about {speed}, {residents} of {total} experts on the simulated GPU.")
    return words.format(speed=speed, residents=plan.resident_experts, total=verdict.total_experts)
