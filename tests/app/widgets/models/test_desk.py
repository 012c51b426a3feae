import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication, QPushButton
from pytestqt.qtbot import QtBot

from app.application import Application
from app.engine_client import EngineState
from app.settings import Settings, load_settings, save_settings
from app.widgets.models.dialog import ModelsDialog
from app.widgets.models.found_list import LOADED_ROLE
from engine.convert.journal import JOURNAL, VERSION
from engine.hub.record import MANIFEST, write_choice
from tests.app.fake_host import FakeHost
from tests.app.keyboard import focused, name_of, press, tab_ring
from tests.engine.hub.conftest import REPO, chosen
from tests.engine.hub.hub_server import FakeRepository, fake_hub
from tests.gguf_files import write_gguf


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's own models and caches."""
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "HF_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")


def open_page(rooftop: Application, qtbot: QtBot) -> ModelsDialog:
    with qtbot.waitSignal(rooftop.model_desk.library.scanned):
        rooftop.window.models_requested.emit()
    return next(found for found in rooftop.window.findChildren(ModelsDialog) if found.isVisible())


def names(rooftop: Application) -> list[str]:
    return [model.name for model in rooftop.model_desk.library.models()]


def test_the_page_opens_by_key_and_everything_on_it_has_a_name(rooftop: Application, qtbot: QtBot) -> None:
    rooftop.window.activateWindow()
    qtbot.waitUntil(rooftop.window.isActiveWindow)
    with qtbot.waitSignal(rooftop.model_desk.library.scanned):
        press("Ctrl+M")
    dialog = rooftop.window.findChild(ModelsDialog)
    assert dialog is not None
    qtbot.waitUntil(dialog.isActiveWindow)
    assert focused() is dialog.found.list
    assert [widget for widget in tab_ring() if not name_of(widget)] == []
    assert dialog.found.shown.index(0, 0).data(LOADED_ROLE)
    press("Esc")
    assert dialog.isHidden()


def test_a_model_of_the_page_is_loaded_and_marked(rooftop: Application, qtbot: QtBot, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "models" / "mine.gguf", "llama")
    dialog = open_page(rooftop, qtbot)
    with qtbot.waitSignal(rooftop.model_desk.library.scanned):
        dialog.folder_added.emit(str(path.parent))
    settings = load_settings(tmp_path / "config" / "settings.json")[0]
    assert settings.model_folders == (str(path.parent),)
    assert "mine" in names(rooftop)
    dialog.found.select(str(path))
    qtbot.waitUntil(dialog.found.details.load.isEnabled)
    with qtbot.waitSignal(rooftop.client.ready):
        dialog.found.details.load.click()
    assert rooftop.settings.model == str(path)
    dialog = open_page(rooftop, qtbot)
    assert dialog.found.current is not None
    assert dialog.found.current.path == str(path)
    assert not dialog.found.details.load.isEnabled()
    assert "mine" in (tmp_path / "config" / "models.json").read_text()


def test_a_model_too_big_turns_the_disk_on(rooftop: Application, qtbot: QtBot) -> None:
    with qtbot.waitSignal(rooftop.client.ready):
        rooftop.model_desk.model_chosen.emit("/models/big.gguf", True)  # noqa: FBT003
    assert rooftop.settings.experts_on_disk
    assert rooftop.settings.model == "/models/big.gguf"


def test_other_folders_are_looked_through_at_once(rooftop: Application, qtbot: QtBot, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "other" / "new.gguf", "llama")
    open_page(rooftop, qtbot)
    with qtbot.waitSignal(rooftop.model_desk.library.scanned):
        rooftop.apply_settings(Settings(model_folders=(str(path.parent),)))
    assert "new" in names(rooftop)


def test_other_settings_are_judged_at_once(rooftop: Application, qtbot: QtBot) -> None:
    open_page(rooftop, qtbot)
    library = rooftop.model_desk.library
    qtbot.waitUntil(lambda: library.known_verdict("guide") is not None)
    rooftop.apply_settings(Settings(simulate_gpu_bytes=1 << 30))

    def judged_anew() -> bool:
        verdict = library.known_verdict("guide")
        return verdict is not None and verdict.plan is not None and verdict.plan.device == "simulated"

    qtbot.waitUntil(judged_anew)


@pytest.fixture
def unfinished_folder(tmp_path: Path) -> Path:
    """A models folder with a download that an earlier session has left."""
    with fake_hub() as hub:
        hub.repositories[REPO] = FakeRepository({"mix.Q4_K_M.gguf": bytes(1000)})
        choice = chosen(hub)
    folder = tmp_path / "own"
    left = folder / ".downloads" / "acme--Mix-GGUF--Q4_K_M"
    left.mkdir(parents=True)
    write_choice(left / MANIFEST, choice)
    return folder


def test_what_an_earlier_session_has_left_is_offered(
    make_rooftop: Callable[..., Application], host: FakeHost, qtbot: QtBot, tmp_path: Path, unfinished_folder: Path
) -> None:
    path = tmp_path / "set" / "settings.json"
    save_settings(Settings(models_folder=str(unfinished_folder)), path)
    rooftop = make_rooftop(settings_path=path)
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)
    banner = rooftop.chat.banners.banners["downloads"]
    assert "Mix-GGUF Q4_K_M" in banner.text
    show = next(button for button in banner.findChildren(QPushButton) if button.text() == "Show")
    with qtbot.waitSignal(rooftop.model_desk.library.scanned):
        show.click()
    dialog = rooftop.window.findChild(ModelsDialog)
    assert dialog is not None
    assert dialog.download_list is not None
    assert dialog.download_list.keys() == ["acme--Mix-GGUF--Q4_K_M"]
    assert rooftop.model_desk.downloads().states()[0].phase == "paused"


def test_a_conversion_that_an_earlier_session_has_left_is_offered(
    make_rooftop: Callable[..., Application], host: FakeHost, qtbot: QtBot, tmp_path: Path
) -> None:
    left = tmp_path / "own" / "Mix-q4.unfinished"
    left.mkdir(parents=True)
    journal = {"rooftop": VERSION, "source": "/models/Mix", "format": "q4"}
    (left / JOURNAL).write_text(json.dumps(journal) + "\n")
    path = tmp_path / "set" / "settings.json"
    save_settings(Settings(models_folder=str(left.parent)), path)
    rooftop = make_rooftop(settings_path=path)
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)
    banner = rooftop.chat.banners.banners["conversions"]
    assert "being made smaller: Mix-q4." in banner.text
    show = next(button for button in banner.findChildren(QPushButton) if button.text() == "Show")
    with qtbot.waitSignal(rooftop.model_desk.library.scanned):
        show.click()
    dialog = rooftop.window.findChild(ModelsDialog)
    assert dialog is not None
    assert dialog.conversion_list is not None
    row = dialog.conversion_list.row("Mix-q4")
    assert row.state.phase == "paused"
    with qtbot.waitSignal(rooftop.model_desk.conversions().failed, timeout=10_000):  # its model is not there
        row.main.click()
    assert row.text.startswith("Mix in 4 bits\nstopped")
    assert "/models/Mix" in row.text
    assert row.main.text() == "Try again"


def test_without_a_model_nothing_is_marked(rooftop: Application, qtbot: QtBot, host: FakeHost) -> None:
    dialog = open_page(rooftop, qtbot)
    assert QApplication.activeWindow() is not None
    host.die()
    qtbot.waitUntil(lambda: not dialog.found.shown.index(0, 0).data(LOADED_ROLE))
