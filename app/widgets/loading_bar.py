"""How far a model's load has come: phase, bytes and a Cancel button."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from app.engine_words import phase_text
from app.language import tr
from app.theme import SPACE_M, SPACE_S
from app.units import bytes_text

if TYPE_CHECKING:
    from engine.messages import Loading

PROGRESS_STEPS = 1000


class LoadingBar(QFrame):
    """Hidden while nothing loads.

    Signals:
        cancel_requested(): Stop the load.
    """

    cancel_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("loading")
        self._phase = QLabel()
        self._phase.setTextFormat(Qt.TextFormat.PlainText)
        self._bytes = QLabel()
        self._bytes.setObjectName("dim")
        self._bytes.setTextFormat(Qt.TextFormat.PlainText)
        self._progress = QProgressBar()
        self._progress.setTextVisible(False)
        self._progress.setAccessibleName(tr("Loading progress"))
        self._cancel = QPushButton(tr("Cancel"))
        self._cancel.setAccessibleName(tr("Cancel loading"))
        self._cancel.clicked.connect(self.cancel_requested)
        words = QHBoxLayout()
        words.setSpacing(SPACE_S)
        words.addWidget(self._phase)
        words.addWidget(self._bytes, 1)
        left = QVBoxLayout()
        left.setSpacing(SPACE_S)
        left.addLayout(words)
        left.addWidget(self._progress)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(SPACE_M + 2, SPACE_M, SPACE_M, SPACE_M)
        layout.setSpacing(SPACE_M)
        layout.addLayout(left, 1)
        layout.addWidget(self._cancel, 0, Qt.AlignmentFlag.AlignVCenter)
        self.hide()

    @property
    def text(self) -> str:
        """The phase and the bytes."""
        return f"{self._phase.text()} {self._bytes.text()}".strip()

    def show_starting(self, model: str) -> None:
        """The engine has been asked, nothing is known yet."""
        self._phase.setText(tr("Starting the engine for {model}").format(model=model))
        self._bytes.clear()
        self._progress.setRange(0, 0)
        self._cancel.setEnabled(True)
        self.show()

    def show_loading(self, loading: Loading) -> None:
        """The engine's progress."""
        self._phase.setText(phase_text(loading.phase))
        if loading.total_bytes > 0:
            done = min(loading.done_bytes, loading.total_bytes)
            self._bytes.setText(
                tr("{done} of {total}").format(done=bytes_text(done), total=bytes_text(loading.total_bytes))
            )
            self._progress.setRange(0, PROGRESS_STEPS)
            self._progress.setValue(PROGRESS_STEPS * done // loading.total_bytes)
        else:
            self._bytes.clear()
            self._progress.setRange(0, 0)
        self.show()

    def show_cancelling(self) -> None:
        """Cancel has been heard."""
        self._phase.setText(tr("Cancelling"))
        self._bytes.clear()
        self._cancel.setEnabled(False)
