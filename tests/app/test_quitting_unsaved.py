"""Quitting while chats are in memory only: nothing is lost without a question."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtWidgets import QMessageBox
from pytestqt.qtbot import QtBot

from app.application import Application
from app.history import History
from tests.app.chat_window import ask
from tests.app.fake_host import FakeHost


def fill_the_disk(rooftop: Application, qtbot: QtBot, question: str) -> None:
    """Ask what the file of chats has no room for."""

    def limit(history: History) -> None:
        pages = history._connection.execute("PRAGMA page_count").fetchone()[0]
        history._connection.execute(f"PRAGMA max_page_count = {pages}")

    rooftop.chats._thread.run(limit)
    ask(rooftop, qtbot, question)
    qtbot.waitUntil(lambda: rooftop.chats.unsaved == 1)


def loss_question(rooftop: Application) -> QMessageBox | None:
    return rooftop.window.findChild(QMessageBox, "loss")


def test_quitting_asks_before_it_loses_what_could_not_be_saved(
    start: Callable[[], Application], qtbot: QtBot, host: FakeHost
) -> None:
    rooftop = start()
    fill_the_disk(rooftop, qtbot, "word " * 6000)
    rooftop.window.close()
    qtbot.waitUntil(lambda: loss_question(rooftop) is not None)
    box = loss_question(rooftop)
    assert box is not None
    assert rooftop.window.isVisible()
    assert not host.stopped
    assert box.text() == "A chat could not be saved. Quit and lose what is new in it?"
    box.button(QMessageBox.StandardButton.Cancel).click()
    qtbot.waitUntil(lambda: loss_question(rooftop) is None)
    assert rooftop.window.isVisible()
    rooftop.window.close()
    qtbot.waitUntil(lambda: loss_question(rooftop) is not None)
    box = loss_question(rooftop)
    assert box is not None
    lose = next(button for button in box.buttons() if "without" in button.text())
    with qtbot.waitSignal(rooftop.ended):
        lose.click()
    assert rooftop.window.isHidden()


@pytest.mark.parametrize("by_session", [False, True])
def test_quitting_saves_what_there_is_room_for_again_and_asks_nothing(
    start: Callable[[], Application], qtbot: QtBot, chats_path: Path, by_session: bool
) -> None:
    rooftop = start()
    fill_the_disk(rooftop, qtbot, "word " * 6000)
    big = rooftop.session.conversation.key
    rooftop.chats.new()
    rooftop.chats._thread.run(lambda h: h._connection.execute("PRAGMA max_page_count = 1000000").fetchall())
    with qtbot.waitSignal(rooftop.ended):
        if by_session:
            rooftop.window.quit(asks=False)
        else:
            rooftop.window.close()
    assert loss_question(rooftop) is None
    history = History(chats_path)
    loaded = history.load(big)
    history.close()
    assert loaded is not None
    assert len(loaded.messages[0].text) == 29_999


def test_quitting_asks_where_no_file_could_be_opened(
    start: Callable[[], Application], qtbot: QtBot, chats_path: Path
) -> None:
    chats_path.parent.write_text("no folder")
    rooftop = start()
    assert rooftop.chats.unsaved == 0
    ask(rooftop, qtbot, "First")
    rooftop.window.close()
    qtbot.waitUntil(lambda: loss_question(rooftop) is not None)
    assert rooftop.window.isVisible()
