"""Model folders: where downloaded models go, and where else models are looked for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from PySide6.QtWidgets import QFileDialog, QLineEdit, QListWidget, QPushButton

from app.language import tr
from app.model_places import own_models_folder
from app.settings import MAX_FOLDERS
from app.widgets.panel_parts import DimLabel
from app.widgets.settings.page import SettingsPage, in_a_row

if TYPE_CHECKING:
    from app.settings import Settings

_LIST_LINES = 6


class FoldersPage(SettingsPage):
    """Where models lie."""

    def __init__(self) -> None:
        super().__init__(tr("Model folders"))
        self.own = QLineEdit()
        self.own.setPlaceholderText(str(own_models_folder()))
        self.own.setAccessibleName(tr("Folder for downloaded models"))
        self.choose_own = _button(tr("&Choose…"))
        self.list = QListWidget()
        self.list.setAccessibleName(tr("Folders to look for models in"))
        self.list.setFixedHeight(_LIST_LINES * (self.fontMetrics().height() + 8))
        self.add = _button(tr("A&dd…"))
        self.remove = _button(tr("&Remove"))
        own_note = DimLabel(tr("Empty for the usual place. Models that lie in another folder already stay there."))
        self._add_row(tr("Do&wnloaded models"), self.own, self.own, own_note, in_a_row(self.choose_own))
        note = DimLabel(
            tr(
                "Models in these folders are listed on the model page, beside those of the Hugging Face cache, "
                "LM Studio and GPT4All. Removing a folder here deletes nothing."
            )
        )
        self._add_row(tr("&Look for models in"), self.list, note, self.list, in_a_row(self.add, self.remove))
        self._finish()
        self.own.textEdited.connect(self.edited)
        self.choose_own.clicked.connect(self._choose_own)
        self.add.clicked.connect(self._add)
        self.remove.clicked.connect(self._remove)
        self.list.itemSelectionChanged.connect(self._enable)
        self._enable()

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders as edited."""
        return tuple(self.list.item(row).text() for row in range(self.list.count()))

    def show_settings(self, settings: Settings) -> None:
        """Fill the fields."""
        self.own.setText(settings.models_folder)
        self.list.clear()
        self.list.addItems(list(settings.model_folders))
        self._enable()

    def merge(self, settings: Settings) -> Settings:
        """The settings with these fields."""
        return replace(settings, models_folder=self.own.text().strip(), model_folders=self.folders)

    def _choose_own(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, tr("Folder for downloaded models"))
        if folder:
            self.own.setText(folder)
            self.edited.emit()

    def _add(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, tr("Look for models in"))
        if folder and folder not in self.folders:
            self.list.addItem(folder)
            self._enable()
            self.edited.emit()

    def _remove(self) -> None:
        for item in self.list.selectedItems():
            self.list.takeItem(self.list.row(item))
        self._enable()
        self.edited.emit()

    def _enable(self) -> None:
        self.add.setEnabled(self.list.count() < MAX_FOLDERS)
        self.remove.setEnabled(bool(self.list.selectedItems()))


def _button(text: str) -> QPushButton:
    button = QPushButton(text)
    button.setAutoDefault(False)
    return button
