"""A row for something long that runs: its name, a bar, how it stands in words, and two buttons. Says nothing itself."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from app.language import tr
from app.theme import SPACE_M, SPACE_S, SPACE_XS
from app.widgets.panel_parts import DimLabel

PROGRESS_STEPS = 1000


class ProgressRow(QFrame):
    """The parts of a row.

    Attributes:
        main: What helps most now.
        smaller: Make a smaller model of what is there; hidden unless that can be.
        cancel: Gives it up, or takes it off the list.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("loading")
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
        self.main, self.smaller, self.cancel = QPushButton(), QPushButton(tr("Make smaller…")), QPushButton()
        self.smaller.hide()
        left = QVBoxLayout()
        left.setSpacing(SPACE_XS)
        for widget in (self._name, self._bar, self._words, self._error):
            left.addWidget(widget)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(SPACE_M, SPACE_S, SPACE_M, SPACE_S)
        layout.setSpacing(SPACE_S)
        layout.addLayout(left, 1)
        for button in (self.main, self.smaller, self.cancel):
            button.setAutoDefault(False)
            layout.addWidget(button)

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

    def show_progress(self, name: str, words: str, share: float | None, error: str) -> None:
        """Show how it stands.

        Args:
            name: What it is about.
            words: How it stands.
            share: How much of it is done, 0 to 1; None hides the bar.
            error: Why it stopped, "" where it did not.
        """
        self._name.setText(name)
        self._words.setText(words)
        self._bar.setVisible(share is not None)
        self._bar.setValue(int(PROGRESS_STEPS * (share or 0.0)))
        self._bar.setAccessibleName(tr("Progress of {name}").format(name=name))
        self._error.setText(error)
        self._error.setVisible(bool(error))
        self.smaller.setAccessibleName(f"{self.smaller.text()}: {name}")
        self.setAccessibleName(f"{name}, {words}")

    def show_buttons(self, main: str, cancel: str, *, is_primary: bool) -> None:
        """Show what can be done, once the name is shown.

        Args:
            main: The words on the main button.
            cancel: The words on the other one.
            is_primary: Whether the main button is what everything waits for.
        """
        for button, words in ((self.main, main), (self.cancel, cancel)):
            button.setText(words)
            button.setAccessibleName(f"{words}: {self._name.text()}")
        self.main.setObjectName("primary" if is_primary else "secondary")
        self.main.style().unpolish(self.main)
        self.main.style().polish(self.main)
