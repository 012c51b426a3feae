import dataclasses
import json
import os
from pathlib import Path

import pytest

from app.language import translated
from app.settings import (
    SETTING_WORDS,
    Settings,
    SettingsError,
    load_settings,
    save_settings,
    to_engine_config,
)
from engine.errors import ConfigurationError

CHANGED = Settings(
    model="/models/x", vram_budget_bytes=6 << 30, kv_precision="q8", cpu_threads=4, experts_on_disk=True, theme="dark",
    zoom=1.3, model_folders=("/a", "/b"),
)  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "settings.json"


def test_what_is_saved_is_loaded(path: Path) -> None:
    save_settings(CHANGED, path)
    assert load_settings(path) == (CHANGED, "")


def test_no_file_gives_the_defaults_without_a_notice(path: Path) -> None:
    assert load_settings(path) == (Settings(), "")


@pytest.mark.parametrize(
    "damage",
    [b"\0" * 400, b"", b"{", b"[1]", b'"text"', b"\xff\xfe\x00", b"[" * 200_000, b"x" * ((1 << 20) + 1)],
    ids=["nul", "empty", "cut", "list", "text", "not utf-8", "deep", "huge"],
)
def test_a_damaged_file_gives_the_last_good_settings(path: Path, damage: bytes) -> None:
    save_settings(Settings(), path)
    save_settings(CHANGED, path)
    save_settings(dataclasses.replace(CHANGED, zoom=1.1), path)
    path.write_bytes(damage)
    assert load_settings(path) == (CHANGED, "The settings file was damaged, so the last good settings are in use.")


def test_a_damaged_file_without_a_copy_gives_the_defaults(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"\0" * 400)
    assert load_settings(path) == (Settings(), "The settings file was damaged, so the defaults are in use.")


def test_a_damaged_file_does_not_replace_the_last_good_copy(path: Path) -> None:
    save_settings(CHANGED, path)
    save_settings(CHANGED, path)
    path.write_bytes(b"\0")
    save_settings(Settings(), path)
    path.write_bytes(b"\0")
    assert load_settings(path)[0] == CHANGED


def test_a_crash_between_the_renames_loses_nothing(path: Path) -> None:
    save_settings(CHANGED, path)
    path.rename(path.with_name("settings.json.bak"))
    assert load_settings(path) == (CHANGED, "")


def test_one_bad_value_costs_only_itself(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps({"zoom": 1.2, "context_tokens": "many", "theme": "pink", "from_the_future": 1}))
    settings, notice = load_settings(path)
    assert settings == Settings(zoom=1.2)
    assert "Context length, Theme" in notice


@pytest.mark.parametrize("folders", ["/a", [1], ["a\0b"], {"a": 1}, ["x"] * 101])
def test_model_folders_are_a_list_of_texts(folders: object) -> None:
    with pytest.raises(ConfigurationError, match="Model folders"):
        Settings(model_folders=folders)  # type: ignore[arg-type]


def test_a_folder_in_the_files_place_is_a_notice(path: Path) -> None:
    path.mkdir(parents=True)
    settings, notice = load_settings(path)
    assert settings == Settings()
    assert "could not be read" in notice


def test_an_unwritable_place_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="could not be saved"):
        save_settings(Settings(), tmp_path / "file" / "settings.json")


def test_a_full_disk_keeps_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_settings(CHANGED, path)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SettingsError, match="No space left"):
        save_settings(Settings(), path)
    assert load_settings(path) == (CHANGED, "")
    assert [entry.name for entry in path.parent.iterdir()] == ["settings.json"]


def test_what_a_newer_version_keeps_there_outlives_this_one(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"version": 7, "zoom": 1.5, "novelty": {"a": [1]}}))
    settings, notice = load_settings(path)
    assert (settings.zoom, notice) == (1.5, "")
    save_settings(CHANGED, path)
    values = json.loads(path.read_text())
    assert values["novelty"] == {"a": [1]}
    assert values["version"] == 1
    assert load_settings(path) == (CHANGED, "")


def test_settings_of_before_there_was_a_kv_precision_take_the_models_own(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps({"version": 1, "context_tokens": 4096}))
    assert load_settings(path) == (Settings(context_tokens=4096, kv_precision="auto"), "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kv_precision", "q4"),
        ("kv_precision", None),
        ("context_tokens", 1),
        ("context_tokens", True),
        ("cpu_threads", 0),
        ("vram_budget_bytes", -1),
        ("simulate_gpu_bytes", 0),
        ("theme", "pink"),
        ("zoom", 9.0),
        ("zoom", "big"),
        ("overflow", "drop_all"),
        ("panel_visible", 1),
        ("experts_on_disk", 1),
        ("experts_on_disk", None),
        ("model", ""),
        ("model", "a\0b"),
        ("window_geometry", "x" * 70_000),
    ],
)
def test_values_outside_their_limits_are_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError):
        dataclasses.replace(Settings(), **{name: value})  # type: ignore[arg-type]


def test_the_engines_part() -> None:
    config = to_engine_config(dataclasses.replace(CHANGED, simulate_gpu_bytes=8 << 30))
    assert (config.device, config.simulated_vram_bytes) == ("simulated", 8 << 30)
    assert (config.vram_budget_bytes, config.cpu_threads) == (6 << 30, 4)
    assert config.kv_precision == "q8"
    assert config.popularity_dir
    assert config.cost_cache_dir != config.popularity_dir
    assert config.experts_on_disk
    assert to_engine_config(dataclasses.replace(CHANGED, models_folder="/models")).models_dir == "/models"
    assert to_engine_config(Settings()).models_dir is None
    assert to_engine_config(Settings()).device == "auto"
    assert not to_engine_config(Settings()).experts_on_disk


def test_a_file_from_before_experts_could_be_on_disk(path: Path) -> None:
    save_settings(CHANGED, path)
    values = json.loads(path.read_text())
    del values["experts_on_disk"]
    path.write_text(json.dumps(values))
    assert load_settings(path) == (dataclasses.replace(CHANGED, experts_on_disk=False), "")


@pytest.mark.usefixtures("german")
def test_a_refused_setting_is_called_as_in_the_dialog_in_every_language(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"version": 1, "context_tokens": -7, "theme": "mauve"}', encoding="utf-8")
    _, notice = load_settings(path)
    assert translated(notice).endswith("Kontextlänge, Farbschema.")


def test_the_names_are_of_settings() -> None:
    assert set(SETTING_WORDS) == {field.name for field in dataclasses.fields(Settings)}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"models_folder": 1}, "The setting “Downloaded models” is not a usable text."),
        ({"kv_precision": "f64"}, "The setting “KV cache precision” cannot be 'f64'."),
        ({"experts_on_disk": "yes"}, "The setting “Experts on disk” is neither true nor false."),
        ({"updates_asked_s": -1}, "The setting “Last look for updates” is no moment."),
        ({"cpu_threads": 0}, "The setting “CPU threads” is 0, outside 1 to 1,024."),
        ({"model_folders": "/a"}, "The setting “Model folders” is no list of folders."),
        ({"model": ""}, "No model is chosen."),
    ],
)
def test_a_refusal_names_the_setting_in_words(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        dataclasses.replace(Settings(), **change)  # type: ignore[arg-type]
    assert translated(refused.value.message) == sentence
