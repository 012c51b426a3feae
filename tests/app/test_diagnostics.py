from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from app.diagnostics import Findings, diagnostics_text
from app.machine_look import Machine
from app.redaction import Redaction
from app.settings import Settings
from tests.app.snapshots import make_hardware, make_ready

ANNA = Redaction("/home/anna", "anna", "annas-pc")
SETTINGS = Settings(model="/home/anna/models/mixtral.Q4_K_M.gguf", context_tokens=4096, window_geometry="QUJD")


def findings(log: Path | None = None) -> Findings:
    machine = Machine(make_hardware("gguf", "cuda"), "580.82")
    return Findings(SETTINGS, machine, make_ready("gguf"), "xcb, 150%", log)


def test_everything_that_a_report_needs() -> None:
    text = diagnostics_text(findings(), ANNA)
    for words in (
        "Rooftop: 0.", "Qt: 6.", "AMD Ryzen 7 7700, 8 cores", "RAM: 128 GiB, 118 GiB available",
        "NVIDIA GeForce RTX 3060, 12", "driver 580.82", "Display: xcb, 150%", "Chosen: mixtral.Q4_K_M",
        "mixtral, Q4_K_M", "32 layers, 8 experts", "experts in VRAM", "context_tokens: 4096",
    ):  # fmt: skip
        assert words in text, words


def test_nobody_is_named(tmp_path: Path) -> None:
    log = tmp_path / "rooftop.log"
    log.write_text(
        "2026-01-01 10:00:00,000 WARNING app: The engine reports checkpoint: '/home/anna/x' is damaged.\n"
        + "2026-01-01 10:00:01,000 INFO app: at annas-pc, token=hf_abcdefghijkl\n" * 400
    )
    (tmp_path / "engine.log").write_text("File /home/anna/rooftop/engine/x.py\n")
    text = diagnostics_text(findings(log), ANNA)
    problems = text.partition("== Last problems ==")[2].partition("==")[0]
    assert "'~/x' is damaged" in problems, "however long ago"
    assert "File ~/rooftop/engine/x.py" in text
    for secret in ("anna", "hf_abc", "QUJD"):
        assert secret not in text


def test_without_a_model_a_gpu_or_a_log() -> None:
    hardware = replace(make_hardware("gguf", "cpu"))
    text = diagnostics_text(Findings(Settings(), Machine(hardware, ""), None, "offscreen, 100%", None), ANNA)
    assert "Not loaded" in text
    assert "no NVIDIA GPU answers" in text
    assert "== Settings that are not the default ==\nnone" in text
