"""Presets: the program's to look at, the user's own to change, duplicate, delete, import and export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtWidgets import QComboBox, QFileDialog, QLineEdit, QPushButton, QVBoxLayout

from app.language import error_text, tr
from app.preset_files import SUFFIX, export_preset, import_preset
from app.presets import MAX_NAME_CHARS, Preset, PresetBook
from app.widgets.form_parts import let_wheel_pass
from app.widgets.panel_parts import DimLabel
from app.widgets.sampling_editor import SamplingEditor
from app.widgets.settings.page import LEAST_CHOICE_PX, SettingsPage, choose, in_a_row
from engine.errors import RooftopError

if TYPE_CHECKING:
    from collections.abc import Callable


class PresetsPage(SettingsPage):
    """Edits a copy of the preset book.

    Args:
        book: What is kept now.
    """

    def __init__(self, book: PresetBook) -> None:
        super().__init__(tr("Presets"))
        self.book = book
        self._filling = False
        self.chooser = QComboBox()
        self.chooser.setAccessibleName(tr("Preset"))
        self.chooser.setMinimumWidth(LEAST_CHOICE_PX)
        let_wheel_pass(self.chooser)
        self.name = QLineEdit()
        self.name.setMaxLength(MAX_NAME_CHARS)
        self.name.setAccessibleName(tr("Name of the preset"))
        self.editor = SamplingEditor()
        self.message = DimLabel()
        self.message.setAccessibleName(tr("Message"))
        self.duplicate = _button(tr("D&uplicate"), self._duplicate)
        self.delete = _button(tr("&Delete"), self._delete)
        self.make_default = _button(tr("Use for &new chats"), self._make_default)
        self.import_button = _button(tr("&Import…"), self._import)
        self.export_button = _button(tr("&Export…"), self._export)
        self._arrange()
        self.chooser.currentIndexChanged.connect(self._show_chosen)
        self.name.textEdited.connect(self._edit)
        self.editor.edited.connect(self._edit)
        self._fill(book.default)

    def _arrange(self) -> None:
        first = in_a_row(self.chooser, self.make_default)
        second = in_a_row(self.duplicate, self.delete, self.import_button, self.export_button)
        self._add_row(tr("Prese&t"), self.chooser, first, second, self.message)
        self._add_row(tr("N&ame"), self.name, self.name)
        column = QVBoxLayout()
        column.addWidget(self.editor)
        self._rows.addLayout(column)
        self._finish()

    @property
    def chosen(self) -> Preset:
        """The preset that is shown."""
        preset = self.book.find(self.chooser.currentData())
        assert preset is not None, "the chooser lists what the book has"
        return preset

    @property
    def problem(self) -> str:
        """Why what is written here cannot be kept."""
        return self._problem

    def set_book(self, book: PresetBook) -> None:
        """Show other presets."""
        self.book = book
        self._fill(self.chooser.currentData())

    # ---- showing ----

    def _fill(self, key: str) -> None:
        self._filling = True
        self.chooser.clear()
        for preset in self.book.presets:
            mark = tr("{name} (for new chats)") if preset.key == self.book.default else "{name}"
            self.chooser.addItem(mark.format(name=preset.name), preset.key)
        choose(self.chooser, key)
        self._filling = False
        self._show_chosen()

    def _show_chosen(self) -> None:
        if self._filling:
            return
        preset, self._problem = self.chosen, ""
        self._filling = True
        self.name.setText(preset.name)
        self.editor.show_values(preset.system_prompt, preset.sampling)
        self._filling = False
        self.name.setReadOnly(preset.built_in)
        self.editor.set_read_only(read_only=preset.built_in)
        self.delete.setEnabled(not preset.built_in)
        self.make_default.setEnabled(preset.key != self.book.default)
        own = tr("Comes with Rooftop and stays as it is; duplicate it to change the copy.")
        self.message.setText(own if preset.built_in else "")
        self.edited.emit()

    # ---- changing ----

    def _edit(self) -> None:
        if self._filling or self.chosen.built_in:
            return
        self._problem = self.editor.problem
        if not self._problem:
            self._try(
                lambda: self.book.with_preset(
                    replace(
                        self.chosen,
                        name=self.name.text(),
                        system_prompt=self.editor.system_prompt,
                        sampling=self.editor.sampling,
                    )
                )
            )
        self.message.setText(self._problem)
        self.edited.emit()

    def _try(self, change: Callable[[], PresetBook]) -> None:
        try:
            self.book = change()
        except RooftopError as error:
            self._problem = error_text(error)
        else:
            self._problem = ""

    def _duplicate(self) -> None:
        self._add(self.book.duplicate(self.chosen))

    def _add(self, preset: Preset) -> None:
        self._try(lambda: self.book.with_preset(preset))
        problem = self._problem
        self._fill(preset.key if not problem else self.chooser.currentData())
        if problem:
            self.message.setText(problem)
            return
        self.name.setFocus()
        self.name.selectAll()

    def _delete(self) -> None:
        self.book = self.book.without(self.chosen.key)
        self._fill(self.book.default)

    def _make_default(self) -> None:
        self.book = replace(self.book, default=self.chosen.key)
        self._fill(self.chosen.key)

    def _import(self) -> None:
        kinds = tr("Presets ({patterns})").format(patterns=f"*{SUFFIX} *.json")
        name, _ = QFileDialog.getOpenFileName(self, tr("Import a preset"), filter=kinds)
        if not name:
            return
        try:
            preset = import_preset(Path(name))
        except RooftopError as error:
            self.message.setText(error_text(error))
        else:
            self._add(replace(preset, name=self.book.free_name(preset.name)))

    def _export(self) -> None:
        kinds = tr("Presets ({patterns})").format(patterns=f"*{SUFFIX} *.json")
        suggested = "".join(char if char.isalnum() else "-" for char in self.chosen.name) + SUFFIX
        name, _ = QFileDialog.getSaveFileName(self, tr("Export the preset"), suggested, kinds)
        if not name:
            return
        try:
            export_preset(self.chosen, Path(name))
        except RooftopError as error:
            self.message.setText(error_text(error))
        else:
            self.message.setText(tr("Exported to {name}.").format(name=name))


def _button(text: str, run: Callable[[], None]) -> QPushButton:
    button = QPushButton(text)
    button.setAutoDefault(False)
    button.clicked.connect(lambda _checked=False: run())
    return button
