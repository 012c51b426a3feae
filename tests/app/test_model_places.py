import json
import sys
from pathlib import Path

import pytest

from app.model_places import Place, model_places, own_models_folder, source_words


def _folders(places: tuple[Place, ...], source: str) -> list[Path]:
    return [place.folder for place in places if place.source == source]


def test_the_folders_of_other_programs_are_known(tmp_path: Path) -> None:
    places = model_places({}, tmp_path, added=("/mnt/big",))
    assert places[0] == Place("rooftop", own_models_folder())
    assert places[1] == Place("folder", Path("/mnt/big"))
    assert _folders(places, "huggingface") == [tmp_path / ".cache" / "huggingface" / "hub"]
    assert _folders(places, "lmstudio") == [
        tmp_path / ".lmstudio" / "models",
        tmp_path / ".cache" / "lm-studio" / "models",
    ]
    assert all(source_words(place.source) for place in places)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HF_HOME": "/b"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
    ],
)
def test_the_hugging_face_cache_is_where_its_variables_say(
    tmp_path: Path, environment: dict[str, str], expected: str
) -> None:
    assert _folders(model_places(environment, tmp_path), "huggingface") == [Path(expected)]


def test_lm_studio_may_have_been_moved(tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    (tmp_path / ".lmstudio-home-pointer").write_text(f"{moved}\n")
    (moved / "settings.json").write_text(json.dumps({"downloadsFolder": str(tmp_path / "downloads")}))
    folders = _folders(model_places({}, tmp_path), "lmstudio")
    assert folders[:2] == [tmp_path / "downloads", moved / "models"]


@pytest.mark.parametrize("content", [b"\0" * 50, b"[1]", b"{", b'{"downloadsFolder": 3}', b"\xff"])
def test_a_damaged_file_of_another_program_does_no_harm(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".lmstudio").mkdir()
    (tmp_path / ".lmstudio" / "settings.json").write_bytes(content)
    ini = tmp_path / ".config" / "nomic.ai" / "GPT4All.ini"
    ini.parent.mkdir(parents=True)
    ini.write_bytes(content)
    assert len(_folders(model_places({}, tmp_path), "lmstudio")) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other folders")
def test_gpt4all_has_its_folder_and_a_setting(tmp_path: Path) -> None:
    ini = tmp_path / ".config" / "nomic.ai" / "GPT4All.ini"
    ini.parent.mkdir(parents=True)
    ini.write_text("[General]\nmodelPath=/data/gpt4all 100%\n")
    folders = _folders(model_places({}, tmp_path), "gpt4all")
    assert folders == [Path("/data/gpt4all 100%"), tmp_path / ".local" / "share" / "nomic.ai" / "GPT4All"]


def test_a_folder_that_is_named_twice_is_looked_through_once(tmp_path: Path) -> None:
    own = str(tmp_path / "models")
    places = model_places({}, tmp_path, own=own, added=(own, own))
    assert [place.source for place in places if place.folder == Path(own)] == ["rooftop"]
