"""Wires the library to the engine and the window: what is loaded, and the model page when it is asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
from PySide6.QtCore import QObject, Signal

from app.hub_token import HubToken
from app.language import tr
from app.library import Library
from app.model_places import model_places, own_models_folder
from app.settings import APP_NAME, to_engine_config
from app.widgets.banner import Action
from app.widgets.panel_desk import GONE_STATES
from engine.convert.workplace import unfinished_targets
from engine.hub.places import unfinished

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtWidgets import QWidget

    from app.conversions import Conversions
    from app.downloads import Downloads
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
        self._downloads: Downloads | None = None
        self._conversions: Conversions | None = None
        self._token = HubToken()
        cache = platformdirs.user_cache_path(APP_NAME, appauthor=False) / "models.json"
        self.library = Library(self._places, lambda: to_engine_config(settings()), cache, used, self)
        window.models_requested.connect(self.open)
        client.ready.connect(self._on_ready)
        client.state_changed.connect(self._on_state)

    def open(self) -> ModelsDialog:
        """Show the page, and look through the folders."""
        from app.widgets.models.dialog import ModelsDialog

        def make(parent: QWidget) -> ModelsDialog:
            return ModelsDialog(self.library, self.downloads, self._token, self.conversions, self._loaded, parent)

        dialog = self._window.show_dialog(make)
        assert isinstance(dialog, ModelsDialog)
        dialog.load_requested.connect(self.model_chosen)
        dialog.folder_added.connect(self.folder_added)
        dialog.finished.connect(self._closed)
        self._dialog = dialog
        self.library.refresh()
        if self._downloads is not None or unfinished(self._models_folder):
            dialog.show_downloads()
        if self._conversions is not None or unfinished_targets(self._models_folder):
            dialog.show_conversions()
        return dialog

    def downloads(self) -> Downloads:
        """What downloads; made when it is needed first."""
        if self._downloads is None:
            from app.downloads import Downloads

            self._downloads = Downloads(self._models_folder, self, token=self._token.get)
            self._downloads.finished.connect(lambda _key, _path: self.library.refresh())
        return self._downloads

    def conversions(self) -> Conversions:
        """What makes models smaller; made when it is needed first."""
        if self._conversions is None:
            from app.conversions import Conversions

            self._conversions = Conversions(self._models_folder, self)
            self._conversions.finished.connect(lambda _key, _path: self.library.refresh())
        return self._conversions

    def offer_unfinished(self) -> None:
        """Say that an earlier session has left downloads or conversions, and offer to go on with them."""
        self._offer_conversions()
        left = unfinished(self._models_folder)
        if left:
            words = tr("%n downloads are unfinished: {names}.", len(left))
            names = ", ".join(f"{choice.repo_id.rpartition('/')[2]} {choice.title}" for choice in left.values())
            actions = (Action(tr("Resume"), self._resume_all), Action(tr("Show"), self.open))
            self._window.chat.banners.show_banner("downloads", words.format(names=names), "notice", actions)

    def _offer_conversions(self) -> None:
        left = unfinished_targets(self._models_folder)
        if left:
            words = tr("%n models were being made smaller: {names}.", len(left))
            actions = (Action(tr("Resume"), self._resume_conversions), Action(tr("Show"), self.open))
            text = words.format(names=", ".join(target.name for target in left))
            self._window.chat.banners.show_banner("conversions", text, "notice", actions)

    def _resume_conversions(self) -> None:
        conversions = self.conversions()
        for state in conversions.states():
            conversions.resume(state.key)
        self.open()

    def _is_idle(self) -> bool:
        downloads = self._downloads.states() if self._downloads is not None else ()
        conversions = self._conversions.states() if self._conversions is not None else ()
        phases = [state.phase for state in downloads] + [state.phase for state in conversions]
        return all(phase in ("paused", "failed", "done") for phase in phases)

    def _resume_all(self) -> None:
        downloads = self.downloads()
        for state in downloads.states():
            downloads.resume(state.key)
        self.open()

    def settings_changed(self, before: Settings, after: Settings) -> None:
        """Look or judge anew where the settings ask for it, and anything was looked for before."""
        if before.models_folder != after.models_folder and self._is_idle():
            self._downloads = self._conversions = None
        if not self.library.models():
            return
        if (before.models_folder, before.model_folders) != (after.models_folder, after.model_folders):
            self.library.refresh()
        elif to_engine_config(before) != to_engine_config(after):
            self.library.judge_again()

    def close(self) -> None:
        """End what runs in the background; downloads and conversions can be resumed later."""
        if self._conversions is not None:
            self._conversions.shutdown()
        if self._downloads is not None:
            self._downloads.shutdown()
        self.library.close()

    @property
    def _models_folder(self) -> Path:
        return own_models_folder(self._settings().models_folder)

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
