"""Where downloaded models lie, and which of them a name on the hub stands for.

MODELS/owner/name              a model in Hugging Face form
MODELS/owner/name--Q4_K_M      a GGUF model: names on the hub have no double dash
MODELS/.downloads/KEY          one that is not complete; no model is looked for in there
"""

from __future__ import annotations

import re
from pathlib import Path

import platformdirs

from engine.checkpoint.gguf_model import stem
from engine.checkpoint.model_folder import GGUF_SUFFIX
from engine.checkpoint.untrusted import quote
from engine.errors import CheckpointError
from engine.hub.names import COMMIT
from engine.hub.record import MANIFEST, read_choice
from engine.hub.repository import Choice
from engine.sentences import say

UNFINISHED = ".downloads"
SEPARATOR = "--"

_APP = "rooftop"
_UNUSUAL = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)


def default_models_folder() -> Path:
    """Where models are kept unless the user has chosen another folder."""
    return platformdirs.user_data_path(_APP, appauthor=False) / "models"


def target_of(models: Path, choice: Choice) -> Path:
    """The folder that a choice has when it is complete."""
    owner, name = choice.repo_id.split("/")
    return models / owner / (name + _suffix(choice))


def key_of(choice: Choice) -> str:
    """What tells a download from all others; a plain file name."""
    return choice.repo_id.replace("/", SEPARATOR) + _suffix(choice)


def unfinished_folder(models: Path, key: str) -> Path:
    """Where the parts of a download are."""
    return models / UNFINISHED / key


def unfinished(models: Path) -> dict[str, Choice]:
    """The downloads that were begun and not completed, by key."""
    folder = models / UNFINISHED
    try:
        places = sorted(place for place in folder.iterdir() if place.is_dir())
    except OSError:
        return {}
    found = ((place.name, read_choice(place / MANIFEST)) for place in places)
    return {key: choice for key, choice in found if choice is not None and key_of(choice) == key}


def model_path(folder: Path, choice: Choice) -> Path:
    """What to load of a complete folder: the folder, or the first file of a GGUF model."""
    return folder / choice.files[0].name if choice.format == "GGUF" else folder


def find_downloaded(
    repo_id: str, title: str = "", models: Path | None = None, cache: Path | None = None
) -> Path | None:
    """The model that a name on the hub stands for on this disk.

    Args:
        repo_id: "owner/name".
        title: Which of a repository's GGUF models, e.g. "Q4_K_M"; "" for the only one.
        models: Rooftop's models folder; None for the usual one.
        cache: The Hugging Face cache; None for the usual one.

    Returns:
        A folder or a .gguf file; None where it has not been downloaded.

    Raises:
        CheckpointError: There are several, so a title is needed.
    """
    ours = _ours(repo_id, models or default_models_folder())
    if title:
        wanted = title.casefold()
        return next((path for name, path in ours.items() if name.casefold() == wanted), _cached(repo_id, cache, wanted))
    if len(ours) > 1:
        raise CheckpointError(
            say(
                "Several models of {name} are here: {titles}.",
                name=quote(repo_id),
                titles=", ".join(ours),
            ),
            say("Give one of them as {name}.", name=f"{repo_id}:{next(iter(ours))}"),
        )
    return next(iter(ours.values())) if ours else _cached(repo_id, cache)


def _ours(repo_id: str, models: Path) -> dict[str, Path]:
    """The complete downloads of a repository by title."""
    owner, name = repo_id.split("/")
    try:
        folders = sorted((models / owner).iterdir())
    except OSError:
        return {}
    found = {}
    for folder in folders:
        if folder.name == name or folder.name.startswith(name + SEPARATOR):
            choice = read_choice(folder / MANIFEST)
            if choice is not None and choice.repo_id == repo_id:
                found[choice.title] = model_path(folder, choice)
    return found


def _cached(repo_id: str, cache: Path | None, title: str = "") -> Path | None:
    """The snapshot of the main branch in the Hugging Face cache, or the GGUF file in it whose name ends in a title."""
    if cache is None:
        from huggingface_hub.constants import HF_HUB_CACHE

        cache = Path(HF_HUB_CACHE)
    folder = cache / f"models--{repo_id.replace('/', SEPARATOR)}"
    try:
        commit = (folder / "refs" / "main").read_text(encoding="ascii").strip()
        snapshot = folder / "snapshots" / commit
        if not COMMIT.fullmatch(commit) or not snapshot.is_dir():
            return None
        if not title:
            return snapshot
        files = sorted(snapshot.rglob(f"*{GGUF_SUFFIX}"))
        return next((path for path in files if stem(path.name).casefold().endswith(title)), None)
    except (OSError, ValueError):
        return None


def _suffix(choice: Choice) -> str:
    """What is added to the repository's name for one of several models in it."""
    return SEPARATOR + _UNUSUAL.sub("-", choice.title).strip("-.") if choice.format == "GGUF" else ""
