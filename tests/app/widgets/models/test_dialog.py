from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from pytestqt.qtbot import QtBot

from app.conversions import Conversions
from app.downloads import Downloads
from app.library import Library
from app.theme import ThemeManager
from app.widgets.models.dialog import HUB, ON_THIS_COMPUTER, RECOMMENDED, ModelsDialog
from app.widgets.models.smaller_dialog import SmallerDialog
from tests.app.widgets.models.conftest import REPO, FakeToken
from tests.checkpoints import write_mixtral
from tests.engine.hub.conftest import chosen
from tests.engine.hub.hub_server import FakeHub, FakeRepository
from tests.gguf_files import gguf_model


@pytest.fixture
def dialog(
    downloads: Downloads,
    conversions: Conversions,
    library: Library,
    token: FakeToken,
    qtbot: QtBot,
    themes: ThemeManager,
) -> ModelsDialog:
    dialog = ModelsDialog(library, lambda: downloads, token, lambda: conversions, "guide")  # type: ignore[arg-type]
    downloads.finished.connect(lambda _key, _path: library.refresh())
    qtbot.addWidget(dialog)
    dialog.show()
    return dialog


def drop(dialog: ModelsDialog, *paths: Path) -> bool:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    place, buttons, keys = QPoint(5, 5), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(place, Qt.DropAction.CopyAction, data, buttons, keys)
    dialog.dragEnterEvent(enter)
    dialog.dropEvent(QDropEvent(place, Qt.DropAction.CopyAction, data, buttons, keys))
    return enter.isAccepted()


def test_nothing_about_the_hub_is_made_before_it_is_asked_for(dialog: ModelsDialog) -> None:
    assert dialog.recommended is None
    assert dialog.hub is None
    assert dialog.download_list is None
    dialog.found.recommended_requested.emit()
    assert dialog.tabs.currentIndex() == RECOMMENDED
    assert dialog.recommended is not None
    dialog.tabs.setCurrentIndex(HUB)
    assert dialog.hub is not None
    dialog.tabs.setCurrentIndex(ON_THIS_COMPUTER)
    dialog.tabs.setCurrentIndex(HUB)


def test_what_was_downloaded_is_listed_and_loaded(
    dialog: ModelsDialog, downloads: Downloads, library: Library, hub: FakeHub, qtbot: QtBot
) -> None:
    shown = dialog.show_downloads()
    with qtbot.waitSignal(library.scanned):
        key = downloads.start(chosen(hub))
    assert "mix.Q4_0" in [model.name for model in library.models()]
    with qtbot.waitSignal(dialog.load_requested) as loaded:
        shown.row(key).main.click()
    assert loaded.args[1] is False
    assert Path(loaded.args[0]).name == "mix.Q4_0.gguf"
    assert dialog.isHidden()


def test_folders_and_files_can_be_dropped(dialog: ModelsDialog, tmp_path: Path, qtbot: QtBot) -> None:
    added: list[str] = []
    dialog.folder_added.connect(added.append)
    (tmp_path / "m.gguf").write_bytes(b"")
    assert drop(dialog, tmp_path, tmp_path / "m.gguf")
    assert added == [str(tmp_path)]
    assert not drop(dialog, tmp_path / "letter.odt")
    assert not drop(dialog)


def test_a_model_in_floats_is_made_smaller(
    dialog: ModelsDialog, library: Library, conversions: Conversions, models_folder: Path, qtbot: QtBot
) -> None:
    source = write_mixtral(models_folder / "Mix", layers=1, hidden=256, intermediate=64)
    with qtbot.waitSignal(library.scanned):
        library.refresh()
    assert dialog.found.details.smaller.isHidden(), "the guide stays as it is"
    dialog.found.select(str(source))
    assert not dialog.found.details.smaller.isHidden()
    with qtbot.waitSignal(conversions.sized):
        dialog.found.details.smaller.click()
    question = dialog.findChild(SmallerDialog)
    assert question is not None
    question.go.click()
    assert dialog.conversion_list is not None
    assert dialog.conversion_list.keys() == ["Mix-q4"]
    qtbot.waitUntil(lambda: conversions.states()[0].phase == "checking")


def test_a_download_in_floats_can_be_made_smaller_at_once(
    dialog: ModelsDialog, downloads: Downloads, library: Library, hub: FakeHub, qtbot: QtBot
) -> None:
    shown = dialog.show_downloads()
    with qtbot.waitSignal(library.scanned):
        key = downloads.start(chosen(hub))
    row = shown.row(key)
    assert not row.smaller.isHidden(), "the file's name is Q4_0, its weights are floats"
    row.smaller.click()
    question = dialog.findChild(SmallerDialog)
    assert question is not None
    assert question.isVisible()
    row.cancel.click()
    assert shown.keys() == []


def test_a_download_in_blocks_is_small_already(
    dialog: ModelsDialog, downloads: Downloads, library: Library, hub: FakeHub, qtbot: QtBot
) -> None:
    blocks = gguf_model("llama", formats=[("Q8_0", "Q8_0", "Q8_0")], dense_format="Q8_0")
    hub.repositories[REPO] = FakeRepository({"mix.Q8_0.gguf": blocks.encode()})
    with qtbot.waitSignal(library.scanned):
        key = downloads.start(chosen(hub))
    assert dialog.show_downloads().row(key).smaller.isHidden()
