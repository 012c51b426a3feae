"""The presets' file: it outlives crashes and damage; single presets can be given away."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from app.preset_files import export_preset, import_preset, load_presets, save_presets
from app.presets import PresetBook
from app.settings import SettingsError
from engine.errors import ConfigurationError
from tests.app.test_presets import BOOK, CLERK, POET


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "presets.json"


def test_what_is_saved_is_loaded(path: Path) -> None:
    save_presets(BOOK, path)
    assert load_presets(path) == (BOOK, "")


def test_no_file_is_no_notice(path: Path) -> None:
    assert load_presets(path) == (PresetBook(), "")


@pytest.mark.parametrize("damage", [b"\0" * 99, b"", b"{", b"[1]", b"\xff", b"[" * 200_000], ids=repr)
def test_a_damaged_file_gives_the_last_good_presets(path: Path, damage: bytes) -> None:
    save_presets(BOOK, path)
    save_presets(BOOK.without("k1"), path)
    path.write_bytes(damage)
    assert load_presets(path) == (BOOK, "The presets file was damaged. The last good ones are in use.")
    save_presets(PresetBook(), path)
    path.write_bytes(damage)
    assert load_presets(path)[0] == BOOK, "a damaged file does not become the backup"


def test_a_damaged_file_without_a_copy_leaves_the_built_in_ones(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"x")
    assert load_presets(path) == (PresetBook(), "The presets file was damaged. Only the built-in ones are there.")


def test_one_bad_preset_costs_only_itself(path: Path) -> None:
    save_presets(BOOK, path)
    values = json.loads(path.read_text())
    values["presets"][0]["sampling"]["temperature"] = "hot"
    values["presets"] += [7, {"key": "balanced", "name": "Mine"}, {"sampling": []}]
    path.write_text(json.dumps(values))
    book, notice = load_presets(path)
    assert book == PresetBook((CLERK,), "k2", {"/models/b": "precise"})
    assert notice.startswith("4 presets")


def test_an_unwritable_place_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="could not be saved"):
        save_presets(BOOK, tmp_path / "file" / "presets.json")


def test_an_exported_preset_comes_back_as_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "poet.json"
    export_preset(POET, path)
    back = import_preset(path)
    assert back.key != POET.key
    assert dataclasses.replace(back, key=POET.key) == POET
    assert "k1" not in path.read_text()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        ("nonsense", "no JSON object"),
        ("{}", "is no preset"),
        ('{"rooftop_preset": 1}', "name is empty"),
        ('{"rooftop_preset": 1, "name": "a", "sampling": {"top_p": 7}}', "top_p"),
        ('{"rooftop_preset": 1, "name": "a", "sampling": []}', "damaged"),
    ],
)
def test_other_files_are_refused_in_one_sentence(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "some.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        import_preset(path)
    assert words in caught.value.message
