from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication

from app.model_removal import RemovalError, for_good, own_paths, to_trash
from engine.convert.conversion import convert
from engine.hub.record import MANIFEST
from tests.checkpoints import write_mixtral
from tests.gguf_files import write_gguf


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A hub cache with a version of two quantisations, one of them in an older version too."""
    repository = tmp_path / "hub" / "models--maker--Model"
    blobs = repository / "blobs"
    blobs.mkdir(parents=True)
    for version, names in (("old", ["a.gguf"]), ("new", ["a.gguf", "b.gguf"])):
        snapshot = repository / "snapshots" / version
        snapshot.mkdir(parents=True)
        for name in names:
            (blobs / name.upper()).write_bytes(b"weights of " + name.encode())
            (snapshot / name).symlink_to(blobs / name.upper())
    return repository


def test_a_file_is_all_that_a_gguf_model_is(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "llama", splits=3)
    write_gguf(tmp_path / "other.gguf", "llama")
    assert len(own_paths(path)) == 3
    for_good(path)
    assert [file.name for file in tmp_path.iterdir()] == ["other.gguf"]


def test_a_folder_goes_as_a_whole_if_it_holds_nothing_else(tmp_path: Path) -> None:
    folder = write_mixtral(tmp_path / "m")
    (folder / "README.md").write_text("")
    assert own_paths(folder) == (folder,)
    (folder / "my notes.odt").write_text("")
    assert folder not in own_paths(folder)
    for_good(folder)
    assert "my notes.odt" in {file.name for file in folder.iterdir()}
    assert not list(folder.glob("*.safetensors"))


def test_a_download_goes_with_its_folder(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "maker" / "model--Q4_0" / "m.gguf", "llama")
    folder = path.parent
    assert own_paths(path) == (path,)
    (folder / MANIFEST).write_text("{}")
    assert own_paths(path) == (folder,)
    (folder / "my notes.odt").write_text("")
    assert set(own_paths(path)) == {path, folder / MANIFEST}


def test_other_files_beside_a_folders_weights_stay(tmp_path: Path) -> None:
    folder = write_mixtral(tmp_path / "m")
    other = write_gguf(folder / "other.gguf", "llama")
    assert folder not in own_paths(folder)
    assert other not in own_paths(folder)


def test_a_folder_with_folders_stays(tmp_path: Path) -> None:
    folder = write_mixtral(tmp_path / "m")
    write_mixtral(folder / "another.json")
    assert folder not in own_paths(folder)
    assert not any(path.is_dir() for path in own_paths(folder))


def test_a_home_folder_or_drive_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_mixtral(tmp_path / "m")
    monkeypatch.setattr(Path, "home", lambda: folder)
    assert folder not in own_paths(folder)


def test_a_hub_cache_loses_only_what_no_other_version_uses(repository: Path) -> None:
    new = repository / "snapshots" / "new"
    assert set(own_paths(new / "b.gguf")) == {repository / "blobs" / "B.GGUF", new / "b.gguf"}
    assert own_paths(new / "a.gguf") == (new / "a.gguf",)
    for_good(new / "b.gguf")
    for_good(repository / "snapshots" / "old" / "a.gguf")
    assert (new / "a.gguf").read_bytes() == b"weights of a.gguf"


def test_the_last_model_of_a_hub_repository_takes_its_folder_along(repository: Path) -> None:
    for_good(repository / "snapshots" / "old" / "a.gguf")
    (repository / "snapshots" / "old").rmdir()
    new = repository / "snapshots" / "new"
    for_good(new / "b.gguf")
    (new / "config.json").write_text("{}")
    assert own_paths(new / "a.gguf") == (repository,)
    to_keep = repository.parent / "models--maker--Other"
    to_keep.mkdir()
    for_good(new / "a.gguf")
    assert list(repository.parent.iterdir()) == [to_keep]


def test_the_trash_is_used(tmp_path: Path, qapp: QApplication, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    data.mkdir()
    folder = write_mixtral(tmp_path / "m")
    monkeypatch.setenv("XDG_DATA_HOME", "/dev/null/nowhere")
    with pytest.raises(RemovalError, match="could not be moved to the trash"):
        to_trash(folder)
    assert (folder / "config.json").exists()
    monkeypatch.setenv("XDG_DATA_HOME", str(data))
    to_trash(folder)
    assert not folder.exists()
    assert (data / "Trash" / "files" / "m" / "config.json").exists()


def test_what_cannot_be_deleted_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("shutil.rmtree", refuse)
    folder = write_mixtral(tmp_path / "m")
    with pytest.raises(RemovalError, match="Permission denied"):
        for_good(folder)
    assert own_paths(tmp_path / "gone") == ()


def test_a_converted_model_goes_as_a_whole(tmp_path: Path) -> None:
    source = write_mixtral(tmp_path / "m", layers=1, hidden=256, intermediate=64)
    convert(source, tmp_path / "m-q8", "q8")
    assert own_paths(tmp_path / "m-q8") == (tmp_path / "m-q8",)
