"""Asks how small a model is to become, with the size that it would have and the space that this takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QButtonGroup, QDialog, QDialogButtonBox, QLabel, QRadioButton, QVBoxLayout, QWidget

from app.conversions import SMALLER_FORMATS, needed_bytes
from app.language import error_text, tr
from app.rough_fit import free_bytes
from app.theme import SPACE_L, SPACE_M, SPACE_S
from app.units import bytes_text
from app.widgets.models.conversion_row import format_words
from app.widgets.models.found_list import DOT
from app.widgets.panel_parts import DimLabel

if TYPE_CHECKING:
    from app.conversions import Conversions
    from app.model_scan import FoundModel
    from engine.messages import ErrorReport

WIDTH = 480


class SmallerDialog(QDialog):
    """A choice of formats.

    Signals:
        chosen(str, str): Convert the model with this path to this format.

    Args:
        model: What is to be made smaller.
        conversions: Knows the sizes.
        parent: The model page.
    """

    chosen = Signal(str, str)

    def __init__(self, model: FoundModel, conversions: Conversions, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model, self._folder = model, conversions.models_folder
        self._sizes: dict[str, int] = {}
        self.setWindowTitle(tr("Make smaller"))
        self.setAccessibleName(tr("Make smaller"))
        words = tr("Makes a new model of {name} ({size}) that needs less memory and answers faster. {name} stays.")
        self._build(words.format(name=model.name, size=bytes_text(model.size_bytes)))
        conversions.sized.connect(self._take_sizes)
        conversions.ask_sizes(Path(model.path))

    def _build(self, words: str) -> None:
        about = QLabel(words)
        about.setWordWrap(True)
        about.setTextFormat(Qt.TextFormat.PlainText)
        self.formats = {name: QRadioButton() for name in SMALLER_FORMATS}
        self._group = QButtonGroup(self)
        hints = {
            "q4": tr("Smallest and fastest; answers differ a little from the original's."),
            "q8": tr("Hardly to be told from the original."),
        }
        self.space = DimLabel(tr("Working out the sizes…"))
        self.buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel)
        for button in self.buttons.buttons():
            button.setIcon(QIcon())
        self.go = self.buttons.button(QDialogButtonBox.StandardButton.Ok)
        self.go.setText(tr("Make smaller"))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE_L, SPACE_L, SPACE_L, SPACE_L)
        layout.setSpacing(SPACE_S)
        layout.addWidget(about)
        layout.addSpacing(SPACE_S)
        for name, button in self.formats.items():
            self._group.addButton(button)
            button.toggled.connect(self._show_space)
            button.setAccessibleDescription(hints[name])
            hint = DimLabel(hints[name])
            hint.setContentsMargins(SPACE_L + SPACE_S, 0, 0, 0)
            layout.addWidget(button)
            layout.addWidget(hint)
        layout.addSpacing(SPACE_M)
        layout.addWidget(self.space)
        layout.addSpacing(SPACE_S)
        layout.addWidget(self.buttons)
        self.setMinimumWidth(WIDTH)
        self.buttons.accepted.connect(self._choose)
        self.buttons.rejected.connect(self.reject)
        self._show_formats()
        self.formats["q4"].setChecked(True)

    def _show_formats(self) -> None:
        for name, button in self.formats.items():
            size = bytes_text(self._sizes[name]) if name in self._sizes else ""
            button.setText(DOT.join(filter(None, (format_words(name), size))))

    @property
    def _chosen(self) -> str:
        return next(name for name, button in self.formats.items() if button.isChecked())

    def _take_sizes(self, path: str, sizes: dict[str, int], error: ErrorReport | None) -> None:
        if path != self._model.path:
            return
        self._sizes = sizes
        self._show_formats()
        self._show_space()
        if error is not None:
            self.space.setText(error_text(error))

    def _show_space(self) -> None:
        size = self._sizes.get(self._chosen)
        self.go.setEnabled(False)
        if size is None:
            return
        needed, free = needed_bytes(size), free_bytes(self._folder)
        words = tr("Needs {needed} in {folder}, where {free} are free.")
        if needed > free:
            words = tr("Needs {needed} in {folder}, where only {free} are free: make room there first.")
        self.go.setEnabled(needed <= free)
        self.space.setText(
            words.format(needed=bytes_text(needed, "up"), folder=self._folder, free=bytes_text(free, "down"))
        )

    def _choose(self) -> None:
        self.chosen.emit(self._model.path, self._chosen)
        self.accept()
