"""After a loss: the GPU once more, then the CPU; after a long time in peace, the GPU again."""

from __future__ import annotations

import pytest

from app.recovery import TRUST_S, Recovery
from engine.config import EngineConfig
from tests.app.snapshots import make_ready


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


def test_the_users_next_settings_stay_on_the_device_that_was_left_until_a_model_is_loaded() -> None:
    recovery, config = Recovery(), EngineConfig(device="cuda")
    assert recovery.in_force(config) == config
    for now_s in (0.0, 1.0):
        recovery.settings_after_loss(config, now_s)
    assert recovery.in_force(EngineConfig(device="cuda", context_tokens=100)).device == "cpu"
    assert recovery.in_force(EngineConfig(device="cuda", context_tokens=100)).context_tokens == 100
    recovery.forget_model()
    assert recovery.in_force(config) == config


def test_where_the_model_runs_now_is_said_once() -> None:
    recovery, on_gpu = Recovery(), make_ready("mixtral", "cuda")
    assert recovery.words_when_ready(on_gpu) == ""
    recovery.settings_after_loss(EngineConfig(device="cuda"), 0.0)
    assert "is back" in recovery.words_when_ready(on_gpu)
    assert recovery.words_when_ready(on_gpu) == ""
    recovery.settings_after_loss(EngineConfig(device="cuda"), 1.0)
    assert "runs on the CPU" in recovery.words_when_ready(make_ready("mixtral", "cpu"))
    recovery.settings_after_loss(EngineConfig(device="cuda"), 2.0)
    recovery.forget_model()
    assert recovery.words_when_ready(on_gpu) == "", "another model was loaded by the user"
