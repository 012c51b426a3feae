"""`bench --suite predict`: figures of every model and PC, labelled as predictions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.__main__ import main
from engine.bench.gpu.pcs import PCS
from engine.bench.models import SIZES
from engine.bench.predict import report


def test_the_command_writes_a_page_and_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "_SEEDS", (2,))
    monkeypatch.setattr(report, "REPLY_TOKENS", 16)
    monkeypatch.setattr(report, "PROMPTS_TOKENS", (512,))
    assert main(["bench", "--suite", "predict", "--out", str(tmp_path / "o")]) == 0
    page = tmp_path / "o" / "predicted.md"
    assert capsys.readouterr().out == f"Done: {page}\n"
    text, figures = page.read_text(), json.loads((tmp_path / "o" / "predicted.json").read_text())
    assert "nothing here was measured" in text
    assert figures["predicted"] is True
    assert len(figures["cells"]) == len(PCS) * len(SIZES["full"])
    for cell in figures["cells"]:
        assert f"| {cell['model']}, {cell['pc']} |" in text
        ours = cell["decode"]["adaptive"]
        assert 0 < ours["share_of_bound"] <= 1
        assert 0 <= ours["hit_rate"] <= 1
        assert cell["decode_by_best_split"] == pytest.approx(
            ours["tokens_per_s"] / cell["llama_cpp"]["n_cpu_moe"]["tokens_per_s"]
        )
        assert cell["prompts"]["512"]["by_bound"] >= 1


def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "predictions", lambda _: {"cells": [], "pcs": []})
    (tmp_path / "file").touch()
    assert main(["bench", "--suite", "predict", "--out", str(tmp_path / "file")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_what_does_not_fit_is_said() -> None:
    lines = list(report.as_markdown({"pcs": [], "cells": [{"model": "m", "pc": "p", "refused": "No room."}]}))
    assert "- m on p: No room." in lines
