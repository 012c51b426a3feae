from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import shiboken6
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QPushButton
from pytestqt.qtbot import QtBot

from app.application import Application
from app.engine_client import EngineState
from app.first_run import FirstRun, is_first_run
from app.model_places import Place
from app.widgets.first_run_view import FirstRunView
from app.widgets.models.dialog import ModelsDialog
from engine.host import start_host
from engine.messages import ErrorReport, Load
from tests.app.fake_host import FakeHost
from tests.gguf_files import write_gguf

Start = Callable[[], tuple[Application, FirstRun]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder that is looked through for models; no file of this user's is touched."""
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    folder = tmp_path / "models"
    monkeypatch.setattr("app.widgets.models.desk.model_places", lambda *_: (Place("folder", folder),))
    return folder


@pytest.fixture
def start(make_rooftop: Callable[..., Application], monkeypatch: pytest.MonkeyPatch) -> Start:
    """A first start: the page is there before the window is shown."""

    def make() -> tuple[Application, FirstRun]:
        pages: list[FirstRun] = []
        show = Application.show

        def show_with_page(rooftop: Application) -> None:
            pages.append(FirstRun(rooftop))
            show(rooftop)

        monkeypatch.setattr(Application, "show", show_with_page)
        return make_rooftop(), pages[0]

    return make


def view_of(first: FirstRun) -> FirstRunView:
    assert first.view is not None
    return first.view


def click(button: QPushButton) -> None:
    assert button.isVisible()
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def test_only_a_start_without_settings_is_the_first(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    assert is_first_run(path)
    (tmp_path / "settings.json.bak").touch()
    assert not is_first_run(path), "a lost file whose copy is there"
    (tmp_path / "settings.json.bak").rename(path)
    assert not is_first_run(path)


def test_two_clicks_lead_from_the_first_start_to_the_real_guides_first_token(
    qtbot: QtBot, qapp: QApplication, tmp_path: Path
) -> None:
    rooftop = Application(qapp, start_host, tmp_path / "settings.json")
    first = FirstRun(rooftop)
    try:
        with qtbot.waitSignal(rooftop.client.text, timeout=60_000) as token:
            with qtbot.waitSignal(rooftop.panel_ready):
                rooftop.show()
            click(view_of(first).guide_button)
            click(rooftop.chat.transcript.empty_state.buttons[0])
        assert token.args[0]
    finally:
        rooftop.window.quit()
        for made in (rooftop.window, rooftop.themes, rooftop):
            shiboken6.delete(made)


def test_the_computer_is_named(start: Start, qtbot: QtBot) -> None:
    _, first = start()
    qtbot.waitUntil(lambda: "This PC: " in view_of(first).text)


def test_a_model_that_was_found_is_one_click_away(start: Start, host: FakeHost, folder: Path, qtbot: QtBot) -> None:
    write_gguf(folder / "beta.gguf", "llama")
    (folder / "cut.gguf").write_bytes((folder / "beta.gguf").read_bytes()[:1000])
    rooftop, first = start()
    view = view_of(first)
    qtbot.waitUntil(lambda: len(view.model_buttons) == 1)
    qtbot.waitUntil(lambda: "Found on this computer" in view.text)
    assert "Fits: about" in view.model_buttons[0].accessibleDescription()
    qtbot.waitUntil(view.model_buttons[0].isVisible)
    click(view.model_buttons[0])
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)
    loads = [request for request in host.requests if isinstance(request, Load)]
    assert loads[-1].model == str(folder / "beta.gguf")
    assert loads[-1].config.vram_budget_bytes is None
    assert first.view is None


def test_nothing_found_is_said_and_the_model_page_is_one_click_away(start: Start, qtbot: QtBot) -> None:
    rooftop, first = start()
    view = view_of(first)
    qtbot.waitUntil(lambda: "No other model" in view.text)
    click(view.get_button)
    page = rooftop.window.findChild(ModelsDialog)
    assert page is not None
    assert page.isVisible()
    page.close()


def test_return_takes_the_guide_once_it_is_ready(start: Start, host: FakeHost, qtbot: QtBot) -> None:
    host.hold_load = True
    rooftop, first = start()
    view = view_of(first)
    host.release()
    qtbot.waitUntil(view.guide_button.hasFocus)
    QTest.keyClick(view.guide_button, Qt.Key.Key_Space)
    assert first.view is None
    focused = QApplication.focusWidget()
    assert focused is not None
    assert rooftop.chat.composer.isAncestorOf(focused)


def test_a_guide_that_could_not_be_loaded_is_loaded_again(start: Start, host: FakeHost, qtbot: QtBot) -> None:
    host.load_error = ErrorReport("engine", "It broke.", "Try again.")
    rooftop, first = start()
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.FAILED)
    host.load_error = None
    click(view_of(first).guide_button)
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)


def test_whoever_begins_to_write_has_skipped_it(start: Start, qtbot: QtBot) -> None:
    rooftop, first = start()
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)
    view = view_of(first)
    view.guide_button.setFocus()
    QTest.keyClicks(view.guide_button, "Hi")
    assert rooftop.chat.composer.draft.startswith("H")
    assert rooftop.session.submit("Hi")
    qtbot.waitUntil(lambda: not rooftop.session.busy)
    assert first.view is None
    rooftop.window.new_chat_requested.emit()
    assert rooftop.chat.transcript.empty_state.isVisible(), "it does not come back"


def test_skip_leads_to_an_ordinary_empty_chat(start: Start) -> None:
    rooftop, first = start()
    click(view_of(first).skip_button)
    assert first.view is None
    assert rooftop.chat.transcript.empty_state.isVisible()
