"""From what a user calls a model to the folder or file that holds it."""

from __future__ import annotations

import importlib.resources
import re
from pathlib import Path

from engine.checkpoint.untrusted import quote
from engine.errors import CheckpointError, ModelMissingError
from engine.hub.places import find_downloaded
from engine.sentences import say

GUIDE = "guide"
MAX_MODEL_CHARS = 4096
GIVE_MODEL = say("Give a folder with safetensors files, or a .gguf file.")

_HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(:(?P<title>[\w.-]{1,95}))?", re.ASCII)


def resolve_model(name: str, models: str | None = None) -> Path:
    """The folder or file that a model name stands for; it exists, what it holds is not checked yet.

    Args:
        name: "guide" for the bundled model, a path to a folder or .gguf file (`~` is the home folder), or the name of a
            model on the hub that was downloaded, "owner/name", with ":Q4_K_M" after it where several of its files
            were. Paths win over names on the hub.
        models: The folder of downloaded models; None for the usual one.

    Raises:
        CheckpointError: Nothing is there, it cannot be looked at, or it would have to be downloaded.
    """
    if name == GUIDE:
        return guide_path()
    if not name.strip() or len(name) > MAX_MODEL_CHARS:
        raise CheckpointError(say("{name} is not a path to a model.", name=quote(name)), GIVE_MODEL)
    try:
        path = Path(name).expanduser()
        exists = path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CheckpointError(
            say("{name} cannot be looked up: {reason}.", name=quote(name), reason=quote(reason)), GIVE_MODEL
        ) from error
    if exists:
        return path
    if on_hub := _HUB_ID.fullmatch(name):
        return _downloaded(on_hub["repo"], on_hub["title"] or "", models)
    raise ModelMissingError(
        say("There is no folder or file {name}.", name=quote(name)), say("Check the path, or give 'guide'.")
    )


def _downloaded(repo_id: str, title: str, models: str | None) -> Path:
    """The model of this name that was downloaded.

    Raises:
        CheckpointError: None was, or several.
    """
    found = find_downloaded(repo_id, title, Path(models).expanduser() if models else None)
    if found is None:
        raise CheckpointError(
            say("There is no folder {name}, and no such model was downloaded.", name=quote(repo_id)),
            say(
                "Download it on the model page, or with `python -m engine download --repo {name}`.",
                name=f"{repo_id} --file {title}" if title else repo_id,
            ),
        )
    return found


def guide_path() -> Path:
    """The folder of the bundled model.

    Raises:
        CheckpointError: This installation lacks it.
    """
    try:
        folder = Path(str(importlib.resources.files("resources") / GUIDE))
    except ModuleNotFoundError as error:
        raise _no_guide() from error
    if not folder.is_dir():
        raise _no_guide()
    return folder


def _no_guide() -> CheckpointError:
    """The error for an installation without its model."""
    return CheckpointError(
        say("The bundled model 'guide' is missing from this installation."), say("Install Rooftop again.")
    )
