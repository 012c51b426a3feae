"""Lexers for code, loaded on a thread of their own: the first one takes longer than the window may stand still."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from PySide6.QtCore import QCoreApplication, QObject, Qt, Signal
from shiboken6 import isValid

from app.highlight import load_lexer


class LexerLoader(QObject):
    """Loads lexers behind the window's back; one for the application.

    Signals:
        loaded(str): The lexer of this language can be used now, if there is one.
    """

    loaded = Signal(str)
    _done = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="lexers")
        self._known = {""}
        self._asked: set[str] = set()
        self._done.connect(self._take)

    def has(self, language: str) -> bool:
        """Whether code in this language can be read at once; if not, `loaded` tells when."""
        if language not in self._known and language not in self._asked:
            self._asked.add(language)
            self._pool.submit(self._work, language)
        return language in self._known

    def _work(self, language: str) -> None:
        """On the pool's thread."""
        load_lexer(language)
        if isValid(self):  # the window may be gone meanwhile
            self._done.emit(language)

    def _take(self, language: str) -> None:
        self._known.add(language)
        self.loaded.emit(language)


def lexer_loader() -> LexerLoader:
    """The application's loader, made when it is first needed."""
    app = QCoreApplication.instance()
    assert app is not None, "code is coloured for a window"
    found = app.findChild(LexerLoader, options=Qt.FindChildOption.FindDirectChildrenOnly)
    return found if found is not None else LexerLoader(app)
