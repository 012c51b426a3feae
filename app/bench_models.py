"""Measures the model page: how soon it is there with many models, and whether its verdicts hold.

python -m app.bench --models 50          the page, at a first look and at a later one, with sparse files of real shapes
python -m app.bench --verdicts MODEL...  verdicts beside what loading and running a model then really took
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.library import Library
from app.model_places import Place
from app.model_scan import candidate_at, inspect
from app.verdict import judge
from engine.checkpoint.families import FAMILIES
from engine.checkpoint.tensor_names import expected_tensors, name_in_file
from engine.config import EngineConfig, ModelConfig
from engine.hardware import probe_hardware

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtWidgets import QApplication

SHAPES = {
    "mixtral": ModelConfig("Mixtral 8x7B", "mixtral", 4096, 14336, 32, 32, 8, 128, 8, 2, 32000, 32768),
    "qwen3_moe": ModelConfig(
        "Qwen3 30B A3B", "qwen3_moe", 2048, 768, 48, 32, 4, 128, 128, 8, 151936, 40960, query_key_norm=True
    ),
    "olmoe": ModelConfig("OLMoE", "olmoe", 2048, 1024, 16, 16, 16, 128, 64, 8, 50304, 4096),
}
TIMEOUT_S = 120.0
GPU_SHARE = 0.5  # of a model, that the simulated GPU of a verdict has room for


@dataclass(frozen=True)
class PageTimes:
    """One opening of the page, in milliseconds from the request.

    Attributes:
        painted_ms: Its first frame.
        listed_ms: Every model has its row.
        judged_ms: Every model has its verdict.
        frame_ms: All rows that are to be seen, drawn once.
    """

    painted_ms: float
    listed_ms: float
    judged_ms: float
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
    started_s = time.perf_counter()
    dialog = ModelsDialog(library, _no_downloads, _no_downloads, "guide")  # type: ignore[arg-type]
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
    library.close()
    dialog.close()
    dialog.deleteLater()
    return PageTimes(
        painted_ms=1000 * (painted_s - started_s),
        listed_ms=1000 * (listed_s - started_s),
        judged_ms=1000 * (judged_s - started_s),
        frame_ms=1000 * frame_s,
    )


def _no_downloads() -> Any:  # noqa: ANN401 - never called: the page that asks for it is not opened
    raise AssertionError("this measurement downloads nothing")


def _spin(app: QApplication, condition: Callable[[], bool]) -> None:
    """Run the event loop until the condition holds."""
    from PySide6.QtCore import QEventLoop

    deadline_s = time.perf_counter() + TIMEOUT_S
    while not condition() and time.perf_counter() < deadline_s:
        app.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents, 10)


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
        f"{one.judged_ms:.0f} ms, a frame of the list {one.frame_ms:.1f} ms"
        for name, one in times.items()
    ]


# ---- do verdicts hold? ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """What a verdict promised and what running the model took; bytes, and tokens per second.

    Attributes:
        model: Its name.
        device: Where it ran.
        promised_ram, taken_ram: Beyond the engine without a model.
        promised_vram, taken_vram: Of the simulated GPU, without the margin; 0 without one.
        promised_speed, measured_speed: Decoding.
    """

    model: str
    device: str
    promised_ram: int
    taken_ram: int
    promised_vram: int
    taken_vram: int
    promised_speed: float
    measured_speed: float


def measure_verdicts(models: list[str]) -> list[Held]:
    """Judge each model for the CPU and for a simulated GPU, then run it in a process of its own."""
    held = []
    for name in models:
        path = Path(name)
        candidate = candidate_at(path, "folder")
        if candidate is None:
            raise SystemExit(f"There is no model at {name}.")
        found = inspect(candidate)
        if found.config is None:
            raise SystemExit(f"{found.problem} {found.remedy}")
        some = found.config.dense_bytes + int(GPU_SHARE * found.config.experts_bytes) + (64 << 20)
        for config in (EngineConfig(device="cpu"), EngineConfig(device="simulated", simulated_vram_bytes=some)):
            verdict = judge(found, config, probe_hardware())
            if verdict.kind != "fits" or verdict.plan is None:
                raise SystemExit(f"{name} does not fit here: {verdict.problem}")
            plan, real = verdict.plan, _run(name, config)
            promised = plan.vram_bytes["total"] - plan.vram_bytes["margin"] if plan.vram_bytes else 0
            held.append(
                Held(
                    model=found.name,
                    device=config.device,
                    promised_ram=plan.host_bytes["total"],
                    taken_ram=real["peak_rss_bytes"] - real["rss_before_load_bytes"],
                    promised_vram=promised,
                    taken_vram=real["peak_vram_bytes"] if promised else 0,
                    promised_speed=plan.predicted_decode_tokens_per_s,
                    measured_speed=real["decode_tokens_per_s"],
                )
            )
    return held


def _run(model: str, config: EngineConfig) -> dict[str, Any]:
    """Run a model as `python -m engine bench` does, with a prompt that fills its context."""
    command = [sys.executable, "-m", "engine", "bench", "--model", model, "--device", config.device, "--json"]
    if config.device == "simulated":
        command += ["--simulated-vram", str(config.simulated_vram_bytes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def verdict_words(held: list[Held]) -> list[str]:
    """The comparison as lines of text."""
    lines = []
    for one in held:
        parts = [f"{one.model} on {one.device}: RAM {_against(one.promised_ram, one.taken_ram, 1 << 20)} MiB"]
        if one.promised_vram:
            parts.append(f"VRAM {_against(one.promised_vram, one.taken_vram, 1 << 20)} MiB")
        parts.append(f"{_against(one.promised_speed, one.measured_speed, 1)} tokens/s")
        lines.append(", ".join(parts))
    return lines


def _against(promised: float, taken: float, unit: int) -> str:
    share = f"{100 * (taken / promised - 1):+.1f} %" if promised else "-"
    return f"{promised / unit:.1f} promised, {taken / unit:.1f} taken ({share})"
