"""What the user chose, as one frozen value, and its JSON file.

A damaged file (cut, NUL-filled, not JSON) is answered with the last good copy, or the defaults, and one sentence for
the window; `app.json_file` writes it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import platformdirs

from app.json_file import backup_path, read_object, write_object
from app.language import Language
from engine.config import (
    MAX_CONTEXT_TOKENS,
    MIN_CONTEXT_TOKENS,
    EngineConfig,
    IsaName,
    KvPrecision,
    PolicyName,
)
from engine.errors import ConfigurationError, RooftopError
from engine.messages import Overflow
from engine.sentences import Sentence, join, say

if TYPE_CHECKING:
    from pathlib import Path

APP_NAME = "rooftop"
GUIDE_MODEL = "guide"
MAX_FILE_BYTES = 1 << 20
RESTORE = say("Restore the default.")
SETTING_WORDS = {
    "vram_budget_bytes": say("VRAM budget"),
    "vram_reserve_bytes": say("VRAM for other programs"),
    "context_tokens": say("Context length"),
    "kv_precision": say("KV cache precision"),
    "cpu_threads": say("CPU threads"),
    "simulate_gpu_bytes": say("Simulated GPU"),
    "theme": say("Theme"),
    "language": say("Language"),
    "zoom": say("Text size"),
    "overflow": say("When a chat outgrows the context"),
    "gpu_index": say("Graphics card"),
    "policy": say("Policy"),
    "isa": say("CPU kernels"),
    "send_key": say("What sends a message"),
    "model_folders": say("Model folders"),
    "model": say("Model"),
    "models_folder": say("Downloaded models"),
    "experts_on_disk": say("Experts on disk"),
    "adaptive": say("Experts in VRAM"),
    "gpu_mirror": say("Mirror for GPU support"),
    "gpu_offer_closed": say("Offer of GPU support"),
    "reopen_last_chat": say("Open the last chat at start"),
    "tray": say("Tray"),
    "tray_told": say("Notice about the tray"),
    "check_updates": say("Updates"),
    "updates_asked_s": say("Last look for updates"),
    "update_dismissed": say("Update that was waved away"),
    "sidebar_visible": say("List of chats"),
    "panel_visible": say("Live panel"),
    "panel_folded": say("Folded parts of the live panel"),
    "window_geometry": say("Size and place of the window"),
    "splitter_state": say("Widths of the window's parts"),
}
MAX_TEXT = 1 << 16
MAX_FOLDERS = 100
MAX_BYTES = 1 << 50
THEME_MODES = ("system", "light", "dark")
LANGUAGES = get_args(Language)
SendKey = Literal["enter", "ctrl_enter"]
SEND_KEYS = get_args(SendKey)

CHOICES: dict[str, tuple[str, ...]] = {
    "kv_precision": get_args(KvPrecision),
    "theme": THEME_MODES,
    "policy": get_args(PolicyName),
    "isa": get_args(IsaName),
    "send_key": SEND_KEYS,
    "language": LANGUAGES,
}

SWITCHES = (
    "experts_on_disk",
    "adaptive",
    "sidebar_visible",
    "panel_visible",
    "tray",
    "tray_told",
    "reopen_last_chat",
    "gpu_offer_closed",
    "check_updates",
)


class SettingsError(RooftopError):
    """The settings could not be written."""

    code = "settings"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that outlives a session, except chats and models.

    Attributes:
        model: Folder, file or id of the model used last; "guide" is the bundled one.
        vram_budget_bytes: VRAM for the model; None is automatic.
        context_tokens: Tokens that the KV cache holds.
        kv_precision: What it holds of them: the model's own type, 16 bits or 8.
        cpu_threads: Threads for CPU experts; None is one per physical core.
        simulate_gpu_bytes: VRAM of a simulated GPU; None uses the real hardware.
        experts_on_disk: Whether experts are kept in a file, for a model larger than RAM.
        theme: Light, dark or as the system.
        language: English, German or as the system.
        zoom: Text size relative to the default.
        tray: Whether closing the window keeps the program in the tray.
        reopen_last_chat: Whether the chat that was shown last is shown at the next start.
        tray_told: Whether the user has been told so.
        sidebar_visible: Whether the list of chats is shown.
        overflow: What to do when a chat outgrows the context: stop, or leave out its oldest turns or its middle.
        vram_reserve_bytes: VRAM that an automatic budget leaves to other programs.
        adaptive: Whether residents follow the conversation.
        gpu_index: Which NVIDIA GPU; None takes the one with the most VRAM.
        policy: Who decides where an expert runs.
        isa: Instructions of the CPU kernels.
        send_key: What sends a message; the other one starts a new line.
        panel_visible: Whether the live panel is shown.
        panel_folded: Keys of the panel's sections that are folded, with commas between.
        window_geometry: Qt's saved geometry, base64.
        splitter_state: Qt's saved splitter, base64.
        models_folder: Where downloaded models go; "" for the default.
        model_folders: Further folders to look for models in.
        gpu_mirror: The package index to take GPU support from; "" for the usual places.
        gpu_offer_closed: Whether the user has waved the offer of GPU support away.
        check_updates: Whether to ask once a day if there is a newer version.
        updates_asked_s: When that was asked last, in seconds since 1970.
        update_dismissed: The version that the user has been told of and waved away.

    Raises:
        ConfigurationError: A value is outside its limits.
    """

    model: str = GUIDE_MODEL
    vram_budget_bytes: int | None = None
    context_tokens: int = 8192
    kv_precision: KvPrecision = "auto"
    cpu_threads: int | None = None
    simulate_gpu_bytes: int | None = None
    experts_on_disk: bool = False
    theme: Literal["system", "light", "dark"] = "system"
    language: Language = "system"
    zoom: float = 1.0
    tray: bool = False
    tray_told: bool = False
    reopen_last_chat: bool = True
    sidebar_visible: bool = True
    overflow: Overflow = "stop"
    vram_reserve_bytes: int = 0
    adaptive: bool = True
    gpu_index: int | None = None
    policy: PolicyName = "fiddler"
    isa: IsaName = "auto"
    send_key: SendKey = "enter"
    panel_visible: bool = True
    panel_folded: str = ""
    window_geometry: str = ""
    splitter_state: str = ""
    models_folder: str = ""
    model_folders: tuple[str, ...] = ()
    gpu_mirror: str = ""
    gpu_offer_closed: bool = False
    check_updates: bool = False
    updates_asked_s: float = 0.0
    update_dismissed: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        texts = ("model", "panel_folded", "window_geometry", "splitter_state", "models_folder")
        for name in (*texts, "gpu_mirror", "update_dismissed"):
            if not _is_text(getattr(self, name)):
                raise ConfigurationError(
                    say("The setting “{name}” is not a usable text.", name=SETTING_WORDS[name]), RESTORE
                )
        object.__setattr__(self, "model_folders", _folders(self.model_folders))
        if not self.model:
            raise ConfigurationError(say("No model is chosen."), say("Open a model."))
        _require_policy(self.overflow)
        _require_whole("vram_budget_bytes", self.vram_budget_bytes, 0, MAX_BYTES, optional=True)
        _require_whole("context_tokens", self.context_tokens, MIN_CONTEXT_TOKENS, MAX_CONTEXT_TOKENS)
        _require_whole("cpu_threads", self.cpu_threads, 1, 1024, optional=True)
        _require_whole("simulate_gpu_bytes", self.simulate_gpu_bytes, 1, MAX_BYTES, optional=True)
        _require_whole("vram_reserve_bytes", self.vram_reserve_bytes, 0, MAX_BYTES)
        _require_whole("gpu_index", self.gpu_index, 0, 255, optional=True)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                value = repr(getattr(self, name))
                raise ConfigurationError(
                    say("The setting “{name}” cannot be {value}.", name=SETTING_WORDS[name], value=value),
                    say("Choose one of {names}.", names=", ".join(choices)),
                )
        for name in SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(
                    say("The setting “{name}” is neither true nor false.", name=SETTING_WORDS[name]), RESTORE
                )
        asked_s = self.updates_asked_s
        if isinstance(asked_s, bool) or not isinstance(asked_s, int | float) or not 0 <= asked_s < MAX_BYTES:
            words = SETTING_WORDS["updates_asked_s"]
            raise ConfigurationError(say("The setting “{name}” is no moment.", name=words), RESTORE)
        if isinstance(self.zoom, bool) or not isinstance(self.zoom, int | float) or not 0.5 <= self.zoom <= 3.0:
            raise ConfigurationError(
                say("The text size {size} is outside 0.5 to 3.", size=repr(self.zoom)), say("Reset the text size.")
            )


