"""One download: how far it is, how fast, when it will be done, and what can be done about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from app.language import error_text, tr
from app.theme import SPACE_M, SPACE_S, SPACE_XS
from app.units import bytes_text, duration_text
from app.widgets.models.found_list import DOT
from app.widgets.panel_parts import DimLabel

if TYPE_CHECKING:
    from app.downloads import DownloadState

PROGRESS_STEPS = 1000
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


class DownloadRow(QFrame):
    """A download's row.

    Signals:
        paused(str): Stop the download with this key for now.
        resumed(str): Go on with it.
        cancelled(str): Give it up.
        token_requested(str): The user wants to enter an access token for it.
        load_requested(str): Load what was downloaded.
    """

    paused = Signal(str)
    resumed = Signal(str)
    cancelled = Signal(str)
    token_requested = Signal(str)
    load_requested = Signal(str)

    def __init__(self, state: DownloadState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("loading")
        self._state = state
        self._name = QLabel()
        self._name.setObjectName("figure")
        self._name.setTextFormat(Qt.TextFormat.PlainText)
        self._words = DimLabel()
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._bar.setRange(0, PROGRESS_STEPS)
        self._error = QLabel()
        self._error.setWordWrap(True)
        self._error.setTextFormat(Qt.TextFormat.PlainText)
        self.main = QPushButton()
        self.cancel = QPushButton()
        for button in (self.main, self.cancel):
            button.setAutoDefault(False)
        self._arrange()
        self.main.clicked.connect(self._act)
        self.cancel.clicked.connect(lambda _checked=False: self.cancelled.emit(self._state.key))
        self.show_state(state)

    def _arrange(self) -> None:
        left = QVBoxLayout()
        left.setSpacing(SPACE_XS)
        for widget in (self._name, self._bar, self._words, self._error):
            left.addWidget(widget)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(SPACE_M, SPACE_S, SPACE_M, SPACE_S)
        layout.setSpacing(SPACE_S)
        layout.addLayout(left, 1)
        layout.addWidget(self.main)
        layout.addWidget(self.cancel)

    def height_for(self, width: int) -> int:
        """How high it is in a width."""
        layout = self.layout()
        assert layout is not None
        layout.activate()
        return layout.totalHeightForWidth(width) if layout.hasHeightForWidth() else self.sizeHint().height()

    @property
    def text(self) -> str:
        """All words of the row."""
        parts = (self._name.text(), self._words.text(), self._error.text())
        return "\n".join(filter(None, parts))

    @property
    def state(self) -> DownloadState:
        """What is shown."""
        return self._state

    def show_state(self, state: DownloadState) -> None:
        """Show how the download stands now."""
        self._state = state
        name = f"{state.repo_id.rpartition('/')[2]} {state.title}"
        self._name.setText(name)
        self._words.setText(progress_words(state))
        self._bar.setVisible(state.phase != "done")
        self._bar.setValue(PROGRESS_STEPS * state.done_bytes // max(1, state.total_bytes))
        self._bar.setAccessibleName(tr("Progress of {name}").format(name=name))
        error = error_text(state.error) if state.error is not None else ""
        self._error.setText(error)
        self._error.setVisible(bool(error))
        self.main.setText(self._main_words())
        self.main.setAccessibleName(f"{self.main.text()}: {name}")
        self.main.setObjectName("primary" if state.phase in ("done", "failed") else "secondary")
        self.main.style().unpolish(self.main)
        self.main.style().polish(self.main)
        self.cancel.setText(tr("Dismiss") if state.phase == "done" else tr("Cancel"))
        self.cancel.setAccessibleName(f"{self.cancel.text()}: {name}")
        self.setAccessibleName(f"{name}, {self._words.text()}")

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
