"""What the engine says about every setting: the values in force, in the window's words, by the setting's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.engine_words import device_words, in_force_texts, kernels_text
from app.language import tr
from app.units import bytes_text

if TYPE_CHECKING:
    from engine.messages import Ready

_NAMES = ("budget", "context", "precision", "threads", "disk", "simulated", "costs")
NAMES = (*_NAMES, "reserve", "adaptive", "gpu", "policy", "isa")


def in_force(ready: Ready | None) -> dict[str, str]:
    """Name -> line below the setting; "" where there is nothing to say, as without a model."""
    if ready is None:
        return dict.fromkeys(NAMES, "")
    effective = ready.effective
    return {
        **dict(zip(_NAMES, in_force_texts(ready), strict=True)),
        "reserve": _reserve_text(ready),
        "adaptive": tr("in force: they follow") if effective.adaptive else tr("in force: they stay"),
        "gpu": tr("in force: {what}").format(what=device_words(ready)),
        "policy": tr("in force: {what}").format(what=policy_words(effective.policy)),
        "isa": tr("in force: {what}").format(what=kernels_text(ready.planning.kernels)),
    }


def policy_words(policy: str) -> str:
    """Who decides where an expert runs."""
    return {
        "fiddler": tr("Where it is fastest (Fiddler)"),
        "gpu_stream": tr("Always on the GPU, streamed there"),
        "cpu_only": tr("Always on the CPU"),
    }.get(policy, policy)


def _reserve_text(ready: Ready) -> str:
    """What the budget in force leaves of the GPU."""
    total = vram_total_bytes(ready)
    if not total or ready.plan.device == "cpu":
        return ""
    left = max(0, total - ready.plan.vram_budget_bytes)
    return tr("in force: {left} of {total} are left to others").format(
        left=bytes_text(left, "down"), total=bytes_text(total)
    )


def vram_total_bytes(ready: Ready) -> int:
    """All VRAM of the GPU in use, 0 without one."""
    if ready.plan.device == "simulated":
        return ready.effective.simulated_vram_bytes
    gpu = ready.planning.hardware.gpu
    return gpu.total_bytes if gpu is not None and ready.plan.device == "cuda" else 0