def default_settings_path() -> Path:
    """Where the settings are kept on this system."""
    return platformdirs.user_config_path(APP_NAME, appauthor=False) / "settings.json"


def to_engine_config(settings: Settings) -> EngineConfig:
    """The engine's part of the settings.

    Raises:
        ConfigurationError: A value is outside the engine's limits.
    """
    simulated = settings.simulate_gpu_bytes is not None
    return EngineConfig(
        device="simulated" if simulated else "auto",
        vram_budget_bytes=settings.vram_budget_bytes,
        context_tokens=settings.context_tokens,
        kv_precision=settings.kv_precision,
        cpu_threads=settings.cpu_threads,
        vram_reserve_bytes=settings.vram_reserve_bytes,
        adaptive=settings.adaptive,
        gpu_index=settings.gpu_index,
        policy=settings.policy,
        isa=settings.isa,
        experts_on_disk=settings.experts_on_disk,
        simulated_vram_bytes=settings.simulate_gpu_bytes or EngineConfig().simulated_vram_bytes,
        cost_cache_dir=platformdirs.user_cache_dir(APP_NAME, appauthor=False),
        popularity_dir=platformdirs.user_data_dir(APP_NAME, appauthor=False),
        models_dir=settings.models_folder or None,
    )


def load_settings(path: Path) -> tuple[Settings, str]:
    """Read the settings; never fails.

    Args:
        path: The JSON file; it need not exist.

    Returns:
        The settings to use, and one sentence for the user, "" when all was well.
    """
    try:
        return _read(path)
    except FileNotFoundError:
        problem = Sentence()
    except OSError as error:
        problem = say("The settings could not be read ({reason})", reason=error.strerror or str(error))
    except ValueError:
        problem = say("The settings file was damaged")
    try:
        settings, _ = _read(backup_path(path))
    except (OSError, ValueError):
        return Settings(), say("{problem}, so the defaults are in use.", problem=problem) if problem else ""
    return settings, say("{problem}, so the last good settings are in use.", problem=problem) if problem else ""


