"""Sections: folded and unfolded by mouse and keyboard."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLabel
from pytestqt.qtbot import QtBot

from app.widgets.panel_section import PanelSection

pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", extend=True)


def test_it_folds_by_mouse_and_keyboard(qtbot: QtBot) -> None:
    content = QLabel("words")
    section = PanelSection("memory", "Memory", content)
    qtbot.addWidget(section)
    with qtbot.waitActive(section):
        section.show()
        section.activateWindow()
    assert content.isVisible()
    assert section.button.accessibleName() == "Memory"
    with qtbot.waitSignal(section.folded) as heard:
        QTest.mouseClick(section.button, Qt.MouseButton.LeftButton)
    assert heard.args == [True]
    assert not content.isVisible()
    assert not section.open
    section.button.setFocus()
    QTest.keyClick(section.button, Qt.Key.Key_Space)
    assert content.isVisible()
    section.set_open(open_now=False)
    assert not content.isVisible()
