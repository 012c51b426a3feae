import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from app import library as library_module
from app import model_scan
from app.library import Library
from app.model_places import Place
from app.model_scan import Candidate, FoundModel
from engine.config import EngineConfig
from engine.errors import ConfigurationError
from engine.hardware import HardwareProfile
from tests.app.snapshots import make_ready
from tests.checkpoints import write_mixtral
from tests.gguf_files import write_gguf

CPU = EngineConfig(device="cpu", isa="torch", context_tokens=64, cpu_threads=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_gguf(tmp_path / "models" / "one.gguf", "llama")
    write_gguf(tmp_path / "models" / "two.gguf", "llama")
    return tmp_path / "models"


@pytest.fixture
def make(tmp_path: Path, folder: Path, qtbot: QtBot) -> Iterator[Callable[[], Library]]:
    made: list[Library] = []

    def one() -> Library:
        places = (Place("folder", folder), Place("gpt4all", folder))
        library = Library(lambda: places, lambda: CPU, tmp_path / "cache.json", tmp_path / "used.json")
        made.append(library)
        return library

    yield one
    for library in made:
        library.close()


def _scan(library: Library, qtbot: QtBot, *, again: bool = False) -> list[str]:
    with qtbot.waitSignal(library.scanned):
        library.refresh(again=again)
    return [model.name for model in library.models()]


def test_models_are_found_and_judged(make: Callable[[], Library], folder: Path, qtbot: QtBot) -> None:
    library = make()
    found: list[FoundModel] = []
    library.found.connect(found.append)
    with qtbot.waitSignals([library.judged] * 3), qtbot.waitSignal(library.scanned):
        library.refresh()
        assert library.scanning
    assert not library.scanning
    assert [model.name for model in found] == ["Rooftop guide", "one", "two"]
    assert [model.name for model in library.models()] == ["Rooftop guide", "one", "two"]
    for model in library.models():
        assert library.known_verdict(model.path) == library.verdict(model)


def test_only_what_changed_is_announced(make: Callable[[], Library], folder: Path, qtbot: QtBot) -> None:
    library = make()
    _scan(library, qtbot)
    found: list[FoundModel] = []
    lost: list[str] = []
    library.found.connect(found.append)
    library.lost.connect(lost.append)
    (folder / "one.gguf").unlink()
    write_gguf(folder / "two.gguf", "llama", formats=[("Q8_0", "Q8_0", "Q8_0")], dense_format="Q8_0")
    write_gguf(folder / "three.gguf", "llama")
    assert _scan(library, qtbot) == ["Rooftop guide", "three", "two"]
    assert {model.name for model in found} == {"two", "three"}
    assert lost == [str(folder / "one.gguf")]


def test_headers_are_read_once(
    make: Callable[[], Library], folder: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def inspect(candidate: Candidate) -> FoundModel:
        read.append(candidate.path)
        return real(candidate)

    real = model_scan.inspect
    monkeypatch.setattr(library_module, "inspect", inspect)
    (folder / "broken.gguf").write_bytes(b"GGUF")
    _scan(make(), qtbot)
    assert len(read) == 3
    second = make()
    assert "broken" in _scan(second, qtbot)
    assert len(read) == 3
    _scan(second, qtbot, again=True)
    assert read[3:] == [folder / "broken.gguf"]


def test_a_new_folder_is_listed_by_its_config_and_its_headers_are_read_after_all_verdicts(
    make: Callable[[], Library], folder: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []
    read: list[str] = []

    def inspect(candidate: Candidate) -> FoundModel:
        read.append(candidate.path.name)
        return real(candidate)

    real = model_scan.inspect
    monkeypatch.setattr(library_module, "inspect", inspect)
    for name in ("sound", "torn"):
        write_mixtral(folder / name)
        (folder / name / "tokenizer.json").write_text("{}", encoding="utf-8")
    with (folder / "torn" / "model.safetensors").open("r+b") as file:
        file.truncate(5000)
    library = make()
    library.found.connect(lambda model: found.append(f"{model.name} {model.runs}"))
    with qtbot.waitSignals([library.judged] * 6):  # the guide, two files, two folders, and the torn one once more
        library.refresh()
    qtbot.waitUntil(lambda: not library.reading)
    assert found == ["Rooftop guide True", "one True", "two True", "Sound True", "Torn True", "Torn False"]
    assert read == ["one.gguf", "two.gguf", "sound", "torn"]
    torn = next(model for model in library.models() if model.name == "Torn")
    assert library.verdict(torn).kind == "cannot_run"
    library.close()
    assert (folder.parent / "cache.json").read_text(encoding="utf-8").count("torn") > 0


def test_a_glance_leaves_to_the_headers_what_config_json_cannot_tell(folder: Path) -> None:
    whole = write_mixtral(folder / "whole", shards=2)
    (whole / "tokenizer.json").write_text("{}", encoding="utf-8")

    def glanced(path: Path) -> FoundModel | None:
        candidate = model_scan.candidate_at(path, "folder")
        assert candidate is not None
        return model_scan.glance(candidate)

    assert glanced(whole) == model_scan.inspect(model_scan.candidate_at(whole, "folder"))  # type: ignore[arg-type]
    assert glanced(folder / "one.gguf") is None
    next(whole.glob("*-00002-*")).unlink()
    assert glanced(whole) is None


def test_a_verdict_is_there_at_once_for_who_asks(make: Callable[[], Library]) -> None:
    library = make()
    offline = FoundModel("/away/m.gguf", "m", "folder", 0, offline=True)
    assert library.known_verdict(offline.path) is None
    assert library.verdict(offline).kind == "offline"
    assert library.known_verdict(offline.path) is not None


def test_impossible_settings_are_a_sentence(make: Callable[[], Library], folder: Path, qtbot: QtBot) -> None:
    library = make()
    library._config = lambda: replace(CPU, device="cuda")
    _scan(library, qtbot)
    verdicts = [library.verdict(model) for model in library.models()]
    assert all(verdict.kind == "too_big" and verdict.problem for verdict in verdicts)


def test_a_used_model_outside_of_all_folders_is_listed(
    make: Callable[[], Library], tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = make()
    elsewhere = write_gguf(tmp_path / "elsewhere" / "mine.gguf", "llama")
    library.model_loaded(make_ready(), str(elsewhere))
    qtbot.waitUntil((tmp_path / "used.json").exists)
    assert "mine" in _scan(library, qtbot)
    library.forget(str(elsewhere))
    elsewhere.unlink()
    assert "mine" not in _scan(library, qtbot)


def test_once_a_model_is_loaded_the_machine_is_measured_for_the_page(
    make: Callable[[], Library], qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[EngineConfig, HardwareProfile]] = []

    def speed(config: EngineConfig, hardware: HardwareProfile) -> None:
        asked.append((config, hardware))
        raise ConfigurationError("No such instructions.", "Choose others.")

    monkeypatch.setattr(library_module, "planned_speed", speed)
    library, ready = make(), make_ready()
    library.model_loaded(None)
    assert not asked
    library.model_loaded(ready)
    qtbot.waitUntil(lambda: asked == [(CPU, ready.planning.hardware)])


def test_a_model_on_a_drive_that_is_away_is_told(
    make: Callable[[], Library], tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = make()
    away = write_gguf(tmp_path / "drive" / "mine.gguf", "llama")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_mount", lambda self: self == tmp_path / "drive")
        library.model_loaded(make_ready(), str(away))
        qtbot.waitUntil((tmp_path / "used.json").exists)
    away.unlink()
    assert not os.path.ismount(tmp_path / "drive")
    _scan(library, qtbot)
    model = next(model for model in library.models() if model.path == str(away))
    assert model.offline
    assert library.verdict(model).kind == "offline"


def test_a_new_refresh_takes_the_place_of_the_one_that_runs(make: Callable[[], Library], qtbot: QtBot) -> None:
    library = make()
    ended: list[bool] = []
    library.scanned.connect(lambda: ended.append(True))
    library.refresh()
    library.refresh()
    with qtbot.waitSignal(library.scanned):
        library.refresh()
    assert ended == [True]
    assert len(library.models()) == 3


def test_nothing_starts_after_the_end(make: Callable[[], Library], qtbot: QtBot) -> None:
    library = make()
    _scan(library, qtbot)
    library.close()
    with qtbot.assertNotEmitted(library.judged):
        library.model_loaded(None)
        library.refresh()
    assert not library.scanning
