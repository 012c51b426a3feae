"""A part of the live panel that can be folded away: its name, a short value at the right, and what is below."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QSizePolicy, QToolButton, QVBoxLayout, QWidget

from app.theme import SPACE_S
from app.widgets.panel_parts import SectionHeading


class PanelSection(QWidget):
    """A heading that folds its content.

    Args:
        key: A stable name, for the settings.
        name: For the screen.
        content: What it holds, from top to bottom.

    Signals:
        folded(bool): The user folded or unfolded it.
    """

    folded = Signal(bool)

    def __init__(self, key: str, name: str, *content: QWidget, heading: SectionHeading | None = None) -> None:
        super().__init__()
        self.key = key
        self.heading = heading or SectionHeading(name)
        self.button = QToolButton()
        self.button.setObjectName("fold")
        self.button.setCheckable(True)
        self.button.setChecked(True)
        self.button.setAutoRaise(True)
        self.button.setAccessibleName(name)
        self.button.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.button.toggled.connect(self._toggled)
        self.heading.put_first(self.button)
        self.body = QWidget()
        below = QVBoxLayout(self.body)
        below.setContentsMargins(0, 0, 0, 0)
        below.setSpacing(SPACE_S - 2)
        for widget in content:
            below.addWidget(widget)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE_S - 2)
        column.addWidget(self.heading)
        column.addWidget(self.body)
        self._toggled(open_now=True)

    @property
    def open(self) -> bool:
        """Whether the content is shown."""
        return self.button.isChecked()

    def set_open(self, *, open_now: bool) -> None:
        """Fold or unfold."""
        self.button.setChecked(open_now)

    def _toggled(self, open_now: bool) -> None:
        self.button.setArrowType(Qt.ArrowType.DownArrow if open_now else Qt.ArrowType.RightArrow)
        self.body.setVisible(open_now)
        self.folded.emit(not open_now)
