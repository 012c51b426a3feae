"""What every page of the settings dialog is: rows with a name, what edits them, and what is in force below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QAbstractButton, QComboBox, QLabel, QVBoxLayout, QWidget

from app.language import tr
from app.theme import SPACE_L, SPACE_S, SPACE_XS
from app.widgets.flow_layout import FlowLayout
from app.widgets.form_parts import let_wheel_pass
from app.widgets.panel_parts import DimLabel

if TYPE_CHECKING:
    from app.settings import Settings
    from engine.messages import Ready


LEAST_CHOICE_PX = 120


class SettingsPage(QWidget):
    """One subject. The dialog fills it, asks it for its part of the settings, and tells it what happens.

    Signals:
        edited(): The user changed something.
    """

    edited = Signal()

    def __init__(self, title: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.title = title
        self._rows = QVBoxLayout(self)
        self._rows.setContentsMargins(0, 0, SPACE_L, SPACE_S)
        self._rows.setSpacing(SPACE_L)

    @property
    def search_text(self) -> str:
        """All words of the page, for the search."""
        parts: list[QLabel | QAbstractButton] = [*self.findChildren(QLabel), *self.findChildren(QAbstractButton)]
        choices = [box.itemText(row) for box in self.findChildren(QComboBox) for row in range(box.count())]
        words = [self.title, *(part.text() for part in parts), *choices]
        return "\n".join(words).replace("&", "").casefold()

    def show_settings(self, settings: Settings) -> None:
        """Fill the fields."""

    def merge(self, settings: Settings) -> Settings:
        """The settings with this page's part as edited."""
        return settings

    def refresh(self, pending: Settings, ready: Ready | None) -> None:
        """Follow the edits of every page, and what the engine says is in force."""

    @property
    def problem(self) -> str:
        """A sentence: why what is written here cannot be applied; "" where it can."""
        return ""

    def _add_row(self, name: str, buddy: QWidget, *fields: QWidget) -> None:
        """One setting: its name, what edits it, and the lines below."""
        label = QLabel(name)
        label.setObjectName("figure")
        label.setBuddy(buddy)
        column = QVBoxLayout()
        column.setSpacing(SPACE_XS)
        for field in (label, *fields):
            column.addWidget(field)
        self._rows.addLayout(column)

    def _finish(self) -> None:
        """Leave the room below the rows empty."""
        self._rows.addStretch(1)


def in_a_row(*widgets: QWidget) -> QWidget:
    """Widgets beside each other, at the left; below each other where there is no room."""
    row = QWidget()
    layout = FlowLayout(SPACE_S, row)
    for widget in widgets:
        layout.addWidget(widget)
    return row


def reload_mark() -> QLabel:
    """Says that a change costs a reload."""
    mark = QLabel(tr("needs reload"))
    mark.setObjectName("dim")
    mark.setToolTip(tr("Applying a change reloads the model."))
    return mark


def show_line(label: DimLabel, text: str) -> None:
    """Show a line below a setting; without words it takes no room."""
    label.setText(text)
    label.setVisible(bool(text))


def fill_choices(box: QComboBox, choices: tuple[tuple[str, object], ...], name: str) -> None:
    """Give a box its choices and its name for screen readers; where there is no room for the longest, it is cut."""
    for text, value in choices:
        box.addItem(text, value)
    box.setAccessibleName(name)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
    box.setMinimumWidth(LEAST_CHOICE_PX)
    let_wheel_pass(box)


def choose(box: QComboBox, value: object) -> None:
    """Show a value; one that is no choice leaves the first."""
    box.setCurrentIndex(max(0, box.findData(value)))
