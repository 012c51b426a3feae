"""The very first start: the welcome page in the chat's place, until the user has chosen a way on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from app.engine_client import EngineState
from app.json_file import backup_path
from app.machine_look import Machine, MachineLook
from app.settings import GUIDE_MODEL
from app.units import bytes_text
from app.verdict import sentence
from app.widgets.first_run_view import FirstRunView, Offered

if TYPE_CHECKING:
    from pathlib import Path

    from app.application import Application


def is_first_run(settings_path: Path) -> bool:
    """Whether Rooftop has never been closed here: its settings are written then at the latest."""
    return not settings_path.exists() and not backup_path(settings_path).exists()


class FirstRun(QObject):
    """Shows the page and does what it asks for. Made before the window is shown; the guide is loaded all the while.

    Args:
        rooftop: The application.
    """

    def __init__(self, rooftop: Application) -> None:
        super().__init__(rooftop)
        self._rooftop = rooftop
        self.view: FirstRunView | None = FirstRunView()
        rooftop.chat.transcript.welcome(self.view)
        self.view.guide_chosen.connect(self._try_guide)
        self.view.models_requested.connect(rooftop.chat.open_model_requested)
        self.view.skipped.connect(self.end)
        self.view.typed.connect(self._type)
        rooftop.session.message_added.connect(self.end)
        rooftop.client.ready.connect(self._offer_guide)
        self._library = rooftop.model_desk.library
        self._library.judged.connect(self._show_models)
        self._library.scanned.connect(self._show_models)
        rooftop.panel_ready.connect(self._library.refresh)
        self.view.model_chosen.connect(self._open)
        self._look = MachineLook(self)
        self._look.looked.connect(self._show_machine)
        self._look.look()

    def end(self) -> None:
        """Take the page away for good."""
        if self.view is not None:
            self.view = None
            self._rooftop.chat.transcript.welcome(None)
            self._rooftop.chat.composer.setFocus()

    def _show_machine(self, machine: Machine) -> None:
        if self.view is not None:
            self.view.show_machine(machine.text)

    def _show_models(self) -> None:
        """Offer what would run: first what fits, the largest models first."""
        if self.view is None:
            return
        found: list[tuple[bool, int, Offered]] = []
        for model in self._library.models():
            verdict = self._library.known_verdict(model.path)
            if model.path != GUIDE_MODEL and verdict is not None and verdict.kind in {"fits", "disk"}:
                facts = " \N{MIDDLE DOT} ".join([bytes_text(model.size_bytes), model.format, sentence(verdict)])
                found.append((verdict.kind != "fits", -model.parameters, Offered(model.path, model.name, facts)))
        found.sort(key=lambda one: one[:2])
        self.view.show_models([offered for _, _, offered in found], searching=self._library.scanning)

    def _open(self, path: str) -> None:
        verdict = self._library.known_verdict(path)
        self.end()
        self._rooftop.model_desk.model_chosen.emit(path, verdict is not None and verdict.kind == "disk")

    def _offer_guide(self) -> None:
        """The guide is ready: one key begins, unless the user is writing already."""
        if self.view is not None and self.view.isVisible() and not self._rooftop.chat.composer.draft:
            self.view.guide_button.setFocus()

    def _try_guide(self) -> None:
        self.end()
        missing = self._rooftop.client.state in {EngineState.FAILED, EngineState.STOPPED}
        if missing or self._rooftop.settings.model != GUIDE_MODEL:
            self._rooftop.open_model(GUIDE_MODEL)

    def _type(self, text: str) -> None:
        composer = self._rooftop.chat.composer
        composer.set_draft(composer.draft + text)
        composer.setFocus()
