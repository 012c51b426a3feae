"""One download: how far it is, how fast, when it will be done, and what can be done about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Signal

from app.language import error_text, tr
from app.units import bytes_text, duration_text
from app.widgets.models.found_list import DOT
from app.widgets.models.progress_row import ProgressRow

if TYPE_CHECKING:
    from PySide6.QtWidgets import QWidget

    from app.downloads import DownloadState

_GATED = "gated"
_ACTIVE = ("waiting", "running", "stalled", "checking")


def progress_words(state: DownloadState) -> str:
    """How a download stands, in one line."""
    of_all = tr("{done} of {total}").format(done=bytes_text(state.done_bytes), total=bytes_text(state.total_bytes))
    if state.phase == "running":
        speed = tr("{size}/s").format(size=bytes_text(round(state.bytes_per_s))) if state.bytes_per_s else ""
        left = ""
        if state.seconds_left is not None:
            left = tr("{time} left").format(time=duration_text(state.seconds_left))
        return DOT.join(filter(None, (of_all, speed, left)))
    if state.phase == "done":
        return tr("Downloaded and checked, {size}").format(size=bytes_text(state.total_bytes))
    words = {
        "waiting": tr("waiting for its turn"),
        "stalled": tr("stalled: nothing arrives, still trying"),
        "paused": tr("paused"),
        "checking": tr("checking the files"),
        "failed": tr("stopped"),
    }[state.phase]
    return DOT.join((of_all, words))


class DownloadRow(ProgressRow):
    """A download's row.

    Signals:
        paused(str): Stop the download with this key for now.
        resumed(str): Go on with it.
        cancelled(str): Give it up.
        token_requested(str): The user wants to enter an access token for it.
        load_requested(str): Load what was downloaded.
        smaller_requested(str): Make a smaller model of what was downloaded.
    """

    paused = Signal(str)
    resumed = Signal(str)
    cancelled = Signal(str)
    token_requested = Signal(str)
    load_requested = Signal(str)
    smaller_requested = Signal(str)

    def __init__(self, state: DownloadState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state = state
        self.main.clicked.connect(self._act)
        self.smaller.clicked.connect(lambda _checked=False: self.smaller_requested.emit(str(self._state.path)))
        self.cancel.clicked.connect(lambda _checked=False: self.cancelled.emit(self._state.key))
        self.show_state(state)

    @property
    def state(self) -> DownloadState:
        """What is shown."""
        return self._state

    def show_state(self, state: DownloadState) -> None:
        """Show how the download stands now."""
        self._state = state
        name = f"{state.repo_id.rpartition('/')[2]} {state.title}"
        share = None if state.phase == "done" else state.done_bytes / max(1, state.total_bytes)
        error = error_text(state.error) if state.error is not None else ""
        self.show_progress(name, progress_words(state), share, error)
        cancel = tr("Dismiss") if state.phase == "done" else tr("Cancel")
        self.show_buttons(self._main_words(), cancel, is_primary=state.phase in ("done", "failed"))
        if state.phase != "done":
            self.smaller.hide()

    def _main_words(self) -> str:
        if self._state.phase in _ACTIVE:
            return tr("Pause")
        if self._state.phase == "done":
            return tr("Load now")
        if self._state.phase == "paused":
            return tr("Resume")
        return tr("Enter access token…") if self._is_gated else tr("Retry")

    @property
    def _is_gated(self) -> bool:
        return self._state.error is not None and self._state.error.code == _GATED

    def _act(self) -> None:
        key, phase = self._state.key, self._state.phase
        if phase in _ACTIVE:
            self.paused.emit(key)
        elif phase == "done":
            self.load_requested.emit(str(self._state.path))
        elif phase == "failed" and self._is_gated:
            self.token_requested.emit(key)
        else:
            self.resumed.emit(key)
