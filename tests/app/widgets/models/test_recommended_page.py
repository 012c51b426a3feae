from dataclasses import replace
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from app.downloads import Downloads
from app.library import Library
from app.rough_fit import RoughFit
from app.theme import ThemeManager
from app.widgets.models import recommended_page
from app.widgets.models.recommended_page import RecommendedPage
from engine.hub.curated import CURATED
from tests.app.widgets.models.conftest import REPO
from tests.engine.hub.hub_server import FakeHub

MODEL = replace(CURATED[0], repo_id=REPO, pattern="*Q4_0.gguf", about_bytes=1 << 20)


@pytest.fixture
def page(
    downloads: Downloads, library: Library, qtbot: QtBot, themes: ThemeManager, monkeypatch: pytest.MonkeyPatch
) -> RecommendedPage:
    monkeypatch.setattr(recommended_page, "CURATED", (MODEL, replace(MODEL, name="Gone", pattern="*Q9.gguf")))
    page = RecommendedPage(downloads, library)
    qtbot.addWidget(page)
    return page


def test_room_is_told_before_anything_is_asked(page: RecommendedPage, hub: FakeHub, models_folder: Path) -> None:
    assert str(models_folder) in page.place.text()
    assert page.cards[0].verdict.text() == "Its weights fit in this PC's memory."
    assert hub.requests == []


def test_one_click_downloads(page: RecommendedPage, downloads: Downloads, qtbot: QtBot) -> None:
    with qtbot.waitSignal(downloads.finished) as finished:
        page.cards[0].button.click()
        assert not page.cards[0].button.isEnabled()
    assert Path(finished.args[1]).name == "mix.Q4_0.gguf"
    assert "Downloading" in page.cards[0].verdict.text()


def test_what_is_gone_or_out_of_reach_is_a_sentence(
    page: RecommendedPage, downloads: Downloads, hub: FakeHub, qtbot: QtBot
) -> None:
    card = page.cards[1]
    with qtbot.waitSignal(downloads.looked_up):
        card.button.click()
    assert "has no file '*Q9.gguf' any more" in card.verdict.text()
    hub.repositories.clear()
    with qtbot.waitSignal(downloads.looked_up):
        card.button.click()
    assert "is not on the hub" in card.verdict.text()
    assert card.button.isEnabled()


def test_a_drive_that_filled_up_meanwhile_is_told(
    page: RecommendedPage, downloads: Downloads, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recommended_page, "rough_fit", lambda *_: RoughFit(True, False, 1, 1))  # noqa: FBT003
    with qtbot.waitSignal(downloads.looked_up):
        page.cards[0].button.click()
    assert "Not enough room" in page.cards[0].verdict.text()
    assert downloads.states() == ()
