"""The account of uploads: every visit is booked once, losses pause it, and a pause ends in a trial."""

from __future__ import annotations

from engine.experts.regret import LEAST_SETTLED, LONGEST_PAUSE_TOKENS, PAUSE_TOKENS, UNLIMITED, Ledger
from tests.engine.shapes import TINY

HORIZON = 10
SAVING_S, UPLOAD_S = 1e-3, 4e-3


def a_ledger() -> Ledger:
    return Ledger(TINY, HORIZON)


def bought(ledger: Ledger, hits: int, lost: int = 0, uploads: int = LEAST_SETTLED) -> None:
    """Uploads that each bring and lose so many visits within their horizon, one after the other."""
    for _ in range(uploads):
        ledger.bought(0, 0, 1, SAVING_S, UPLOAD_S)
        ledger.visited(0, [1])  # before it has arrived: no hit
        ledger.arrived(0, 1)
        for _ in range(hits):
            ledger.visited(0, [1])
        for _ in range(lost):
            ledger.visited(0, [0])
        for _ in range(HORIZON):
            ledger.tick()


def test_uploads_that_pay_go_on_without_limit() -> None:
    ledger = a_ledger()
    bought(ledger, hits=5, uploads=50)
    assert (ledger.allowance, ledger.pause_reason) == (UNLIMITED, "")


def test_uploads_that_lose_pause_and_say_what_they_lost() -> None:
    ledger = a_ledger()
    bought(ledger, hits=3)
    assert ledger.allowance == 0
    assert ledger.pause_reason.startswith("The latest uploads saved ")
    assert f"{PAUSE_TOKENS} tokens away" in ledger.pause_reason


def test_what_the_leaving_expert_would_have_had_counts_against_an_upload() -> None:
    ledger = a_ledger()
    bought(ledger, hits=5, lost=2)
    assert ledger.allowance == 0


def test_a_few_losses_are_no_judgement() -> None:
    ledger = a_ledger()
    bought(ledger, hits=0, uploads=LEAST_SETTLED - 1)
    assert ledger.allowance == UNLIMITED


def test_an_upload_that_never_arrives_brings_nothing() -> None:
    ledger = a_ledger()
    for _ in range(LEAST_SETTLED):
        ledger.bought(0, 0, 1, SAVING_S, UPLOAD_S)
        for _ in range(HORIZON):
            ledger.visited(0, [1])
            ledger.tick()
    assert ledger.allowance == 0


def test_after_the_pause_a_trial_decides() -> None:
    for hits, allowed in ((5, UNLIMITED), (0, 0)):
        ledger = a_ledger()
        bought(ledger, hits=0)
        for _ in range(PAUSE_TOKENS):
            assert ledger.allowance == 0
            ledger.tick()
        assert (ledger.allowance, ledger.pause_reason) == (LEAST_SETTLED, "")
        bought(ledger, hits, uploads=LEAST_SETTLED)
        assert ledger.allowance == allowed
        if not allowed:
            assert f"{2 * PAUSE_TOKENS} tokens away" in ledger.pause_reason


def paused(ledger: Ledger) -> int:
    """Tokens until uploads may begin again."""
    tokens = 0
    while not ledger.allowance:
        ledger.tick()
        tokens += 1
    return tokens


def test_each_trial_that_fails_is_followed_by_a_longer_pause_up_to_a_limit() -> None:
    ledger, pauses = a_ledger(), []
    for _ in range(10):
        bought(ledger, hits=0)
        pauses.append(paused(ledger))
    assert pauses == [min(PAUSE_TOKENS << turn, LONGEST_PAUSE_TOKENS) for turn in range(10)]
    assert pauses[-2:] == [LONGEST_PAUSE_TOKENS] * 2
    bought(ledger, hits=9)
    assert ledger.allowance == UNLIMITED, "a trial that pays ends that"
    bought(ledger, hits=0, uploads=4 * LEAST_SETTLED)
    assert paused(ledger) <= PAUSE_TOKENS


def test_a_trial_has_few_uploads_open() -> None:
    ledger = a_ledger()
    bought(ledger, hits=0)
    for _ in range(PAUSE_TOKENS):
        ledger.tick()
    for left in range(LEAST_SETTLED, 0, -1):
        assert ledger.allowance == left
        ledger.bought(1, 0, 1, SAVING_S, UPLOAD_S)
    assert ledger.allowance == 0


def test_what_a_plan_overrules_is_not_judged() -> None:
    ledger = a_ledger()
    for _ in range(LEAST_SETTLED):
        ledger.bought(0, 0, 1, SAVING_S, UPLOAD_S)
    ledger.forget()
    for _ in range(2 * HORIZON):
        ledger.tick()
    ledger.arrived(0, 1)
    assert ledger.allowance == UNLIMITED
