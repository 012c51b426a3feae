from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QMessageBox, QPushButton
from pytestqt.qtbot import QtBot

from app.conversions import Conversions, ConversionState
from app.theme import ThemeManager
from app.widgets.models.conversion_list import ConversionList
from app.widgets.models.conversion_row import ConversionRow, conversion_words
from engine.messages import ErrorReport

RUNNING = ConversionState(
    "Mix-q4", Path("/models/Mix"), "q4", Path("/own/Mix-q4"), "running", done_bytes=30, total_bytes=120, seconds_left=90
)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (RUNNING, "making it smaller · 25% · 2 min left"),
        (replace(RUNNING, phase="waiting", total_bytes=0, seconds_left=None), "waiting for its turn"),
        (replace(RUNNING, phase="checking", done_bytes=90, seconds_left=None), "reading it back · 75%"),
        (replace(RUNNING, phase="paused", seconds_left=None), "paused · 25%"),
        (replace(RUNNING, phase="done"), "Made and checked"),
    ],
)
def test_every_phase_has_its_words(state: ConversionState, words: str) -> None:
    assert conversion_words(state) == words


def test_a_row_has_one_action_for_each_phase(qtbot: QtBot, themes: ThemeManager) -> None:
    row = ConversionRow(RUNNING)
    qtbot.addWidget(row)
    assert row.text == "Mix in 4 bits\nmaking it smaller · 25% · 2 min left"
    with qtbot.waitSignal(row.paused):
        row.main.click()
    row.show_state(replace(RUNNING, phase="paused"))
    with qtbot.waitSignal(row.resumed):
        row.main.click()
    row.show_state(
        replace(RUNNING, phase="failed", error=ErrorReport("conversion", "The drive is full.", "Make room."))
    )
    assert "The drive is full. Make room." in row.text
    assert row.main.text() == "Try again"
    with qtbot.waitSignal(row.resumed):
        row.main.click()
    row.show_state(
        replace(RUNNING, phase="failed", error=ErrorReport("conversion-source", "It changed.", "Delete it."))
    )
    assert row.main.text() == "Open folder"
    with qtbot.waitSignal(row.folder_requested) as asked:
        row.main.click()
    assert asked.args == ["/models/Mix"]
    row.show_state(replace(RUNNING, phase="done"))
    with qtbot.waitSignal(row.load_requested) as loaded:
        row.main.click()
    assert (loaded.args, row.cancel.text()) == (["/own/Mix-q4"], "Dismiss")


@pytest.fixture
def shown(conversions: Conversions, qtbot: QtBot, themes: ThemeManager) -> ConversionList:
    page = ConversionList(conversions)
    qtbot.addWidget(page)
    page.resize(700, 100)
    return page


def test_a_conversion_is_shown_paused_and_given_up(
    shown: ConversionList, conversions: Conversions, qtbot: QtBot
) -> None:
    assert shown.isHidden()
    key = conversions.start(Path("/models/mix"), "q4")
    row = shown.row(key)
    assert not shown.isHidden()
    qtbot.waitUntil(lambda: row.state.phase == "checking")
    row.main.click()
    assert row.state.phase == "paused"
    row.cancel.click()
    box = shown.findChild(QMessageBox)
    assert box is not None
    assert box.text().endswith("is deleted; Mix stays as it is.")
    assert shown.keys() == [key]
    next(button for button in box.findChildren(QPushButton) if button.text() == "Give up").click()
    assert shown.keys() == []
    assert shown.isHidden()


def test_a_source_that_is_not_what_it_was_is_shown(
    shown: ConversionList, conversions: Conversions, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    source = tmp_path / "fails-checkpoint"
    source.mkdir()
    with qtbot.waitSignal(conversions.failed):
        key = conversions.start(source, "q4")
    shown.row(key).main.click()
    assert opened == [str(source)]
