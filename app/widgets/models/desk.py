"""Wires the library to the engine and the window: what is loaded, and the model page when it is asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
from PySide6.QtCore import QObject, Signal

from app.library import Library
from app.model_places import model_places
from app.settings import APP_NAME, to_engine_config
from app.widgets.panel_desk import GONE_STATES

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtWidgets import QWidget

    from app.engine_client import EngineClient, EngineState
    from app.model_places import Place
    from app.settings import Settings
    from app.widgets.main_window import MainWindow
    from app.widgets.models.dialog import ModelsDialog
    from engine.messages import Ready


class ModelDesk(QObject):
    """Owns the library.

    Args:
        client: The engine.
        window: Where the page is shown.
        settings: What is set now.
        used: The file of models that were used.

    Attributes:
        library: The models on this computer; nothing is looked for until its `refresh`.

    Signals:
        model_chosen(str, bool): Load the model with this path; True to keep its experts on disk.
        folder_added(str): Look for models in this folder from now on.
    """

    model_chosen = Signal(str, bool)
    folder_added = Signal(str)

    def __init__(
        self, client: EngineClient, window: MainWindow, settings: Callable[[], Settings], used: Path | None = None
    ) -> None:
        super().__init__(window)
        self._window, self._settings = window, settings
        self._dialog: ModelsDialog | None = None
        self._loaded = ""
        cache = platformdirs.user_cache_path(APP_NAME, appauthor=False) / "models.json"
        self.library = Library(self._places, lambda: to_engine_config(settings()), cache, used, self)
        window.models_requested.connect(self.open)
        client.ready.connect(self._on_ready)
        client.state_changed.connect(self._on_state)

    def open(self) -> ModelsDialog:
        """Show the page, and look through the folders."""
        from app.widgets.models.dialog import ModelsDialog

        def make(parent: QWidget) -> ModelsDialog:
            return ModelsDialog(self.library, self._loaded, parent)

        dialog = self._window.show_dialog(make)
        assert isinstance(dialog, ModelsDialog)
        dialog.load_requested.connect(self.model_chosen)
        dialog.folder_added.connect(self.folder_added)
        dialog.finished.connect(self._closed)
        self._dialog = dialog
        self.library.refresh()
        return dialog

    def settings_changed(self, before: Settings, after: Settings) -> None:
        """Look or judge anew where the settings ask for it, and anything was looked for before."""
        if not self.library.models():
            return
        if (before.models_folder, before.model_folders) != (after.models_folder, after.model_folders):
            self.library.refresh()
        elif to_engine_config(before) != to_engine_config(after):
            self.library.judge_again()

    def close(self) -> None:
        """End what runs in the background."""
        self.library.close()

    def _places(self) -> tuple[Place, ...]:
        chosen = self._settings()
        return model_places(os.environ, Path.home(), chosen.models_folder, chosen.model_folders)

    def _on_ready(self, ready: Ready) -> None:
        self._show_loaded(self._settings().model, ready)

    def _on_state(self, state: EngineState) -> None:
        if state in GONE_STATES and self._loaded:
            self._show_loaded("", None)

    def _show_loaded(self, path: str, ready: Ready | None) -> None:
        self._loaded = path
        self.library.model_loaded(ready, path)
        if self._dialog is not None:
            self._dialog.found.set_loaded(path)

    def _closed(self) -> None:
        self._dialog = None
