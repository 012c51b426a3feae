"""What models a folder holds, by names and sizes first and by their headers where those are new. No Qt.

A scan is bounded in depth, folders and entries; a folder is entered once, however many links lead to it, and one that
cannot be listed is passed over. Weights are never read: `open_checkpoint` looks at headers.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.checkpoint.catalog import GUIDE, guide_path
from engine.checkpoint.checkpoint import open_checkpoint
from engine.checkpoint.families import FAMILIES
from engine.checkpoint.gguf_model import split_paths, stem
from engine.checkpoint.model_config import model_name, read_model_config
from engine.checkpoint.model_folder import CONFIG, GGUF_SUFFIX, INDEX, PICKLE_SUFFIXES, check_tokenizer
from engine.config import DTYPE_FORMATS, ModelConfig
from engine.convert.journal import JOURNAL
from engine.convert.workplace import SUFFIX, WEIGHTS
from engine.errors import RooftopError
from engine.sentences import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.model_places import Place, Source

MAX_DEPTH = 7  # a model in a hub cache lies four folders deep
MAX_FOLDERS = 4000
MAX_ENTRIES = 100_000
MAX_MODELS = 1000
SAFETENSORS = ".safetensors"
GUIDE_NAME = "Rooftop guide"

_PIPELINE = "model_index.json"  # of a model that makes pictures: its parts are none that we run
_NEVER_ENTERED = ("blobs", "refs", "node_modules", "__pycache__")
_PROJECTOR = "mmproj"  # sees pictures for another file's model
_READ_WITH_WEIGHTS = (CONFIG, INDEX)
_GGUF_MAGIC = b"GGUF"
_SHARD = re.compile(r".+-\d{5}-of-(\d{5})\.safetensors")


@dataclass(frozen=True, slots=True)
class Candidate:
    """What looks like a model.

    Attributes:
        path: What the engine is given: a folder or the first .gguf file.
        source: Whose folder it lies in.
        files: Its weights, as far as they are there.
        size_bytes: Of these files.
        stamp: Changes when a file does.
        identity: The files themselves, whatever links lead to them.
    """

    path: Path
    source: Source
    files: tuple[Path, ...]
    size_bytes: int
    stamp: str
    identity: frozenset[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model on this computer.

    Attributes:
        path: What to load it by: a folder, a .gguf file, or "guide".
        name: What to call it.
        source: Whose folder it lies in.
        size_bytes: Of its weights on disk.
        config: Its shape; None where it cannot be run or is not there.
        problem: Why it cannot be run, in a sentence; "" where it can.
        remedy: What to do about that.
        offline: The drive that it was on is not there now.
        stamp: Changes when a file does.
    """

    path: str
    name: str
    source: Source
    size_bytes: int
    config: ModelConfig | None = None
    problem: str = ""
    remedy: str = ""
    offline: bool = False
    stamp: str = ""

    @property
    def runs(self) -> bool:
        """Whether the engine can run it, as far as its headers tell."""
        return self.config is not None and not self.offline

    @property
    def can_be_smaller(self) -> bool:
        """Whether it is in floats and of a family that can be converted."""
        config = self.config
        in_floats = config is not None and config.quantization is None and config.compatibility is None
        return in_floats and self.runs and self.path != GUIDE

    @property
    def family(self) -> str:
        """What people call its architecture; "" where it is not known."""
        if self.config is None:
            return ""
        known = FAMILIES.get(self.config.family)
        return known.title if known is not None else self.config.family

    @property
    def format(self) -> str:
        """How its weights are stored, e.g. "Q4_K_M"."""
        if self.config is not None:
            return self.config.quantization or DTYPE_FORMATS[self.config.dtype]
        return "GGUF" if self.path.lower().endswith(GGUF_SUFFIX) else ""

    @property
    def parameters(self) -> int:
        """All its weights, 0 where they are not known."""
        config = self.config
        return config.total_experts * config.expert_parameters + config.dense_parameters if config is not None else 0

    @property
    def active_parameters(self) -> int:
        """The weights that one token uses."""
        config = self.config
        if config is None:
            return 0
        return config.layers * config.experts_per_token * config.expert_parameters + config.dense_parameters


def candidates(place: Place, stopped: Callable[[], bool] = lambda: False) -> Iterator[Candidate]:
    """What looks like a model in a folder and the folders below it.

    Args:
        place: Where to look.
        stopped: Asked at every folder; True ends the search.
    """
    waiting: list[tuple[Path, int]] = [(place.folder, 0)]
    entered: set[tuple[int, int]] = set()
    entries = models = 0
    while waiting and len(entered) < MAX_FOLDERS and entries < MAX_ENTRIES and not stopped():
        folder, depth = waiting.pop()
        listed = _list(folder, entered, MAX_ENTRIES - entries)
        if listed is None:
            continue
        names, folders = listed
        entries += len(names) + len(folders)
        if _PIPELINE in names:
            continue
        for candidate in _in_folder(folder, names, place.source):
            models += 1
            if models > MAX_MODELS:
                return
            yield candidate
        if depth < MAX_DEPTH:
            below = sorted((name for name in folders if _is_entered(name)), reverse=True)
            waiting += [(folder / name, depth + 1) for name in below]


def candidate_at(path: Path, source: Source) -> Candidate | None:
    """The model that a path leads to; None where none is there."""
    if path.suffix.lower() == GGUF_SUFFIX:
        return _of_files(path, split_or_itself(path), source)
    listed = _list(path, set(), MAX_ENTRIES)
    return next((one for one in _in_folder(path, listed[0], source) if one.path == path), None) if listed else None


