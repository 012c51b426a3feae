"""The translation function and the choice of the language."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from PySide6.QtCore import QCoreApplication, QLocale, QTranslator
from PySide6.QtGui import QAction
from PySide6.QtWidgets import (
    QAbstractButton,
    QApplication,
    QDialogButtonBox,
    QLabel,
    QMenu,
    QPlainTextEdit,
    QWidget,
)
from pytestqt.qtbot import QtBot

from app.application import Application
from app.engine_client import EngineState
from app.language import TRANSLATIONS, install_language, language_for, tr
from app.units import bytes_text, number_text
from resources.translations.update import read_translations


@pytest.fixture
def german(qapp: QApplication) -> Iterator[str]:
    """German until the end of the test."""
    locale, before = QLocale(), set(qapp.findChildren(QTranslator))
    yield install_language(qapp, "de")
    for translator in set(qapp.findChildren(QTranslator)) - before:
        qapp.removeTranslator(translator)
        translator.deleteLater()
    QLocale.setDefault(locale)


def test_a_text_without_translation_is_itself() -> None:
    assert tr("Keep {name}") == "Keep {name}"


def test_the_count_takes_its_place_and_chooses_the_form() -> None:
    assert tr("%n chats", 3) == "3 chats"
    assert (tr("%n bytes", 1), tr("%n bytes", 2)) == ("1 byte", "2 bytes")


def test_german_is_spoken_throughout(german: str, qtbot: QtBot) -> None:
    assert german == "de"
    assert tr("Settings") == "Einstellungen"
    assert tr("VRAM ran out %n times: fewer experts live there than planned.", 1).startswith("Der Grafikspeicher")
    box = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
    qtbot.addWidget(box)
    assert box.buttons()[0].text().replace("&", "") == "Abbrechen", "Qt's own words"
    assert number_text(1234.5, 1) == "1.234,5"
    assert bytes_text(int(5.2 * 2**30)) == "5,2 GiB"


def said_in(window: QWidget) -> set[str]:
    """Every text that a window shows or tells a screen reader."""
    texts = set()
    for widget in [window, *window.findChildren(QWidget)]:
        texts |= {widget.accessibleName(), widget.toolTip(), widget.windowTitle()}
        for kind, name in ((QLabel, "text"), (QAbstractButton, "text"), (QPlainTextEdit, "placeholderText")):
            if isinstance(widget, kind):
                texts.add(getattr(widget, name)())
    return texts | {action.text() for action in window.findChildren(QAction)}


def test_no_text_is_left_in_english(german: str, make_rooftop: Callable[..., Application], qtbot: QtBot) -> None:
    """A text that was translated once, when its module was imported, would stay as it was."""
    rooftop = make_rooftop()
    qtbot.waitUntil(lambda: rooftop.client.state is EngineState.READY)
    rooftop.session.submit("Hallo")
    qtbot.waitUntil(lambda: not rooftop.session.busy)
    rooftop.window.about_requested.emit()
    translated = read_translations(TRANSLATIONS / "rooftop_de.ts")
    english = {source for source, forms in translated.items() if source not in forms and "{" not in source}
    said = said_in(rooftop.window)
    assert len(said) > 50
    assert said & english == set()


@pytest.mark.parametrize("language", ["en", "de"])
def test_no_two_entries_of_a_menu_have_the_same_mnemonic(
    language: str, request: pytest.FixtureRequest, make_rooftop: Callable[..., Application]
) -> None:
    if language == "de":
        request.getfixturevalue("german")
    menu_bar = make_rooftop().window.menuBar()
    for menu in [menu_bar, *(menu for menu in menu_bar.findChildren(QMenu))]:
        keys = [re.findall("&([^&])", action.text().lower()) for action in menu.actions() if action.text()]
        assert all(len(key) == 1 for key in keys), "each entry has one"
        flat = [key[0] for key in keys]
        assert len(flat) == len(set(flat)), flat


@pytest.mark.parametrize(
    ("choice", "preferred", "language"),
    [
        ("system", ["de-AT", "en"], "de"), ("system", ["fr-FR", "de"], "de"), ("system", ["fr"], "en"),
        ("system", ["C"], "en"), ("system", [], "en"), ("system", ["DE_de"], "de"), ("en", ["de"], "en"),
        ("de", ["en"], "de"),
    ],
)  # fmt: skip
def test_the_system_language_is_taken_if_it_is_ours(choice: str, preferred: list[str], language: str) -> None:
    assert language_for(choice, preferred) == language  # type: ignore[arg-type]


def test_without_qt_every_text_is_english() -> None:
    code = "import sys; from app.language import tr; print(tr('%n chats', 3), 'PySide6' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "3 chats False"


def test_the_application_owns_the_translators(qapp: QApplication) -> None:
    assert isinstance(QCoreApplication.instance(), QApplication)
    assert qapp.findChildren(QTranslator)
