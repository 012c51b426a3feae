"""What a report of a problem needs, as one English text that names nobody.

It leaves this computer by the user's own hand only. Knows no chats. Everything passes through `Redaction` at the end.
"""

from __future__ import annotations

import dataclasses
import platform
import re
from typing import TYPE_CHECKING

from app.engine_words import model_label
from app.licences import versions
from app.logs import ENGINE_LOG, tail
from app.settings import Settings
from engine.experts.explain import human_bytes, human_speed

if TYPE_CHECKING:
    from pathlib import Path

    from app.machine_look import Machine
    from app.redaction import Redaction
    from engine.messages import Ready

TAIL_BYTES = 12 << 10
SEARCHED_BYTES = 256 << 10
LAST_PROBLEMS = 10
LEFT_OUT = frozenset({"model", "window_geometry", "splitter_state", "panel_folded"})  # of the settings

_PROBLEM = re.compile(r"^\S+ \S+ (?:WARNING|ERROR|CRITICAL) ")


@dataclasses.dataclass(frozen=True, slots=True)
class Findings:
    """What is known at one moment.

    Attributes:
        settings: As they are in force.
        machine: The computer, None where it was not asked.
        ready: The loaded model, None without one.
        display: Qt's platform and the screen's scale, e.g. "xcb, 150%".
        log: The window's log file; None where there is none.
    """

    settings: Settings
    machine: Machine | None
    ready: Ready | None
    display: str
    log: Path | None


def diagnostics_text(findings: Findings, redaction: Redaction) -> str:
    """All of it."""
    parts = [
        ("Rooftop", [f"{name}: {version}" for name, version in versions()]),
        ("This computer", _machine_lines(findings)),
        ("Model", _model_lines(findings)),
        ("Settings that are not the default", _settings_lines(findings.settings)),
    ]
    if findings.log is not None:
        parts += [
            ("Last problems", _problems(findings.log)),
            ("End of rooftop.log", tail(findings.log, TAIL_BYTES).splitlines()),
            ("End of engine.log", tail(findings.log.with_name(ENGINE_LOG), TAIL_BYTES).splitlines()),
        ]
    return redaction.clean("\n\n".join(section(name, lines) for name, lines in parts)) + "\n"


def section(name: str, lines: list[str]) -> str:
    """A heading and what is below it."""
    return "\n".join([f"== {name} ==", *(lines or ["none"])])


def _machine_lines(findings: Findings) -> list[str]:
    lines = [f"System: {platform.platform()}", f"Display: {findings.display}"]
    if findings.machine is None:
        return lines
    hardware = findings.machine.hardware
    lines += [
        f"CPU: {hardware.cpu_name}, {hardware.physical_cores} cores",
        f"RAM: {human_bytes(hardware.ram_total_bytes)}, {human_bytes(hardware.ram_available_bytes)} available",
    ]
    gpu = hardware.gpu
    if gpu is None:
        return [*lines, "GPU: no NVIDIA GPU answers"]
    used = f"{human_bytes(gpu.total_bytes)}, {human_bytes(gpu.used_bytes)} in use"
    return [*lines, f"GPU: {gpu.name}, {used}, driver {findings.machine.driver or 'unknown'}"]


def _model_lines(findings: Findings) -> list[str]:
    lines = [f"Chosen: {model_label(findings.settings.model)}"]
    ready = findings.ready
    if ready is None:
        return [*lines, "Not loaded"]
    model, plan = ready.model, ready.plan
    vram = ", ".join(f"{term} {human_bytes(size)}" for term, size in plan.vram_bytes.items())
    host = ", ".join(f"{term} {human_bytes(size)}" for term, size in plan.host_bytes.items())
    return [
        *lines,
        f"Family and format: {model.family}, {model.quantization or model.dtype}",
        f"Shape: {model.layers} layers, {model.routed_experts} experts, {model.routed_per_token} for each token",
        f"Runs on: {ready.device_name}{' (simulated)' if ready.simulated else ''}, {ready.planning.kernels} kernels",
        f"Plan: {plan.resident_experts} of {model.total_experts} experts in VRAM, context {plan.context_tokens} tokens",
        f"VRAM: {vram or 'none'}",
        f"RAM: {host}",
        f"Predicted: {human_speed(plan.predicted_decode_tokens_per_s)}",
    ]


def _settings_lines(settings: Settings) -> list[str]:
    default = Settings()
    names = [field.name for field in dataclasses.fields(Settings) if field.name not in LEFT_OUT]
    changed = [name for name in names if getattr(settings, name) != getattr(default, name)]
    return [f"{name}: {getattr(settings, name)}" for name in changed]


def _problems(log: Path) -> list[str]:
    """The latest lines of warnings and errors, which the log's end may no longer show."""
    return [line for line in tail(log, SEARCHED_BYTES).splitlines() if _PROBLEM.match(line)][-LAST_PROBLEMS:]
