from dataclasses import replace

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from app.downloads import Downloads
from app.library import Library
from app.rough_fit import RoughFit
from app.theme import ThemeManager
from app.widgets.models import hub_page
from app.widgets.models.hub_page import HubPage
from app.widgets.models.token_dialog import TokenDialog
from engine.messages import ErrorReport
from tests.app.widgets.models.conftest import REPO, FakeToken
from tests.engine.hub.hub_server import FakeHub, FakeRepository, Fault


@pytest.fixture
def page(downloads: Downloads, library: Library, token: FakeToken, qtbot: QtBot, themes: ThemeManager) -> HubPage:
    page = HubPage(downloads, library, token)  # type: ignore[arg-type]
    qtbot.addWidget(page)
    return page


def search(page: HubPage, words: str, qtbot: QtBot) -> None:
    page.field.setText(words)
    with qtbot.waitSignal(page._downloads.searched):
        page.search.click()


def choose_first(page: HubPage, qtbot: QtBot) -> None:
    with qtbot.waitSignal(page._downloads.looked_up):
        page.repositories.setCurrentItem(page.repositories.topLevelItem(0))  # type: ignore[arg-type]


def test_nothing_is_asked_before_the_user_searches(page: HubPage, hub: FakeHub) -> None:
    page.search.click()
    assert hub.requests == []


def test_what_is_known_of_a_choice_takes_room_only_when_there_is_one(page: HubPage, qtbot: QtBot) -> None:
    assert page.fit.isHidden()
    search(page, "mix", qtbot)
    assert page.fit.isHidden()
    choose_first(page, qtbot)
    assert not page.fit.isHidden()
    page.repositories.setCurrentItem(None)  # type: ignore[call-overload]
    assert page.fit.isHidden()


def test_a_model_is_searched_chosen_and_downloaded(
    page: HubPage, hub: FakeHub, downloads: Downloads, qtbot: QtBot
) -> None:
    search(page, "mix", qtbot)
    assert page.status.text().startswith("1 ")
    choose_first(page, qtbot)
    titles = [item.text(0) for item in page.choices.findItems("", Qt.MatchFlag.MatchContains)]
    assert titles == ["Q4_0", "F32"]
    assert "free on the drive" in page.fit.text()
    assert "apache-2.0" in page.fit.text()
    with qtbot.waitSignal(downloads.finished):
        page.download.click()
        assert page.fit.text().startswith("Downloading")
    assert not page.download.isEnabled()
    assert page.fit.text().startswith("It is on this computer now")


def test_the_planners_verdict_comes_before_the_download(
    page: HubPage, hub: FakeHub, downloads: Downloads, qtbot: QtBot
) -> None:
    search(page, "mix", qtbot)
    with qtbot.waitSignal(downloads.previewed):
        choose_first(page, qtbot)
        assert "Asking how fast" in page.fit.text()
    assert page.fit.text().startswith("Fits: about ")
    assert "all experts on the CPU" in page.fit.text()
    assert "free on the drive" in page.fit.text()
    assert page.download.isEnabled()
    assert downloads.states() == ()


def test_what_cannot_run_is_told_before_the_download_and_silence_leaves_its_size(
    page: HubPage, hub: FakeHub, downloads: Downloads, qtbot: QtBot
) -> None:
    content = hub.repositories[REPO].files["mix.Q4_0.gguf"]
    hub.repositories[REPO].files["mix.Q4_0.gguf"] = content.replace(b"llama", b"lemma")
    hub.always["mix.F32.gguf"] = Fault(status=503)
    search(page, "mix", qtbot)
    with qtbot.waitSignal(downloads.previewed):
        choose_first(page, qtbot)
    assert "lemma" in page.fit.text()
    with qtbot.waitSignal(downloads.previewed):
        page.choices.setCurrentItem(page.choices.topLevelItem(1))  # type: ignore[arg-type]
    assert page.fit.text().startswith("Its weights fit in this PC's memory.\n")


def test_what_is_not_found_is_a_sentence(page: HubPage, hub: FakeHub, qtbot: QtBot) -> None:
    search(page, "nothing like this", qtbot)
    assert "Nothing is called that." in page.status.text()
    hub.repositories["acme/old-pickle"] = FakeRepository({"pytorch_model.bin": b"x", "config.json": b"{}"})
    search(page, "old-pickle", qtbot)
    choose_first(page, qtbot)
    assert "pickle" in page.fit.text()
    assert not page.download.isEnabled()


def test_a_hub_that_does_not_answer_is_a_sentence(page: HubPage, hub: FakeHub, qtbot: QtBot) -> None:
    search(page, "mix", qtbot)
    page._downloads.searched.emit("mix", (), ErrorReport("hub-unreachable", "It cannot be reached.", "Retry."))
    assert page.status.text() == "It cannot be reached. Retry."


def test_an_answer_that_comes_late_is_passed_over(page: HubPage, hub: FakeHub, qtbot: QtBot) -> None:
    search(page, "mix", qtbot)
    page._downloads.searched.emit("something else", (), None)
    page._downloads.looked_up.emit("another/one", (), None)
    assert page.repositories.topLevelItemCount() == 1


def test_a_drive_without_room_is_told_first(
    page: HubPage, hub: FakeHub, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = RoughFit(in_memory=True, on_drive=False, ram_bytes=1 << 30, free_bytes=1000)
    monkeypatch.setattr(hub_page, "rough_fit", lambda *_: full)
    search(page, "mix", qtbot)
    choose_first(page, qtbot)
    assert "Not enough room on the drive" in page.fit.text()
    assert not page.download.isEnabled()
    monkeypatch.setattr(hub_page, "rough_fit", lambda *_: replace(full, on_drive=True, in_memory=False))
    page.choices.setCurrentItem(page.choices.topLevelItem(1))  # type: ignore[arg-type]
    assert "from disk" in page.fit.text()
    assert page.download.isEnabled()


def test_a_closed_repository_asks_for_a_token(page: HubPage, hub: FakeHub, token: FakeToken, qtbot: QtBot) -> None:
    search(page, "mix", qtbot)
    choose_first(page, qtbot)
    page._downloads.looked_up.emit(REPO, (), ErrorReport("gated", "It is closed.", "Ask."))
    assert page.enter_token.isVisibleTo(page)
    page.enter_token.click()
    dialog = page.findChild(TokenDialog)
    assert dialog is not None
    dialog.field.setText("hf_x")
    with qtbot.waitSignal(page._downloads.looked_up):
        dialog.buttons.accepted.emit()
    assert page.choices.topLevelItemCount() == 2
