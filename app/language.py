"""The words of the window in the user's language: Qt's own translation, with one context for the whole app."""

from __future__ import annotations

from PySide6.QtCore import QCoreApplication

CONTEXT = "Rooftop"


def tr(text: str, count: int = -1) -> str:
    """A text in the language in force; the text itself where there is no translation.

    Args:
        text: English, with `{names}` for `str.format` and `%n` for the count.
        count: What `%n` stands for, which also chooses between singular and plural.
    """
    return QCoreApplication.translate(CONTEXT, text, None, count)
