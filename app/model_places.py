"""Where models lie on this system: Rooftop's own folder, other programs' folders, and those that the user named.

Knows folders only, not what is in them. Environment variables are handed in, so that tests need none.
"""

from __future__ import annotations

import configparser
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from app.language import tr
from engine.hub.places import default_models_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

Source = Literal["guide", "rooftop", "huggingface", "lmstudio", "gpt4all", "folder"]
MAX_FOREIGN_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """A folder to look for models in.

    Attributes:
        source: Whose it is.
        folder: Its path; it need not exist.
    """

    source: Source
    folder: Path


def source_words(source: Source) -> str:
    """Whose folder it is, for the window."""
    return {
        "guide": tr("comes with Rooftop"),
        "rooftop": tr("Rooftop's folder"),
        "huggingface": tr("Hugging Face cache"),
        "lmstudio": "LM Studio",
        "gpt4all": "GPT4All",
        "folder": tr("your folder"),
    }[source]


def own_models_folder(chosen: str = "") -> Path:
    """Where Rooftop puts downloaded models.

    Args:
        chosen: The setting; "" for the default.
    """
    return Path(chosen) if chosen else default_models_folder()


def model_places(
    environment: Mapping[str, str], home: Path, own: str = "", added: tuple[str, ...] = ()
) -> tuple[Place, ...]:
    """All folders to look in, each once, the ones that the user named first after Rooftop's own.

    Args:
        environment: For HF_HUB_CACHE, HF_HOME and their like.
        home: The user's home folder.
        own: The setting for Rooftop's own models folder.
        added: Folders that the user named.
    """
    places = [
        Place("rooftop", own_models_folder(own)),
        *(Place("folder", Path(folder)) for folder in added),
        *(Place("huggingface", folder) for folder in _hub_caches(environment, home)),
        *(Place("lmstudio", folder) for folder in _lm_studio(home)),
        *(Place("gpt4all", folder) for folder in _gpt4all(environment, home)),
    ]
    return tuple({place.folder: place for place in reversed(places)}.values())[::-1]


def _hub_caches(environment: Mapping[str, str], home: Path) -> list[Path]:
    """The Hugging Face cache, as huggingface_hub finds it."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environment.get(name):
            return [Path(environment[name]).expanduser()]
    if environment.get("HF_HOME"):
        return [Path(environment["HF_HOME"]).expanduser() / "hub"]
    base = Path(environment["XDG_CACHE_HOME"]) if environment.get("XDG_CACHE_HOME") else home / ".cache"
    return [base / "huggingface" / "hub"]


def _lm_studio(home: Path) -> list[Path]:
    """LM Studio's folders: where it was moved to, where its settings say, and its two defaults."""
    bases = [home / ".lmstudio", home / ".cache" / "lm-studio"]
    pointer = _read(home / ".lmstudio-home-pointer").strip()
    if pointer:
        bases.insert(0, Path(pointer))
    folders = []
    for base in bases:
        try:
            chosen = json.loads(_read(base / "settings.json") or "{}").get("downloadsFolder")
        except (ValueError, AttributeError, RecursionError):
            chosen = None
        if isinstance(chosen, str) and chosen:
            folders.append(Path(chosen))
        folders.append(base / "models")
    return folders


def _gpt4all(environment: Mapping[str, str], home: Path) -> list[Path]:
    """GPT4All's folder, and where its settings say instead."""
    local = environment.get("LOCALAPPDATA")
    if sys.platform == "darwin":
        data = home / "Library" / "Application Support"
    elif sys.platform == "win32" and local:
        data = Path(local)
    else:
        data = Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share")
    roaming = environment.get("APPDATA") if sys.platform == "win32" else None
    config = Path(roaming or environment.get("XDG_CONFIG_HOME") or home / ".config")
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(_read(config / "nomic.ai" / "GPT4All.ini"))
        chosen = parser.get("General", "modelPath", fallback="")
    except (configparser.Error, ValueError):
        chosen = ""
    return [*([Path(chosen)] if chosen else []), data / "nomic.ai" / "GPT4All"]


def _read(path: Path) -> str:
    """What another program wrote, "" where it cannot be read or is far too large."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_FOREIGN_BYTES).decode("utf-8", errors="replace")
    except (OSError, ValueError):
        return ""
