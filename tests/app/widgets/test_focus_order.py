from collections.abc import Iterator

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QApplication,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSplitter,
    QVBoxLayout,
    QWidget,
)
from pytestqt.qtbot import QtBot

from app.widgets.focus_order import move_focus


@pytest.fixture
def window(qtbot: QtBot) -> Iterator[QWidget]:
    """Buttons that were made in another order than they are shown: a, b in a row, c scrolled, d and e beside it, f."""
    made = {name: QPushButton(name) for name in "fedcba"}
    window, row, scrolled, beside = QWidget(), QHBoxLayout(), QWidget(), QWidget()
    row.addWidget(made["a"])
    row.addWidget(QLabel("no stop"))
    row.addWidget(made["b"])
    QVBoxLayout(scrolled).addWidget(made["c"])
    scroll = QScrollArea()
    scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    scroll.setWidget(scrolled)
    column = QVBoxLayout(beside)
    column.addWidget(made["d"])
    column.addWidget(made["e"])
    splitter = QSplitter()
    splitter.addWidget(scroll)
    splitter.addWidget(beside)
    layout = QVBoxLayout(window)
    layout.addLayout(row)
    layout.addWidget(splitter)
    made["f"].setParent(window)
    made["f"].show()
    window.show()
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    made["a"].setFocus()
    yield window
    window.close()
    window.deleteLater()


def walk(window: QWidget, steps: int, *, forward: bool = True) -> str:
    names = []
    for _ in range(steps):
        assert move_focus(window, forward=forward)
        button = QApplication.focusWidget()
        assert isinstance(button, QPushButton)
        names.append(button.text())
    return "".join(names)


def test_it_is_the_order_on_the_screen(window: QWidget) -> None:
    assert walk(window, 6) == "bcdefa"
    assert walk(window, 6, forward=False) == "fedcba"


def test_what_is_disabled_or_hidden_is_passed_by(window: QWidget) -> None:
    buttons = {button.text(): button for button in window.findChildren(QPushButton)}
    buttons["b"].setEnabled(False)
    buttons["d"].hide()
    buttons["e"].setFocusPolicy(Qt.FocusPolicy.ClickFocus)
    assert walk(window, 3) == "cfa"


def test_from_nowhere_it_begins_at_an_end(window: QWidget) -> None:
    focused = QApplication.focusWidget()
    assert focused is not None
    focused.clearFocus()
    assert walk(window, 1) == "a"
    QApplication.focusWidget().clearFocus()  # type: ignore[union-attr]
    assert walk(window, 1, forward=False) == "f"


def test_a_window_without_controls_has_nowhere_to_go(qtbot: QtBot) -> None:
    empty = QWidget()
    qtbot.addWidget(empty)
    assert not move_focus(empty, forward=True)
