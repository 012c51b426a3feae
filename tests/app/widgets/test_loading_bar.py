from PySide6.QtWidgets import QProgressBar, QPushButton
from pytestqt.qtbot import QtBot

from app.theme import ThemeManager
from app.widgets.loading_bar import LoadingBar
from engine.messages import Loading


def test_phases_bytes_and_cancel(qtbot: QtBot, themes: ThemeManager) -> None:
    bar = LoadingBar()
    qtbot.addWidget(bar)
    assert bar.isHidden()
    bar.show_starting("Mixtral")
    assert bar.text == "Starting the engine for Mixtral"
    bar.show_loading(Loading("experts", 3 << 30, 12 << 30))
    assert bar.text == "Loading the experts 3.0 GiB of 12.0 GiB"
    progress = bar.findChild(QProgressBar)
    assert progress is not None
    assert progress.value() == 250
    bar.show_loading(Loading("measuring", 0, 0))
    assert progress.maximum() == 0
    bar.show_loading(Loading("something new", 99 << 40, 1 << 30))
    assert progress.value() == progress.maximum()
    button = bar.findChild(QPushButton)
    assert button is not None
    with qtbot.waitSignal(bar.cancel_requested):
        button.click()
    bar.show_cancelling()
    assert not button.isEnabled()
