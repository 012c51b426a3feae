"""A short notice that lies over the chat for a while, with one thing to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QObject, Qt, QTimer
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QWidget

from app.language import tr
from app.theme import SPACE_M, SPACE_S, SPACE_XS

if TYPE_CHECKING:
    from collections.abc import Callable

SHOWN_MS = 10_000


class Toast(QFrame):
    """One sentence at the bottom of a widget; a new one replaces it.

    Args:
        parent: What it lies over.
        above: A widget at the bottom of the parent that stays free.
    """

    def __init__(self, parent: QWidget, above: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("toast")
        self._over, self._above = parent, above
        self._run: Callable[[], object] | None = None
        self._label = QLabel()
        self._label.setTextFormat(Qt.TextFormat.PlainText)
        self._label.setWordWrap(True)
        self._button = QPushButton()
        self._button.setAccessibleName(tr("Undo"))
        self._button.setObjectName("quiet")
        self._button.clicked.connect(self._clicked)
        self._timer = QTimer(self, singleShot=True, interval=SHOWN_MS)
        self._timer.timeout.connect(self.hide)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(SPACE_M, SPACE_XS, SPACE_S, SPACE_XS)
        layout.setSpacing(SPACE_S)
        layout.addWidget(self._label, 1)
        layout.addWidget(self._button)
        parent.installEventFilter(self)
        self.hide()

    @property
    def text(self) -> str:
        """The sentence, "" while nothing is shown."""
        return "" if self.isHidden() else self._label.text()

    @property
    def button(self) -> QPushButton:
        """What can be done."""
        return self._button

    def show_text(self, text: str, action: str = "", run: Callable[[], object] | None = None) -> None:
        """Say something, with a button where there is something to do."""
        self._run = run
        self._label.setText(text)
        self._button.setText(action)
        self._button.setAccessibleName(action)
        self._button.setVisible(run is not None)
        self.setAccessibleName(text)
        self.show()
        self.raise_()
        self._place()
        self._timer.start()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Stay at the bottom."""
        if event.type() == QEvent.Type.Resize and not self.isHidden():
            self._place()
        return super().eventFilter(watched, event)

    def _clicked(self) -> None:
        self.hide()
        if self._run is not None:
            self._run()

    def _place(self) -> None:
        parent = self._over
        most = parent.width() - 2 * SPACE_M
        self._label.setMinimumWidth(
            min(self._label.fontMetrics().horizontalAdvance(self._label.text()) + SPACE_XS, most - 120)
        )
        width = min(most, self.sizeHint().width())
        self.resize(width, max(self.heightForWidth(width), self.sizeHint().height()))
        self.move((parent.width() - width) // 2, self._above.y() - self.height() - SPACE_S)
