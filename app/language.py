"""The words of the window in the user's language: Qt's own translation, with one context for the whole app.

`resources/translations` holds one file per language; the English one has only plurals. The terminal chat works where
Qt cannot be loaded, so nothing here imports Qt by itself: without it every text is the English one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from engine.sentences import Number, Sentence

if TYPE_CHECKING:
    from PySide6.QtCore import QCoreApplication, QLocale

    from engine.errors import RooftopError
    from engine.messages import ErrorReport
    from engine.sentences import Value

Language = Literal["system", "en", "de"]

CONTEXT = "Rooftop"
LANGUAGE_NAMES = {"en": "English", "de": "Deutsch"}
TRANSLATIONS = Path(__file__).resolve().parent.parent / "resources" / "translations"


def tr(text: str, count: int = -1) -> str:
    """A text in the language in force; the text itself where there is no translation.

    Args:
        text: English, with `{names}` for `str.format` and `%n` for the count.
        count: What `%n` stands for, which also chooses between singular and plural.
    """
    qt = sys.modules.get("PySide6.QtCore")
    if qt is None:
        return text.replace("%n", str(count))
    return str(qt.QCoreApplication.translate(CONTEXT, text, None, count))


def translated(text: str) -> str:
    """What the engine says, in the language in force; any text that is no `Sentence` is itself."""
    qt = sys.modules.get("PySide6.QtCore")
    if qt is None or not isinstance(text, Sentence):
        return str(text)
    words = str(qt.QCoreApplication.translate(CONTEXT, text.template, None, text.amount)) if text.template else ""
    return words.format(**{name: _value_text(value) for name, value in text.values})


def error_text(error: RooftopError | ErrorReport) -> str:
    """What is wrong and what to do about it, on one line in the language in force."""
    return f"{translated(error.message)} {translated(error.remedy)}".replace("\n", " ").strip()


def _value_text(value: Value) -> str:
    """A value of a sentence, as the language writes it; a number may be larger than any that Qt knows."""
    from PySide6.QtCore import QLocale

    if isinstance(value, Sentence):
        return translated(value)
    if isinstance(value, int):
        value = Number(f"{value:,}")
    if not isinstance(value, Number):
        return value
    locale = QLocale()
    return value.translate({ord("."): locale.decimalPoint(), ord(","): locale.groupSeparator()})


def language_for(choice: Language, preferred: list[str]) -> str:
    """Which of our languages to speak.

    Args:
        choice: What the user chose.
        preferred: The system's languages, best first, e.g. ["de-AT", "en"].
    """
    if choice != "system":
        return choice
    ours = (name.replace("_", "-").split("-")[0].lower() for name in preferred)
    return next((name for name in ours if name in LANGUAGE_NAMES), "en")


def install_language(app: QCoreApplication, choice: Language) -> str:
    """Speak a language from now on: texts, Qt's own buttons, numbers and dates. Widgets made before keep theirs.

    Args:
        app: Qt's application, which owns the translators.
        choice: What the user chose.

    Returns:
        The language in force, "en" or "de".
    """
    from PySide6.QtCore import QLibraryInfo, QLocale, QTranslator

    language = language_for(choice, QLocale.system().uiLanguages())
    QLocale.setDefault(_locale_for(language, QLocale.system()))
    folders = {"rooftop": str(TRANSLATIONS), "qtbase": QLibraryInfo.path(QLibraryInfo.LibraryPath.TranslationsPath)}
    for stem, folder in folders.items():
        translator = QTranslator(app)
        if translator.load(f"{stem}_{language}.qm", folder):
            app.installTranslator(translator)
    return language


def _locale_for(language: str, system: QLocale) -> QLocale:
    """The system's own way with numbers where it speaks the same language, e.g. Austria's."""
    from PySide6.QtCore import QLocale

    wanted = QLocale(language)
    return system if system.language() == wanted.language() else wanted
