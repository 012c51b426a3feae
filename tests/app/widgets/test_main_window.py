from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QAction, QDropEvent, QKeySequence
from PySide6.QtWidgets import QAbstractButton, QDialog, QPlainTextEdit, QTextBrowser, QToolButton
from pytestqt.qtbot import QtBot

from app.application import Application
from app.widgets.help_dialogs import AboutDialog, ShortcutsDialog


def action(rooftop: Application, keys: str) -> QAction:
    return next(a for a in rooftop.window.findChildren(QAction) if QKeySequence(keys) in a.shortcuts())


def test_the_panel_can_be_hidden(rooftop: Application) -> None:
    panel = rooftop.window.panel
    assert panel is not None
    assert panel.isVisible()
    action(rooftop, "Ctrl+B").trigger()
    assert not panel.isVisible()
    action(rooftop, "Ctrl+B").trigger()
    assert panel.isVisible()


def test_a_narrow_window_keeps_the_chat(rooftop: Application, qtbot: QtBot) -> None:
    panel = rooftop.window.panel
    assert panel is not None
    rooftop.window.resize(500, 500)
    qtbot.waitUntil(lambda: not panel.isVisible())
    assert not action(rooftop, "Ctrl+B").isChecked()
    action(rooftop, "Ctrl+B").trigger()
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


def test_a_dropped_model_is_opened(rooftop: Application, qtbot: QtBot, tmp_path: Path) -> None:
    with qtbot.waitSignal(rooftop.window.model_chosen) as blocker:
        drop(rooftop, QUrl.fromLocalFile(str(tmp_path)))
    assert blocker.args == [str(tmp_path)]
    with qtbot.assertNotEmitted(rooftop.window.model_chosen):
        drop(rooftop, QUrl("https://example.com/model.gguf"))
        drop(rooftop, QUrl.fromLocalFile("/etc/passwd"))


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
