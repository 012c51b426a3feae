import pytest
from PySide6.QtWidgets import QFileDialog
from pytestqt.qtbot import QtBot

from app.settings import Settings
from app.theme import ThemeManager
from app.widgets.settings.folders_page import FoldersPage

SETTINGS = Settings(models_folder="/big/models", model_folders=("/a", "/b"))


@pytest.fixture
def page(qtbot: QtBot, themes: ThemeManager) -> FoldersPage:
    page = FoldersPage()
    qtbot.addWidget(page)
    page.show_settings(SETTINGS)
    return page


def test_what_is_shown_is_merged(page: FoldersPage) -> None:
    assert page.merge(Settings()) == SETTINGS


def test_folders_are_added_once_and_removed(page: FoldersPage, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "/c")
    with qtbot.waitSignal(page.edited):
        page.add.click()
    page.add.click()
    assert page.folders == ("/a", "/b", "/c")
    assert not page.remove.isEnabled()
    page.list.setCurrentRow(0)
    with qtbot.waitSignal(page.edited):
        page.remove.click()
    assert page.merge(SETTINGS).model_folders == ("/b", "/c")
    page.choose_own.click()
    assert page.merge(SETTINGS).models_folder == "/c"


def test_a_dialog_that_is_cancelled_changes_nothing(page: FoldersPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "")
    page.add.click()
    page.choose_own.click()
    assert page.merge(Settings()) == SETTINGS
