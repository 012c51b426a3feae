"""What the engine says, in the window's words: files, formats, kernels, phases, settings in force and for flags.

Knows no widgets and imports no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from app.language import tr, translated
from app.settings import GUIDE_MODEL
from app.units import bytes_text, number_text, percent_text, speed_text
from engine.config import DTYPE_FORMATS
from engine.messages import TORCH_KERNELS

if TYPE_CHECKING:
    from engine.config import ModelConfig
    from engine.messages import Ready, Snapshot

GUIDE_NAME = "Rooftop guide"
DISK_FLAG = "--experts-on-disk"  # as the engine's remedies name the setting

_KERNELS = {"avx512": "AVX-512", "avxvnni": "AVX-VNNI", "avx2": "AVX2", "scalar": "scalar"}
_KV_BITS = {"F32": 32, "F16": 16, "Q8_0": 8}


def device_words(ready: Ready) -> str:
    """What the model runs on, as the window calls it."""
    return tr("Simulated GPU") if ready.simulated else ready.device_name


def model_label(model: str) -> str:
    """What to call a model until the engine tells its name.

    Args:
        model: A folder, a .gguf file, or "guide".

    Returns:
        The folder's name, or the file's without the number of a split and the suffix.
    """
    path = Path(model)
    if model == GUIDE_MODEL:
        return GUIDE_NAME
    if not is_gguf(path):
        return path.name or model
    from engine.checkpoint.gguf_model import stem

    return stem(path.name)


def is_gguf(path: Path) -> bool:
    """Whether a file calls itself GGUF."""
    return path.suffix.lower() == ".gguf"


def phase_text(phase: str) -> str:
    """What a load is doing; a phase that is not known here speaks for itself."""
    words = {
        "checking": tr("Checking the model"),
        "dense": tr("Loading the dense weights"),
        "experts": tr("Loading the experts"),
        "measuring": tr("Measuring how fast this computer is"),
    }
    return words.get(phase, phase.capitalize())


def weights_text(model: ModelConfig) -> str:
    """How the weights are stored, e.g. "Q4_K_M, 4.8 bits"; the bits are those of the whole model on average."""
    weights = model.total_experts * model.whole.expert_parameters + model.dense_parameters
    size_bytes = model.experts_bytes + (model.dense_packed_bytes or model.dense_bytes)
    bits = round(8 * size_bytes / weights, 1)
    number = number_text(bits, 0 if bits.is_integer() else 1)
    return tr("{format}, {number} bits").format(format=model.quantization or DTYPE_FORMATS[model.dtype], number=number)


def kernels_text(kernels: str) -> str:
    """What computes on the CPU, e.g. "AVX2 kernels".

    Args:
        kernels: As in `PlanningInputs`.
    """
    if kernels == TORCH_KERNELS:
        return tr("portable kernels (slower)")
    return tr("{instructions} kernels").format(instructions=_KERNELS.get(kernels, kernels))


def why_portable() -> str:
    """Why torch does the work of our own kernels, and what to do about it."""
    from engine.kernels.library_path import find_library

    if find_library() is not None:
        return tr("The native library is there but cannot be loaded here. Run make native to build it anew.")
    return tr(
        "No C++ compiler was there when Rooftop was installed. "
        "Install one (Linux: sudo apt install g++), then run make setup."
    )


def facts(ready: Ready) -> tuple[str, str]:
    """How a loaded model is stored and computed: one line, and the sentences that explain it."""
    model, kernels = ready.model, ready.planning.kernels
    parts = [weights_text(model), tr("CPU: {kernels}").format(kernels=kernels_text(kernels))]
    sentences = [tr("How the weights are stored, and what computes on the CPU.")]
    if kernels == TORCH_KERNELS:
        sentences.append(why_portable())
    if ready.effective.experts_on_disk:
        parts.append(tr("experts on disk"))
        sentences.append(translated(ready.plan.reasons[-1]))
    return " \N{MIDDLE DOT} ".join(parts), " ".join(sentences)


def residents_text(snapshot: Snapshot, parts: int = 1) -> str:
    """Whether the experts in VRAM follow the conversation, what that moved in this reply, and what memory denied.

    Args:
        snapshot: The engine's.
        parts: Parts that each expert is in.
    """
    uploads, shortages = snapshot.uploads, snapshot.memory_shortages
    sentences = []
    if shortages:
        sentences.append(tr("VRAM ran out %n times: fewer experts live there than planned.", shortages))
    if uploads:
        moved = tr("%n experts were exchanged in this reply, {size}.", uploads)
        if parts > 1:
            moved = tr("%n parts of experts were exchanged in this reply, {size}.", uploads)
        sentences.append(moved.format(size=bytes_text(snapshot.uploaded_bytes)))
    if snapshot.not_adapting:
        sentences.append(f"{tr('The experts in VRAM stay as they are.')} {translated(snapshot.not_adapting)}")
    elif not uploads:
        sentences.append(tr("The experts in VRAM follow the conversation where that pays."))
    return " ".join(sentences)


def source_text(source: str) -> str:
    """Where the costs are from, as `CostModel` names it."""
    words = {"assumed": tr("assumed"), "measured": tr("measured"), "cached": tr("cached")}
    return words.get(source, source)


def in_force_texts(ready: Ready) -> tuple[str, ...]:
    """What the engine says about budget, context, its precision, threads, experts on disk, simulated GPU and costs."""
    plan, effective = ready.plan, ready.effective
    budget = _in_force(bytes_text(plan.vram_budget_bytes)) if plan.device != "cpu" else ""
    kv_bytes = {**plan.host_bytes, **plan.vram_bytes}["kv"]
    precision = tr("{precision}, {size} of memory")
    precision = precision.format(
        precision=_precision_text(ready.model.kv_format(plan.kv_precision)), size=bytes_text(kv_bytes)
    )
    threads = _in_force(str(effective.cpu_threads)) if effective.cpu_threads is not None else ""
    device = device_words(ready)
    if ready.simulated:
        device = tr("{size}, simulated").format(size=bytes_text(effective.simulated_vram_bytes))
    costs = ready.planning.costs
    fit = tr("costs {source}, fit error {error} on the CPU")
    fit = fit.format(source=source_text(costs.source), error=percent_text(costs.cpu_expert.fit_error))
    return budget, _context_text(ready), _in_force(precision), threads, _disk_text(ready), _in_force(device), fit


def _in_force(what: str) -> str:
    return tr("in force: {what}").format(what=what)


def _context_text(ready: Ready) -> str:
    if ready.plan.context_tokens >= ready.model.max_position_embeddings:
        words = tr("{number} tokens, all that this model can take")
    else:
        words = tr("{number} tokens")
    return _in_force(words.format(number=number_text(ready.plan.context_tokens)))


def _precision_text(stored: str) -> str:
    if stored == "BF16":
        return tr("16 bits (bfloat16)")
    return tr("{number} bits").format(number=_KV_BITS[stored])


def _disk_text(ready: Ready) -> str:
    on_disk = ready.plan.host_bytes.get("experts_on_disk", 0)
    if not on_disk:
        return ""
    words = tr("{size} on disk, predicted {speed}")
    return _in_force(words.format(size=bytes_text(on_disk), speed=speed_text(ready.plan.predicted_decode_tokens_per_s)))


def offers_disk(remedy: str) -> bool:
    """Whether the engine says that the model would run with its experts on disk."""
    return DISK_FLAG in remedy


def in_window(remedy: str) -> str:
    """A remedy that names a setting where the engine names a flag of the command line."""
    return remedy.replace(DISK_FLAG, tr("in Settings"))


def where_words(ready: Ready) -> str:
    """Where the experts are and why, in one glance; "" without a GPU, which the device's own words say."""
    plan, total = ready.plan, ready.model.total_experts
    if plan.device == "cpu":
        return ""
    if plan.resident_experts == total:
        return tr("Every expert fits in VRAM and runs on the GPU.")
    others = {
        "fiddler": tr("The others wait in RAM: each runs on the CPU or is copied to the GPU, whichever is faster."),
        "gpu_stream": tr("The others wait in RAM and are copied to the GPU whenever they are needed."),
        "cpu_only": tr("The others are in RAM and run on the CPU."),
    }[ready.effective.policy]
    if not plan.resident_experts:
        return tr("No expert fits in VRAM.") + " " + others
    there = tr("{number} of {total} experts fit in VRAM and run on the GPU.")
    return there.format(number=number_text(plan.resident_experts), total=number_text(total)) + " " + others
