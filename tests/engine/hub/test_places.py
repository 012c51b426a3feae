from pathlib import Path

import pytest

from engine.errors import CheckpointError
from engine.hub.places import find_downloaded, key_of, model_path, target_of, unfinished, unfinished_folder
from engine.hub.record import MANIFEST, write_choice
from engine.hub.repository import Choice, Format, RemoteFile


def choice(title: str, kind: Format = "GGUF", name: str = "m.gguf") -> Choice:
    return Choice(title, kind, (RemoteFile(name, 1, None, ""),), 1, "acme/m", "0" * 40)


def put(folder: Path, item: Choice) -> None:
    folder.mkdir(parents=True)
    write_choice(folder / MANIFEST, item)


def test_every_choice_has_its_own_plain_place(tmp_path: Path) -> None:
    assert target_of(tmp_path, choice("safetensors", "safetensors")) == tmp_path / "acme" / "m"
    assert target_of(tmp_path, choice("Q4_K_M")) == tmp_path / "acme" / "m--Q4_K_M"
    assert key_of(choice("a b/ü.")) == "acme--m--a-b"
    for title in ("../../x", "a/b", "ü", "C:x", "x" * 5):
        assert target_of(tmp_path, choice(title)).parent == tmp_path / "acme"
        assert "/" not in key_of(choice(title))


def test_what_is_not_complete_is_listed_and_is_no_model(tmp_path: Path) -> None:
    assert unfinished(tmp_path) == {}
    put(unfinished_folder(tmp_path, key_of(choice("Q4_0"))), choice("Q4_0"))
    put(unfinished_folder(tmp_path, "renamed-by-somebody"), choice("Q8_0"))
    unfinished_folder(tmp_path, "empty").mkdir()
    assert unfinished(tmp_path) == {"acme--m--Q4_0": choice("Q4_0")}
    assert find_downloaded("acme/m", models=tmp_path, cache=tmp_path) is None


def test_a_download_is_found_by_its_name(tmp_path: Path) -> None:
    put(target_of(tmp_path, choice("Q4_0")), choice("Q4_0"))
    only = target_of(tmp_path, choice("Q4_0")) / "m.gguf"
    assert find_downloaded("acme/m", models=tmp_path) == only
    put(target_of(tmp_path, choice("safetensors", "safetensors")), choice("safetensors", "safetensors"))
    (tmp_path / "acme" / "m--copied-by-hand").mkdir()
    with pytest.raises(CheckpointError, match=r"are here: safetensors, Q4_0\. Give .* acme/m:safetensors"):
        find_downloaded("acme/m", models=tmp_path)
    assert find_downloaded("acme/m", "q4_0", models=tmp_path) == only
    assert find_downloaded("acme/m", "Q8_0", models=tmp_path) is None
    assert find_downloaded("acme/m", "safetensors", models=tmp_path) == tmp_path / "acme" / "m"
    assert model_path(tmp_path, choice("x")) == tmp_path / "m.gguf"


def test_the_hugging_face_cache_is_looked_into(tmp_path: Path) -> None:
    repository = tmp_path / "models--acme--m"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    assert find_downloaded("acme/m", models=tmp_path / "none", cache=tmp_path) is None
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    assert find_downloaded("acme/m", models=tmp_path / "none", cache=tmp_path) == snapshot
    for damaged in ("../../..", "\xff", "b" * 40, ""):
        (repository / "refs" / "main").write_bytes(damaged.encode("latin-1"))
        assert find_downloaded("acme/m", models=tmp_path / "none", cache=tmp_path) is None
