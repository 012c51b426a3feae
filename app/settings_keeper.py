"""The settings while the window is open: read at its start, written at every change."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal

from app.json_file import folder_problem
from app.language import error_text, tr
from app.settings import Settings, SettingsError, load_settings, save_settings

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)


class SettingsKeeper(QObject):
    """Keeps the settings.

    Args:
        path: Their file.
        parent: The owner.

    Attributes:
        path: Their file.
        notice: What was wrong with the file, to be told; "" for nothing.

    Signals:
        problem(str): One sentence: the file could not be written; "" once it could.
    """

    problem = Signal(str)

    def __init__(self, path: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.path = path
        self._settings, self.notice = load_settings(path)

    @property
    def settings(self) -> Settings:
        """The settings, as they are kept."""
        return self._settings

    def take(self, settings: Settings) -> None:
        """Take other settings; `save` writes them."""
        self._settings = settings

    def change(self, **changes: Any) -> None:  # noqa: ANN401 - fields of the settings
        """Take some that are another; `save` writes them."""
        self._settings = dataclasses.replace(self._settings, **changes)

    def save(self) -> None:
        """Write the settings."""
        try:
            save_settings(self._settings, self.path)
        except SettingsError as error:
            log.warning("%s", error)
            self.problem.emit(error_text(error))
        else:
            self.problem.emit("")

    def why_not_kept(self) -> str:
        """One sentence where nothing can be kept beside the file; "" where it can."""
        folder = self.path.parent
        reason = folder_problem(folder)
        if not reason:
            return ""
        words = tr("Settings and presets cannot be kept in {folder} ({reason}); changes last until Rooftop is closed.")
        return words.format(folder=folder, reason=reason)
