"""What a repository on the hub holds, and which of its files make one model.

A repository with twelve GGUF quantisations offers twelve choices, each with all its split parts; one in Hugging Face
form offers its shards with their index, config and tokenizer. Nothing else is ever taken: no pickle, no code.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from engine.checkpoint.gguf_model import stem
from engine.checkpoint.model_folder import CONFIG, GGUF_SUFFIX, INDEX, PICKLE_SUFFIXES, SINGLE
from engine.checkpoint.untrusted import quote
from engine.errors import UnsupportedModelError
from engine.hub.names import check_distinct, check_path
from engine.sentences import say

Format = Literal["GGUF", "safetensors", "wheels"]

MAX_FILES = 5000
ALLOWED_SUFFIXES = (".safetensors", GGUF_SUFFIX, ".json", ".txt", ".jinja", ".model")

_COMPANIONS = frozenset(
    (
        CONFIG,
        "generation_config.json",
        "quantize_config.json",
        "quant_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "tokenizer.model",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "chat_template.jinja",
        "chat_template.json",
    )
)
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.(?:safetensors|gguf)", re.IGNORECASE)
_QUANTISATION = re.compile(
    r"(?:.*?[-._])?((?:UD-)?(?:I?Q\d(?:_[A-Z0-9]+)*|TQ\d_\d|MXFP4(?:_MOE)?|BF16|F16|F32|FP16|FP32))", re.IGNORECASE
)
_NOT_A_MODEL = re.compile(r"mmproj|imatrix", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a repository.

    Attributes:
        path: Inside the repository, checked.
        size_bytes: Its length.
        sha256: Of its content, in hexadecimal; None for a small file that the hub keeps in git itself.
        etag: What the hub calls this version: the SHA-256, or for the small ones git's own SHA-1.
    """

    path: str
    size_bytes: int
    sha256: str | None
    etag: str

    @property
    def name(self) -> str:
        """What the file is called in the model's folder."""
        return PurePosixPath(self.path).name


@dataclass(frozen=True, slots=True)
class Repository:
    """A model repository at one commit.

    Attributes:
        repo_id: "owner/name".
        commit: The commit that is meant, so that what the owner changes later cannot mix in.
        files: Those that may be taken, by path; empty in the results of a search.
        licence: As the repository states it; "" where it does not.
        gated: Whether the owner lets in only some accounts.
        downloads: In the last month, as the hub counts; None where it does not say.
        has_pickle: Whether there are weights that could run code; they are never taken.
        tags: What the hub and the owner call it.
    """

    repo_id: str
    commit: str
    files: tuple[RemoteFile, ...] = ()
    licence: str = ""
    gated: bool = False
    downloads: int | None = None
    has_pickle: bool = False
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """The files of a repository that make one model.

    Attributes:
        title: What tells it from the repository's others: "Q4_K_M", or "safetensors".
        format: What kind of files they are; wheels, which come from no hub, are what the GPU component is made of.
        files: All of them; the small ones first, so that a mistake shows before gigabytes have come.
        total_bytes: Of all of them.
        repo_id: "owner/name".
        commit: The repository's commit.
        licence: The repository's.
        gated: The repository's.
    """

    title: str
    format: Format
    files: tuple[RemoteFile, ...]
    total_bytes: int
    repo_id: str
    commit: str
    licence: str = ""
    gated: bool = False


def is_allowed(path: str) -> bool:
    """Whether a file is of a type that may be taken at all."""
    return path.lower().endswith(ALLOWED_SUFFIXES)


def is_pickle(path: str) -> bool:
    """Whether a file could run code when it is loaded."""
    return path.lower().endswith(PICKLE_SUFFIXES)


def choices(repository: Repository) -> tuple[Choice, ...]:
    """What can be downloaded from a repository, the smallest first.

    Raises:
        UnsafeRepositoryError: It has too many files, or one whose name cannot be taken.
        UnsupportedModelError: Nothing in it is a model that Rooftop reads; the sentence says why.
    """
    for file in repository.files:
        check_path(file.path)
    check_distinct(file.path for file in repository.files)
    found = [*_gguf_choices(repository), *_safetensors_choice(repository)]
    if not found:
        raise _nothing(repository)
    return tuple(sorted(found, key=lambda choice: (choice.total_bytes, choice.title)))


