"""The panel's values as JSON: complete, plain, and as documented."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path

from app.panel_export import SCHEMA, PanelState, panel_values, write_values
from app.reply_history import ReplyHistory
from app.telemetry import MachineSample
from engine.experts.limits import Limit
from engine.messages import Snapshot
from tests.app.snapshots import GIB, Step, make_passes, make_ready, make_snapshot

NOW = datetime(2031, 5, 4, 12, 30, 1, tzinfo=UTC)
MACHINE = MachineSample(64 * GIB, 20 * GIB, 2 * GIB, 12.0)
DOCS = Path(__file__).parents[2] / "docs" / "panel-export.md"


def full_state() -> PanelState:
    ready = make_ready("guide", "simulated")
    history = ReplyHistory()
    history.add(make_passes(ready, 4))
    token = history.view(2, ready, make_snapshot(ready, Step(3)))
    lines = {"speed": [(3.0, 8.5)]}
    return PanelState(ready, token.snapshot, MACHINE, Limit("ram", "RAM.", ""), token, lines, history)


def test_everything_is_there_and_survives_the_file(tmp_path: Path) -> None:
    state = full_state()
    path = tmp_path / "panel.json"
    write_values(panel_values(state, NOW), path)
    values = json.loads(path.read_text(encoding="utf-8"))
    assert (values["schema"], values["saved_at"]) == (SCHEMA, "2031-05-04T12:30:01+00:00")
    assert values["device"] == {"kind": "simulated", "name": "Simulated GPU", "simulated": True}
    assert values["model"]["experts"] == 8
    assert set(values["snapshot"]) == {field.name for field in fields(Snapshot)}
    assert state.snapshot is not None
    assert values["snapshot"]["layers"][0]["runs"][0]["expert"] == state.snapshot.layers[0].runs[0].expert
    assert values["token"]["index"] == 2
    assert [token["text"] for token in values["reply"]] == [" A", " mixture", " of", " experts"]
    assert values["limit"] == {"kind": "ram", "sentence": "RAM.", "advice": ""}
    assert values["machine"]["ram_total_bytes"] == 64 * GIB
    assert values["rates_bytes_per_s"]["machine"]["ram"] > 0
    assert values["timelines"] == {"speed": [[3.0, 8.5]]}


def test_without_a_model() -> None:
    values = panel_values(PanelState(None, None, None, Limit("unknown", ""), None, {}, ReplyHistory()), NOW)
    assert values["machine"] is None
    assert values["token"] is None
    assert "model" not in values


def test_numbers_that_json_does_not_know_are_null(tmp_path: Path) -> None:
    state = full_state()
    assert state.snapshot is not None
    trace = state.snapshot.layers[0]
    odd = trace._replace(runs=(trace.runs[0]._replace(copy_s=math.inf, cpu_s=math.nan),))
    state = replace(state, snapshot=replace(state.snapshot, layers=(odd,)))
    values = panel_values(state, NOW)
    run = values["snapshot"]["layers"][0]["runs"][0]
    assert (run["copy_s"], run["cpu_s"]) == (None, None)
    write_values(values, tmp_path / "panel.json")


def test_half_a_character_is_no_trouble(tmp_path: Path) -> None:
    state = full_state()
    assert state.token is not None
    record = state.token.record._replace(position=9, text="\ud83d")
    state.history.add([record])
    write_values(panel_values(state, NOW), tmp_path / "panel.json")


def test_every_field_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for name in panel_values(full_state(), NOW):
        assert f"`{name}`" in text, name