def is_no_model(path: Path) -> bool:
    """Whether a look suffices to see that something is no model: a file of another kind, a folder without one's files.

    What cannot be looked at may be one.
    """
    try:
        if path.is_file():
            with path.open("rb") as file:
                return file.read(len(_GGUF_MAGIC)) != _GGUF_MAGIC
        names = {entry.name.lower() for entry in os.scandir(path)}
    except OSError:
        return False
    return CONFIG not in names and not any(name.endswith(GGUF_SUFFIX) for name in names)


def glance(candidate: Candidate) -> FoundModel | None:
    """What config.json says of a model whose files are all there; the headers, which may hold 20,000 tensors, wait.

    Returns:
        None where only `inspect` can tell: of a GGUF file, of a family that transformers runs, and of any problem.
    """
    files = candidate.files
    counts = {int(shard[1]) for file in files if (shard := _SHARD.fullmatch(file.name))}
    if not all(file.suffix == SAFETENSORS for file in files) or counts - {len(files)}:
        return None
    try:
        config = read_model_config(candidate.path)
        check_tokenizer(candidate.path)
    except RooftopError:
        return None
    return replace(_found(candidate), config=config)


def inspect(candidate: Candidate) -> FoundModel:
    """Read a candidate's headers; what cannot be run is told apart by its problem."""
    found = _found(candidate)
    try:
        with open_checkpoint(candidate.path) as checkpoint:
            config = checkpoint.config
        if (candidate.path / CONFIG).is_file():  # a GGUF file has its own, in a folder of its own too
            check_tokenizer(candidate.path)
    except RooftopError as error:
        return replace(found, problem=error.message, remedy=error.remedy)
    return replace(found, config=config)


def _found(candidate: Candidate) -> FoundModel:
    """What its names and sizes tell."""
    return FoundModel(
        path=str(candidate.path),
        name=name_of(candidate.path),
        source=candidate.source,
        size_bytes=candidate.size_bytes,
        stamp=candidate.stamp,
    )


def bundled_guide() -> FoundModel:
    """The model that comes with Rooftop."""
    try:
        there = candidate_at(guide_path(), "guide")
    except RooftopError as error:
        return FoundModel(GUIDE, GUIDE_NAME, "guide", 0, problem=error.message, remedy=error.remedy)
    if there is None:
        return FoundModel(GUIDE, GUIDE_NAME, "guide", 0, problem=say("The bundled model is missing."))
    return replace(inspect(there), path=GUIDE, name=GUIDE_NAME)


def split_or_itself(path: Path) -> list[Path]:
    """All files of a GGUF model, or the one file whose name makes no sense."""
    try:
        return split_paths(path)
    except RooftopError:
        return [path]


# ---- one folder -----------------------------------------------------------------------------------------------------


def _list(folder: Path, entered: set[tuple[int, int]], most: int) -> tuple[set[str], list[str]] | None:
    """Files and folders in a folder; None where it was entered before or cannot be listed."""
    try:
        about = folder.stat()
        key = (about.st_dev, about.st_ino)
        if key in entered:
            return None
        entered.add(key)
        names: list[str] = []
        folders: list[str] = []
        with os.scandir(folder) as entries:
            for count, entry in enumerate(entries):
                if count >= most:
                    break
                (folders if _is_folder(entry) else names).append(entry.name)
    except (OSError, ValueError):
        return None
    return set(names), folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _is_entered(name: str) -> bool:
    return not name.startswith(".") and name not in _NEVER_ENTERED and not name.endswith(SUFFIX)


def _in_folder(folder: Path, names: set[str], source: Source) -> Iterator[Candidate]:
    """The models that lie in one folder."""
    weights = sorted(name for name in names if name.endswith(SAFETENSORS))
    pickles = sorted(name for name in names if name.lower().endswith(PICKLE_SUFFIXES))
    if CONFIG in names and (weights or INDEX in names or pickles):
        found = _of_files(folder, [folder / name for name in weights or pickles], source)
        if found is not None:
            yield found
    if weights and CONFIG in names:
        return  # the folder itself is the model: the engine takes its safetensors
    if {WEIGHTS, JOURNAL} <= names:  # made by our own conversion: called as its folder is
        names = names - {WEIGHTS}
        found = _of_files(folder, [folder / WEIGHTS], source)
        if found is not None:
            yield found
    ggufs: dict[str, str] = {}
    for name in sorted(names, reverse=True):
        if name.lower().endswith(GGUF_SUFFIX) and not name.lower().startswith(_PROJECTOR):
            ggufs[stem(name)] = name
    for name in sorted(ggufs.values()):
        found = _of_files(folder / name, split_or_itself(folder / name), source)
        if found is not None:
            yield found


def _of_files(path: Path, files: list[Path], source: Source) -> Candidate | None:
    """A candidate of the files that are there, None where none is."""
    there: list[Path] = []
    parts: list[str] = []
    identity: set[tuple[int, int]] = set()
    size_bytes = 0
    beside = [path / name for name in _READ_WITH_WEIGHTS] if path.suffix.lower() != GGUF_SUFFIX else []
    for file in (*files, *beside):
        try:
            about = file.stat()
        except (OSError, ValueError):
            continue
        parts.append(f"{file.name}:{about.st_size}:{about.st_mtime_ns}")
        if file not in beside:
            there.append(file)
            size_bytes += about.st_size
            identity.add((about.st_dev, about.st_ino))
    if not parts:
        return None
    stamp = hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()[:32]
    return Candidate(path, source, tuple(there), size_bytes, stamp, frozenset(identity))


def name_of(path: Path) -> str:
    """What to call a model by its path alone, which tells apart the quantisations of one model."""
    if path.suffix.lower() == GGUF_SUFFIX:
        return stem(path.name)
    return model_name(path)
