"""What the engine says, in the window's words: files, formats, kernels, phases, settings in force and for flags.

Knows no widgets and imports no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from app.settings import GUIDE_MODEL
from engine.config import DTYPE_FORMATS
from engine.experts.explain import human_bytes, human_speed
from engine.messages import TORCH_KERNELS

if TYPE_CHECKING:
    from engine.config import ModelConfig
    from engine.messages import Ready, Snapshot

GUIDE_NAME = "Rooftop guide"
DISK_FLAG = "--experts-on-disk"  # as the engine's remedies name the setting
DISK_SETTING = "in Settings"

_PHASES = {
    "checking": "Checking the model",
    "dense": "Loading the dense weights",
    "experts": "Loading the experts",
    "measuring": "Measuring how fast this computer is",
}
_KERNELS = {
    "avx512": "AVX-512 kernels",
    "avxvnni": "AVX-VNNI kernels",
    "avx2": "AVX2 kernels",
    "scalar": "scalar kernels",
    TORCH_KERNELS: "portable kernels (slower)",
}
_KV_WORDS = {"F32": "32 bits", "F16": "16 bits", "BF16": "16 bits (bfloat16)", "Q8_0": "8 bits"}
_NO_COMPILER = (
    "No C++ compiler was there when Rooftop was installed. "
    "Install one (Linux: sudo apt install g++), then run make setup."
)
_NOT_LOADABLE = "The native library is there but cannot be loaded here. Run make native to build it anew."


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
    return _PHASES.get(phase, phase.capitalize())


def weights_text(model: ModelConfig) -> str:
    """How the weights are stored, e.g. "Q4_K_M, 4.8 bits"; the bits are those of the whole model on average."""
    weights = model.total_experts * model.expert_parameters + model.dense_parameters
    size_bytes = model.experts_bytes + (model.dense_packed_bytes or model.dense_bytes)
    bits = f"{8 * size_bytes / weights:.1f}".removesuffix(".0")
    return f"{model.quantization or DTYPE_FORMATS[model.dtype]}, {bits} bits"


def kernels_text(kernels: str) -> str:
    """What computes on the CPU, e.g. "AVX2 kernels".

    Args:
        kernels: As in `PlanningInputs`.
    """
    return _KERNELS.get(kernels, f"{kernels} kernels")


def why_portable() -> str:
    """Why torch does the work of our own kernels, and what to do about it."""
    from engine.kernels.library_path import find_library

    return _NO_COMPILER if find_library() is None else _NOT_LOADABLE


def facts(ready: Ready) -> tuple[str, str]:
    """How a loaded model is stored and computed: one line, and the sentences that explain it."""
    model, kernels = ready.model, ready.planning.kernels
    parts = [weights_text(model), f"CPU: {kernels_text(kernels)}"]
    sentences = ["How the weights are stored, and what computes on the CPU."]
    if kernels == TORCH_KERNELS:
        sentences.append(why_portable())
    if ready.effective.experts_on_disk:
        parts.append("experts on disk")
        sentences.append(ready.plan.reasons[-1])
    return " \N{MIDDLE DOT} ".join(parts), " ".join(sentences)


def residents_text(snapshot: Snapshot) -> str:
    """Whether the experts in VRAM follow the conversation, what that moved in this reply, and what memory denied."""
    uploads, shortages = snapshot.uploads, snapshot.memory_shortages
    sentences = []
    if shortages:
        times = "once" if shortages == 1 else f"{shortages} times"
        sentences.append(f"VRAM ran out {times}: fewer experts live there than planned.")
    if uploads:
        what = "expert was" if uploads == 1 else "experts were"
        sentences.append(f"{uploads} {what} exchanged in this reply, {human_bytes(snapshot.uploaded_bytes)}.")
    if snapshot.not_adapting:
        sentences.append(f"The experts in VRAM stay as they are. {snapshot.not_adapting}")
    elif not uploads:
        sentences.append("The experts in VRAM follow the conversation where that pays.")
    return " ".join(sentences)


def in_force_texts(ready: Ready) -> tuple[str, ...]:
    """What the engine says about budget, context, its precision, threads, experts on disk, simulated GPU and costs."""
    plan, effective = ready.plan, ready.effective
    budget = f"in force: {human_bytes(plan.vram_budget_bytes)}" if plan.device != "cpu" else ""
    limit = ready.model.max_position_embeddings
    context = f"in force: {plan.context_tokens:,} tokens"
    context += ", all that this model can take" if plan.context_tokens >= limit else ""
    kv_bytes = {**plan.host_bytes, **plan.vram_bytes}["kv"]
    precision = f"in force: {_KV_WORDS[ready.model.kv_format(plan.kv_precision)]}, {human_bytes(kv_bytes)} of memory"
    threads = f"in force: {effective.cpu_threads}" if effective.cpu_threads is not None else ""
    on_disk = plan.host_bytes.get("experts_on_disk", 0)
    speed = human_speed(plan.predicted_decode_tokens_per_s)
    disk = f"in force: {human_bytes(on_disk)} on disk, predicted {speed}" if on_disk else ""
    simulated = f"in force: {human_bytes(effective.simulated_vram_bytes)}, simulated" if ready.simulated else ""
    cpu = ready.planning.costs.cpu_expert
    costs = f"costs {ready.planning.costs.source}, fit error {cpu.fit_error:.0%} on the CPU"
    return budget, context, precision, threads, disk, simulated or f"in force: {ready.device_name}", costs


def offers_disk(remedy: str) -> bool:
    """Whether the engine says that the model would run with its experts on disk."""
    return DISK_FLAG in remedy


def in_window(remedy: str) -> str:
    """A remedy that names a setting where the engine names a flag of the command line."""
    return remedy.replace(DISK_FLAG, DISK_SETTING)
