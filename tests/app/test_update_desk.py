"""The update check in the window: off by default, told once per version, and asked for in the settings."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QDesktopServices
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from app.application import Application
from app.settings import load_settings
from app.update_desk import BANNER, UpdateDesk
from app.updates import Release, UpdateCheck, UpdateError
from app.widgets.settings.dialog import SettingsDialog

PAGE = "https://example.org/releases/0.2"
ADDRESS = "https://example.org/list"
Make = Callable[..., Application]

pytestmark = pytest.mark.qt_log_ignore("propagateSizeHints", extend=True)


class Answers:
    """What the next checks answer, without a network."""

    def __init__(self) -> None:
        self.asked: int = 0
        self.release: Release | None = Release("0.2", PAGE)
        self.error: UpdateError | None = None

    def ask(self, check: UpdateCheck) -> None:
        self.asked += 1
        check.answered.emit(self.release, self.error)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    known = Answers()

    def ask(check: UpdateCheck) -> None:
        known.ask(check)

    monkeypatch.setattr(UpdateCheck, "ask", ask)
    return known


def open_settings(rooftop: Application) -> SettingsDialog:
    opened: list[SettingsDialog] = []
    rooftop.dialogs.settings_opened.connect(opened.append)
    rooftop.dialogs.open_settings()
    return opened[0]


def test_nobody_is_asked_unless_it_is_turned_on(rooftop: Application, answers: Answers) -> None:
    desk = UpdateDesk(rooftop, ADDRESS)
    desk.look()
    assert answers.asked == 0
    rooftop.remember(check_updates=True)
    desk.look()
    desk.look()
    assert answers.asked == 1, "once a day"
    rooftop.remember(updates_asked_s=4e9)
    desk.look()
    assert answers.asked == 2, "the clock was set back since"


def test_a_version_is_told_until_it_is_waved_away(
    rooftop: Application, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toString()))
    desk = UpdateDesk(rooftop, ADDRESS)
    rooftop.remember(check_updates=True)
    desk.look()
    banner = rooftop.chat.banners.banners[BANNER]
    assert banner.text == "Rooftop 0.2 is there."
    assert not opened
    banner.buttons[0].click()
    assert opened == [PAGE]
    assert load_settings(rooftop._kept.path)[0].update_dismissed == "0.2"
    look_tomorrow(rooftop, desk)
    assert BANNER not in rooftop.chat.banners.banners
    answers.release = Release("0.3", PAGE)
    look_tomorrow(rooftop, desk)
    assert rooftop.chat.banners.banners[BANNER].text == "Rooftop 0.3 is there."


def look_tomorrow(rooftop: Application, desk: UpdateDesk) -> None:
    rooftop.remember(updates_asked_s=0.0)
    desk.look()


def test_a_failed_check_of_the_day_is_not_worth_a_word(rooftop: Application, answers: Answers) -> None:
    answers.release, answers.error = None, UpdateError("No.", "Retry.")
    desk = UpdateDesk(rooftop, ADDRESS)
    rooftop.remember(check_updates=True)
    desk.look()
    assert answers.asked == 1
    assert not rooftop.chat.banners.banners


@pytest.mark.parametrize(
    ("release", "error", "words"),
    [
        (Release("0.2", PAGE), None, "Rooftop 0.2 is there."),
        (None, None, "This is the newest version."),
        (None, UpdateError("Nobody answers.", "Retry."), "Nobody answers. Retry."),
    ],
)
def test_check_now_answers_beside_the_button(
    release: Release | None, error: UpdateError | None, words: str, rooftop: Application, answers: Answers, qtbot: QtBot
) -> None:
    answers.release, answers.error = release, error
    desk = UpdateDesk(rooftop, ADDRESS)
    dialog = open_settings(rooftop)
    QTest.mouseClick(dialog.general.check_now, Qt.MouseButton.LeftButton)
    assert answers.asked == 1
    assert dialog.general._update_state.text() == words
    assert dialog.general.check_now.isEnabled()
    assert "newer version" in dialog.privacy.search_text
    dialog.general.updates.setChecked(True)
    dialog.button("Ok").click()
    assert rooftop.settings.check_updates
    desk.look()
    assert answers.asked == 2


def test_without_an_address_there_is_no_such_setting(rooftop: Application, answers: Answers) -> None:
    desk = UpdateDesk(rooftop, "")
    dialog = open_settings(rooftop)
    assert not dialog.general.updates.isVisible()
    assert "versions" not in dialog.general.search_text
    assert "newer version" not in dialog.privacy.search_text
    assert desk.parent() is rooftop


def test_an_answer_after_the_settings_were_closed(
    rooftop: Application, answers: Answers, monkeypatch: pytest.MonkeyPatch, qtbot: QtBot
) -> None:
    asked: list[UpdateCheck] = []

    def ask(check: UpdateCheck) -> None:
        asked.append(check)

    monkeypatch.setattr(UpdateCheck, "ask", ask)
    desk = UpdateDesk(rooftop, ADDRESS)
    dialog = open_settings(rooftop)
    dialog.general.check_now.click()
    with qtbot.waitSignal(dialog.destroyed):
        dialog.reject()
    asked[0].answered.emit(answers.release, None)
    assert BANNER in rooftop.chat.banners.banners
    assert desk.parent() is rooftop
