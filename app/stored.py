"""What the program keeps on this machine, and where; knows no widgets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import platformdirs

from app.language import tr
from app.settings import APP_NAME
from engine.gpu_packages import default_root


@dataclass(frozen=True, slots=True)
class StoredPlace:
    """One folder.

    Attributes:
        what: Its content, in a word or two.
        why: What it is for, in a sentence.
        folder: Where it lies; it need not be there yet.
    """

    what: str
    why: str
    folder: Path


def stored_places() -> tuple[StoredPlace, ...]:
    """Every folder that the program writes to by itself."""
    return (
        StoredPlace(
            tr("Settings and presets"),
            tr("Two JSON files and their last good copies."),
            platformdirs.user_config_path(APP_NAME, appauthor=False),
        ),
        StoredPlace(
            tr("Chats and popularity of experts"),
            tr("How often each expert of a model was used, so that the next start knows; chats, where they are kept."),
            platformdirs.user_data_path(APP_NAME, appauthor=False),
        ),
        StoredPlace(
            tr("GPU support"),
            tr("PyTorch for CUDA and NVIDIA's libraries, where you have installed them; the settings remove them."),
            default_root(),
        ),
        StoredPlace(
            tr("Measured costs"),
            tr("How fast this machine computes and copies an expert; it can be deleted at any time."),
            platformdirs.user_cache_path(APP_NAME, appauthor=False),
        ),
        StoredPlace(
            tr("Logs"),
            tr("What went wrong, for a report of a problem; no text of your chats."),
            platformdirs.user_log_path(APP_NAME, appauthor=False),
        ),
    )
