"""One conversion: how far it is, when it will be done, and what can be done about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Signal

from app.error_actions import offer_for, offer_text
from app.language import error_text, tr
from app.units import duration_text, percent_text
from app.widgets.models.found_list import DOT
from app.widgets.models.progress_row import ProgressRow

if TYPE_CHECKING:
    from PySide6.QtWidgets import QWidget

    from app.conversions import ConversionState

_ACTIVE = ("waiting", "running", "checking")


def format_words(name: str) -> str:
    """What a format is called."""
    return {"q4": tr("4 bits"), "q8": tr("8 bits"), "bf16": tr("16 bits (bfloat16)")}[name]


def conversion_words(state: ConversionState) -> str:
    """How a conversion stands, in one line."""
    if state.phase == "done":
        return tr("Made and checked")
    done = percent_text(state.done_bytes / state.total_bytes) if state.total_bytes else ""
    left = tr("{time} left").format(time=duration_text(state.seconds_left)) if state.seconds_left is not None else ""
    words = {
        "waiting": tr("waiting for its turn"),
        "running": tr("making it smaller"),
        "checking": tr("reading it back"),
        "paused": tr("paused"),
        "failed": tr("stopped"),
    }[state.phase]
    return DOT.join(filter(None, (words, done, left)))


class ConversionRow(ProgressRow):
    """A conversion's row.

    Signals:
        paused(str): Stop the conversion with this key for now.
        resumed(str): Go on with it.
        cancelled(str): Give it up.
        load_requested(str): Load the new model.
        folder_requested(str): Show the folder of the model that it is made from.
    """

    paused = Signal(str)
    resumed = Signal(str)
    cancelled = Signal(str)
    load_requested = Signal(str)
    folder_requested = Signal(str)

    def __init__(self, state: ConversionState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = state
        self.main.clicked.connect(self._act)
        self.cancel.clicked.connect(lambda _checked=False: self.cancelled.emit(self._state.key))
        self.show_state(state)

    @property
    def state(self) -> ConversionState:
        """What is shown."""
        return self._state

    def show_state(self, state: ConversionState) -> None:
        """Show how the conversion stands now."""
        self._state = state
        share = None if state.phase == "done" else state.done_bytes / max(1, state.total_bytes)
        error = error_text(state.error) if state.error is not None else ""
        name = tr("{name} in {bits}").format(name=state.source_name, bits=format_words(state.format))
        self.show_progress(name, conversion_words(state), share, error)
        cancel = tr("Dismiss") if state.phase == "done" else tr("Cancel")
        self.show_buttons(self._main_words(), cancel, is_primary=state.phase in ("done", "failed"))

    def _main_words(self) -> str:
        if self._state.error is not None:
            return offer_text(offer_for(self._state.error))
        if self._state.phase in _ACTIVE:
            return tr("Pause")
        return tr("Load now") if self._state.phase == "done" else tr("Resume")

    def _act(self) -> None:
        state = self._state
        if state.phase in _ACTIVE:
            self.paused.emit(state.key)
        elif state.phase == "done":
            self.load_requested.emit(str(state.target))
        elif state.error is not None and offer_for(state.error) == "open_folder":
            self.folder_requested.emit(str(state.source))
        else:
            self.resumed.emit(state.key)
