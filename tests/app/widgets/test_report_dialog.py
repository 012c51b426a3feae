from __future__ import annotations

from PySide6.QtGui import QGuiApplication
from pytestqt.qtbot import QtBot

from app.theme import ThemeManager
from app.widgets.report_dialog import ReportDialog


def test_what_is_shown_is_what_is_copied(qtbot: QtBot, themes: ThemeManager) -> None:
    dialog = ReportDialog("Diagnostics", "All of it.")
    qtbot.addWidget(dialog)
    dialog.show()
    assert not dialog.copy_button.isEnabled()
    dialog.show_text("one\ntwo")
    dialog.copy_button.click()
    assert QGuiApplication.clipboard().text() == dialog.text.toPlainText() == "one\ntwo"
    assert dialog.copy_button.text() == "Copied"
