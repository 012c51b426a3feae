"""After a loss: the GPU once more, then the CPU; after a long time in peace, the GPU again."""

from __future__ import annotations

import pytest

from app.recovery import TRUST_S, Recovery
from engine.config import EngineConfig


@pytest.mark.parametrize(
    ("lost_at_s", "devices"),
    [
        ([0.0], ["auto"]),
        ([0.0, 5.0, 6.0], ["auto", "cpu", "cpu"]),
        ([0.0, TRUST_S], ["auto", "auto"]),
        ([0.0, 1.0, 2 * TRUST_S], ["auto", "cpu", "auto"]),
    ],
)
def test_where_the_next_start_runs(lost_at_s: list[float], devices: list[str]) -> None:
    recovery, config = Recovery(), EngineConfig(device="cuda", vram_budget_bytes=5, context_tokens=100)
    settings = [recovery.settings_after_loss(config, now_s) for now_s in lost_at_s]
    assert [each.device for each in settings] == devices
    assert all(each.vram_budget_bytes == 5 and each.context_tokens == 100 for each in settings)
