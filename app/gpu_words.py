"""What the window says of the GPU component."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.language import error_text, tr
from app.units import bytes_text, duration_text

if TYPE_CHECKING:
    from app.gpu_state import GpuState
    from engine.messages import TorchBuild

DOT = " \N{MIDDLE DOT} "


def headline(state: GpuState) -> str:
    """How the component stands, in a sentence."""
    if state.sentence and state.phase != "available":
        return state.sentence
    words = {
        "unknown": tr("Looking at this computer…"),
        "own": tr("Rooftop runs with a torch that knows GPUs already; there is nothing to install."),
        "no-gpu": tr("No NVIDIA GPU was found, so the CPU computes alone."),
        "available": offer(state),
        "paused": tr("GPU support is fetched in part."),
        "failed": tr("GPU support is not installed."),
        "installed": _installed(state),
        "damaged": tr("GPU support is damaged."),
        "removing": tr("GPU support is being removed…"),
    }
    return words.get(state.phase, tr("GPU support is being installed…"))


def _installed(state: GpuState) -> str:
    if not state.unpacked_bytes:
        return tr("GPU support is installed.")
    return tr("GPU support is installed and takes {size}.").format(size=bytes_text(state.unpacked_bytes))


def offer(state: GpuState) -> str:
    """That the GPU can be used, and what it costs."""
    words = tr("Your {gpu} can be used: {size} to download.")
    return words.format(gpu=state.gpu_name, size=bytes_text(state.download_bytes, "up"))


def progress_words(state: GpuState) -> str:
    """How far it is, in one line; "" while nothing is to be waited for."""
    progress = state.progress
    of_all = tr("{done} of {total}").format(
        done=bytes_text(progress.done_bytes), total=bytes_text(progress.total_bytes)
    )
    if state.phase == "downloading":
        speed = tr("{size}/s").format(size=bytes_text(round(progress.bytes_per_s))) if progress.bytes_per_s else ""
        left = ""
        if progress.seconds_left is not None:
            left = tr("{time} left").format(time=duration_text(progress.seconds_left))
        return DOT.join(filter(None, (of_all, speed, left)))
    words = {
        "stalled": tr("stalled: nothing arrives, still trying"),
        "paused": tr("paused"),
        "verifying": tr("checking the files"),
        "unpacking": tr("unpacking"),
        "trying": tr("trying it out"),
    }.get(state.phase, "")
    return DOT.join((of_all, words)) if words and progress.total_bytes else words


def facts(state: GpuState, in_use: TorchBuild | None) -> str:
    """What is known besides: the driver, and which torch the engine has."""
    gpu = state.seen.gpu if state.seen is not None else None
    lines = []
    if gpu is not None:
        driver = tr("driver {version}").format(version=gpu.driver) if gpu.driver else ""
        kind = ""
        if gpu.capability is not None:
            kind = tr("compute capability {number}").format(number=".".join(map(str, gpu.capability)))
        lines.append(DOT.join(filter(None, (gpu.name, driver, kind))))
    elif state.phase == "installed":
        lines.append(tr("No NVIDIA GPU was found, so the CPU computes alone."))
    if in_use is not None and in_use.version:
        lines.append(
            tr("In force: torch {version}, made for CUDA {cuda}").format(
                version=in_use.version, cuda=in_use.cuda or "-"
            )
        )
    return "\n".join(lines)


def origin(state: GpuState) -> str:
    """What is fetched, and under which licence."""
    pins = state.seen.pins if state.seen is not None else None
    if pins is None:
        return ""
    words = tr(
        "PyTorch {torch} for CUDA {cuda} and NVIDIA's libraries for it: {files} files, each held against its SHA-256. "
        "{size} are fetched and take {unpacked} on the drive, both at once while they are unpacked. "
        "NVIDIA's libraries come under NVIDIA's own licence."
    )
    return words.format(
        torch=pins.build.version,
        cuda=pins.build.cuda,
        files=len(pins.wheels),
        size=bytes_text(pins.download_bytes, "up"),
        unpacked=bytes_text(pins.unpacked_bytes, "up"),
    )


def trouble(state: GpuState) -> str:
    """Why it failed, and what to do about it."""
    return error_text(state.error) if state.error is not None else ""
