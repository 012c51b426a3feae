"""What the style sheet draws, as it is drawn."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QSize
from PySide6.QtGui import QColor, QImage
from PySide6.QtWidgets import (
    QApplication,
    QComboBox,
    QLineEdit,
    QPushButton,
    QStyle,
    QStyleOptionButton,
    QTableWidget,
    QTreeWidget,
    QTreeWidgetItem,
    QWidget,
)
from pytestqt.qtbot import QtBot

from app.stylesheet import build_stylesheet
from app.theme import DARK, LIGHT, Theme, ThemeManager, build_palette, high_contrast


def drawn(widget: QWidget, theme: Theme, qtbot: QtBot) -> QImage:
    qtbot.addWidget(widget)
    widget.setPalette(build_palette(theme))
    widget.setStyleSheet(build_stylesheet(theme))
    widget.show()
    QApplication.processEvents()
    return widget.grab().toImage()


@pytest.mark.parametrize("theme", [high_contrast(LIGHT), high_contrast(DARK)], ids=["light", "dark"])
@pytest.mark.parametrize("kind", [QPushButton, QLineEdit, QComboBox])
def test_without_grey_the_edge_tells_what_is_disabled(
    qtbot: QtBot, themes: ThemeManager, theme: Theme, kind: type[QWidget]
) -> None:
    edges = []
    for enabled in (True, False):
        widget = kind()
        widget.setEnabled(enabled)
        widget.setFixedSize(QSize(120, 40))
        picture = drawn(widget, theme, qtbot)
        edges.append({picture.pixelColor(x, 0).name() for x in range(20, 100)})
    assert len(edges[0]) == 1, "a line"
    assert len(edges[1]) > 1, "dashes"


def test_with_grey_a_disabled_edge_is_a_line(qtbot: QtBot, themes: ThemeManager) -> None:
    button = QPushButton()
    button.setEnabled(False)
    button.setFixedSize(QSize(120, 40))
    picture = drawn(button, LIGHT, qtbot)
    assert len({picture.pixelColor(x, 0).name() for x in range(20, 100)}) == 1


def test_the_corner_between_scroll_bars_is_the_ground(qtbot: QtBot, themes: ThemeManager) -> None:
    table = QTableWidget(50, 50)
    table.resize(300, 300)
    picture = drawn(table, DARK, qtbot)
    places = range(4, 11)
    corner = {picture.pixelColor(picture.width() - x, picture.height() - y).name() for x in places for y in places}
    assert corner == {DARK.surface}


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_the_chosen_model_of_the_hub_has_the_colour_of_a_quiet_choice(
    qtbot: QtBot, themes: ThemeManager, theme: Theme
) -> None:
    tree = QTreeWidget()
    tree.setObjectName("hub")
    tree.setHeaderHidden(True)
    item = QTreeWidgetItem([""])
    tree.addTopLevelItem(item)
    tree.setCurrentItem(item)
    tree.resize(300, 100)
    drawn(tree, theme, qtbot)
    row = tree.visualItemRect(item).center()
    colour = tree.viewport().grab().toImage().pixelColor(row)
    assert colour == QColor(theme.surface_alt)


@pytest.mark.parametrize("name", ["primary", "secondary", "quiet", ""])
def test_the_keyboard_takes_no_room_from_a_buttons_words(qtbot: QtBot, themes: ThemeManager, name: str) -> None:
    button = QPushButton("Try the guide")
    button.setObjectName(name)
    drawn(button, LIGHT, qtbot)
    rooms = []
    for focused in (False, True):
        option = QStyleOptionButton()
        button.initStyleOption(option)
        option.state &= ~QStyle.StateFlag.State_HasFocus
        if focused:
            option.state |= QStyle.StateFlag.State_HasFocus
        rooms.append(button.style().subElementRect(QStyle.SubElement.SE_PushButtonContents, option, button))
    assert rooms[0] == rooms[1]
