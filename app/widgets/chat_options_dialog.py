"""The options of one chat: its preset, and what it changes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QIcon, QShowEvent
from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFrame,
    QInputDialog,
    QLabel,
    QLineEdit,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from app.language import error_text, tr
from app.presets import MAX_NAME_CHARS, ChatOptions, Preset, PresetBook, new_key
from app.theme import SPACE_L, SPACE_M, SPACE_S
from app.widgets.form_parts import CheckBox
from app.widgets.panel_parts import DimLabel
from app.widgets.sampling_editor import SamplingEditor
from app.widgets.settings.page import choose, in_a_row
from engine.errors import RooftopError

if TYPE_CHECKING:
    from collections.abc import Callable

WANTED_SIZE = QSize(640, 720)
_TITLE_BAR_PX = 48


class ChatOptionsDialog(QDialog):
    """Edits a copy of a chat's options.

    Signals:
        options_chosen(ChatOptions): The user accepted them.
        presets_changed(PresetBook): A preset was saved, or the model was given one.

    Args:
        options: Those of the chat.
        book: The presets.
        model: What the model is called in the settings.
        model_name: The same for the screen.
        parent: The window.
    """

    options_chosen = Signal(object)
    presets_changed = Signal(object)

    def __init__(
        self, options: ChatOptions, book: PresetBook, model: str, model_name: str, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._book, self._model, self._filling = book, model, False
        self.setWindowTitle(tr("Chat options"))
        self.setAccessibleName(tr("Chat options"))
        self._build(model_name)
        self._fill(options)
        self.chooser.currentIndexChanged.connect(self._preset_chosen)
        self.editor.edited.connect(self._edited)
        self._edited()

    # ---- building ----

    def _build(self, model_name: str) -> None:
        self.chooser = QComboBox()
        self.chooser.setAccessibleName(tr("Preset"))
        label = QLabel(tr("Prese&t"))
        label.setObjectName("figure")
        label.setBuddy(self.chooser)
        self.reset = _button(tr("&All as the preset"), self._take_all_back)
        self.save = _button(tr("Save as &preset…"), self._ask_name)
        self.for_model = CheckBox(tr("New chats with {model} begin with this preset").format(model=model_name))
        self.editor = SamplingEditor()
        self.status = DimLabel(lines=2)
        self.status.setAccessibleName(tr("Status"))
        content = QWidget()
        inner = QVBoxLayout(content)
        inner.setContentsMargins(0, 0, SPACE_L, 0)
        inner.setSpacing(SPACE_M)
        inner.addWidget(self.editor)
        inner.addStretch(1)
        scroll = QScrollArea()
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidgetResizable(True)
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        scroll.setWidget(content)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(SPACE_L, SPACE_L, SPACE_L, SPACE_L)
        layout.setSpacing(SPACE_M)
        for widget in (label, in_a_row(self.chooser, self.reset, self.save), self.for_model):
            layout.addWidget(widget)
        layout.setSpacing(SPACE_S)
        layout.addWidget(scroll, 1)
        layout.addWidget(self.status)
        layout.addWidget(self._make_buttons())

    def _make_buttons(self) -> QDialogButtonBox:
        self._buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel)
        for button in self._buttons.buttons():
            button.setIcon(QIcon())
        self._buttons.accepted.connect(self._accept)
        self._buttons.rejected.connect(self.reject)
        return self._buttons

    def showEvent(self, event: QShowEvent) -> None:
        """Open in a comfortable size, or as the screen allows."""
        super().showEvent(event)
        if not event.spontaneous():
            screen = self.screen().availableGeometry().size()
            most = QSize(screen.width(), screen.height() - _TITLE_BAR_PX)
            self.resize(WANTED_SIZE.expandedTo(self.sizeHint()).boundedTo(most))

    @property
    def ok_button(self) -> QPushButton:
        """Accepts the options."""
        return self._buttons.button(QDialogButtonBox.StandardButton.Ok)

    # ---- values ----

    @property
    def _followed(self) -> Preset:
        """What holds in this model's chats that choose nothing."""
        return self._book.preset_for(ChatOptions(), self._model)

    @property
    def preset(self) -> Preset:
        """The preset that is chosen."""
        preset = self._book.find(self.chooser.currentData() or self._followed.key)
        assert preset is not None, "the chooser lists what the book has"
        return preset

    @property
    def options(self) -> ChatOptions:
        """The chat's options as edited.

        Raises:
            ConfigurationError: A field is outside its limits.
        """
        changed = ChatOptions.between(self.preset, self.editor.system_prompt, self.editor.sampling)
        return replace(changed, preset=self.chooser.currentData())

    def _fill(self, options: ChatOptions) -> None:
        self._filling = True
        known = options.preset if self._book.find(options.preset) is not None else ""
        self.chooser.clear()
        follow = tr("As the model: {name}").format(name=self._followed.name)
        self.chooser.addItem(follow, "")
        for preset in self._book.presets:
            self.chooser.addItem(preset.name, preset.key)
        choose(self.chooser, known)
        self.editor.set_baseline(self.preset.system_prompt, self.preset.sampling)
        self.editor.show_values(*options.apply(self.preset))
        self.for_model.setChecked(self._book.by_model.get(self._model, "") == self.preset.key)
        self._filling = False

    # ---- editing ----

    def _preset_chosen(self) -> None:
        """Another preset brings all of its values."""
        if not self._filling:
            self._fill(ChatOptions(self.chooser.currentData()))
            self._edited()

    def _take_all_back(self) -> None:
        self._fill(ChatOptions(self.chooser.currentData()))
        self._edited()

    def _edited(self) -> None:
        problem = self.editor.problem
        self.ok_button.setEnabled(not problem)
        self.save.setEnabled(not problem)
        changed = bool(problem) or self.options != ChatOptions(self.chooser.currentData())
        self.reset.setEnabled(changed)
        own = tr("This chat differs from its preset. Saved as a preset, the changes are there for other chats too.")
        self.status.setText(problem or (own if changed else ""))

    def _ask_name(self) -> None:
        dialog = QInputDialog(self)
        dialog.setWindowTitle(tr("Save as preset"))
        dialog.setLabelText(tr("Name of the preset"))
        dialog.setTextValue(self._book.free_name(self.preset.name))
        edit = dialog.findChild(QLineEdit)
        assert edit is not None, "a dialog for one line has its field"
        edit.setMaxLength(MAX_NAME_CHARS)
        dialog.textValueSelected.connect(self.save_as)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()

    def save_as(self, name: str) -> None:
        """Keep the values as a preset of the user's, which the chat then has."""
        try:
            preset = Preset(new_key(), name, self.editor.system_prompt, self.editor.sampling)
            self._book = self._book.with_preset(preset)
        except RooftopError as error:
            self.status.setText(error_text(error))
            return
        self.presets_changed.emit(self._book)
        self._fill(ChatOptions(preset.key))
        self._edited()
        self.status.setText(tr("Saved as {name}.").format(name=preset.name))

    def _accept(self) -> None:
        options = self.options
        had = self._book.by_model.get(self._model, "")
        wanted = self.preset.key if self.for_model.isChecked() else ("" if had == self.preset.key else had)
        if wanted != had:
            self._book = self._book.with_model(self._model, wanted)
            self.presets_changed.emit(self._book)
        self.options_chosen.emit(options)
        self.accept()


def _button(text: str, run: Callable[[], None]) -> QPushButton:
    button = QPushButton(text)
    button.setAutoDefault(False)
    button.clicked.connect(lambda _checked=False: run())
    return button