def _gguf_choices(repository: Repository) -> list[Choice]:
    groups: dict[str, list[RemoteFile]] = defaultdict(list)
    for file in repository.files:
        if file.path.lower().endswith(GGUF_SUFFIX) and not _NOT_A_MODEL.search(file.name):
            groups[str(PurePosixPath(file.path).parent / stem(file.name))].append(file)
    whole = {key: files for key, files in groups.items() if _is_whole(files)}
    titles = _titles(list(whole))
    return [_choice(repository, titles[key], "GGUF", files) for key, files in whole.items()]


def _safetensors_choice(repository: Repository) -> list[Choice]:
    root = {file.path: file for file in repository.files if "/" not in file.path}
    if CONFIG not in root:
        return []
    if INDEX in root:
        weights = [file for path, file in root.items() if path.endswith(".safetensors")]
        shards = [file for file in weights if file.path.startswith("model-") and _SHARD.fullmatch(file.path)]
        weights = shards or weights
        if not weights or not _is_whole(shards):
            return []
        weights.append(root[INDEX])
    elif SINGLE in root:
        weights = [root[SINGLE]]
    else:
        return []
    companions = [file for path, file in root.items() if path in _COMPANIONS]
    return [_choice(repository, "safetensors", "safetensors", [*companions, *weights])]


def _choice(repository: Repository, title: str, kind: Format, files: list[RemoteFile]) -> Choice:
    in_order = sorted(files, key=lambda file: (file.path.endswith((".safetensors", GGUF_SUFFIX)), file.path))
    return Choice(
        title=title,
        format=kind,
        files=tuple(in_order),
        total_bytes=sum(file.size_bytes for file in files),
        repo_id=repository.repo_id,
        commit=repository.commit,
        licence=repository.licence,
        gated=repository.gated,
    )


def _titles(keys: list[str]) -> dict[str, str]:
    """For each group of GGUF files what tells it from the others: its quantisation, else its name, else its path."""
    names = {key: PurePosixPath(key).name for key in keys}
    short = {key: found[1] if (found := _QUANTISATION.fullmatch(name)) else name for key, name in names.items()}
    for candidates in (short, names):
        if len({title.casefold() for title in candidates.values()}) == len(keys):
            return candidates
    return {key: key.replace("/", "-") for key in keys}


def _is_whole(files: list[RemoteFile]) -> bool:
    """Whether every file of a split model is there; true of what is not split."""
    parts = [found for file in files if (found := _SHARD.fullmatch(file.name))]
    if not parts:
        return True
    counts = {int(part["count"]) for part in parts}
    numbers = sorted(int(part["number"]) for part in parts)
    return len(counts) == 1 and numbers == list(range(1, counts.pop() + 1))


def _nothing(repository: Repository) -> UnsupportedModelError:
    """Why a repository offers nothing."""
    name = quote(repository.repo_id)
    paths = [file.path for file in repository.files]
    remedy = say("Choose a repository with GGUF or safetensors files.")
    if any(_SHARD.fullmatch(PurePosixPath(path).name) for path in paths):
        return UnsupportedModelError(
            say("{name} lacks some of the files of its model.", name=name), say("Choose another repository.")
        )
    if any(path.endswith(".safetensors") for path in paths):
        return UnsupportedModelError(
            say(
                "{name} has safetensors files, but no {config} with {single} or {index} beside it.",
                name=name,
                config=CONFIG,
                single=SINGLE,
                index=INDEX,
            ),
            remedy,
        )
    if repository.has_pickle:
        return UnsupportedModelError(
            say("{name} has its weights only as pickle files, which can run code and are never opened.", name=name),
            remedy,
        )
    return UnsupportedModelError(say("{name} holds no model files that Rooftop reads.", name=name), remedy)
