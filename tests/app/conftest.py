"""A window with a fake engine, for tests of the app."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import shiboken6
from PySide6.QtCore import QLocale, QTranslator
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.application import Application
from app.engine_client import EngineState
from app.language import install_language
from app.theme import ThemeManager
from tests.app.fake_host import FakeHost


@pytest.fixture(autouse=True, scope="session")
def english(qapp: QApplication) -> None:
    """Texts and numbers as the tests expect them, whatever this machine's language."""
    install_language(qapp, "en")
    QLocale.setDefault(QLocale("en_US"))


@pytest.fixture(autouse=True, scope="session")
def empty_clipboard(qapp: QApplication) -> Iterator[None]:
    """Offscreen, Qt keeps what was copied until the process ends, when Python, which made it, is gone."""
    yield
    qapp.clipboard().clear()


@pytest.fixture
def german(qapp: QApplication) -> Iterator[str]:
    """German until the end of the test."""
    locale, before = QLocale(), set(qapp.findChildren(QTranslator))
    yield install_language(qapp, "de")
    for translator in set(qapp.findChildren(QTranslator)) - before:
        qapp.removeTranslator(translator)
        translator.deleteLater()
    QLocale.setDefault(locale)


@pytest.fixture
def host() -> FakeHost:
    """The engine that the next application starts; change it before the window is shown."""
    return FakeHost()


@pytest.fixture
def themes(qapp: QApplication) -> Iterator[ThemeManager]:
    """A theme manager alone, for tests of single widgets."""
    manager = ThemeManager(qapp, "light")
    yield manager
    shiboken6.delete(manager)


@pytest.fixture
def make_rooftop(
    qtbot: QtBot, qapp: QApplication, host: FakeHost, tmp_path: Path
) -> Iterator[Callable[..., Application]]:
    """Makes and shows an application on `host`; arguments as `Application` takes them, and `keep_size` for its own."""
    made: list[Application] = []

    def make(**arguments: object) -> Application:
        keep_size = arguments.pop("keep_size", False)
        path = arguments.pop("settings_path", tmp_path / "config" / "settings.json")
        rooftop = Application(qapp, lambda: host, path, **arguments)  # type: ignore[arg-type]
        made.append(rooftop)
        rooftop.themes.set_mode("light")
        if not keep_size:
            rooftop.window.resize(1100, 700)
        with qtbot.waitSignal(rooftop.panel_ready, timeout=5000):
            rooftop.show()
        return rooftop

    yield make
    for rooftop in made:
        rooftop.window.quit(asks=False)
        shiboken6.delete(rooftop.window)
        shiboken6.delete(rooftop.themes)
        shiboken6.delete(rooftop)


@pytest.fixture
def rooftop(make_rooftop: Callable[..., Application], qtbot: QtBot) -> Application:
    """An application whose model is loaded."""
    application = make_rooftop()
    qtbot.waitUntil(lambda: application.client.state is EngineState.READY)
    return application


@pytest.fixture
def chats_path(tmp_path: Path) -> Path:
    """A file of chats that a test may start the app on again and again."""
    return tmp_path / "data" / "chats.db"


@pytest.fixture
def start(make_rooftop: Callable[..., Application], qtbot: QtBot, chats_path: Path) -> Callable[[], Application]:
    """Starts the app on `chats_path`, with its model loaded."""

    def start() -> Application:
        rooftop = make_rooftop(history_path=chats_path)
        qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)
        return rooftop

    return start