def save_settings(settings: Settings, path: Path) -> None:
    """Write the settings so that a crash at any moment leaves the old file or the new one.

    Raises:
        SettingsError: The file could not be written.
    """
    try:
        write_object(path, {**_of_newer_versions(path), "version": 1, **dataclasses.asdict(settings)}, _is_sound)
    except OSError as error:
        raise SettingsError(
            say(
                "The settings could not be saved in {folder} ({reason}).",
                folder=str(path.parent),
                reason=error.strerror or str(error),
            ),
            say("Check the folder's permissions and the free space on its drive."),
        ) from error


def _read(path: Path) -> tuple[Settings, str]:
    """Parse one file; ValueError when it is not a settings file at all, a notice for single bad values."""
    return _from_values(read_object(path, MAX_FILE_BYTES))


def _from_values(values: dict[str, Any]) -> tuple[Settings, str]:
    """Take every value that is sound; unknown names are a newer version's."""
    settings = Settings()
    refused: list[str] = []
    for field in dataclasses.fields(Settings):
        if field.name in values:
            try:
                settings = dataclasses.replace(settings, **{field.name: values[field.name]})
            except ConfigurationError:
                refused.append(SETTING_WORDS[field.name])
    if not refused:
        return settings, ""
    words = say("The default is in use for a setting that could not be read: {names}.", names=join(refused, ", "))
    return settings, words


def _of_newer_versions(path: Path) -> dict[str, Any]:
    """What a newer version keeps in the file and this one does not know: it stays there."""
    try:
        values = read_object(path, MAX_FILE_BYTES)
    except (OSError, ValueError):
        return {}
    ours = {field.name for field in dataclasses.fields(Settings)}
    return {name: value for name, value in values.items() if name not in ours}


def _is_sound(path: Path) -> bool:
    try:
        return not _read(path)[1]
    except (OSError, ValueError):
        return False


def _require_whole(name: str, value: object, low: int, high: int, *, optional: bool = False) -> None:
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigurationError(
            say(
                "The setting “{name}” is {value}, outside {low} to {high}.",
                name=SETTING_WORDS[name],
                value=repr(value),
                low=low,
                high=high,
            ),
            RESTORE,
        )


def _folders(value: object) -> tuple[str, ...]:
    """A list of folders, which JSON has as a list."""
    if not isinstance(value, tuple | list) or len(value) > MAX_FOLDERS or not all(map(_is_text, value)):
        words = SETTING_WORDS["model_folders"]
        raise ConfigurationError(say("The setting “{name}” is no list of folders.", name=words), RESTORE)
    return tuple(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT and "\0" not in value


def _require_policy(overflow: object) -> None:
    if overflow not in get_args(Overflow):
        raise ConfigurationError(say("The overflow policy {name} does not exist.", name=repr(overflow)), RESTORE)
