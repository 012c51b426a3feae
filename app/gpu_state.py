"""How the GPU component stands, as data; imports nothing that takes long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from app.gpu_look import Gpu, why_not, why_not_yet
from app.gpu_pins import Pins, fits, platform_name
from app.language import tr, translated

if TYPE_CHECKING:
    from engine.gpu_packages import Build, Found
    from engine.messages import ErrorReport

Step = Literal["downloading", "stalled", "verifying", "unpacking", "trying"]
Phase = Literal[
    "unknown", "own", "no-gpu", "unavailable", "unsuitable", "old-driver", "available",
    "downloading", "stalled", "paused", "verifying", "unpacking", "trying", "failed",
    "installed", "damaged", "removing",
]  # fmt: skip

ACTIVE: frozenset[Phase] = frozenset(("downloading", "stalled", "verifying", "unpacking", "trying", "removing"))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an installation is.

    Attributes:
        step: What it does.
        done_bytes: Of this step.
        total_bytes: Of this step; 0 where nobody can tell.
        bytes_per_s: What arrives now.
        seconds_left: None when nobody can tell.
    """

    step: Step
    done_bytes: int = 0
    total_bytes: int = 0
    bytes_per_s: float = 0.0
    seconds_left: float | None = None


NOTHING_YET = Progress("downloading")


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of this computer.

    Attributes:
        gpu: The NVIDIA GPU.
        own: The torch that is installed with Rooftop.
        pins: What could be installed.
        found: What is.
        there_bytes: What earlier runs have fetched.
    """

    gpu: Gpu | None
    own: Build
    pins: Pins | None
    found: Found
    there_bytes: int = 0


@dataclass(frozen=True, slots=True)
class GpuState:
    """How the component stands.

    Attributes:
        phase: As in the module's diagram.
        seen: What is known of this computer; None before it was looked at.
        sentence: What the user should know; "" where the phase says it all.
        progress: Of what is being done, or was when it was paused.
        error: Why it failed.
    """

    phase: Phase = "unknown"
    seen: Seen | None = None
    sentence: str = ""
    progress: Progress = NOTHING_YET
    error: ErrorReport | None = None

    @property
    def gpu_name(self) -> str:
        """The GPU, "" where there is none."""
        return self.seen.gpu.name if self.seen is not None and self.seen.gpu is not None else ""

    @property
    def download_bytes(self) -> int:
        """What installing fetches; 0 where it cannot be installed."""
        return self.seen.pins.download_bytes if self.seen is not None and self.seen.pins is not None else 0

    @property
    def unpacked_bytes(self) -> int:
        """What it takes on the drive."""
        return self.seen.pins.unpacked_bytes if self.seen is not None and self.seen.pins is not None else 0


def judge(seen: Seen) -> GpuState:
    """What is possible on this computer, while nothing is being done."""
    phase, sentence = _phase(seen)
    there = Progress("downloading", seen.there_bytes, seen.pins.download_bytes if seen.pins is not None else 0)
    return GpuState(phase, seen, sentence, there)


def _phase(seen: Seen) -> tuple[Phase, str]:
    if seen.own.cuda:
        return "own", ""
    if seen.found.state == "ready":
        return "installed", ""
    if seen.found.state in ("damaged", "refused"):
        return "damaged", translated(seen.found.problem)
    if seen.gpu is None:
        return "no-gpu", ""
    if seen.pins is None:
        words = tr("This Rooftop has no list of GPU files for this system ({platform}), so the CPU computes alone.")
        return "unavailable", words.format(platform=platform_name())
    return _phase_with(seen, seen.gpu, seen.pins)


def _phase_with(seen: Seen, gpu: Gpu, pins: Pins) -> tuple[Phase, str]:
    if not fits(pins, seen.own):
        words = tr("GPU support is made for torch {wanted} on Python {python}, and this is torch {version} on {own}.")
        made_for, own = pins.build, seen.own
        return "unavailable", words.format(
            wanted=made_for.version, python=made_for.python, version=own.version or "?", own=own.python
        )
    if sentence := why_not(gpu, pins):
        return "unsuitable", sentence
    if sentence := why_not_yet(gpu, pins):
        return "old-driver", sentence
    return "paused" if seen.there_bytes else "available", translated(seen.found.problem)
