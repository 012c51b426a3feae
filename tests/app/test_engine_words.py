"""The engine's facts and remedies in the window's words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import engine.kernels.library_path
from app.engine_words import (
    GUIDE_NAME,
    facts,
    in_window,
    kernels_text,
    model_label,
    offers_disk,
    phase_text,
    residents_text,
    weights_text,
    where_words,
    why_portable,
)
from engine.experts.parts import placed_model
from engine.experts.placement import make_plan
from engine.kernels.cpu_library import ISAS
from engine.messages import PlacementPlan
from tests.app.snapshots import GGUF, GIB, GUIDE, MIXTRAL, make_ready, make_snapshot


@pytest.mark.parametrize(
    ("model", "label"),
    [
        ("guide", GUIDE_NAME),
        ("/models/Mixtral-8x7B-Instruct-v0.1", "Mixtral-8x7B-Instruct-v0.1"),
        ("/models/Mixtral-8x7B-Instruct-v0.1/", "Mixtral-8x7B-Instruct-v0.1"),
        ("/models/mixtral-8x7b.Q4_K_M.gguf", "mixtral-8x7b.Q4_K_M"),
        ("/models/Qwen3-30B-A3B-Q4_K_M-00001-of-00002.gguf", "Qwen3-30B-A3B-Q4_K_M"),
        ("C.GGUF", "C"),
        ("/", "/"),
    ],
)
def test_a_models_name_until_the_engine_knows_it(model: str, label: str) -> None:
    assert model_label(model) == label


def test_every_phase_has_words() -> None:
    assert [phase_text(phase) for phase in ("checking", "dense", "experts", "measuring")] == [
        "Checking the model",
        "Loading the dense weights",
        "Loading the experts",
        "Measuring how fast this computer is",
    ]
    assert phase_text("something new") == "Something new"


def test_how_the_weights_are_stored() -> None:
    assert weights_text(GGUF) == "Q4_K_M, 4.9 bits"
    assert weights_text(placed_model(GGUF, "cuda")) == weights_text(GGUF)
    assert weights_text(GUIDE) == "BF16, 16 bits"
    assert weights_text(replace(MIXTRAL, dtype="float32")) == "F32, 32 bits"


def test_every_instruction_set_has_words() -> None:
    words = [kernels_text(isa) for isa in ISAS]
    assert words == ["scalar kernels", "AVX2 kernels", "AVX-VNNI kernels", "AVX-512 kernels"]
    assert kernels_text("torch") == "portable kernels (slower)"
    assert kernels_text("neon") == "neon kernels"


def test_the_reason_for_portable_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.kernels.library_path, "find_library", lambda: None)
    assert why_portable().startswith("No C++ compiler was there when Rooftop was installed.")
    assert "make setup" in why_portable()
    monkeypatch.setattr(engine.kernels.library_path, "find_library", lambda: Path("librooftop_cpu.so"))
    assert "cannot be loaded" in why_portable()


def test_facts_of_a_loaded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.kernels.library_path, "find_library", lambda: None)
    line, tip = facts(make_ready("gguf", "cpu", kernels="avx512"))
    assert line == "Q4_K_M, 4.9 bits \N{MIDDLE DOT} CPU: AVX-512 kernels"
    assert "compiler" not in tip
    line, tip = facts(make_ready("gguf", "cpu", kernels="torch"))
    assert line.endswith("CPU: portable kernels (slower)")
    assert "sudo apt install g++" in tip


def test_experts_on_disk_are_a_fact_with_the_speed_to_expect() -> None:
    line, tip = facts(make_ready("gguf", "cpu", on_disk=True))
    assert line.endswith("\N{MIDDLE DOT} experts on disk")
    assert "The experts are kept on disk" in tip
    assert "tokens/s" in tip


def plan_on(ram_bytes: int) -> PlacementPlan:
    """A plan on a PC with less RAM than the model needs."""
    ready = make_ready("gguf", "cpu")
    hardware = replace(ready.planning.hardware, ram_total_bytes=ram_bytes, ram_available_bytes=ram_bytes - 3 * GIB)
    return make_plan(replace(ready.planning, hardware=hardware), ready.effective)


def test_the_engines_remedy_for_too_little_ram_names_the_setting() -> None:
    plan = plan_on(16 * GIB)
    assert not plan.fits
    assert offers_disk(plan.remedy)
    assert "--" in plan.remedy
    assert "--" not in in_window(plan.remedy)
    assert "keep the experts on disk (in Settings), about " in in_window(plan.remedy)


def test_no_disk_is_offered_where_it_would_not_help() -> None:
    plan = plan_on(4 * GIB)
    assert not plan.fits
    assert not offers_disk(plan.remedy)
    assert in_window("Raise the budget.") == "Raise the budget."


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "The experts in VRAM follow the conversation where that pays."),
        (
            {"not_adapting": "Every expert lives in VRAM."},
            "The experts in VRAM stay as they are. Every expert lives in VRAM.",
        ),
        ({"uploads": 1, "uploaded_bytes": 1 << 20}, "1 expert was exchanged in this reply, 1.0 MiB."),
        (
            {"memory_shortages": 2, "uploads": 2, "uploaded_bytes": 1 << 21, "not_adapting": "It does not pay."},
            "VRAM ran out 2 times: fewer experts live there than planned. "
            "2 experts were exchanged in this reply, 2.0 MiB. "
            "The experts in VRAM stay as they are. It does not pay.",
        ),
    ],
)
def test_what_is_said_of_the_experts_in_vram(changes: dict[str, Any], text: str) -> None:
    assert residents_text(replace(make_snapshot(make_ready()), **changes)) == text


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("fiddler", "each runs on the CPU or is copied to the GPU, whichever is faster"),
        ("gpu_stream", "are copied to the GPU whenever they are needed"),
        ("cpu_only", "are in RAM and run on the CPU"),
    ],
)
def test_where_the_experts_are_and_why(policy: Any, words: str) -> None:
    ready = make_ready("mixtral", "cuda")
    ready = replace(ready, effective=replace(ready.effective, policy=policy))
    there = ready.plan.resident_experts
    assert 0 < there < 256
    assert where_words(ready).startswith(f"{there} of 256 experts fit in VRAM and run on the GPU. ")
    assert words in where_words(ready)
    none = replace(ready, plan=replace(ready.plan, resident_by_layer=((),) * 32))
    assert where_words(none).startswith("No expert fits in VRAM. ")
    everything = replace(ready, plan=replace(ready.plan, resident_by_layer=(tuple(range(8)),) * 32))
    assert where_words(everything) == "Every expert fits in VRAM and runs on the GPU."
    assert where_words(make_ready("mixtral", "cpu")) == ""
