"""Measures the model page: how soon it is there with many models, and whether its verdicts hold.

python -m app.bench --models 50          the page, at a first look and at a later one, with sparse files of real shapes
python -m app.bench --verdicts MODEL...  verdicts beside what loading and running a model then really took
"""

from __future__ import annotations

import json
import math
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from app.library import Library
from app.model_places import Place
from app.model_scan import FoundModel, candidate_at, inspect
from app.verdict import judge
from engine.checkpoint.catalog import GUIDE, guide_path
from engine.checkpoint.families import FAMILIES
from engine.checkpoint.tensor_names import expected_tensors, name_in_file
from engine.config import EngineConfig, ModelConfig, SamplingParams
from engine.hardware import probe_hardware
from engine.host import EngineHost, start_host
from engine.messages import ChatMessage, Event, Failed, Finished, Generate, Load, Ready, Snapshot
from engine.planning import planned_speed
from engine.traits import Traits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from PySide6.QtWidgets import QApplication

SHAPES = {
    "mixtral": ModelConfig("Mixtral 8x7B", "mixtral", 4096, 14336, 32, 32, 8, 128, 8, 2, 32000, 32768),
    "qwen3_moe": ModelConfig(
        "Qwen3 30B A3B", "qwen3_moe", 2048, 768, 48, 32, 4, 128, 128, 8, 151936, 40960, query_key_norm=True
    ),
    "olmoe": ModelConfig(
        "OLMoE", "olmoe", 2048, 1024, 16, 16, 16, 128, 64, 8, 50304, 4096,
        query_key_norm=True, traits=Traits(wide_norms=True),
    ),
}  # fmt: skip
TIMEOUT_S = 120.0
MIB = 1 << 20
GPU_SHARE = 0.5  # of a model's experts, that the simulated GPU has room for
SIMULATED_EXTRA_BYTES = 256 * MIB
CONTEXT_TOKENS, PROMPT_CHARS, REPLY_TOKENS, REPLIES = 512, 440, 32, 3


@dataclass(frozen=True)
class PageTimes:
    """One opening of the page, in milliseconds from the request.

    Attributes:
        painted_ms: Its first frame.
        listed_ms: Every model has its row.
        judged_ms: Every model has its verdict.
        read_ms: All headers have been read.
        frame_ms: All rows that are to be seen, drawn once.
    """

    painted_ms: float
    listed_ms: float
    judged_ms: float
    read_ms: float
    frame_ms: float


def measure_page(models: int) -> dict[str, PageTimes]:
    """Open the page on a folder with so many models: at a first look, and at a later one, as after another start."""
    from PySide6.QtWidgets import QApplication

    from app.theme import ThemeManager

    existing = QApplication.instance()
    app = existing if isinstance(existing, QApplication) else QApplication([])
    themes = ThemeManager(app)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_models(root / "models", models)
        times = {name: _open_page(app, root, models + 1) for name in ("first look", "later")}
    themes.deleteLater()
    return times


def _open_page(app: QApplication, root: Path, expected: int) -> PageTimes:
    from app.widgets.models.dialog import ModelsDialog

    library = Library(lambda: (Place("folder", root / "models"),), EngineConfig, root / "cache.json")
    planned_speed(EngineConfig(), probe_hardware())  # which the window has measured when its first model was loaded
    started_s = time.perf_counter()
    dialog = ModelsDialog(library, _no_downloads, _no_downloads, _no_downloads, "guide")  # type: ignore[arg-type]
    dialog.show()
    library.refresh()
    app.processEvents()
    painted_s = time.perf_counter()
    rows = dialog.found.rows
    _spin(app, lambda: rows.rowCount() == expected and not library.scanning)
    dialog.repaint()
    listed_s = time.perf_counter()
    _spin(app, lambda: all(library.known_verdict(model.path) is not None for model in library.models()))
    judged_s = time.perf_counter()
    dialog.found.list.viewport().repaint()
    frame_s = time.perf_counter() - judged_s
    _spin(app, lambda: not library.reading)
    read_s = time.perf_counter() - frame_s
    library.close()
    dialog.close()
    dialog.deleteLater()
    return PageTimes(
        painted_ms=1000 * (painted_s - started_s),
        listed_ms=1000 * (listed_s - started_s),
        judged_ms=1000 * (judged_s - started_s),
        read_ms=1000 * (read_s - started_s),
        frame_ms=1000 * frame_s,
    )


