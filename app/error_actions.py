"""The one button that each error offers: a table from its code, and the words on the button.

Who shows an error says what each offer does there (`action_for`); an error that nobody foresaw offers the diagnostics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from app.conversation import BROKE_OFF
from app.engine_words import offers_disk
from app.language import tr
from app.widgets.banner import Action

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.messages import ErrorReport

Offer = Literal[
    "other_model", "budget", "settings", "disk", "restart", "load_again", "retry", "edit", "other_file", "open_folder",
    "token", "get_model", "diagnostics",
]  # fmt: skip

OFFERS: dict[str, Offer] = {
    # the engine's tree
    "error": "diagnostics",
    "input": "other_model",
    "checkpoint": "other_model",
    "model-missing": "retry",
    "unsupported-model": "other_model",
    "configuration": "settings",
    "does-not-fit": "budget",
    "prompt-too-long": "edit",
    "engine": "restart",
    "out-of-memory": "budget",
    "gpu-lost": "restart",
    "engine-stopped": "restart",
    "internal": "diagnostics",
    "cancelled": "load_again",
    # downloads
    "hub": "retry",
    "hub-unreachable": "retry",
    "not-on-hub": "get_model",
    "gated": "token",
    "unsafe-repository": "get_model",
    "damaged-download": "retry",
    "disk-full": "open_folder",
    # conversions
    "conversion": "retry",
    "conversion-source": "open_folder",
    # the window's own
    "settings": "retry",
    "history": "retry",
    "history-newer": "open_folder",
    "history-damaged": "retry",
    "attachment": "other_file",
    "chat-file": "other_file",
    "already-running": "retry",
    "removal": "open_folder",
    "updates": "retry",
}


def offer_for(error: ErrorReport) -> Offer:
    """What helps with an error; the engine's own words decide between too little VRAM and too little RAM."""
    if error.code == "does-not-fit":
        if offers_disk(error.remedy):
            return "disk"
        return "budget" if "VRAM" in error.message else "other_model"
    return OFFERS.get(error.code, "diagnostics")


def reply_offer(error: ErrorReport | None) -> Offer | None:
    """What helps with a reply that failed, besides writing it anew, which also starts an engine that has stopped.

    Args:
        error: Why it failed; None where it was closed with the window.
    """
    if error is None or error.code in ("engine-stopped", BROKE_OFF):
        return None
    offer = offer_for(error)
    return None if offer == "retry" else offer


def offer_text(offer: Offer) -> str:
    """What the button says."""
    return {
        "other_model": tr("Choose another model…"),
        "budget": tr("Change VRAM budget…"),
        "settings": tr("Settings…"),
        "disk": tr("Keep experts on disk and load"),
        "restart": tr("Restart engine"),
        "load_again": tr("Load again"),
        "retry": tr("Try again"),
        "edit": tr("Edit"),
        "other_file": tr("Choose another file…"),
        "open_folder": tr("Open folder"),
        "token": tr("Enter access token…"),
        "get_model": tr("Get another model…"),
        "diagnostics": tr("Copy diagnostics…"),
    }[offer]


def action_for(offer: Offer, run: Mapping[Offer, Callable[[], object]]) -> Action:
    """The button.

    Args:
        offer: What helps.
        run: What each offer does here; diagnostics must be among them, and stand in for one that is not.
    """
    possible = offer if offer in run else "diagnostics"
    return Action(offer_text(possible), run[possible])
