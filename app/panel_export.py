"""The live panel's values as JSON; `docs/panel-export.md` describes every field. No widgets here.

Numbers that JSON does not know (an infinite cost) become null. What the panel says in words is there as numbers too.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

from engine.experts.limits import machine_rates, measured_rates
from engine.traces import ExpertRun, LayerTrace

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from app.reply_history import ReplyHistory, TokenView
    from app.telemetry import MachineSample
    from engine.experts.limits import Limit
    from engine.messages import PassRecord, Ready, Snapshot

SCHEMA = "rooftop-panel/1"


@dataclass(frozen=True, slots=True)
class PanelState:
    """All that the panel shows.

    Attributes:
        ready: The loaded model; None without one.
        snapshot: What is shown, as of the chosen token where there is one.
        machine: The machine's latest sample.
        limit: What limits the speed.
        token: The chosen token; None where the panel is live.
        timelines: Track -> (seconds before now, value).
        history: The reply's tokens.
    """

    ready: Ready | None
    snapshot: Snapshot | None
    machine: MachineSample | None
    limit: Limit
    token: TokenView | None
    timelines: dict[str, list[tuple[float, float]]]
    history: ReplyHistory


def panel_values(state: PanelState, saved_at: datetime) -> dict[str, Any]:
    """Everything as plain values.

    Args:
        state: What the panel shows.
        saved_at: With its time zone.
    """
    values: dict[str, Any] = {
        "schema": SCHEMA,
        "saved_at": saved_at.isoformat(timespec="seconds"),
        "rooftop": metadata.version("rooftop"),
    }
    ready, snapshot = state.ready, state.snapshot
    if ready is not None:
        values["model"] = dataclasses.asdict(ready.model)
        values["device"] = {"kind": ready.plan.device, "name": ready.device_name, "simulated": ready.simulated}
        values["settings"] = dataclasses.asdict(ready.effective)
        values["plan"] = dataclasses.asdict(ready.plan)
        values["costs"] = dataclasses.asdict(ready.planning.costs)
        values["popularity"] = ready.planning.popularity
        values["hardware"] = dataclasses.asdict(ready.planning.hardware)
    if ready is not None and snapshot is not None:
        values["snapshot"] = dataclasses.asdict(snapshot)
        values["rates_bytes_per_s"] = {
            "measured": dataclasses.asdict(measured_rates(snapshot.layers, ready.model)),
            "machine": dataclasses.asdict(machine_rates(ready.planning.costs, ready.model)),
        }
    values["machine"] = dataclasses.asdict(state.machine) if state.machine is not None else None
    values["limit"] = dataclasses.asdict(state.limit)
    values["token"] = _token(state.token.record) if state.token is not None else None
    values["reply"] = [_token(record) for record in state.history]
    values["timelines"] = state.timelines
    return {key: _plain(value) for key, value in values.items()}


def write_values(values: dict[str, Any], path: Path) -> None:
    """Write the file.

    Raises:
        OSError: The system does not let it be written.
    """
    path.write_text(json.dumps(values, ensure_ascii=False, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _token(record: PassRecord) -> dict[str, Any]:
    """A token of the reply, without what its layers did."""
    return {
        "index": record.position, "id": record.token, "text": record.text, "seconds": record.seconds,
        "pass_tokens": record.pass_tokens,
    }  # fmt: skip


def _plain(value: object) -> object:
    """The same with tuples' names, null for numbers that JSON does not know, and text that UTF-8 can hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, ExpertRun | LayerTrace):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
