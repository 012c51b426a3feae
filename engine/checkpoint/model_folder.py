"""Which files of a model folder hold the weights, and what to say when none do.

Only safetensors and GGUF are ever opened: pickle files can run code, so they are named in a message and left alone.
"""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from engine.checkpoint.gguf_model import stem
from engine.checkpoint.untrusted import check_plain_file_name, quote, read_json_object, unreadable
from engine.errors import CheckpointError, ModelMissingError
from engine.sentences import say

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
GGUF_SUFFIX = ".gguf"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
MAX_INDEX_BYTES = 32 << 20
MAX_INDEX_VALUES = 500_000
MAX_SHARDS = 1024
MAX_TOKENIZER_BYTES = 256 << 20
MAX_LISTED_FILES = 100_000
MAX_NAMES_SHOWN = 3
CHOOSE_MODEL = say("Choose a folder with config.json and safetensors files, or a .gguf file.")


def check_folder(folder: Path) -> None:
    """Hold that a path is a folder with something in it.

    Raises:
        CheckpointError: It is missing, a file, empty, or cannot be listed.
    """
    try:
        exists, is_folder = folder.exists(), folder.is_dir()
    except (OSError, ValueError) as error:
        raise unreadable(folder, error) from error
    if is_folder:
        if not _list_names(folder):
            raise CheckpointError(say("The folder {folder} is empty.", folder=quote(folder)), CHOOSE_MODEL)
    elif not exists:
        raise ModelMissingError(
            say("There is no folder or file {folder}.", folder=quote(folder)),
            say("Check the path, or choose another model."),
        )
    else:
        raise CheckpointError(
            say("{folder} is a file, neither a model folder nor a .gguf file.", folder=quote(folder)), CHOOSE_MODEL
        )


def find_gguf(path: Path) -> Path | None:
    """The GGUF model that a path stands for: the path itself, or the one such model in a folder.

    Returns:
        Its file, or one file of several; None where the path is a folder with safetensors or with no GGUF file.

    Raises:
        CheckpointError: The path leads nowhere, or the folder holds several GGUF models.
    """
    try:
        if path.suffix.lower() == GGUF_SUFFIX and path.is_file():
            return path
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    check_folder(path)
    names = _list_names(path)
    if SINGLE in names or INDEX in names:
        return None
    models = {stem(name): name for name in sorted(names, reverse=True) if name.lower().endswith(GGUF_SUFFIX)}
    if len(models) > 1:
        first = ", ".join(quote(name) for name in sorted(models.values())[:MAX_NAMES_SHOWN])
        left = len(models) - MAX_NAMES_SHOWN
        if left > 0:
            first = say("{names} and {number} more", names=first, number=left)
        raise CheckpointError(
            say(
                "{path} holds {number} GGUF models: {names}.",
                path=quote(path),
                number=len(models),
                names=first,
            ),
            say("Give one of the files."),
        )
    return path / next(iter(models.values())) if models else None


def find_config(folder: Path) -> Path:
    """The config.json of a model folder.

    Raises:
        CheckpointError: The folder or the file is missing; says so where the folder holds another kind of model.
    """
    check_folder(folder)
    names = _list_names(folder)
    if CONFIG in names:
        return folder / CONFIG
    if not any(name.endswith(".safetensors") for name in names):
        _refuse_other_kinds(names, folder)
    raise CheckpointError(
        say("{config} is missing from {folder}.", config=CONFIG, folder=quote(folder)),
        say("Choose the folder that holds it."),
    )


def find_shards(folder: Path) -> dict[str, list[str] | None]:
    """The safetensors files to read, each with the tensors that the index promises there.

    Returns:
        File name -> tensor names; None for a single file, which promises by its header alone.

    Raises:
        CheckpointError: No safetensors, an incomplete download, or an index that is damaged or unsafe.
    """
    names = _list_names(folder)
    if SINGLE in names:
        return {SINGLE: None}
    if INDEX not in names:
        _refuse_other_kinds(names, folder)
        raise CheckpointError(
            say("Neither {single} nor {index} is in {folder}.", single=SINGLE, index=INDEX, folder=quote(folder)),
            say("Finish the download, or choose another folder."),
        )
    shards = _read_index(folder / INDEX)
    absent = sorted(set(shards) - names)
    if absent:
        raise CheckpointError(
            say(
                "{number} of {total} files named in {index} are missing, the first is {name}.",
                number=len(absent),
                total=len(shards),
                index=INDEX,
                name=quote(absent[0]),
            ),
            say("Finish the download."),
        )
    return {file: list(tensors) for file, tensors in shards.items()}


def check_tokenizer(folder: Path) -> None:
    """Hold that a model folder has a tokenizer.json of a plausible size.

    Raises:
        CheckpointError: It is missing, empty or huge.
    """
    path = folder / TOKENIZER
    try:
        size = path.stat().st_size if path.is_file() else None
    except OSError as error:
        raise unreadable(path, error) from error
    if size is None:
        raise CheckpointError(
            say(
                "{tokenizer} is missing from {folder}; it turns text into tokens.",
                tokenizer=TOKENIZER,
                folder=quote(folder),
            ),
            say("Download {tokenizer} of this model into that folder.", tokenizer=TOKENIZER),
        )
    if not 0 < size <= MAX_TOKENIZER_BYTES:
        raise CheckpointError(
            say(
                "{tokenizer} is {size} bytes long, outside 1 to {most}.",
                tokenizer=TOKENIZER,
                size=size,
                most=MAX_TOKENIZER_BYTES,
            ),
            say("Download this file again."),
        )


def _read_index(path: Path) -> dict[str, list[str]]:
    """The index turned around: safe file name -> tensor names."""
    weight_map = read_json_object(path, MAX_INDEX_BYTES, MAX_INDEX_VALUES).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(
            say("{index} has no weight_map that names files.", index=INDEX), say("Download this file again.")
        )
    shards: dict[str, list[str]] = {}
    for tensor, file in weight_map.items():
        if not isinstance(file, str) or file not in shards:
            shards[check_plain_file_name(file, ".safetensors", INDEX)] = []
        shards[file].append(tensor)
        if len(shards) > MAX_SHARDS:
            raise CheckpointError(
                say("{index} names over {most} files.", index=INDEX, most=MAX_SHARDS),
                say("Get the model from its publisher."),
            )
    return shards


def _list_names(folder: Path) -> set[str]:
    """Names in a folder, up to a limit that no model comes near."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in islice(entries, MAX_LISTED_FILES)}
    except (OSError, ValueError) as error:
        raise unreadable(folder, error) from error


def _refuse_other_kinds(names: set[str], folder: Path) -> None:
    """Say what a folder without usable safetensors holds instead, where that is known."""
    if any(name.lower().endswith(PICKLE_SUFFIXES) for name in names):
        raise CheckpointError(
            say("{folder} holds only pickle files, which can run code.", folder=quote(folder)),
            say("Download the safetensors version."),
        )
