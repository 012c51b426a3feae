from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, QSize, Qt, QUrl
from PySide6.QtGui import QAction, QDragEnterEvent, QDropEvent, QKeySequence
from PySide6.QtWidgets import (
    QAbstractButton,
    QApplication,
    QDialog,
    QFileDialog,
    QPlainTextEdit,
    QTextBrowser,
    QToolButton,
)
from pytestqt.qtbot import QtBot

from app.application import Application
from app.widgets.about_dialog import AboutDialog
from app.widgets.main_window import bring_into_view
from app.widgets.shortcuts_dialog import ShortcutsDialog
from engine.messages import Load
from tests.app.fake_host import FakeHost

Make = Callable[..., Application]


def action(rooftop: Application, keys: str) -> QAction:
    return next(a for a in rooftop.window.findChildren(QAction) if QKeySequence(keys) in a.shortcuts())


def test_the_panel_can_be_hidden(rooftop: Application) -> None:
    panel = rooftop.window.panel
    assert panel is not None
    assert panel.isVisible()
    action(rooftop, "Ctrl+Shift+B").trigger()
    assert not panel.isVisible()
    action(rooftop, "Ctrl+Shift+B").trigger()
    assert panel.isVisible()


def test_a_narrow_window_keeps_the_chat(rooftop: Application, qtbot: QtBot) -> None:
    panel = rooftop.window.panel
    assert panel is not None
    rooftop.window.resize(500, 500)
    qtbot.waitUntil(lambda: not panel.isVisible())
    assert not action(rooftop, "Ctrl+Shift+B").isChecked()
    action(rooftop, "Ctrl+Shift+B").trigger()
    qtbot.waitUntil(panel.isVisible)
    assert rooftop.window.width() > 600


def test_zoom_and_theme_from_the_menu(rooftop: Application) -> None:
    action(rooftop, "Ctrl++").trigger()
    assert rooftop.themes.zoom == 1.1
    action(rooftop, "Ctrl+0").trigger()
    assert rooftop.themes.zoom == 1.0
    dark = next(a for a in rooftop.window.findChildren(QAction) if a.data() == "dark")
    dark.trigger()
    assert rooftop.themes.theme.name == "dark"
    assert dark.isChecked()


@pytest.mark.parametrize("kind", [ShortcutsDialog, AboutDialog])
def test_help(rooftop: Application, kind: type[QDialog]) -> None:
    if kind is ShortcutsDialog:
        action(rooftop, "F1").trigger()
    else:
        next(a for a in rooftop.window.findChildren(QAction) if "About" in a.text()).trigger()
    dialog = rooftop.window.findChild(kind)
    assert dialog is not None
    assert dialog.isVisible()
    dialog.close()


def drop(rooftop: Application, *urls: QUrl) -> None:
    data = QMimeData()
    data.setUrls(list(urls))
    event = QDropEvent(
        QPointF(QPoint(5, 5)), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    )
    rooftop.window.dropEvent(event)


@pytest.mark.parametrize(
    ("names", "model"),
    [
        ([""], ""),
        (["tiny.gguf"], "tiny.gguf"),
        (["Tiny.GGUF"], "Tiny.GGUF"),
        (["big-00002-of-00002.gguf", "big-00001-of-00002.gguf"], "big-00001-of-00002.gguf"),
        (["model-00001-of-00019.safetensors", "model-00002-of-00019.safetensors"], ""),
    ],
    ids=["folder", "file", "upper case", "split", "safetensors"],
)
def test_a_dropped_model_is_opened(
    rooftop: Application, qtbot: QtBot, tmp_path: Path, names: list[str], model: str
) -> None:
    with qtbot.waitSignal(rooftop.window.model_chosen) as blocker:
        drop(rooftop, *(QUrl.fromLocalFile(str(tmp_path / name)) for name in names))
    assert blocker.args == [str(tmp_path / model)]


def test_anything_else_that_is_dropped_is_left_alone(rooftop: Application, qtbot: QtBot, tmp_path: Path) -> None:
    with qtbot.assertNotEmitted(rooftop.window.model_chosen):
        drop(rooftop)
        drop(rooftop, QUrl("https://example.com/model.gguf"))
        drop(rooftop, QUrl.fromLocalFile("/etc/passwd"))
        drop(rooftop, *(QUrl.fromLocalFile(str(tmp_path / name)) for name in ("one.gguf", "two.gguf")))


def test_a_model_dragged_over_the_message_field_is_the_windows(rooftop: Application, tmp_path: Path) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(tmp_path / "tiny.gguf"))])
    event = QDragEnterEvent(
        QPoint(5, 5), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    )
    edit = rooftop.chat.composer.findChild(QPlainTextEdit)
    assert edit is not None
    QApplication.sendEvent(edit.viewport(), event)
    assert event.isAccepted()
    assert rooftop.chat.composer.draft == ""


