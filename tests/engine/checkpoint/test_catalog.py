"""From a model's name to its folder."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

import pytest

from engine.checkpoint.catalog import guide_path, resolve_model
from engine.errors import CheckpointError
from engine.hub import places
from engine.hub.record import MANIFEST, write_choice
from engine.hub.repository import Choice, RemoteFile


def test_a_folder_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert resolve_model(str(tmp_path)) == tmp_path
    assert resolve_model("org/name") == Path("org/name")
    assert resolve_model("~/org") == tmp_path / "org"


def test_a_gguf_file_is_itself(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").touch()
    assert resolve_model(str(tmp_path / "m.gguf")) == tmp_path / "m.gguf"


def test_a_name_on_the_hub_is_its_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "default_models_folder", lambda: tmp_path)
    choice = Choice("Q4_0", "GGUF", (RemoteFile("m.gguf", 1, None, ""),), 1, "org/name", "0" * 40)
    folder = places.target_of(tmp_path, choice)
    folder.mkdir(parents=True)
    write_choice(folder / MANIFEST, choice)
    for name in ("org/name", "org/name:Q4_0"):
        assert resolve_model(name) == folder / "m.gguf"
    with pytest.raises(CheckpointError, match="engine download --repo org/name --file Q8_0"):
        resolve_model("org/name:Q8_0")


def test_a_name_on_the_hub_is_looked_for_in_the_folder_that_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "default_models_folder", lambda: tmp_path / "usual")
    choice = Choice("Q4_0", "GGUF", (RemoteFile("m.gguf", 1, None, ""),), 1, "org/name", "0" * 40)
    folder = places.target_of(tmp_path / "chosen", choice)
    folder.mkdir(parents=True)
    write_choice(folder / MANIFEST, choice)
    assert resolve_model("org/name", str(tmp_path / "chosen")) == folder / "m.gguf"
    with pytest.raises(CheckpointError, match="no such model was downloaded"):
        resolve_model("org/name")


def test_remedies_name_both_kinds_of_models() -> None:
    with pytest.raises(CheckpointError) as caught:
        resolve_model("")
    assert caught.value.remedy == "Give a folder with safetensors files, or a .gguf file."


def test_guide_is_the_bundled_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.resources, "files", {"resources": tmp_path}.__getitem__)
    with pytest.raises(CheckpointError, match="bundled model 'guide' is missing"):
        guide_path()
    (tmp_path / "guide").mkdir()
    assert resolve_model("guide") == guide_path() == tmp_path / "guide"


def test_an_installation_without_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(package: str) -> Path:
        raise ModuleNotFoundError(package)

    monkeypatch.setattr(importlib.resources, "files", absent)
    with pytest.raises(CheckpointError, match="bundled model 'guide' is missing"):
        guide_path()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "no such model was downloaded.*engine download --repo mistralai/"),
        ("acme/model:Q4_K_M", r"no such model was downloaded.*--file Q4_K_M"),
        ("/no/such/folder", "There is no folder or file '/no/such/folder'"),
        ("", "not a path to a model"),
        ("  ", "not a path to a model"),
        ("x" * 1_000_000, "not a path to a model"),
        ("x" * 300, "There is no folder or file|cannot be looked up"),
        ("a\0b", "There is no folder or file|cannot be looked up"),
        ("~no-such-user-here/model", "There is no folder or file|cannot be looked up"),
        ("\ud800", "There is no folder or file|cannot be looked up"),
    ],
)
def test_names_that_lead_nowhere(name: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        resolve_model(name)
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()
