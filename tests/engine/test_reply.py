"""The clock of a reply: rates from what really happened, nothing from what did not."""

from __future__ import annotations

import pytest

from engine.messages import Timings
from engine.reply import SNAPSHOT_INTERVAL_S, ReplyClock


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still until a test moves it."""
    time = [100.0]
    monkeypatch.setattr("engine.reply.time.perf_counter", lambda: time[0])
    return time


def test_speeds_are_counts_over_their_own_time(now: list[float]) -> None:
    clock = ReplyClock()
    clock.prompt_tokens, clock.cached_tokens = 110, 10
    now[0] += 2.0
    clock.prefilled()
    for _ in range(5):
        now[0] += 0.5
        clock.token()
    assert clock.timings() == Timings(ttft_s=2.5, prefill_tokens_per_s=50.0, decode_tokens_per_s=2.0)
    assert clock.recent_tokens_per_s() == 2.0
    assert clock.usage().completion_tokens == 5


def test_nothing_is_made_up_before_the_first_token(now: list[float]) -> None:
    clock = ReplyClock()
    now[0] += 1.0
    clock.prefilled()
    assert clock.timings() == Timings(0.0, 0.0, 0.0)
    assert clock.recent_tokens_per_s() == 0.0
    clock.token()
    assert clock.timings().decode_tokens_per_s == 0.0


def test_a_snapshot_is_due_once_per_interval(now: list[float]) -> None:
    clock = ReplyClock()
    assert clock.snapshot_due()
    assert not clock.snapshot_due()
    now[0] += SNAPSHOT_INTERVAL_S
    assert clock.snapshot_due()
