"""The presets while the window is open: read at its start, written at every change, asked for every reply."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from app.language import error_text
from app.preset_files import load_presets, save_presets
from app.presets import ChatOptions, PresetBook
from app.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.conversation import Conversation
    from engine.config import SamplingParams

log = logging.getLogger(__name__)


class PresetKeeper(QObject):
    """Keeps the preset book.

    Args:
        path: Its file.
        model: Tells which model is in use, as the settings name it.
        parent: The owner.

    Signals:
        problem(str): One sentence: the file could not be written; "" once it could.
    """

    problem = Signal(str)

    def __init__(self, path: Path, model: Callable[[], str], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._path, self._model = path, model
        self._book, self.notice = load_presets(path)

    @property
    def book(self) -> PresetBook:
        """The presets."""
        return self._book

    def keep(self, book: PresetBook) -> None:
        """Take other presets and write them."""
        self._book = book
        self.save()

    def save(self) -> None:
        """Write the presets."""
        try:
            save_presets(self._book, self._path)
        except SettingsError as error:
            log.warning("%s", error)
            self.problem.emit(error_text(error))
        else:
            self.problem.emit("")

    def reply_options(self, conversation: Conversation) -> tuple[str, SamplingParams]:
        """System prompt and sampling of the next reply in a chat."""
        return self._book.resolve(ChatOptions.from_json(conversation.options), self._model())
