from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtWidgets import QMessageBox, QPushButton
from pytestqt.qtbot import QtBot

from app.downloads import Downloads, DownloadState
from app.theme import ThemeManager
from app.widgets.models.download_list import DownloadList
from app.widgets.models.download_row import DownloadRow, progress_words
from app.widgets.models.token_dialog import TokenDialog
from engine.messages import ErrorReport
from tests.app.widgets.models.conftest import REPO, FakeToken
from tests.engine.hub.conftest import chosen
from tests.engine.hub.hub_server import FakeHub, Fault

MIB = 1 << 20
RUNNING = DownloadState("k", "acme/Mix-GGUF", "Q4_K_M", "running", 3 * MIB, 12 * MIB, 2.5 * MIB, 125.0)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (RUNNING, "3.0 MiB of 12.0 MiB · 2.5 MiB/s · 2 min left"),
        (replace(RUNNING, bytes_per_s=0.0, seconds_left=None), "3.0 MiB of 12.0 MiB"),
        (replace(RUNNING, phase="stalled"), "3.0 MiB of 12.0 MiB · stalled: nothing arrives, still trying"),
        (replace(RUNNING, phase="paused"), "3.0 MiB of 12.0 MiB · paused"),
        (replace(RUNNING, phase="checking"), "3.0 MiB of 12.0 MiB · checking the files"),
        (replace(RUNNING, phase="waiting"), "3.0 MiB of 12.0 MiB · waiting for its turn"),
        (replace(RUNNING, phase="done"), "Downloaded and checked, 12.0 MiB"),
    ],
)
def test_every_phase_has_its_words(state: DownloadState, words: str) -> None:
    assert progress_words(state) == words


def test_a_row_has_one_action_for_each_phase(qtbot: QtBot, themes: ThemeManager) -> None:
    row = DownloadRow(RUNNING)
    qtbot.addWidget(row)
    with qtbot.waitSignal(row.paused):
        row.main.click()
    row.show_state(replace(RUNNING, phase="paused"))
    with qtbot.waitSignal(row.resumed):
        row.main.click()
    row.show_state(replace(RUNNING, phase="failed", error=ErrorReport("disk-full", "The drive is full.", "Make room.")))
    assert "The drive is full. Make room." in row.text
    assert row.main.text() == "Retry"
    with qtbot.waitSignal(row.resumed):
        row.main.click()
    row.show_state(replace(RUNNING, phase="failed", error=ErrorReport("gated", "Closed.", "Ask.")))
    with qtbot.waitSignal(row.token_requested):
        row.main.click()
    row.show_state(replace(RUNNING, phase="done", path=Path("/m")))
    with qtbot.waitSignal(row.load_requested) as loaded:
        row.main.click()
    assert loaded.args == ["/m"]
    assert row.cancel.text() == "Dismiss"


@pytest.fixture
def shown(downloads: Downloads, token: FakeToken, qtbot: QtBot, themes: ThemeManager) -> DownloadList:
    page = DownloadList(downloads, token)  # type: ignore[arg-type]
    qtbot.addWidget(page)
    page.resize(700, 100)
    return page


def test_a_download_is_shown_paused_and_finished(
    shown: DownloadList, downloads: Downloads, hub: FakeHub, qtbot: QtBot
) -> None:
    assert shown.isHidden()
    hub.bytes_per_s = 400_000
    key = downloads.start(chosen(hub))
    assert shown.keys() == [key]
    assert not shown.isHidden()
    row = shown.row(key)
    qtbot.waitUntil(lambda: row.state.done_bytes > 0)
    row.main.click()
    qtbot.waitUntil(lambda: row.state.phase == "paused")
    hub.bytes_per_s = None
    with qtbot.waitSignal(downloads.finished):
        row.main.click()
    assert row.main.text() == "Load now"
    with qtbot.waitSignal(shown.load_requested) as loaded:
        row.main.click()
    assert Path(loaded.args[0]).is_file()
    row.cancel.click()
    assert shown.keys() == []
    assert shown.isHidden()


def test_giving_up_is_asked_where_bytes_would_be_lost(
    shown: DownloadList, downloads: Downloads, hub: FakeHub, qtbot: QtBot, models_folder: Path
) -> None:
    hub.always["mix.Q4_0.gguf"] = Fault(after_bytes=100_000, silent=True)
    key = downloads.start(chosen(hub))
    qtbot.waitUntil(lambda: shown.row(key).state.done_bytes > 0)
    shown.row(key).main.click()
    shown.row(key).cancel.click()
    box = shown.findChild(QMessageBox)
    assert box is not None
    assert "are deleted" in box.text()
    assert shown.keys() == [key]
    next(button for button in box.findChildren(QPushButton) if button.text() == "Give up").click()
    assert shown.keys() == []


def test_a_gated_model_asks_for_a_token_and_goes_on(
    shown: DownloadList, downloads: Downloads, token: FakeToken, hub: FakeHub, qtbot: QtBot
) -> None:
    choice = chosen(hub)
    hub.repositories[REPO].gated, hub.repositories[REPO].token = True, "hf_right"
    key = downloads.start(choice)
    row = shown.row(key)
    qtbot.waitUntil(lambda: row.state.phase == "failed")
    assert row.main.text() == "Enter access token…"
    row.main.click()
    dialog = shown.findChild(TokenDialog)
    assert dialog is not None
    assert not dialog.buttons.buttons()[0].isEnabled() or not dialog.buttons.buttons()[1].isEnabled()
    dialog.field.setText("hf_right")
    with qtbot.waitSignal(downloads.finished):
        dialog.buttons.accepted.emit()
    assert token.get() == "hf_right"


def test_a_token_that_is_none_or_cannot_be_kept_is_told(token: FakeToken, qtbot: QtBot, themes: ThemeManager) -> None:
    dialog = TokenDialog(token)  # type: ignore[arg-type]
    qtbot.addWidget(dialog)
    dialog.field.setText("not a token")
    dialog.buttons.accepted.emit()
    qtbot.waitUntil(lambda: "no access token" in dialog.note.text())
    token.keeps = False
    dialog.field.setText("hf_x")
    dialog.buttons.accepted.emit()
    qtbot.waitUntil(lambda: "until Rooftop is closed" in dialog.note.text())
    with qtbot.waitSignal(dialog.accepted):
        dialog.buttons.accepted.emit()
