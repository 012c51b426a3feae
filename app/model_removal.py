"""Deletes a model: its own files and nothing else, into the trash where there is one. No widgets.

What is a model's own: the files of a GGUF model, or its whole folder if nothing but a model's files is in it; of a
folder with other things in it, only what the engine reads. In a Hugging Face cache the links and the blobs that only
they lead to, or the repository's folder where no other version of it is there.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from PySide6.QtCore import QFile

from app.language import tr
from app.model_scan import SAFETENSORS, split_or_itself
from engine.checkpoint.model_folder import CONFIG, GGUF_SUFFIX, INDEX, PICKLE_SUFFIXES, TOKENIZER
from engine.convert.journal import JOURNAL
from engine.errors import RooftopError
from engine.hub.record import MANIFEST

_SUFFIXES = (SAFETENSORS, ".json", ".txt", ".md", ".model", ".jinja", ".tiktoken", *PICKLE_SUFFIXES)
_NAMES = (".gitattributes", ".gitignore", "license", "notice", "readme", ".cache")
_READ = (CONFIG, INDEX, TOKENIZER, MANIFEST)


class RemovalError(RooftopError):
    """A model, or a part of it, could not be deleted."""

    code = "removal"


def own_paths(model: Path) -> tuple[Path, ...]:
    """What would be deleted with a model: files, or one folder that holds nothing else.

    Args:
        model: Its folder or .gguf file.
    """
    repository = _repository(model)
    if repository is not None:
        return _of_repository(model, repository)
    if model.suffix.lower() == GGUF_SUFFIX and not model.is_dir():
        if (model.parent / MANIFEST).is_file():
            return _of_folder(model.parent)
        return tuple(file for file in split_or_itself(model) if os.path.lexists(file))
    return _of_folder(model)


def to_trash(model: Path) -> None:
    """Move a model's own files to the trash.

    Raises:
        RemovalError: The drive has no trash, or a file is in use.
    """
    for path in own_paths(model):
        if not QFile(str(path)).moveToTrash():
            raise RemovalError(
                tr("{name} could not be moved to the trash.").format(name=path.name),
                tr("Delete it for good, or in your file manager."),
            )


def for_good(model: Path) -> None:
    """Delete a model's own files.

    Raises:
        RemovalError: One of them could not be deleted.
    """
    for path in own_paths(model):
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError as error:
            raise RemovalError(
                tr("{name} could not be deleted ({reason}).").format(name=path.name, reason=error.strerror or error),
                tr("Close the programs that use it, and try again."),
            ) from error


def _of_folder(folder: Path) -> tuple[Path, ...]:
    try:
        entries = list(folder.iterdir())
    except OSError:
        return ()
    protected = folder.is_mount() or folder == Path.home() or folder.is_symlink()
    made = any(entry.name in (MANIFEST, JOURNAL) for entry in entries)  # by Rooftop, into a folder of its own
    suffixes = (*_SUFFIXES, GGUF_SUFFIX, JOURNAL) if made else _SUFFIXES
    if not protected and all(_belongs(entry, suffixes) for entry in entries):
        return (folder,)
    weights = (SAFETENSORS, GGUF_SUFFIX, JOURNAL) if made else SAFETENSORS
    return tuple(entry for entry in entries if entry.name in _READ or entry.name.endswith(weights))


def _belongs(entry: Path, suffixes: tuple[str, ...]) -> bool:
    """Whether a file is one that model folders have."""
    name = entry.name.lower()
    if name.startswith(_NAMES):
        return True
    return name.endswith(suffixes) and not entry.is_dir()


def _repository(model: Path) -> Path | None:
    """The folder of a Hugging Face cache that a model lies in; None for other places."""
    for parent in (model, *model.parents):
        if parent.parent.name == "snapshots" and parent.parent.parent.name.startswith("models--"):
            return parent.parent.parent
    return None


def _of_repository(model: Path, repository: Path) -> tuple[Path, ...]:
    snapshots = [entry for entry in (repository / "snapshots").iterdir() if entry.is_dir()]
    wanted = split_or_itself(model) if model.suffix.lower() == GGUF_SUFFIX else [model]
    links = [link for path in wanted for link in (_files(path) if path.is_dir() else [path])]
    others = [file for snapshot in snapshots for file in _files(snapshot) if file not in links]
    if len(snapshots) == 1 and not any(file.name.lower().endswith((GGUF_SUFFIX, SAFETENSORS)) for file in others):
        return (repository,)
    kept = {file.resolve() for file in others}
    blobs = {link.resolve() for link in links if link.is_symlink()} - kept
    own = [blob for blob in sorted(blobs) if blob.parent == (repository / "blobs").resolve() and blob.exists()]
    return (*own, *(path for path in wanted if os.path.lexists(path)))


def _files(folder: Path) -> list[Path]:
    """All files below a folder; links to folders are not entered."""
    return [Path(base) / name for base, _, names in os.walk(folder) for name in names]
