"""The user's presets as a JSON file, with the care of `app.settings`, and single ones to give away.

A damaged file is answered with the last good copy, or the built-in presets alone, and one sentence for the window.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import platformdirs

from app.json_file import backup_path, read_object, write_object
from app.language import tr
from app.presets import MAX_KEY_CHARS, SAMPLED, Preset, PresetBook, as_kept, new_key
from app.settings import APP_NAME, SettingsError
from engine.config import SamplingParams
from engine.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAX_FILE_BYTES = 8 << 20
SUFFIX = ".rooftop-preset.json"


def default_presets_path() -> Path:
    """Where the presets are kept on this system."""
    return platformdirs.user_config_path(APP_NAME, appauthor=False) / "presets.json"


def load_presets(path: Path) -> tuple[PresetBook, str]:
    """Read the presets; never fails.

    Returns:
        The book to use, and one sentence for the user, "" when all was well.
    """
    try:
        return _book_of(read_object(path, MAX_FILE_BYTES))
    except FileNotFoundError:
        problem = ""
    except OSError as error:
        problem = tr("The presets could not be read ({reason}).").format(reason=error.strerror or error)
    except ValueError:
        problem = tr("The presets file was damaged.")
    try:
        book, _ = _book_of(read_object(backup_path(path), MAX_FILE_BYTES))
    except (OSError, ValueError):
        return PresetBook(), f"{problem} {tr('Only the built-in ones are there.')}" if problem else ""
    return book, f"{problem} {tr('The last good ones are in use.')}" if problem else ""


def save_presets(book: PresetBook, path: Path) -> None:
    """Write the presets so that a crash at any moment leaves the old file or the new one.

    Raises:
        SettingsError: The file could not be written.
    """
    values = {
        "version": 1,
        "default": book.default,
        "by_model": dict(book.by_model),
        "presets": [_preset_as_values(preset) for preset in book.own],
    }
    _write(path, lambda: write_object(path, values, _is_sound))


def export_preset(preset: Preset, path: Path) -> None:
    """Write one preset to a file for others.

    Raises:
        SettingsError: The file could not be written.
    """
    values = {"rooftop_preset": 1, **_preset_as_values(preset)}
    del values["key"]
    _write(path, lambda: write_object(path, values))


def import_preset(path: Path) -> Preset:
    """Read a preset that somebody exported; it gets a new key.

    Raises:
        ConfigurationError: It cannot be read, or is no preset.
    """
    remedy = tr("Choose a file that Rooftop exported.")
    try:
        values = read_object(path, MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else tr("it is no JSON object")
        words = tr("{name} cannot be read ({reason}).").format(name=path.name, reason=reason)
        raise ConfigurationError(words, remedy) from error
    if "rooftop_preset" not in values:
        raise ConfigurationError(tr("{name} is no preset.").format(name=path.name), remedy)
    return _preset_of({**values, "key": new_key()})


def _write(path: Path, write: Callable[[], None]) -> None:
    try:
        write()
    except OSError as error:
        words = tr("{name} could not be saved in {folder} ({reason}).")
        raise SettingsError(
            words.format(name=path.name, folder=path.parent, reason=error.strerror or error),
            tr("Check the folder's permissions and the free space on its drive."),
        ) from error


def _is_sound(path: Path) -> bool:
    try:
        return not _book_of(read_object(path, MAX_FILE_BYTES))[1]
    except (OSError, ValueError):
        return False


def _book_of(values: dict[str, Any]) -> tuple[PresetBook, str]:
    """Every preset that is sound, and a sentence where others are not."""
    book, refused = PresetBook(), 0
    entries = values.get("presets", [])
    for entry in entries if isinstance(entries, list) else []:
        try:
            book = book.with_preset(_preset_of(entry))
        except ConfigurationError:
            refused += 1
    default, by_model = values.get("default"), values.get("by_model")
    if isinstance(default, str) and book.find(default) is not None:
        book = dataclasses.replace(book, default=default)
    for model, key in by_model.items() if isinstance(by_model, dict) else ():
        if isinstance(key, str) and len(model) <= MAX_KEY_CHARS and book.find(key) is not None:
            book = book.with_model(model, key)
    return book, tr("%n presets could not be read and were left out.", refused) if refused else ""


def _preset_as_values(preset: Preset) -> dict[str, Any]:
    sampling = {name: getattr(preset.sampling, name) for name in SAMPLED}
    return {"key": preset.key, "name": preset.name, "system_prompt": preset.system_prompt, "sampling": sampling}


def _preset_of(values: object) -> Preset:
    """A preset from a file.

    Raises:
        ConfigurationError: It is none.
    """
    remedy = tr("Choose another preset.")
    if not isinstance(values, dict) or not isinstance(values.get("sampling", {}), dict):
        raise ConfigurationError(tr("The preset is damaged."), remedy)
    given = values.get("sampling", {})
    sampled: dict[str, Any] = {name: as_kept(name, given[name]) for name in SAMPLED if name in given}
    try:
        sampling = SamplingParams(**sampled)
    except TypeError as error:
        raise ConfigurationError(tr("The preset is damaged."), remedy) from error
    texts = {name: values.get(name, "") for name in ("key", "name", "system_prompt")}
    return Preset(**texts, sampling=sampling)
