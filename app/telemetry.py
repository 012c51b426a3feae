"""What the machine is doing: RAM, CPU, VRAM and GPU load, sampled about once a second.

A daemon thread asks psutil and NVML (a sleeping laptop GPU can take 100 ms to answer, so never on the window's thread)
and sends a frozen `MachineSample` as a Qt signal. What cannot be read is None: no GPU, no driver, a process list that
the system hides. Knows nothing about the engine but its process id.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import psutil
import pynvml
from PySide6.QtCore import QObject, Signal

SAMPLE_PERIOD_S = 1.0
NVML_RETRY_SAMPLES = 30


@dataclass(frozen=True, slots=True)
class MachineSample:
    """The machine at one moment; None for what cannot be read.

    Attributes:
        ram_total_bytes: Installed memory.
        ram_used_bytes: Memory in use by every program together.
        engine_rss_bytes: Memory of the engine's process.
        cpu_percent: Load of all cores together, 0 to 100.
        gpu_name: The NVIDIA GPU that the engine uses, else the one with the most VRAM.
        vram_total_bytes: Its memory.
        vram_used_bytes: In use by every program together.
        vram_others_bytes: In use by programs other than the engine.
        gpu_percent: Load of the GPU, 0 to 100.
        engine_mapped_bytes: How much of the engine's memory are pages of files, which the system may take back and
            counts as free; 0 where it does not tell.
    """

    ram_total_bytes: int
    ram_used_bytes: int
    engine_rss_bytes: int | None
    cpu_percent: float
    gpu_name: str | None = None
    vram_total_bytes: int | None = None
    vram_used_bytes: int | None = None
    vram_others_bytes: int | None = None
    gpu_percent: float | None = None
    engine_mapped_bytes: int = 0


@dataclass(frozen=True, slots=True)
class GpuReading:
    """What NVML says about one GPU."""

    name: str
    total_bytes: int
    used_bytes: int
    others_bytes: int | None
    percent: float | None


class NvmlReader:
    """One open NVML session. Any failure closes it; it is tried again half a minute later."""

    def __init__(self) -> None:
        self._open = False
        self._wait_samples = 0

    def read(self, engine_pid: int | None, uuid: str = "") -> GpuReading | None:
        """The GPU now, or None where NVML is missing or fails with any code.

        Args:
            engine_pid: Whose memory is not other programs'.
            uuid: The card, as in `GpuProfile`; "" for the one with the most VRAM, which the engine would take.
        """
        if self._wait_samples > 0:
            self._wait_samples -= 1
            return None
        try:
            return self._read(engine_pid, uuid)
        except (pynvml.NVMLError, OSError, UnicodeDecodeError):
            self.close()
            self._wait_samples = NVML_RETRY_SAMPLES
            return None

    def close(self) -> None:
        """Give the session back."""
        if self._open:
            self._open = False
            try:
                pynvml.nvmlShutdown()
            except pynvml.NVMLError:
                return

    def _read(self, engine_pid: int | None, uuid: str) -> GpuReading:
        if not self._open:
            pynvml.nvmlInit()
            self._open = True
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid) if uuid else _largest()
        name = pynvml.nvmlDeviceGetName(handle)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        used = int(memory.used)
        return GpuReading(
            name=name.decode(errors="replace") if isinstance(name, bytes) else str(name),
            total_bytes=int(memory.total),
            used_bytes=used,
            others_bytes=_others_bytes(handle, used, engine_pid),
            percent=_gpu_percent(handle),
        )


def _largest() -> object:
    """The card with the most VRAM, the first of several."""
    handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    if not handles:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
    return max(handles, key=lambda handle: int(pynvml.nvmlDeviceGetMemoryInfo(handle).total))


def _others_bytes(handle: object, used_bytes: int, engine_pid: int | None) -> int | None:
    """VRAM of other programs; None where the system hides who uses what (Windows, containers)."""
    if engine_pid is None:
        return used_bytes
    try:
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except pynvml.NVMLError:
        return None
    own = [process.usedGpuMemory for process in processes if process.pid == engine_pid]
    if not own or own[0] is None:
        return None
    return max(0, used_bytes - int(own[0]))


def _gpu_percent(handle: object) -> float | None:
    """Load of the GPU; some cards do not tell."""
    try:
        return float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    except pynvml.NVMLError:
        return None


def take_sample(nvml: NvmlReader, engine_pid: int | None, uuid: str = "") -> MachineSample:
    """Look at the machine now; CPU load is the mean since this thread's call before.

    Args:
        nvml: The GPUs.
        engine_pid: The engine's process.
        uuid: The engine's GPU; "" where it is not known.
    """
    memory = psutil.virtual_memory()
    gpu = nvml.read(engine_pid, uuid)
    rss_bytes, mapped_bytes = _engine_memory(engine_pid)
    return MachineSample(
        ram_total_bytes=int(memory.total),
        ram_used_bytes=int(memory.total - memory.available),
        engine_rss_bytes=rss_bytes,
        cpu_percent=float(psutil.cpu_percent()),
        gpu_name=gpu.name if gpu else None,
        vram_total_bytes=gpu.total_bytes if gpu else None,
        vram_used_bytes=gpu.used_bytes if gpu else None,
        vram_others_bytes=gpu.others_bytes if gpu else None,
        gpu_percent=gpu.percent if gpu else None,
        engine_mapped_bytes=mapped_bytes,
    )


def _engine_memory(pid: int | None) -> tuple[int | None, int]:
    """Memory of a process, None when it is gone or hidden, and its pages of files, which only Linux tells."""
    if pid is None:
        return None, 0
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return None, 0
    return int(memory.rss), int(getattr(memory, "shared", 0))


class TelemetrySampler(QObject):
    """Samples the machine on its own thread.

    Signals:
        sampled(MachineSample): About once a second, the first at once.

    Args:
        parent: Owner.
        period_s: Time between samples.
    """

    sampled = Signal(object)

    def __init__(self, parent: QObject | None = None, *, period_s: float = SAMPLE_PERIOD_S) -> None:
        super().__init__(parent)
        self._period_s = period_s
        self._engine_pid: int | None = None
        self._uuid = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether samples are being taken."""
        return self._thread is not None

    def set_engine_pid(self, pid: int | None) -> None:
        """Whose memory counts as the engine's, from the next sample on; None while no engine runs."""
        self._engine_pid = pid

    def set_gpu(self, uuid: str) -> None:
        """Which card to watch from the next sample on, as in `GpuProfile`; "" for the one with the most VRAM."""
        self._uuid = uuid

    def start(self) -> None:
        """Begin; does nothing while running."""
        if self._thread is None:
            self._stop = threading.Event()
            self._thread = threading.Thread(target=self._run, args=(self._stop,), name="rooftop-telemetry", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End; returns when the thread has ended, at most two seconds later."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stop.set()
            thread.join(timeout=2.0)

    def _run(self, stop: threading.Event) -> None:
        nvml = NvmlReader()
        try:
            while not stop.is_set():
                sample = take_sample(nvml, self._engine_pid, self._uuid)
                if not stop.is_set():
                    self.sampled.emit(sample)
                stop.wait(self._period_s)
        finally:
            nvml.close()
