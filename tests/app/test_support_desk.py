from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QToolButton
from pytestqt.qtbot import QtBot

from app.application import Application
from app.crash_records import CrashRecords
from app.engine_client import EngineState
from app.redaction import Redaction
from app.support_desk import SupportDesk
from app.widgets.report_dialog import ReportDialog
from engine.log_lines import LogFormatter
from engine.messages import ErrorReport, Load
from tests.app.fake_host import FakeHost

Make = Callable[..., Application]
Desk = Callable[..., tuple[Application, SupportDesk]]
MODEL = "/models/mixtral.gguf"


@pytest.fixture
def records(tmp_path: Path) -> Iterator[CrashRecords]:
    """A state folder of its own, whose run has begun."""
    records = CrashRecords(tmp_path / "state", tmp_path / "rooftop.log", Redaction("", "", ""))
    records.begin()
    yield records
    records.end()


@pytest.fixture
def make_desk(make_rooftop: Make, records: CrashRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """An application with its desk, which is made before the window is shown."""

    def make(**arguments: object) -> tuple[Application, SupportDesk]:
        desks: list[SupportDesk] = []
        show = Application.show

        def show_with_desk(rooftop: Application) -> None:
            desks.append(SupportDesk(rooftop, records, tmp_path / "rooftop.log"))
            show(rooftop)

        monkeypatch.setattr(Application, "show", show_with_desk)
        return make_rooftop(**arguments), desks[0]

    return make


def kill(records: CrashRecords, model: str) -> None:
    records.loading(model)
    records.engine_died("The engine process ended unexpectedly (signal 11).")


def loads(host: FakeHost) -> list[str]:
    return [request.model for request in host.requests if isinstance(request, Load)]


def test_a_crash_is_told_at_the_next_start_and_its_report_shown(
    make_desk: Desk, records: CrashRecords, qtbot: QtBot
) -> None:
    kill(records, "guide")
    rooftop, _ = make_desk()
    banner = rooftop.chat.banners.banners["crash"]
    assert banner.text == "The engine ended unexpectedly last time. Your chats are still here."
    assert [button.text() for button in banner.buttons] == ["Show report", "Dismiss"]
    banner.buttons[0].click()
    dialog = rooftop.window.findChild(ReportDialog)
    assert dialog is not None
    assert "signal 11" in dialog.text.toPlainText()
    assert records.unseen is None


@pytest.mark.parametrize("name", ["Dismiss", "Close"])
def test_dismissed_is_dismissed(make_desk: Desk, records: CrashRecords, name: str) -> None:
    kill(records, "guide")
    rooftop, _ = make_desk()
    banner = rooftop.chat.banners.banners["crash"]
    cross = banner.findChild(QToolButton)
    assert cross is not None
    (banner.buttons[1] if name == "Dismiss" else cross).click()
    assert "crash" not in rooftop.chat.banners.banners
    assert records.unseen is None


@pytest.mark.parametrize(("button", "loaded"), [(0, MODEL), (2, "guide")])
def test_a_model_that_died_twice_waits_for_the_users_word(
    make_desk: Desk, records: CrashRecords, host: FakeHost, qtbot: QtBot, button: int, loaded: str
) -> None:
    kill(records, MODEL)
    kill(records, MODEL)
    rooftop, _ = make_desk(model=MODEL)
    assert loads(host) == []
    assert rooftop.client.state is EngineState.STOPPED
    banner = rooftop.chat.banners.banners["engine"]
    assert banner.text.startswith("mixtral was not loaded")
    assert [one.text() for one in banner.buttons] == ["Load anyway", "Choose another model…", "Use the bundled guide"]
    banner.buttons[button].click()
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)
    assert loads(host) == [loaded]
    assert "engine" not in rooftop.chat.banners.banners


def test_a_model_that_has_been_ready_for_a_while_is_trusted_again(
    make_desk: Desk, records: CrashRecords, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.support_desk.SETTLED_AFTER_MS", 1)
    kill(records, "guide")
    rooftop, desk = make_desk()
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)
    qtbot.waitUntil(lambda: not desk._settled.isActive())
    kill(records, "guide")
    assert not records.is_deadly("guide"), "it is the first death again"


def test_an_engine_that_dies_while_loading_is_counted_and_a_refusal_is_not(
    make_desk: Desk, records: CrashRecords, host: FakeHost, qtbot: QtBot
) -> None:
    host.hold_load = True
    rooftop, _ = make_desk(model=MODEL)
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.LOADING)
    host.die()
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.FAILED)
    assert records.unseen is not None
    host.__init__(load_error=ErrorReport("checkpoint", "It is damaged.", "Download it again."))  # type: ignore[misc]
    rooftop.client.restart()
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.FAILED)
    assert "damaged" in rooftop.chat.banners.banners["engine"].text
    assert not records.is_deadly(MODEL)
    kill(records, MODEL)
    assert records.is_deadly(MODEL)


def test_no_log_and_no_report_has_a_word_of_a_chat(
    make_desk: Desk,
    records: CrashRecords,
    host: FakeHost,
    qtbot: QtBot,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "app")
    host.reply = "Ah, heliotrope."
    rooftop, _ = make_desk()
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)
    assert rooftop.session.submit("My secret word is heliotrope")
    qtbot.waitUntil(lambda: not rooftop.session.busy)
    chat = rooftop.session.conversation
    rooftop.window.activated.emit()
    (tmp_path / "a folder").mkdir()
    rooftop._desk.export_to(tmp_path / "a folder", [chat])
    (tmp_path / "heliotrope.txt").write_bytes(b"\0\0")
    rooftop.chat.attach([tmp_path / "heliotrope.txt"])
    qtbot.waitUntil(lambda: "attachment" in rooftop.chat.banners.banners)
    host.die()
    rooftop.session.regenerate()
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.FAILED)
    assert records.unseen is not None
    said = "\n".join(LogFormatter().format(record) for record in caplog.records if record.name.startswith("app"))
    assert "engine-stopped" in said
    assert "An attachment was refused" in said
    assert "heliotrope" not in said + records.unseen[1]


def test_diagnostics_are_shown_as_they_are_copied(make_desk: Desk, qtbot: QtBot) -> None:
    rooftop, _ = make_desk()
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)
    rooftop.window.diagnostics_requested.emit()
    dialog = rooftop.window.findChild(ReportDialog)
    assert dialog is not None
    qtbot.waitUntil(dialog.copy_button.isEnabled)
    text = dialog.text.toPlainText()
    assert "Chosen: Rooftop guide" in text
    assert "6 layers, 8 experts" in text
    assert "offscreen" in text


@pytest.mark.parametrize("opens", [True, False])
def test_the_logs_are_opened_or_their_place_is_named(
    make_desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opens: bool
) -> None:
    asked: list[str] = []

    def open_url(url: QUrl) -> bool:
        asked.append(url.toLocalFile())
        return opens

    monkeypatch.setattr(QDesktopServices, "openUrl", open_url)
    rooftop, _ = make_desk()
    rooftop.window.logs_requested.emit()
    assert asked == [str(tmp_path)]
    assert ("logs" in rooftop.chat.banners.banners) is not opens
