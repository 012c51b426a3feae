from PySide6.QtCore import QSize
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from app.theme import FONT_BASE_PT
from app.widgets.open_size import TITLE_BAR_PX, open_size


def test_a_dialog_opens_as_wanted_larger_with_the_font_and_never_beyond_the_screen(qtbot: QtBot) -> None:
    dialog = QWidget()
    qtbot.addWidget(dialog)
    font = dialog.font()
    font.setPointSizeF(FONT_BASE_PT)
    dialog.setFont(font)
    assert open_size(dialog, QSize(300, 200)) == QSize(300, 200)
    screen = dialog.screen().availableGeometry().size()
    assert open_size(dialog, QSize(9000, 9000)) == QSize(screen.width(), screen.height() - TITLE_BAR_PX)
    font.setPointSizeF(1.5 * FONT_BASE_PT)
    dialog.setFont(font)
    assert open_size(dialog, QSize(300, 200)) == QSize(450, 300)
