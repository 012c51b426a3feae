"""Where trouble meets the window: logs, diagnostics, what a crash left, and models that must not be loaded unasked."""

from __future__ import annotations

import logging
from importlib import metadata
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer, QUrl
from PySide6.QtGui import QDesktopServices, QGuiApplication

from app.diagnostics import Findings, diagnostics_text
from app.engine_client import ENGINE_STOPPED, EngineState
from app.engine_words import model_label
from app.language import tr
from app.machine_look import Machine, MachineLook
from app.redaction import this_user
from app.settings import GUIDE_MODEL
from app.widgets.banner import Action
from app.widgets.report_dialog import ReportDialog

if TYPE_CHECKING:
    from pathlib import Path

    from PySide6.QtWidgets import QWidget

    from app.application import Application
    from app.crash_records import CrashRecords
    from engine.messages import ErrorReport, Ready

log = logging.getLogger(__name__)

SETTLED_AFTER_MS = 30_000


class SupportDesk(QObject):
    """Wires the records of crashes, and the Help menu, to the window. Made before the window is shown.

    Args:
        rooftop: The application.
        records: What outlives a crash; it has begun.
        log_path: The window's log file; None without one.
    """

    def __init__(self, rooftop: Application, records: CrashRecords, log_path: Path | None) -> None:
        super().__init__(rooftop)
        self._rooftop, self._records, self._log = rooftop, records, log_path
        self._banners = rooftop.chat.banners
        self._settled = QTimer(self, singleShot=True, interval=SETTLED_AFTER_MS)
        self._settled.timeout.connect(records.settled)
        rooftop.window.logs_requested.connect(self.open_logs)
        for asker in (rooftop.window, rooftop.chat):
            asker.diagnostics_requested.connect(self.show_diagnostics)
        rooftop.client.state_changed.connect(self._on_state)
        rooftop.client.ready.connect(self._on_ready)
        rooftop.client.failed.connect(self._on_failed)
        rooftop.ended.connect(self._on_ended)
        log.info("Rooftop %s started", metadata.version("rooftop"))
        self._hold_back_a_deadly_model()
        self._tell_of_a_crash()

    def open_logs(self) -> None:
        """Show the log files in the system's file manager."""
        if self._log is None or not QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._log.parent))):
            where = str(self._log.parent) if self._log is not None else ""
            words = tr("The logs are in {folder}.").format(folder=where) if where else tr("No log can be written here.")
            self._banners.show_banner("logs", words)

    def show_diagnostics(self) -> None:
        """Show what a report of a problem needs, as it is copied."""
        words = tr(
            "This is all that is copied. Your name, folders and chats are not in it, and nothing is sent: "
            "paste it where you report a problem."
        )

        def make(parent: QWidget) -> ReportDialog:
            return ReportDialog(tr("Diagnostics"), words, "", parent)

        dialog = self._rooftop.window.show_dialog(make)
        assert isinstance(dialog, ReportDialog)
        look = MachineLook(dialog)
        look.looked.connect(lambda machine: dialog.show_text(self._diagnostics(machine)))
        look.look()

    # ---- crashes ------------------------------------------------------------------------------------------------

    def _tell_of_a_crash(self) -> None:
        unseen = self._records.unseen
        if unseen is None:
            return
        who, text = unseen
        sentence = tr("Rooftop ended unexpectedly last time. Your chats are still here.")
        if who == "engine":
            sentence = tr("The engine ended unexpectedly last time. Your chats are still here.")
        show = Action(tr("Show report"), lambda: self._show_report(text))
        dismiss = Action(tr("Dismiss"), lambda: None)  # what closes it says so too
        self._banners.show_banner("crash", sentence, "notice", (show, dismiss), self._records.seen)

    def _show_report(self, text: str) -> None:
        words = tr("What is known of the end. It stays on this computer: nothing is sent unless you copy it yourself.")
        self._rooftop.window.show_dialog(lambda parent: ReportDialog(tr("Crash report"), words, text, parent))

    def _hold_back_a_deadly_model(self) -> None:
        model = self._rooftop.settings.model
        if not self._records.is_deadly(model):
            return
        self._rooftop.loads_by_itself = False
        name = model_label(model)
        sentence = tr("{model} was not loaded: the last two times everything ended while it was being loaded.")
        anyway = Action(tr("Load anyway"), lambda: self._rooftop.open_model(model))
        other = Action(tr("Choose another model…"), self._rooftop.chat.open_model_requested.emit)
        guide = Action(tr("Use the bundled guide"), lambda: self._rooftop.open_model(GUIDE_MODEL))
        actions = (anyway, other) if model == GUIDE_MODEL else (anyway, other, guide)
        self._banners.show_banner("engine", sentence.format(model=name), "notice", actions)

    # ---- the engine ---------------------------------------------------------------------------------------------

    def _on_state(self, state: EngineState) -> None:
        if state is EngineState.STARTING:
            self._settled.stop()
            self._records.loading(self._rooftop.settings.model)
            log.info("Loading %s", model_label(self._rooftop.settings.model))

    def _on_ready(self, ready: Ready) -> None:
        plan, total = ready.plan, ready.model.total_experts
        log.info(
            "Ready: %s on %s, %d of %d experts in VRAM. %s",
            ready.model.name,
            ready.device_name,
            plan.resident_experts,
            total,
            ready.because,
        )
        if not ready.because:
            self._settled.start()

    def _on_ended(self) -> None:
        self._settled.stop()
        log.info("Rooftop ended")

    def _on_failed(self, error: ErrorReport, what: str) -> None:
        if what == "load":
            self._records.survived()
        elif error.code == ENGINE_STOPPED:
            self._settled.stop()
            self._records.engine_died(error.message)

    def _diagnostics(self, machine: Machine) -> str:
        screen = QGuiApplication.primaryScreen()
        display = f"{QGuiApplication.platformName()}, {round(100 * screen.devicePixelRatio())}%"
        findings = Findings(self._rooftop.settings, machine, self._rooftop.loaded, display, self._log)
        return diagnostics_text(findings, this_user())
