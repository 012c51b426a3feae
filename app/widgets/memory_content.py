"""Who holds the VRAM and who the RAM: the arithmetic behind the gauges, from what engine and machine report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.language import tr

if TYPE_CHECKING:
    from app.telemetry import MachineSample
    from engine.hardware import HardwareProfile
    from engine.messages import PlacementPlan, Ready, Snapshot


@dataclass(frozen=True, slots=True)
class GaugePart:
    """One use of a memory.

    Attributes:
        key: Name of its colour in the theme.
        label: For the legend.
        size_bytes: How much it holds.
        meaning: One sentence for the tool tip.
    """

    key: str
    label: str
    size_bytes: int
    meaning: str


@dataclass(frozen=True, slots=True)
class GaugeContent:
    """What a gauge shows.

    Attributes:
        total_bytes: The whole memory.
        own: The engine's parts, from the left.
        others: Other programs, at the right; None where there is nothing to tell.
        budget_bytes: Where the mark is; None for no mark.
        elsewhere: What belongs to the model and takes none of this memory; None for nothing.
    """

    total_bytes: int
    own: tuple[GaugePart, ...]
    others: GaugePart | None
    budget_bytes: int | None = None
    elsewhere: GaugePart | None = None

    @property
    def free_bytes(self) -> int:
        """What nobody holds."""
        return max(0, self.total_bytes - sum(part.size_bytes for part in self.held))

    @property
    def held(self) -> tuple[GaugePart, ...]:
        """All parts but the free one."""
        return (*self.own, self.others) if self.others is not None else self.own

    @property
    def parts(self) -> tuple[GaugePart, ...]:
        """All parts as they lie from left to right."""
        free = _part("free", "Free", self.free_bytes)
        return (*self.own, free, self.others) if self.others is not None else (*self.own, free)

    @property
    def legend(self) -> tuple[GaugePart, ...]:
        """All parts, and what lies elsewhere."""
        return (*self.parts, self.elsewhere) if self.elsewhere is not None else self.parts


def vram_content(ready: Ready | None, snapshot: Snapshot | None, machine: MachineSample | None) -> GaugeContent | None:
    """Who holds the VRAM; None without a GPU. A simulated GPU has no other programs."""
    total = _vram_total_bytes(ready, machine)
    if not total:
        return None
    terms = snapshot.vram_bytes if snapshot is not None else {}
    own_bytes = sum(terms.values())
    simulated = ready is not None and ready.simulated
    others_bytes, overhead_bytes = 0, 0
    if machine is not None and not simulated and machine.vram_used_bytes is not None:
        used = min(machine.vram_used_bytes, total)
        others_bytes = used - own_bytes if machine.vram_others_bytes is None else machine.vram_others_bytes
        others_bytes = max(0, min(others_bytes, total - own_bytes))
        overhead_bytes = max(0, used - others_bytes - own_bytes)
    own = (
        _part("dense", "Dense", terms.get("dense", 0)),
        _part("kv", "KV cache", terms.get("kv", 0)),
        _part("gpu", "Experts", terms.get("experts", 0)),
        _part("stream", "Workspace", terms.get("workspace", 0) + terms.get("staging", 0) + overhead_bytes),
    )
    others = _part("others", "Other programs", others_bytes)
    budget = ready.plan.vram_budget_bytes if ready is not None else 0
    return GaugeContent(total, own if ready is not None else (), None if simulated else others, budget or None)


def _vram_total_bytes(ready: Ready | None, machine: MachineSample | None) -> int:
    if ready is not None and ready.simulated:
        return ready.effective.simulated_vram_bytes
    if machine is not None and machine.vram_total_bytes:
        return machine.vram_total_bytes
    gpu = ready.planning.hardware.gpu if ready is not None and ready.plan.device == "cuda" else None
    return gpu.total_bytes if gpu is not None else 0


def ram_content(ready: Ready | None, snapshot: Snapshot | None, machine: MachineSample | None) -> GaugeContent | None:
    """Who holds the RAM; None before the first sample.

    A simulated GPU's memory is part of it. Pages of files are not, experts on disk among them: the system counts what
    it keeps of them as free.
    """
    if machine is None:
        return None
    terms = snapshot.host_bytes if snapshot is not None else {}
    experts = min(terms.get("experts", 0), machine.ram_total_bytes)
    simulated = min(terms.get("simulated_vram", 0), machine.ram_total_bytes - experts)
    engine = max(experts + simulated, (machine.engine_rss_bytes or 0) - machine.engine_mapped_bytes)
    own = [_part("cpu", "Experts", experts)] if experts else []
    if simulated:
        own.append(_part("gpu", "Simulated", simulated))
    own.append(_part("dense", "Engine", engine - experts - simulated))
    others = _part("others", "Other programs", max(0, machine.ram_used_bytes - engine))
    on_disk = ready.plan.host_bytes.get("experts_on_disk", 0) if ready is not None else 0
    elsewhere = _part("disk", "Experts on disk", on_disk) if on_disk else None
    return GaugeContent(machine.ram_total_bytes, tuple(own) if engine else (), others, elsewhere=elsewhere)


def planned_contents(
    plan: PlacementPlan, hardware: HardwareProfile, vram_total_bytes: int
) -> tuple[GaugeContent | None, GaugeContent]:
    """What a plan would make of VRAM and RAM; the first is None without a GPU.

    Args:
        plan: One that fits.
        hardware: The machine that it was made for.
        vram_total_bytes: Of its GPU, which may be a simulated one; 0 without.
    """
    vram, host = plan.vram_bytes, plan.host_bytes
    on_gpu = None
    if vram_total_bytes and vram:
        own = (
            _part("dense", "Dense", vram["dense"]),
            _part("kv", "KV cache", vram["kv"]),
            _part("gpu", "Experts", vram["experts"]),
            _part("stream", "Workspace", vram["workspace"] + vram["staging"]),
        )
        real = plan.device == "cuda" and hardware.gpu is not None
        others = _part("others", "Other programs", hardware.gpu.used_bytes) if real and hardware.gpu else None
        on_gpu = GaugeContent(vram_total_bytes, own, others, plan.vram_budget_bytes or None)
    ours = {"cpu": ("Experts", "experts"), "gpu": ("Simulated", "simulated_vram")}
    parts = [_part(key, label, host[term]) for key, (label, term) in ours.items() if host.get(term)]
    rest = host["total"] - sum(part.size_bytes for part in parts)
    parts += [_part("dense", "Engine", rest)] if rest else []
    others = _part("others", "Other programs", hardware.ram_total_bytes - hardware.ram_available_bytes)
    on_disk = host.get("experts_on_disk", 0)
    elsewhere = _part("disk", "Experts on disk", on_disk) if on_disk else None
    return on_gpu, GaugeContent(hardware.ram_total_bytes, tuple(parts), others, elsewhere=elsewhere)


def _part(key: str, label: str, size_bytes: int) -> GaugePart:
    name, meaning = _words(label)
    return GaugePart(key, name, size_bytes, meaning)


def _words(label: str) -> tuple[str, str]:
    """A part's name and meaning in the language in force."""
    return {
        "Dense": (
            tr("Dense"),
            tr("Attention, norms, routers and embeddings: every token needs them."),
        ),
        "KV cache": (
            tr("KV cache"),
            tr("What attention remembers of the conversation; its size is set by the context length."),
        ),
        "Experts": (
            tr("Experts"),
            tr("The weights of the experts that live here."),
        ),
        "Workspace": (
            tr("Workspace"),
            tr("Room to compute in, buffers that experts are streamed through, and the driver's own share."),
        ),
        "Simulated": (
            tr("Simulated"),
            tr("The simulated GPU's memory is really RAM."),
        ),
        "Engine": (
            tr("Engine"),
            tr("The rest of the engine's process: its buffers and those of its libraries."),
        ),
        "Other programs": (
            tr("Other programs"),
            tr("All that is not the engine."),
        ),
        "Free": (
            tr("Free"),
            tr("Nobody uses this memory now."),
        ),
        "Experts on disk": (
            tr("Experts on disk"),
            tr("Read from a file as they are used. The system keeps the latest in memory that is free."),
        ),
    }[label]
