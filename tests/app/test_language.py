"""The translation function and the choice of the language."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from PySide6.QtCore import QCoreApplication, QLocale, QTranslator
from PySide6.QtWidgets import QApplication, QDialogButtonBox
from pytestqt.qtbot import QtBot

from app.language import install_language, language_for, tr
from app.units import bytes_text, number_text


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
