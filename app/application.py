"""The composition root: builds the parts, wires them together, and takes them down in order.

The window is shown first; the live panel, the machine's sampling and the engine follow once it is on screen.
"""

from __future__ import annotations

import dataclasses
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtGui import QGuiApplication

from app.announcer import Announcer
from app.chat_session import ChatSession
from app.chats import Chats
from app.dialog_desk import DialogDesk
from app.engine_client import EngineClient, EngineState, Host
from app.engine_words import GUIDE_NAME, model_label, why_portable
from app.language import tr, translated
from app.model_scan import is_no_model
from app.preset_keeper import PresetKeeper
from app.settings import GUIDE_MODEL, MAX_FOLDERS, Settings, to_engine_config
from app.settings_keeper import SettingsKeeper
from app.simulated_gpu import bytes_to_try
from app.theme import ThemeManager
from app.tray_desk import TrayDesk
from app.widgets.banner import Action
from app.widgets.chat_desk import ChatDesk
from app.widgets.chat_pane import ChatPane
from app.widgets.main_window import MainWindow
from app.widgets.models.desk import ModelDesk
from app.widgets.panel_desk import GONE_STATES, PanelDesk
from engine.config import DEVICE_FIELDS
from engine.messages import TORCH_KERNELS

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtWidgets import QApplication

    from engine.messages import ErrorReport, Finished, Ready, Snapshot

log = logging.getLogger(__name__)

# What a loaded model can take on, and can refuse.
LIVE_SETTINGS = (
    "vram_budget_bytes",
    "vram_reserve_bytes",
    "context_tokens",
    "kv_precision",
    "cpu_threads",
    "adaptive",
    "policy",
)


