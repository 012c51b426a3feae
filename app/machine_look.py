"""What this computer is, asked once on a thread: a sleeping GPU takes a tenth of a second to answer."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pynvml
from PySide6.QtCore import QObject, Signal

from app.language import tr
from app.units import bytes_text
from engine.hardware import probe_hardware

if TYPE_CHECKING:
    from engine.hardware import HardwareProfile


@dataclass(frozen=True, slots=True)
class Machine:
    """A computer.

    Attributes:
        hardware: Processor, memory and GPU.
        driver: The GPU driver's version, "" where none answers.
    """

    hardware: HardwareProfile
    driver: str

    @property
    def text(self) -> str:
        """One line for people, e.g. "NVIDIA GeForce RTX 4060 with 8.0 GiB, 32 GiB of RAM"."""
        ram = tr("{size} of RAM").format(size=bytes_text(self.hardware.ram_total_bytes))
        gpu = self.hardware.gpu
        if gpu is None:
            return tr("{processor}, {ram}, no NVIDIA GPU").format(processor=self.hardware.cpu_name, ram=ram)
        vram = bytes_text(gpu.total_bytes)
        return tr("{gpu} with {vram}, {ram}").format(gpu=gpu.name, vram=vram, ram=ram)


class MachineLook(QObject):
    """Looks once.

    Signals:
        looked(Machine): What was seen, on the thread of whoever listens.
    """

    looked = Signal(object)

    def look(self) -> None:
        """Begin; `looked` answers."""
        threading.Thread(target=self._look, name="machine-look", daemon=True).start()

    def _look(self) -> None:
        machine = Machine(probe_hardware(), driver_version())
        try:
            self.looked.emit(machine)
        except RuntimeError:  # the window is gone, and this object with it
            return


def driver_version() -> str:
    """The NVIDIA driver's version, "" where NVML is missing or fails."""
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError, OSError):
        return ""
    try:
        return str(pynvml.nvmlSystemGetDriverVersion())
    except (pynvml.NVMLError, UnicodeDecodeError):
        return ""
    finally:
        pynvml.nvmlShutdown()
