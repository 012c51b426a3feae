from dataclasses import replace
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from app.downloads import Downloads
from app.library import Library
from app.model_places import Place
from app.rough_fit import RoughFit
from app.theme import ThemeManager
from app.verdict import sentence
from app.widgets.models import recommended_page
from app.widgets.models.recommended_page import RecommendedPage
from engine.bench.models import SIZES, model_file
from engine.config import EngineConfig
from engine.hub.curated import CURATED
from tests.app.widgets.models.conftest import CPU, REPO
from tests.engine.hub.hub_server import FakeHub

GPU = EngineConfig(device="simulated", context_tokens=64, cpu_threads=1, simulated_vram_bytes=24 << 20)
MODEL = replace(CURATED[0], repo_id=REPO, pattern="*Q4_0.gguf", about_bytes=1 << 20, published={})
SHAPES = {shape.name: shape for shape in SIZES["small"]}


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


@pytest.mark.parametrize(
    ("shape", "family", "width", "experts", "config"),
    [
        ("small-mixtral", "mixtral", "intermediate_size", "num_local_experts", CPU),
        ("small-qwen3", "qwen3_moe", "moe_intermediate_size", "num_experts", GPU),
    ],
)
def test_a_card_says_of_a_published_shape_what_is_said_of_the_file_itself(
    downloads: Downloads, qtbot: QtBot, themes: ThemeManager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    shape: str, family: str, width: str, experts: str, config: EngineConfig,
) -> None:  # fmt: skip
    built = replace(SHAPES[shape], routing=None)
    path = model_file(tmp_path / "models", built, "Q4_K_M")
    published = {
        "hidden_size": built.hidden, width: built.width, "num_hidden_layers": built.layers, experts: built.experts,
        "num_experts_per_tok": built.experts_per_token, "num_attention_heads": built.heads, "norm_topk_prob": True,
        "num_key_value_heads": built.kv_heads, "head_dim": built.head_dim, "vocab_size": built.vocabulary,
        "max_position_embeddings": built.context_tokens,
    }  # fmt: skip
    card = replace(MODEL, family=family, about_bytes=path.stat().st_size, published=published)
    monkeypatch.setattr(recommended_page, "CURATED", (card,))
    library = Library(lambda: (Place("rooftop", tmp_path / "models"),), lambda: config)
    page = RecommendedPage(downloads, library)
    qtbot.addWidget(page)
    with qtbot.waitSignal(library.judged, check_params_cb=lambda judged: judged == str(path)):
        library.refresh()
    (local,) = (model for model in library.models() if model.path == str(path))
    verdict = sentence(library.verdict(local))
    assert "about" in verdict
    assert page.cards[0].verdict.text() == f"{verdict} Estimated from its published shape."
    library.close()


def test_a_model_without_room_on_the_drive_is_not_judged(
    downloads: Downloads, library: Library, qtbot: QtBot, themes: ThemeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recommended_page, "rough_fit", lambda *_: RoughFit(True, False, 1, 1))  # noqa: FBT003
    page = RecommendedPage(downloads, library)
    qtbot.addWidget(page)
    assert all("Not enough room on the drive" in card.verdict.text() for card in page.cards)


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
