from __future__ import annotations

from pytestqt.qtbot import QtBot

from app.theme import ThemeManager
from app.widgets.first_run_view import MOST_MODELS, FirstRunView, Offered

FACTS = "1 GiB, Q4_0, fits and runs at about 9.4 tokens/s with 64 of 256 experts on your GPU."
MODELS = [Offered(f"/m/{number}", f"Model {number}", FACTS) for number in range(6)]


def make(qtbot: QtBot, width: int = 600) -> FirstRunView:
    view = FirstRunView()
    qtbot.addWidget(view)
    view.resize(width, 700)
    view.show()
    return view


def test_the_best_models_are_offered_and_the_rest_counted(qtbot: QtBot, themes: ThemeManager) -> None:
    view = make(qtbot)
    assert "Looking for models" in view.text
    view.show_models([], searching=False)
    assert "No other model" in view.text
    view.show_models(MODELS[:2], searching=True)
    assert [button.accessibleName() for button in view.model_buttons] == ["Chat with Model 0", "Chat with Model 1"]
    view.show_models(MODELS, searching=False)
    assert len(view.model_buttons) == MOST_MODELS
    assert "6 models on this computer would run" in view.text
    with qtbot.waitSignal(view.model_chosen) as chosen:
        view.model_buttons[1].click()
    assert chosen.args == ["/m/1"]


def test_the_buttons_stay_where_they_are_when_models_are_found(qtbot: QtBot, themes: ThemeManager) -> None:
    view = make(qtbot)
    view.show_machine("a PC")
    view.grab()
    before = view.guide_button.mapTo(view, view.guide_button.rect().center())
    view.show_models(MODELS, searching=False)
    qtbot.waitUntil(view.model_buttons[0].isVisible)
    view.grab()
    assert view.guide_button.mapTo(view, view.guide_button.rect().center()) == before


def test_narrow_words_wrap_inside_their_button(qtbot: QtBot, themes: ThemeManager) -> None:
    heights = []
    for width in (600, 340):
        view = make(qtbot, width)
        view.show_models([MODELS[2]], searching=False)
        button = view.model_buttons[0]
        qtbot.waitUntil(button.isVisible)
        view.grab()
        assert button.width() <= width
        assert button.height() >= button.heightForWidth(button.width())
        heights.append(button.height())
    assert heights[1] > heights[0]
