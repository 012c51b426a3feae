"""Wires the GPU component to the window: the offer above the chat, the page in the settings, and the engine.

Only one engine uses the component at a time, and none while its files change: the engine is ended first, which on
Windows is what lets go of them, and begun again afterwards. A reply that is being written ends before an engine that
was just installed takes its place.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject
from PySide6.QtWidgets import QMessageBox

from app.engine_client import EngineState
from app.gpu_look import DRIVERS_PAGE
from app.gpu_state import ACTIVE, GpuState
from app.gpu_words import headline, offer, trouble
from app.language import tr
from app.units import bytes_text
from app.widgets.banner import Action

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.application import Application
    from app.gpu_component import GpuComponent
    from app.gpu_state import Phase
    from app.widgets.settings.dialog import SettingsDialog
    from app.widgets.settings.gpu_page import GpuPage
    from engine.messages import TorchBuild

BANNER = "gpu-support"
_WRITING = (EngineState.GENERATING, EngineState.STOPPING)


class GpuDesk(QObject):
    """Owns the component. Made before the window is shown; looks at the computer once it is.

    Args:
        rooftop: The application.
        make: Makes another component than the user's.
        mirror: The package index to fetch from where the settings have none; "" for the usual places.
    """

    def __init__(self, rooftop: Application, make: Callable[[], GpuComponent] | None = None, mirror: str = "") -> None:
        super().__init__(rooftop)
        self._rooftop, self._client = rooftop, rooftop.client
        self._banners = rooftop.chat.banners
        self._make, self._mirror = make or self._make_component, mirror
        self._in_use: TorchBuild | None = None
        self._page: GpuPage | None = None
        self._told: Phase = "unknown"
        self._then: Callable[[], None] | None = None  # waits for the end of a reply
        self._ended_engine = False
        rooftop.panel_ready.connect(self._look)
        rooftop.dialogs.settings_opened.connect(self._fill)
        rooftop.ended.connect(self._close)
        self._client.torch_told.connect(self._on_torch)
        self._client.state_changed.connect(self._on_engine)

    @functools.cached_property
    def component(self) -> GpuComponent:
        """The component; made when it is needed first, which is after the window was shown."""
        component = self._make()
        component.changed.connect(self._show)
        component.ended.connect(self._on_ended)
        return component

    def _make_component(self) -> GpuComponent:
        from app.gpu_component import GpuComponent

        return GpuComponent(mirror=self._index, parent=self)

    def _index(self) -> str:
        """The package index to fetch from: as it is written now, else as it was applied, else the environment's."""
        written = self._page.merge(self._rooftop.settings) if self._page is not None else self._rooftop.settings
        return written.gpu_mirror or self._mirror

    def _look(self) -> None:
        self.component.look()

    def _close(self) -> None:
        self.component.shutdown()

    # ---- the settings' page ----------------------------------------------------------------------------------------

    def _fill(self, dialog: SettingsDialog) -> None:
        page = self._page = dialog.gpu
        page.show_state(self.component.state, self._in_use)
        page.install_requested.connect(self._install)
        page.pause_requested.connect(self.component.pause)
        page.cancel_requested.connect(self.component.cancel)
        page.repair_requested.connect(self.repair)
        page.remove_requested.connect(lambda: self._ask_remove(dialog))
        page.folder_chosen.connect(lambda folder: self.component.install(Path(folder)))
        page.driver_requested.connect(self._get_driver)
        dialog.finished.connect(self._page_closed)
        self._show_banner(self.component.state)

    def _page_closed(self) -> None:
        self._page = None
        self._show_banner(self.component.state)

    def _show(self, state: GpuState) -> None:
        if self._page is not None:
            self._page.show_state(state, self._in_use)
        if state.phase != self._told:
            self._show_banner(state)

    # ---- above the chat --------------------------------------------------------------------------------------------

    def _show_banner(self, state: GpuState) -> None:
        """One sentence and what can be done; nothing while the page says it."""
        self._told = state.phase
        self._banners.dismiss(BANNER)
        if self._page is not None:
            return
        show = Action(tr("Show"), self._open)
        if state.phase in ("available", "old-driver"):
            self._offer(state)
        elif state.phase == "paused":
            words = tr("GPU support is fetched in part: {done} of {total}.").format(
                done=bytes_text(state.progress.done_bytes), total=bytes_text(state.download_bytes)
            )
            resume = Action(tr("Resume"), self._install_in_sight)
            self._banners.show_banner(BANNER, words, "notice", (resume, show))
        elif state.phase == "damaged":
            words = tr("{problem} The CPU computes alone.").format(problem=headline(state))
            self._banners.show_banner(BANNER, words, "notice", (Action(tr("Repair"), self._repair_in_sight),))
        elif state.phase == "failed":
            again = Action(tr("Try again"), self._install_in_sight)
            self._banners.show_banner(BANNER, trouble(state), "error", (again, show))
        elif state.phase in ACTIVE:
            self._banners.show_banner(BANNER, headline(state), "notice", (show,))

    def _offer(self, state: GpuState) -> None:
        """Once: what was waved away is found in the settings."""
        if self._rooftop.settings.gpu_offer_closed:
            return
        if state.phase == "available":
            words, action = offer(state), Action(tr("Install"), self._install_in_sight)
        else:
            words, action = headline(state), Action(tr("Get a newer driver…"), self._get_driver)
        self._banners.show_banner(BANNER, words, "notice", (action,), self._close_offer)

    def _close_offer(self) -> None:
        self._rooftop.remember(gpu_offer_closed=True)

    def _open(self) -> None:
        self._rooftop.dialogs.open_settings("gpu")

    def _install_in_sight(self) -> None:
        self._install()
        self._open()

    def _repair_in_sight(self) -> None:
        self.repair()
        self._open()

    def _get_driver(self) -> None:
        self._rooftop.chat.open_link(DRIVERS_PAGE)

    # ---- what is asked for -----------------------------------------------------------------------------------------

    def _install(self) -> None:
        self.component.install()

    def repair(self) -> None:
        """Repair the component; the engine begins anew afterwards."""
        self._without_engine(self.component.repair)

    def _ask_remove(self, dialog: SettingsDialog) -> None:
        box = QMessageBox(dialog)
        box.setWindowTitle(tr("Remove GPU support"))
        box.setText(tr("Remove GPU support from this computer?"))
        size = bytes_text(self.component.state.unpacked_bytes or self.component.state.download_bytes)
        box.setInformativeText(
            tr("The CPU computes alone then. {size} become free; it can be installed again.").format(size=size)
        )
        remove = box.addButton(tr("Remove"), QMessageBox.ButtonRole.DestructiveRole)
        box.addButton(QMessageBox.StandardButton.Cancel)
        box.setDefaultButton(QMessageBox.StandardButton.Cancel)
        remove.clicked.connect(lambda: self._without_engine(self.component.remove))
        box.finished.connect(box.deleteLater)
        box.open()

    def _without_engine(self, work: Callable[[], None]) -> None:
        """Stop the reply, end the engine, then change the component's files."""

        def change() -> None:
            self._ended_engine = True
            self._client.shutdown()
            work()

        self._rooftop.session.stop()
        self._once_idle(change)

    # ---- the engine ------------------------------------------------------------------------------------------------

    def _once_idle(self, job: Callable[[], None]) -> None:
        """Do something as soon as no reply is written."""
        self._then = job
        self._on_engine(self._client.state)

    def _on_engine(self, state: EngineState) -> None:
        if state in _WRITING or self._then is None:
            return
        job, self._then = self._then, None
        job()

    def _on_torch(self, build: TorchBuild) -> None:
        self._in_use = build
        if build.problem:
            self.component.look()
        elif self._page is not None:
            self._page.show_state(self.component.state, build)

    def _on_ended(self, phase: Phase) -> None:
        """Go on with what there is now."""
        if phase == "installed":
            self._in_use = None
        if self._ended_engine:
            self._ended_engine = False
            self._client.restart()
        elif phase == "installed":
            self._once_idle(self._client.renew)
            self._banners.show_banner(BANNER, tr("GPU support is installed; the model is loaded again with it."))
