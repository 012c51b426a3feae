from PySide6.QtWidgets import QLabel
from pytestqt.qtbot import QtBot

from app.theme import ThemeManager
from app.widgets.empty_state import EmptyState


def test_the_sentence_wraps_in_a_narrow_chat(qtbot: QtBot, themes: ThemeManager) -> None:
    state = EmptyState()
    qtbot.addWidget(state)
    sentence = next(label for label in state.findChildren(QLabel) if label.objectName() == "dim")
    sentence.setText("Ein Satz, der so lang ist wie die deutschen Sätze, und noch ein wenig länger als sie. " * 2)
    state.resize(460, 700)
    state.show()
    qtbot.waitUntil(lambda: state.width() == 460)
    qtbot.waitUntil(lambda: sentence.width() < 460 and sentence.height() >= sentence.heightForWidth(sentence.width()))
    assert sentence.geometry().right() <= state.width()


def test_with_little_room_it_scrolls_and_nothing_is_squeezed(qtbot: QtBot, themes: ThemeManager) -> None:
    themes.set_zoom(1.5)
    try:
        state = EmptyState()
        qtbot.addWidget(state)
        state.show()
        state.resize(700, 300)
        qtbot.waitUntil(lambda: state.height() == 300)
        for button in state.buttons:
            assert button.height() >= button.sizeHint().height()
        sentence = next(label for label in state.findChildren(QLabel) if label.objectName() == "dim")
        assert sentence.height() >= sentence.heightForWidth(sentence.width())
    finally:
        themes.set_zoom(1.0)
