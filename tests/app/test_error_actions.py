from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from app.conversation import BROKE_OFF
from app.error_actions import OFFERS, Offer, action_for, offer_for, offer_text, reply_offer
from engine.messages import ErrorReport

ROOT = Path(__file__).parents[2]
CODE = re.compile(r'^ {4}code = "([\w-]+)"|ErrorReport\(\s*"([\w-]+)"', re.MULTILINE)


def codes() -> set[str]:
    """Every code that a source file gives an error."""
    found: set[str] = set()
    for package in ("app", "engine"):
        for path in (ROOT / package).rglob("*.py"):
            found |= {"".join(groups) for groups in CODE.findall(path.read_text(encoding="utf-8"))}
    return found


def test_every_code_has_its_one_button() -> None:
    assert {"checkpoint", "internal", "history", "gpu-lost"} <= codes()
    assert codes() - OFFERS.keys() == set()


def test_every_offer_has_words_of_its_own() -> None:
    words = [offer_text(offer) for offer in get_args(Offer)]
    assert all(words)
    assert len(set(words)) == len(words)


@pytest.mark.parametrize(
    ("message", "remedy", "offer"),
    [
        ("The model needs 28 GiB of RAM.", "Close programs. Or keep the experts on disk (--experts-on-disk).", "disk"),
        ("Dense weights need 9 GiB of VRAM.", "Raise the VRAM budget.", "budget"),
        ("The model needs 93 GiB of RAM.", "Choose a smaller model.", "other_model"),
    ],
)
def test_what_does_not_fit_offers_what_would_help(message: str, remedy: str, offer: Offer) -> None:
    assert offer_for(ErrorReport("does-not-fit", message, remedy)) == offer


def test_what_writing_a_reply_anew_does_already_is_not_offered_twice() -> None:
    offers = {
        code: reply_offer(ErrorReport(code, "No.", "Do.")) for code in ("engine-stopped", BROKE_OFF, "model-missing")
    }
    assert set(offers.values()) == {None}
    assert reply_offer(None) is None
    assert reply_offer(ErrorReport("gpu-lost", "Gone.", "Restart.")) == "restart"


def test_what_nobody_foresaw_or_can_be_done_here_offers_diagnostics() -> None:
    assert offer_for(ErrorReport("brand-new", "Odd.", "")) == "diagnostics"
    asked: list[str] = []
    action = action_for("token", {"diagnostics": lambda: asked.append("diagnostics")})
    action.run()
    assert (action.label, asked) == ("Copy diagnostics…", ["diagnostics"])
