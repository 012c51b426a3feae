from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QDesktopServices
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QFileDialog, QMessageBox, QPushButton
from pytestqt.qtbot import QtBot

from app.library import Library
from app.model_places import Place
from app.theme import ThemeManager
from app.widgets.models.found_list import LOADED_ROLE, MODEL_ROLE
from app.widgets.models.found_page import FoundPage
from engine.config import EngineConfig
from engine.experts.memory import ENGINE_BYTES
from engine.hardware import HardwareProfile
from tests.gguf_files import write_gguf

CPU = EngineConfig(device="cpu", isa="torch", context_tokens=64, cpu_threads=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    write_gguf(folder / "beta.gguf", "llama")
    write_gguf(folder / "alpha.gguf", "qwen3moe", formats=[("Q8_0", "Q8_0", "Q8_0")], dense_format="Q8_0")
    (folder / "cut.gguf").write_bytes((folder / "beta.gguf").read_bytes()[:1000])
    return folder


@pytest.fixture
def library(folder: Path, qtbot: QtBot) -> Iterator[Library]:
    library = Library(lambda: (Place("folder", folder),), lambda: CPU)
    yield library
    library.close()


@pytest.fixture
def open_page(library: Library, qtbot: QtBot, themes: ThemeManager) -> Callable[..., FoundPage]:
    def open_it(loaded: str = "guide") -> FoundPage:
        page = FoundPage(library, loaded)
        qtbot.addWidget(page)
        page.resize(1000, 600)
        page.show()
        if not library.models():
            with qtbot.waitSignals([library.judged] * 4, timeout=10_000):
                library.refresh()
        return page

    return open_it


def names(page: FoundPage) -> list[str]:
    return [page.shown.index(row, 0).data() for row in range(page.shown.rowCount())]


def choose(page: FoundPage, name: str) -> None:
    model = next(model for model in page._library.models() if model.name == name)
    page.select(model.path)


def box(page: FoundPage) -> QMessageBox:
    return page.findChildren(QMessageBox)[-1]


def press(box: QMessageBox, text: str) -> None:
    next(button for button in box.findChildren(QPushButton) if button.text() == text).click()


def test_models_are_listed_with_what_is_known(open_page: Callable[..., FoundPage]) -> None:
    page = open_page()
    assert names(page) == ["Rooftop guide", "alpha", "beta", "cut"]
    assert page.count.text().startswith("4 models")
    spoken = page.shown.index(1, 0).data(Qt.ItemDataRole.AccessibleTextRole)
    assert "Qwen3-MoE" in spoken
    assert "Fits: about " in spoken
    assert page.current is not None
    assert page.current.name == "Rooftop guide"
    assert page.grab().width() == 1000 * page.devicePixelRatio()


def test_rows_are_searched_and_sorted(open_page: Callable[..., FoundPage]) -> None:
    page = open_page()
    page.search.setText("mixtral be")
    assert names(page) == ["beta"]
    page.search.setText("nothing like this")
    assert names(page) == []
    assert page.hint.isVisible()
    assert page.hint.text() == "No model is called that."
    page.search.clear()
    assert not page.hint.isVisible()
    page.order.setCurrentIndex(page.order.findData("size"))
    assert names(page)[0] == "Rooftop guide"
    assert names(page)[-1] == "cut"
    page.order.setCurrentIndex(page.order.findData("family"))
    assert names(page)[2] == "alpha"
    page.order.setCurrentIndex(page.order.findData("speed"))
    assert names(page)[-1] == "cut"


def test_a_model_is_loaded_by_key_and_by_button(
    open_page: Callable[..., FoundPage], folder: Path, qtbot: QtBot
) -> None:
    page = open_page()
    choose(page, "alpha")
    assert "Fits: about " in page.details.verdict.text()
    assert page.details.ram.isVisible()
    with qtbot.waitSignal(page.load_requested) as loaded:
        QTest.keyClick(page.list, Qt.Key.Key_Return)
    assert loaded.args == [str(folder / "alpha.gguf"), False]
    with qtbot.waitSignal(page.load_requested):
        page.details.load.click()


def test_what_cannot_be_run_cannot_be_loaded(open_page: Callable[..., FoundPage], qtbot: QtBot) -> None:
    page = open_page()
    choose(page, "cut")
    assert not page.details.load.isEnabled()
    assert page.details.verdict.text()
    with qtbot.assertNotEmitted(page.load_requested):
        QTest.keyClick(page.list, Qt.Key.Key_Return)


def test_a_model_too_big_is_loaded_from_disk(
    open_page: Callable[..., FoundPage], library: Library, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = HardwareProfile("CPU", 2, 1 << 30, (512 << 20) + ENGINE_BYTES["cpu"] + (4 << 20), None)
    monkeypatch.setattr("app.library.probe_hardware", lambda _index: room)
    library._config = lambda: replace(CPU, context_tokens=16)
    page = open_page()
    choose(page, "beta")
    assert page.details.load.text() == "&Load from disk"
    assert "Too big for this PC's memory" in page.details.verdict.text()
    with qtbot.waitSignal(page.load_requested) as loaded:
        page.details.load.click()
    assert loaded.args[1] is True


def test_the_loaded_model_is_marked_and_stays(open_page: Callable[..., FoundPage], folder: Path) -> None:
    page = open_page(str(folder / "alpha.gguf"))
    choose(page, "alpha")
    index = page.list.currentIndex()
    assert index.data(LOADED_ROLE)
    assert "loaded" in index.data(Qt.ItemDataRole.AccessibleTextRole)
    assert not page.details.load.isEnabled()
    assert not page.details.delete.isEnabled()
    page.set_loaded("")
    assert page.details.load.isEnabled()
    assert page.details.delete.isEnabled()
    choose(page, "Rooftop guide")
    assert not page.details.delete.isEnabled()


def test_deleting_is_asked_and_moves_to_the_trash(
    open_page: Callable[..., FoundPage], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    page = open_page()
    choose(page, "beta")
    page.details.delete.click()
    assert "beta" in box(page).text()
    assert str(folder / "beta.gguf") in box(page).informativeText()
    press(box(page), "Keep")
    assert (folder / "beta.gguf").exists()
    page.details.delete.click()
    press(box(page), "Move to trash")
    assert not (folder / "beta.gguf").exists()
    assert "beta" not in names(page)


def test_without_a_trash_deleting_for_good_is_asked(
    open_page: Callable[..., FoundPage], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/dev/null/nowhere")
    page = open_page()
    choose(page, "beta")
    page.details.delete.click()
    press(box(page), "Move to trash")
    assert "cannot be undone" in box(page).text()
    assert (folder / "beta.gguf").exists()
    press(box(page), "Delete for good")
    assert not (folder / "beta.gguf").exists()
    assert "beta" not in names(page)


def test_folders_are_shown_and_added(
    open_page: Callable[..., FoundPage], folder: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    page = open_page()
    choose(page, "beta")
    page.details.reveal.click()
    assert opened == [str(folder)]
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "/somewhere")
    with qtbot.waitSignal(page.folder_chosen) as chosen:
        page.add_folder.click()
    assert chosen.args == ["/somewhere"]


def test_where_nothing_was_found_one_button_helps(
    open_page: Callable[..., FoundPage], folder: Path, library: Library, qtbot: QtBot
) -> None:
    page = open_page()
    for file in folder.iterdir():
        file.unlink()
    with qtbot.waitSignal(library.scanned):
        page.look_again()
    assert names(page) == ["Rooftop guide"]
    assert page.hint_button.isVisible()
    with qtbot.waitSignal(page.recommended_requested):
        page.hint_button.click()


def test_a_choice_stays_while_models_come(open_page: Callable[..., FoundPage], folder: Path, qtbot: QtBot) -> None:
    page = open_page()
    choose(page, "beta")
    write_gguf(folder / "aaa.gguf", "llama")
    with qtbot.waitSignal(page._library.scanned):
        page.look_again()
    assert page.list.currentIndex().data(MODEL_ROLE).name == "beta"
    assert names(page)[1] == "aaa"