def _no_downloads() -> Any:  # noqa: ANN401 - never called: the page that asks for it is not opened
    raise AssertionError("this measurement downloads nothing")


def _spin(app: QApplication, condition: Callable[[], bool]) -> None:
    """Run the event loop until the condition holds; asked seldom, as asking slows down the threads it waits for."""
    deadline_s = time.perf_counter() + TIMEOUT_S
    while not condition() and time.perf_counter() < deadline_s:
        app.processEvents()
        time.sleep(0.002)


def write_models(folder: Path, count: int) -> None:
    """Models in Hugging Face form with the headers of real ones and files without content, which take no room."""
    for number in range(count):
        model = list(SHAPES.values())[number % len(SHAPES)]
        _write_model(folder / f"{model.name} {number}".replace(" ", "-"), model)


def _write_model(folder: Path, model: ModelConfig) -> None:
    folder.mkdir(parents=True)
    fields = {
        "model_type": model.family,
        "hidden_size": model.hidden_size,
        FAMILIES[model.family].width: model.intermediate_size,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "num_local_experts" if model.family == "mixtral" else "num_experts": model.experts,
        "num_experts_per_tok": model.experts_per_token,
        "vocab_size": model.vocab_size,
        "max_position_embeddings": model.max_position_embeddings,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(fields), encoding="utf-8")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    header, end = _header(model)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + end)


def _header(model: ModelConfig) -> tuple[bytes, int]:
    """A safetensors header, and how many bytes of weights it tells of."""
    entries: dict[str, object] = {}
    end = 0
    for name, shape in expected_tensors(model):
        start, end = end, end + 2 * math.prod(shape)
        in_file = name_in_file(model.family, name)
        entries[in_file] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    return json.dumps(entries).encode(), end


def page_words(times: dict[str, PageTimes]) -> list[str]:
    """The measurements as lines of text."""
    return [
        f"{name:12s} painted {one.painted_ms:.0f} ms, all listed {one.listed_ms:.0f} ms, all judged "
        f"{one.judged_ms:.0f} ms, headers read {one.read_ms:.0f} ms, a frame of the list {one.frame_ms:.1f} ms"
        for name, one in times.items()
    ]


# ---- do verdicts hold? ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """What a verdict promised and what running the model took; bytes, and tokens per second.

    Attributes:
        model: Its name.
        device: Where it ran.
        promised_ram, taken_ram, peak_ram: Of the engine's process: as judged, after replies, and at most.
        promised_vram, taken_vram: Of the simulated GPU, without the margin; 0 without one.
        assumed_speed, kept_speed: Decoding as promised before this machine was measured, and afterwards.
        measured_speed: Decoding.
    """

    model: str
    device: str
    promised_ram: int
    taken_ram: int
    peak_ram: int
    promised_vram: int
    taken_vram: int
    assumed_speed: float
    kept_speed: float
    measured_speed: float


@dataclass(frozen=True)
class _Run:
    """What a model took in the engine's process."""

    snapshot: Snapshot
    rss_bytes: int
    peak_bytes: int
    tokens_per_s: float


def measure_verdicts(models: list[str]) -> Iterator[Held]:
    """Judge each model for the CPU and for a simulated GPU with room for half of it, then load it and have it reply."""
    for name in models:
        candidate = candidate_at(guide_path() if name == GUIDE else Path(name), "folder")
        found = inspect(candidate) if candidate is not None else None
        if found is None or found.config is None:
            raise SystemExit(f"{name} is no model that can be run.")
        some = found.config.dense_bytes + int(GPU_SHARE * found.config.experts_bytes) + SIMULATED_EXTRA_BYTES
        for device in ("cpu", "simulated"):
            with tempfile.TemporaryDirectory() as costs:
                config = EngineConfig(
                    device=device, simulated_vram_bytes=some, context_tokens=CONTEXT_TOKENS, cost_cache_dir=costs
                )
                yield _hold(found, config)


