"""What the library remembers: headers that were read before, and models that were used, wherever they lay. No Qt.

Both are JSON: the headers in the cache folder, where losing them costs a little time; the used models beside the
settings, because they are how a model on a drive that is away can still be shown.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from importlib import metadata
from itertools import repeat
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from app.json_file import backup_path, read_object, write_object
from app.model_scan import FoundModel
from engine import config as engine_config
from engine.checkpoint.families import CHOOSE_SUPPORTED
from engine.config import ModelConfig
from engine.quant.formats import FORMATS
from engine.sentences import from_json, to_json

log = logging.getLogger(__name__)

MAX_FILE_BYTES = 32 << 20
MAX_USED = 200
_SOURCES = ("guide", "rooftop", "huggingface", "lmstudio", "gpt4all", "folder")


def reader_version() -> str:
    """What the meaning of a kept header depends on: what this version knows of models."""
    kinds = [FoundModel, *filter(dataclasses.is_dataclass, vars(engine_config).values())]
    known = [field.name for kind in kinds for field in dataclasses.fields(kind)]
    return " ".join([metadata.version("rooftop"), CHOOSE_SUPPORTED, *sorted(FORMATS), *known])


class HeaderCache:
    """Models by path and stamp.

    Args:
        path: The file; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._kept: dict[str, FoundModel] = {}
        self._changed = False

    def load(self) -> None:
        """Read the file; what cannot be used is read from the models again."""
        if self._path is None:
            return
        try:
            values = read_object(self._path, MAX_FILE_BYTES)
            if values["version"] == reader_version():
                self._kept = {model.path: model for model in map(_from_values, values["models"])}
        except (OSError, ValueError, TypeError, KeyError):
            self._kept = {}

    def find(self, path: str, stamp: str) -> FoundModel | None:
        """What the headers of a model said, if its files are the same."""
        model = self._kept.get(path)
        return model if model is not None and model.stamp == stamp else None

    def put(self, key: str, model: FoundModel) -> None:
        """Keep what the headers say.

        Args:
            key: The path that was looked at.
            model: What was found.
        """
        self._kept[key] = dataclasses.replace(model, path=key)
        self._changed = True

    def forget_refused(self) -> None:
        """Models that could not be run are to be read again."""
        self._kept = {key: model for key, model in self._kept.items() if model.config is not None}

    def drop_all_but(self, seen: set[str]) -> None:
        """Forget models that were not seen in a scan."""
        self._changed = self._changed or bool(self._kept.keys() - seen)
        self._kept = {key: model for key, model in self._kept.items() if key in seen}

    def save(self) -> None:
        """Write the file if anything changed."""
        if self._path is None or not self._changed:
            return
        values = {"version": reader_version(), "models": [_values(one) for one in self._kept.values()]}
        _write(self._path, values)
        self._changed = False


class UsedModels:
    """Models that were loaded at some time, with the drive that they were on.

    Args:
        path: The file; None keeps nothing beyond this session.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._used: dict[str, tuple[FoundModel, str]] = {}

    def load(self) -> None:
        """Read the file, or the copy before it."""
        for path in (self._path, self._path and backup_path(self._path)):
            try:
                if path is not None:
                    values = read_object(path, MAX_FILE_BYTES)
                    self._used = {one["model"]["path"]: _used(one) for one in values["used"][:MAX_USED]}
                    return
            except (OSError, ValueError, TypeError, KeyError):
                continue

    def add(self, model: FoundModel) -> None:
        """Remember a model that was loaded, the latest first."""
        entry = (dataclasses.replace(model, offline=False), str(_mount_of(Path(model.path))))
        if self._used.get(model.path) != entry:
            self._used = dict([(model.path, entry), *self._used.items()][:MAX_USED])
            self._used[model.path] = entry
            self._save()

    def forget(self, path: str) -> None:
        """The model is gone for good."""
        if self._used.pop(path, None) is not None:
            self._save()

    def paths(self) -> list[str]:
        """All that are remembered."""
        return list(self._used)

    def offline(self, path: str) -> FoundModel | None:
        """The model if its drive is away; None where it was simply deleted, or is there."""
        model, mount = self._used[path]
        if Path(path).exists() or os.path.ismount(mount):
            return None
        return dataclasses.replace(model, offline=True)

    def _save(self) -> None:
        if self._path is not None:
            used = [{"model": _values(model), "mount": mount} for model, mount in self._used.values()]
            _write(self._path, {"version": 1, "used": used})


def _mount_of(path: Path) -> Path:
    """Where the drive that a path is on is mounted."""
    folder = path.absolute()
    while not folder.is_mount() and folder != folder.parent:
        folder = folder.parent
    return folder


def _write(path: Path, values: dict[str, Any]) -> None:
    """A file that cannot be written costs a scan, not more."""
    try:
        write_object(path, values)
    except OSError as error:
        log.warning("%s could not be written (%s)", path, error.strerror or error)


def _values(model: FoundModel) -> dict[str, Any]:
    """A model for JSON; sentences keep what they can be translated by."""
    values = dataclasses.asdict(model)
    return {**values, "problem": to_json(model.problem), "remedy": to_json(model.remedy)}


def _used(values: dict[str, Any]) -> tuple[FoundModel, str]:
    if not isinstance(values["mount"], str):
        raise TypeError("mount")
    return _from_values(values["model"]), values["mount"]


def _from_values(values: dict[str, Any]) -> FoundModel:
    """A model as it was kept; TypeError, ValueError or KeyError where the file was tampered with."""
    config = _config(values["config"]) if values["config"] is not None else None
    words = {name: from_json(values[name]) for name in ("problem", "remedy")}
    model = FoundModel(**{**values, **words, "config": config})
    texts = (model.path, model.name, model.problem, model.remedy, model.stamp)
    if not all(isinstance(text, str) for text in texts) or model.source not in _SOURCES:
        raise TypeError("not a model")
    if not isinstance(model.size_bytes, int):
        raise TypeError("size_bytes")
    return model


def _config(values: dict[str, Any]) -> ModelConfig:
    config: ModelConfig = _made(ModelConfig, values)
    blocks = {FORMATS[name].block_columns for layer in config.expert_formats for name in layer}
    whole = not any(width % block for block in blocks for width in (config.hidden_size, config.intermediate_size))
    if not whole or min(config.layers, config.experts, config.hidden_size, config.intermediate_size) < 1:
        raise ValueError("not a model's shape")
    return config


def _made(kind: Any, value: Any) -> Any:  # noqa: ANN401 - any type that a field may have
    """A frozen value of a type, from what JSON made of it."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else _made(inside[0], value)
    if origin is tuple:
        many = Ellipsis in inside
        kinds = repeat(inside[0]) if many else inside
        return tuple(_made(one, part) for one, part in zip(kinds, value, strict=not many))
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise TypeError(f"not a {kind}")
        hints = get_type_hints(kind)
        return kind(**{name: _made(hints[name], one) for name, one in value.items()})  # type: ignore[operator]
    return value
