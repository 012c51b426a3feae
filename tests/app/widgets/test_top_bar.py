from PySide6.QtWidgets import QPushButton, QToolButton, QWidget
from pytestqt.qtbot import QtBot

from app.theme import ThemeManager
from app.widgets.top_bar import TopBar
from engine.messages import Timings
from tests.app.snapshots import make_ready


def test_model_device_and_speed(qtbot: QtBot, themes: ThemeManager) -> None:
    bar = TopBar()
    qtbot.addWidget(bar)
    bar.resize(1000, 50)
    bar.show_model_name("mixtral")
    assert bar.text == "mixtral"
    ready = make_ready("mixtral", "simulated")
    bar.show_ready(ready, ready.model.name)
    assert bar.text == "Mixtral 8x7B Instruct  Simulated GPU"
    bar.show_speed(0.0)
    assert "tokens/s" not in bar.text
    bar.show_timings(Timings(0.32, 400.0, 8.4))
    assert bar.text.endswith("8.4 tokens/s  first token 320 ms")
    bar.show_model_name("other")
    assert bar.text == "other"


def test_its_buttons(qtbot: QtBot, themes: ThemeManager) -> None:
    bar = TopBar()
    qtbot.addWidget(bar)
    sidebar, options, new, panel = bar.findChildren(QToolButton)
    with qtbot.waitSignal(bar.sidebar_toggled):
        sidebar.click()
    with qtbot.waitSignal(bar.options_requested):
        options.click()
    with qtbot.waitSignal(bar.new_chat_requested):
        new.click()
    with qtbot.waitSignal(bar.panel_toggled) as blocker:
        panel.click()
    assert blocker.args == [True]
    assert all(button.accessibleName() for button in (sidebar, options, new, panel))


def test_what_has_no_room_is_left_out_and_the_name_shortened(qtbot: QtBot, themes: ThemeManager) -> None:
    window = QWidget()
    qtbot.addWidget(window)
    bar = TopBar(window)
    layout = bar.layout()
    assert layout is not None
    window.show()
    ready = make_ready("mixtral", "simulated")
    bar.show_ready(ready, "Mixtral & co.")
    bar.show_timings(Timings(0.32, 400.0, 8.4))
    seen = []
    for width in (900, 560, 450, 380, 260):
        bar.resize(width, 50)
        assert layout.minimumSize().width() <= width
        seen.append(bar.text)
    assert seen[0] == "Mixtral & co.  Simulated GPU  8.4 tokens/s  first token 320 ms"
    assert "first token" not in seen[2]
    assert seen[4] == "Mixtral & co."
    name = next(button for button in bar.findChildren(QPushButton) if button.accessibleName().startswith("Model "))
    assert name.text().endswith("…")
    bar.resize(900, 50)
    assert bar.text == seen[0]
    assert name.text() == "Mixtral && co."
