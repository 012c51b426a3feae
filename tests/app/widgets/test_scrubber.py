"""The scrubber: mouse and keys choose a token, its words stand in their context, and "Live" leads back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLabel
from pytestqt.qtbot import QtBot

from app.reply_history import ReplyHistory, TokenView
from app.widgets.scrubber import LIVE, Scrubber, visible
from tests.app.snapshots import make_passes, make_ready, make_snapshot

pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", extend=True)


@pytest.fixture
def scrubber(qtbot: QtBot) -> Iterator[Scrubber]:
    widget = Scrubber()
    qtbot.addWidget(widget)
    widget.resize(340, 80)
    with qtbot.waitActive(widget):
        widget.show()
        widget.activateWindow()
    yield widget
    widget.close()


def view_of(index: int) -> TokenView:
    ready = make_ready("guide", "cpu")
    history = ReplyHistory()
    history.add(make_passes(ready, 12))
    return history.view(index, ready, make_snapshot(ready))


def test_without_a_reply_there_is_nothing_to_choose(scrubber: Scrubber) -> None:
    assert not scrubber.slider.isEnabled()
    assert not scrubber.live_button.isEnabled()
    assert scrubber.live
    assert scrubber.text == "No reply yet"


def test_live_follows_the_newest_token(scrubber: Scrubber) -> None:
    for last in (4, 9):
        scrubber.set_range(0, last)
        assert (scrubber.slider.value(), scrubber.slider.maximum()) == (last, last)
    assert scrubber.live
    assert "10 tokens" in scrubber.text


def test_keys_choose_a_token_and_it_stays_while_the_reply_grows(qtbot: QtBot, scrubber: Scrubber) -> None:
    scrubber.set_range(0, 9)
    scrubber.slider.setFocus()
    chosen: list[int] = []
    scrubber.chosen.connect(chosen.append)
    for key in (Qt.Key.Key_Left, Qt.Key.Key_Left, Qt.Key.Key_Home, Qt.Key.Key_Right):
        QTest.keyClick(scrubber.slider, key)
    assert chosen == [8, 7, 0, 1]
    assert not scrubber.live
    scrubber.show_token(view_of(1))
    scrubber.set_range(0, 30)
    assert scrubber.slider.value() == 1
    assert scrubber.text.startswith("Token 2 of 31 ")
    with qtbot.waitSignal(scrubber.chosen) as heard:
        QTest.mouseClick(scrubber.live_button, Qt.MouseButton.LeftButton)
    assert heard.args == [LIVE]
    assert (scrubber.live, scrubber.slider.value()) == (True, 30)


def test_the_token_stands_in_its_context(scrubber: Scrubber) -> None:
    scrubber.set_range(0, 11)
    scrubber.slider.setValue(5)
    scrubber.show_token(view_of(5))
    assert scrubber.text == "Token 6 of 12 \N{MIDDLE DOT} 150 ms"
    assert scrubber.slider.accessibleDescription().endswith(" A mixture of experts keeps[ the] busiest part in V")
    scrubber.show_token(view_of(0))
    assert "after 100 ms, from the prompt" in scrubber.text
    scrubber.show_token(view_of(11))
    assert "[\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}]" in scrubber.slider.accessibleDescription()


def test_text_is_never_taken_for_markup(scrubber: Scrubber) -> None:
    scrubber.set_range(0, 11)
    scrubber.slider.setValue(5)
    view = view_of(5)
    scrubber.show_token(TokenView(view.record, view.snapshot, "<img src=x>", "&amp;"))
    shown = next(label for label in scrubber.findChildren(QLabel) if "img" in label.text())
    assert "<img" not in shown.text()
    assert "&amp;amp;" in shown.text()


def test_a_new_reply_of_nothing_is_live_again(scrubber: Scrubber) -> None:
    scrubber.set_range(0, 9)
    scrubber.slider.setValue(3)
    scrubber.set_range(0, LIVE)
    assert scrubber.live
    assert not scrubber.slider.isEnabled()


def test_line_ends_are_shown() -> None:
    assert visible("a\r\nb\tc") == "a\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}b c"
