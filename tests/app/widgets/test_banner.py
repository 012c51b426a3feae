from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel
from pytestqt.qtbot import QtBot

from app.theme import SPACE_S, ThemeManager
from app.widgets.banner import MAX_TEXT_CHARS, Action, BannerArea


def test_one_banner_per_key_with_actions(qtbot: QtBot, themes: ThemeManager) -> None:
    area, done = BannerArea(), list[str]()
    qtbot.addWidget(area)
    area.show_banner("a", "First.")
    area.show_banner("a", "Second.", "error", (Action("Do it", lambda: done.append("done")),))
    assert list(area.banners) == ["a"]
    assert area.banners["a"].text == "Second."
    themes.set_mode("dark")
    area.restyle()
    area.banners["a"].buttons[0].click()
    assert done == ["done"]
    assert area.banners == {}
    assert area.isHidden()


def test_hostile_text_stays_text(qtbot: QtBot, themes: ThemeManager) -> None:
    area = BannerArea()
    qtbot.addWidget(area)
    area.show_banner("a", "<img src='/etc/passwd'>" + "x" * 5000)
    assert len(area.banners["a"].text) == MAX_TEXT_CHARS
    assert all(label.textFormat() == Qt.TextFormat.PlainText for label in area.findChildren(QLabel) if label.text())


def test_one_button_stands_beside_the_words_and_more_stand_below(qtbot: QtBot, themes: ThemeManager) -> None:
    area = BannerArea()
    qtbot.addWidget(area)
    area.resize(640, 200)
    area.show_banner("one", "One.", "error", (Action("Do it", lambda: None),))
    area.show_banner("two", "Two, at 0.5 tokens/s.", "error", (Action("A", lambda: None), Action("B", lambda: None)))
    qtbot.waitUntil(lambda: area.banners["two"].buttons[1].x() > 0)
    assert area.banners["two"].text == "Two, at 0.5 tokens/s."
    for key, below in (("one", False), ("two", True)):
        banner = area.banners[key]
        label = max(banner.findChildren(QLabel), key=lambda label: label.width())
        assert (banner.buttons[0].y() >= label.geometry().bottom()) == below


def test_two_banners_are_two(qtbot: QtBot, themes: ThemeManager) -> None:
    area = BannerArea()
    qtbot.addWidget(area)
    area.resize(640, 300)
    area.show_banner("one", "One.")
    area.show_banner("two", "Two.")
    first, second = area.banners["one"], area.banners["two"]
    qtbot.waitUntil(lambda: second.y() - first.geometry().bottom() - 1 >= SPACE_S)