class Application(QObject):
    """Everything that lives as long as the window.

    Args:
        app: Qt's application.
        start_host: Starts an engine.
        settings_path: The settings file.
        model: Model for this session, None for the one used last.
        simulate_gpu_bytes: Simulated GPU for this session, None for the setting.
        experts_on_disk: Keep experts on disk in this session; False for the setting.
        history_path: The file of all chats; None keeps them in memory.

    Signals:
        panel_ready(): The live panel is in the window and the engine has been asked to load.
        settings_refused(ErrorReport, Settings): The engine did not take the settings; these are in force.
        ended(): Everything has been taken down; nothing is left to wait for.
    """

    panel_ready = Signal()
    settings_refused = Signal(object, object)
    ended = Signal()

    def __init__(
        self,
        app: QApplication,
        start_host: Callable[[], Host],
        settings_path: Path,
        model: str | None = None,
        simulate_gpu_bytes: int | None = None,
        experts_on_disk: bool = False,
        history_path: Path | None = None,
    ) -> None:
        super().__init__(app)
        self._kept = SettingsKeeper(settings_path, self)
        self._session: dict[str, Any] = {}
        if simulate_gpu_bytes is not None:
            self._session["simulate_gpu_bytes"] = simulate_gpu_bytes
        if experts_on_disk:
            self._session["experts_on_disk"] = True
        if model is not None:
            self._kept.change(model=model)
        self._ready: Ready | None = None
        self._accepted: Settings | None = None
        self._closed = self._told_kernels = False
        self.loads_by_itself = True  # False: a model that ended the app before waits for the user's word
        self.themes = ThemeManager(app, self._kept.settings.theme, self._kept.settings.zoom)
        self.client = EngineClient(start_host, self)
        self.session = ChatSession(self.client, self)
        self.chats = Chats(self.session, self)
        self._history_path = history_path
        self.presets = PresetKeeper(settings_path.with_name("presets.json"), lambda: self._kept.settings.model, self)
        self.session.set_reply_options(self.presets.reply_options)
        self.chat = ChatPane(self.client, self.session)
        self.session.overflow = self._kept.settings.overflow
        self.window = MainWindow(self.chat, self.themes, self._kept.settings)
        self._announcer = Announcer(self.chat, self.session, self.chat.banners)
        self._panel_desk = PanelDesk(self.client, self.window, self._kept.settings.panel_folded)
        used = settings_path.with_name("models.json")
        self.model_desk = ModelDesk(self.client, self.window, lambda: self.settings, used)
        self._tray = TrayDesk(self.window)
        self._desk = ChatDesk(self.chats, self.session, self.window)
        self.dialogs = DialogDesk(self, self._desk)
        self._wire()
        self._tray.show(self._kept.settings.tray)
        self.chat.composer.set_send_key(self._kept.settings.send_key)
        for name, words in (("settings-file", self._kept.notice), ("presets-file", self.presets.notice)):
            if words:
                log.warning(words)
                self.chat.banners.show_banner(name, translated(words))

    @property
    def loaded(self) -> Ready | None:
        """The model that is loaded."""
        return self._ready

    @property
    def settings(self) -> Settings:
        """The settings in force, the command line's included."""
        return dataclasses.replace(self._kept.settings, **self._session)

    @property
    def model_name(self) -> str:
        """What the chosen model is called."""
        return model_label(self._kept.settings.model)

    def show(self) -> None:
        """Show the window, and fill it once it is on screen."""
        self._show_model_name()
        self.window.show()
        QTimer.singleShot(0, self._after_show)

    def asked_again(self, model: str) -> None:
        """Rooftop was started a second time: come to the front, with another model if it was given one."""
        self.window.bring_forward()
        if model and model != self._kept.settings.model:
            self._open_chosen(model)

    def open_model(self, model: str) -> None:
        """Load another model and remember it."""
        self._kept.change(model=model)
        self.session.stop()
        self._load()
        self._kept.save()

    def apply_settings(self, settings: Settings) -> None:
        """Take new settings; the engine is told what concerns it."""
        before = self.settings
        self._kept.take(settings)
        self._session.clear()
        self.themes.set_mode(settings.theme)
        self._tray.show(self._kept.settings.tray)
        self.session.overflow = settings.overflow
        self.themes.set_zoom(settings.zoom)
        self.chat.composer.set_send_key(settings.send_key)
        self._kept.save()
        self.model_desk.settings_changed(before, settings)
        old, new = to_engine_config(before), to_engine_config(settings)
        if not self.client.model_ready or any(getattr(old, name) != getattr(new, name) for name in DEVICE_FIELDS):
            self._load()
        elif old != new:
            self.client.reconfigure(new)

    def remember(self, **changes: Any) -> None:  # noqa: ANN401 - fields of the settings
        """Keep settings that nothing else depends on."""
        self._kept.change(**changes)
        self._kept.save()

    def shutdown(self) -> None:
        """Save, and end what runs besides the window; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        clipboard = QGuiApplication.clipboard()
        if clipboard.ownsClipboard():  # what a text of ours put there in Python must not outlive Python
            clipboard.setText(clipboard.text())
        self.keep_window_state()
        self._kept.save()
        self.session.stop()
        self.chats.close()
        self._panel_desk.stop()
        self.model_desk.close()
        self.client.shutdown()
        self._tray.remove()
        self.ended.emit()

    # ---- wiring -------------------------------------------------------------------------------------------------

    def _wire(self) -> None:
        window, client = self.window, self.client
        window.model_chosen.connect(self._open_chosen)
        self._kept.problem.connect(partial(self._show_problem, "settings-file", self._kept.save))
        self.presets.problem.connect(partial(self._show_problem, "presets-file", self.presets.save))
        window.closing.connect(self.shutdown)
        window.kept_in_tray.connect(self._kept_in_tray)
        window.tray_wanted.connect(self._want_tray)
        self._panel_desk.simulate_requested.connect(self._simulate)
        self.chat.budget_requested.connect(lambda: self.dialogs.open_settings("model"))
        self.chat.disk_requested.connect(self._keep_on_disk)
        self.model_desk.model_chosen.connect(self._open_found)
        self.model_desk.folder_added.connect(self._add_folder)
        client.ready.connect(self._on_ready)
        client.snapshot.connect(self._on_snapshot)
        client.finished.connect(self._on_finished)
        client.failed.connect(self._on_failed)
        client.recovered.connect(lambda sentence: self.chat.banners.show_banner("gpu-lost", sentence))
        client.state_changed.connect(self._on_state)

    def _after_show(self) -> None:
        if self._closed:
            return
        if self.loads_by_itself:
            self._load()
        else:
            self.chat.show_unloaded()
        self.chats.start(self._history_path, reopen=self._kept.settings.reopen_last_chat)
        self._panel_desk.build()
        self.model_desk.offer_unfinished()
        not_kept = self._kept.why_not_kept()
        if not_kept:  # now, and not when the window closes
            self.chat.banners.show_banner("settings-file", not_kept)
        self.panel_ready.emit()

    # ---- the engine ---------------------------------------------------------------------------------------------

    def _load(self) -> None:
        self._show_model_name()
        self.chat.show_loading_of(self.model_name)
        self.client.load(self.settings.model, to_engine_config(self.settings))

    def _on_failed(self, error: ErrorReport, what: str) -> None:
        """Settings that the engine refused are not kept: the next start must not fail by them."""
        if what != "settings" or self._accepted is None:
            return
        kept = {name: getattr(self._accepted, name) for name in LIVE_SETTINGS}
        self._kept.change(**kept)
        self._kept.save()
        self.settings_refused.emit(error, self.settings)

    def _on_ready(self, ready: Ready) -> None:
        self._ready = ready
        if ready.because:
            self.chat.banners.show_banner("memory", translated(ready.because))
        else:
            self._accepted = self._kept.settings
            self.chat.composer.setFocus()
            self.chat.banners.dismiss("settings")
        name = GUIDE_NAME if self._kept.settings.model == GUIDE_MODEL else ready.model.name
        self.window.top_bar.show_ready(ready, name)
        if ready.planning.kernels == TORCH_KERNELS and not self._told_kernels:
            self._told_kernels = True
            slower = tr("The CPU computes with portable kernels, which are slower.")
            self.chat.banners.show_banner("kernels", f"{slower} {why_portable()}")

    def _on_snapshot(self, snapshot: Snapshot) -> None:
        if self.client.state is EngineState.GENERATING:
            self.window.top_bar.show_speed(snapshot.tokens_per_s)

    def _on_finished(self, event: Finished) -> None:
        if event.usage.completion_tokens > 0:
            self.window.top_bar.show_timings(event.timings)

    def _on_state(self, state: EngineState) -> None:
        if state is EngineState.STARTING:
            self.chat.show_loading_of(self.model_name)
        if state in GONE_STATES:
            self._ready = None
            self._show_model_name()

    def _simulate(self) -> None:
        size_bytes = bytes_to_try(self._ready)
        self.apply_settings(dataclasses.replace(self.settings, simulate_gpu_bytes=size_bytes))
        self.chat.composer.setFocus()

    def _keep_on_disk(self) -> None:
        """Load the model that did not fit, its experts in a file."""
        self._kept.change(experts_on_disk=True)
        self._load()
        self._kept.save()

    def _open_chosen(self, model: str) -> None:
        """Load what was dropped, chosen or named by a second start; what is no model must not cost the one loaded."""
        self.chat.banners.dismiss("no-model")
        if model == GUIDE_MODEL or not is_no_model(Path(model)):
            self.open_model(model)
            return
        words = tr("“{name}” is not a model: choose a .gguf file, or a folder with config.json and safetensors files.")
        self.chat.banners.show_banner("no-model", words.format(name=Path(model).name))

    def _open_found(self, model: str, on_disk: bool) -> None:
        """Load a model from the model page."""
        if on_disk:
            self._kept.change(experts_on_disk=True)
        self.open_model(model)

    def _add_folder(self, folder: str) -> None:
        """Look for models in one more folder."""
        folders = dict.fromkeys((*self._kept.settings.model_folders, folder))
        self.remember(model_folders=tuple(folders)[-MAX_FOLDERS:])
        self.model_desk.library.refresh()

    # ---- the tray -----------------------------------------------------------------------------------------------

    def _want_tray(self, wanted: bool) -> None:
        self.remember(tray=wanted)
        self._tray.show(wanted)

    def _kept_in_tray(self) -> None:
        """Said once in the life of these settings."""
        if self._tray.is_there and not self._kept.settings.tray_told:
            self._tray.say_kept()
            self._kept.change(tray_told=True)
        self.keep_window_state()
        self._kept.save()

    # ---- what is kept -------------------------------------------------------------------------------------------

    def _show_problem(self, name: str, save: Callable[[], None], sentence: str) -> None:
        """A file could not be written, or could be again, where there is no sentence."""
        if sentence:
            self.chat.banners.show_banner(name, sentence, "notice", (Action(tr("Try again"), save),))
        else:
            self.chat.banners.dismiss(name)

    def keep_window_state(self) -> None:
        """Note how the window looks, for the next start."""
        self._kept.change(
            theme=self.themes.mode,
            zoom=self.themes.zoom,
            sidebar_visible=self.window.sidebar_visible,
            panel_visible=self.window.panel_visible,
            window_geometry=self.window.geometry_text(),
            splitter_state=self.window.splitter_text(),
            panel_folded=self._panel_desk.folded,
        )

    def _show_model_name(self) -> None:
        self.window.top_bar.show_model_name(self.model_name)
        empty = self.chat.transcript.empty_state
        held_back = self.client.state is EngineState.STOPPED and not self.loads_by_itself
        if held_back or self.client.state is EngineState.FAILED:
            empty.show_no_model()
        else:
            empty.show_questions(for_guide=self._kept.settings.model == GUIDE_MODEL)