@pytest.mark.parametrize(
    ("chosen", "model"),
    [
        ("/models/tiny.gguf", "/models/tiny.gguf"),
        ("/models/mixtral/model-00001-of-00019.safetensors", "/models/mixtral"),
        ("/models/notes.txt", "/models/notes.txt"),
    ],
)
def test_a_models_file_is_chosen(
    rooftop: Application, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, chosen: str, model: str
) -> None:
    asked: dict[str, str] = {}

    def choose(_parent: object, _title: str, **options: str) -> tuple[str, str]:
        asked.update(options)
        return chosen, ""

    monkeypatch.setattr(QFileDialog, "getOpenFileName", choose)
    with qtbot.waitSignal(rooftop.window.model_chosen) as blocker:
        action(rooftop, "Ctrl+O").trigger()
    assert blocker.args == [model]
    assert "*.gguf" in asked["filter"]
    assert ".gguf" in action(rooftop, "Ctrl+O").text()


def test_a_models_folder_is_chosen(rooftop: Application, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "/models/mixtral")
    with qtbot.waitSignal(rooftop.window.model_chosen) as blocker:
        action(rooftop, "Ctrl+Shift+O").trigger()
    assert blocker.args == ["/models/mixtral"]


def test_a_dialog_that_is_cancelled_opens_nothing(
    rooftop: Application, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, **__: ("", ""))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "")
    with qtbot.assertNotEmitted(rooftop.window.model_chosen):
        action(rooftop, "Ctrl+O").trigger()
        action(rooftop, "Ctrl+Shift+O").trigger()


def reopened(make_rooftop: Make, first: Application) -> Application:
    """The window of the next start."""
    first.window.quit()
    return make_rooftop(settings_path=first._kept.path, keep_size=True)


def test_a_maximised_window_comes_back_maximised(make_rooftop: Make, qtbot: QtBot) -> None:
    first = make_rooftop()
    first.window.resize(720, 520)
    before = first.window.size()
    first.window.showMaximized()
    qtbot.waitUntil(first.window.isMaximized)
    second = reopened(make_rooftop, first)
    qtbot.waitUntil(second.window.isMaximized)
    second.window.showNormal()
    qtbot.waitUntil(lambda: second.window.size() == before)


def test_size_and_place_come_back(make_rooftop: Make) -> None:
    first = make_rooftop()
    first.window.resize(720, 520)
    first.window.move(30, 40)
    second = reopened(make_rooftop, first)
    assert (second.window.pos(), second.window.size()) == (QPoint(30, 40), QSize(720, 520))


@pytest.mark.parametrize("place", [(5000, 100), (-3000, 40), (100, -900), (100, 4000)])
def test_a_window_whose_screen_is_gone_comes_into_view(
    make_rooftop: Make, monkeypatch: pytest.MonkeyPatch, place: tuple[int, int]
) -> None:
    first = make_rooftop()
    first.window.resize(720, 520)
    first.window.move(*place)
    second = reopened(make_rooftop, first)
    room = second.window.screen().availableGeometry()
    assert room.contains(second.window.geometry().topLeft() + QPoint(5, 5))
    assert room.contains(second.window.geometry().center())


def test_a_window_too_large_for_the_screen_is_made_to_fit(rooftop: Application) -> None:
    rooftop.window.setGeometry(9000, 9000, 5000, 5000)
    bring_into_view(rooftop.window)
    assert rooftop.window.screen().availableGeometry().contains(rooftop.window.frameGeometry())


def test_a_window_in_view_stays(rooftop: Application) -> None:
    rooftop.window.move(-20, 10)
    bring_into_view(rooftop.window)
    assert rooftop.window.pos() == QPoint(-20, 10)


def test_a_second_start_brings_the_window_forward(rooftop: Application, host: FakeHost) -> None:
    rooftop.window.showMinimized()
    rooftop.asked_again("")
    assert not rooftop.window.isMinimized()
    assert rooftop.window.isVisible()
    loads = sum(isinstance(request, Load) for request in host.requests)
    rooftop.asked_again("/models/other.gguf")
    assert sum(isinstance(request, Load) for request in host.requests) == loads + 1
    rooftop.asked_again("/models/other.gguf")
    assert sum(isinstance(request, Load) for request in host.requests) == loads + 1, "it is there already"


def test_no_two_actions_share_a_shortcut(rooftop: Application) -> None:
    keys = [key.toString() for a in rooftop.window.findChildren(QAction) for key in a.shortcuts()]
    assert len(keys) == len(set(keys))


def test_every_control_has_a_name_for_screen_readers(rooftop: Application, qtbot: QtBot) -> None:
    rooftop.session.submit("Hi")
    qtbot.waitUntil(lambda: not rooftop.session.busy)
    kinds = (QAbstractButton, QPlainTextEdit, QTextBrowser)
    controls = [widget for kind in kinds for widget in rooftop.chat.findChildren(kind)]
    controls += rooftop.window.top_bar.findChildren(QToolButton)
    assert len(controls) > 8
    nameless = [widget for widget in controls if not widget.accessibleName()]
    assert nameless == []