def _hold(found: FoundModel, config: EngineConfig) -> Held:
    """One model on one device, in a process of its own."""
    before = judge(found, config, probe_hardware())
    if before.kind != "fits" or before.plan is None:
        raise SystemExit(f"{found.name} does not fit here: {before.problem}")
    host = start_host()
    try:
        run = _run(host, found.path, config)
    finally:
        host.stop()
    after = judge(found, config, probe_hardware())
    vram = before.plan.vram_bytes
    return Held(
        model=found.name,
        device=config.device,
        promised_ram=before.plan.host_bytes["total"],
        taken_ram=run.rss_bytes,
        peak_ram=run.peak_bytes,
        promised_vram=vram["total"] - vram["margin"] if vram else 0,
        taken_vram=sum(run.snapshot.vram_bytes.values()),
        assumed_speed=before.plan.predicted_decode_tokens_per_s,
        kept_speed=after.plan.predicted_decode_tokens_per_s if after.plan is not None else 0.0,
        measured_speed=run.tokens_per_s,
    )


def _run(host: EngineHost, model: str, config: EngineConfig) -> _Run:
    """Load a model and have it answer, then look at the process."""
    assert host.pid is not None
    host.send(Load(model, config))
    _wait_for(host, Ready)
    asked = ChatMessage("user", "a" * PROMPT_CHARS)
    rates = []
    for _ in range(REPLIES if config.device == "cpu" else 1):  # a simulated GPU's speed says nothing
        host.send(Generate((asked,), SamplingParams(max_tokens=REPLY_TOKENS, temperature=0.0, ignore_eos=True)))
        finished, snapshot = _wait_for(host, Finished)
        rates.append(finished.timings.decode_tokens_per_s)
    assert snapshot is not None, "a reply ends with a snapshot"
    return _Run(snapshot, *_process_bytes(host.pid), statistics.median(rates))


def _process_bytes(pid: int) -> tuple[int, int]:
    """RAM of a process now, and at most so far where the system tells."""
    memory = psutil.Process(pid).memory_info()
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        peak = int(status.split("VmHWM:")[1].split()[0]) << 10
    except (OSError, IndexError):
        peak = getattr(memory, "peak_wset", memory.rss)
    return memory.rss, peak


def _wait_for(host: EngineHost, kind: type[Event]) -> tuple[Any, Snapshot | None]:
    """The next event of a kind, and the last snapshot before it."""
    snapshot: Snapshot | None = None
    while host.alive:
        host.wait(TIMEOUT_S)
        for event in host.poll():
            if isinstance(event, Snapshot):
                snapshot = event
            if isinstance(event, Failed):
                raise SystemExit(f"{event.error.message} {event.error.remedy}")
            if isinstance(event, kind):
                return event, snapshot
    raise SystemExit("The engine stopped.")


def verdict_words(held: list[Held]) -> list[str]:
    """The comparison as lines of text."""
    lines = []
    for one in held:
        parts = [f"{one.model} on {one.device}: RAM {_against(one.promised_ram, one.taken_ram)}"]
        parts.append(f"at most {one.peak_ram / MIB:.1f} MiB ({_off(one.promised_ram, one.peak_ram)})")
        if one.promised_vram:
            parts.append(f"VRAM {_against(one.promised_vram, one.taken_vram)}")
        else:  # a simulated GPU computes on the CPU: how fast says nothing
            assumed, kept = (
                f"{speed:.1f} ({_off(one.measured_speed, speed)})" for speed in (one.assumed_speed, one.kept_speed)
            )
            measured = f"{one.measured_speed:.1f} tokens/s measured"
            parts.append(f"decode {assumed} assumed, {kept} after measuring the machine, {measured}")
        lines.append("; ".join(parts))
    return lines


def _against(promised: int, taken: int) -> str:
    return f"{promised / MIB:.1f} promised, {taken / MIB:.1f} MiB taken ({_off(promised, taken)})"


def _off(right: float, other: float) -> str:
    """By how much another figure is off."""
    return f"{100 * (other / right - 1):+.1f} %" if right else "-"
