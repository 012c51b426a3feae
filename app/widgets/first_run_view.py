"""What the very first start shows in the chat's place: this computer, the models found on it, and three ways on.

Nothing waits for it: the guide is loaded behind it, and whoever starts to write has skipped it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import QFrame, QLabel, QPushButton, QScrollArea, QVBoxLayout, QWidget

from app.icons import app_icon
from app.language import tr
from app.theme import SPACE_L, SPACE_M, SPACE_S, SPACE_XL, SPACE_XS
from app.widgets.flow_layout import FlowLayout

if TYPE_CHECKING:
    from PySide6.QtGui import QKeyEvent, QResizeEvent

LOGO_PX = 56
COLUMN_WIDTH = 520
MOST_MODELS = 3
TOP_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Offered:
    """A model that can be picked.

    Attributes:
        path: What to load it by.
        name: What to call it.
        facts: Size, format and what the plan says, on one line.
    """

    path: str
    name: str
    facts: str


class FirstRunView(QScrollArea):
    """The page.

    Signals:
        model_chosen(str): Chat with this model.
        guide_chosen(): Chat with the bundled one.
        models_requested(): Show the model page.
        skipped(): Go away.
        typed(str): The user begins to write.
    """

    model_chosen = Signal(str)
    guide_chosen = Signal()
    models_requested = Signal()
    skipped = Signal()
    typed = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("transcript")
        self.setAccessibleName(tr("Welcome to Rooftop"))
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._machine = _label(tr("Looking at this computer…"), "")
        self._found = _label(tr("Looking for models on this computer…"), "dim")
        self._models = QVBoxLayout()
        self._models.setSpacing(SPACE_S)
        self._buttons: dict[Offered, ModelButton] = {}
        self.guide_button = self._button(tr("Try the bundled guide"), "primary", self.guide_chosen.emit)
        self.get_button = self._button(tr("Get a model…"), "", self.models_requested.emit)
        self.skip_button = self._button(tr("Skip"), "quiet", self.skipped.emit)
        self._arrange()

    @property
    def model_buttons(self) -> list[QPushButton]:
        """One for each model that is offered."""
        return list(self._buttons.values())

    @property
    def text(self) -> str:
        """What is said of this computer and of the search."""
        return f"{self._machine.text()}\n{self._found.text()}"

    def show_machine(self, text: str) -> None:
        """What this computer is, in one line."""
        self._machine.setText(tr("This PC: {machine}").format(machine=text))

    def show_models(self, models: list[Offered], *, searching: bool) -> None:
        """Offer models, the best first; the rest is on the model page."""
        shown = models[:MOST_MODELS]
        if shown != list(self._buttons):
            for button in self._buttons.values():
                self._models.removeWidget(button)
                button.hide()
                button.deleteLater()
            self._buttons = {model: self._model_button(model) for model in shown}
        self._found.setText(_search_words(len(models), searching=searching))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Letters that no button wanted are the beginning of a message."""
        if event.text().isprintable() and event.text().strip():
            self.typed.emit(event.text())
        else:
            super().keyPressEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep the column narrow enough to read, and its buttons where they are when models are found."""
        super().resizeEvent(event)
        side = max(SPACE_L, (self.viewport().width() - COLUMN_WIDTH) // 2)
        top = max(SPACE_L, int(TOP_SHARE * self.viewport().height()))
        self._column.setContentsMargins(side, top, side, SPACE_XL)

    def _arrange(self) -> None:
        logo = QLabel()
        logo.setPixmap(app_icon().pixmap(LOGO_PX, LOGO_PX))
        logo.setAccessibleName("Rooftop")
        about = _label(
            tr("Chat with models that are larger than your graphics card.\nEverything stays on this computer."), "dim"
        )
        content = QWidget()
        content.setObjectName("transcriptContent")
        self._column = QVBoxLayout(content)
        self._column.setSpacing(SPACE_S)
        self._column.addWidget(logo, 0, Qt.AlignmentFlag.AlignHCenter)
        self._column.addWidget(_label(tr("Welcome to Rooftop"), "title"))
        self._column.addWidget(about)
        self._column.addSpacing(SPACE_M)
        self._column.addWidget(self._machine)
        self._column.addSpacing(SPACE_M)
        self._column.addLayout(self._ways_on())
        self._column.addSpacing(SPACE_L)
        self._column.addWidget(self._found)
        self._column.addLayout(self._models)
        self._column.addStretch(1)
        self.setWidget(content)

    def _ways_on(self) -> FlowLayout:
        row = FlowLayout(SPACE_S, centred=True)
        for button in (self.guide_button, self.get_button, self.skip_button):
            row.addWidget(button)
        return row

    def _button(self, text: str, name: str, run: object) -> QPushButton:
        button = QPushButton(text)
        button.setObjectName(name)
        button.setAccessibleName(text)
        button.clicked.connect(run)
        return button

    def _model_button(self, model: Offered) -> ModelButton:
        button = ModelButton(model)
        button.clicked.connect(lambda: self.model_chosen.emit(model.path))
        self._models.addWidget(button)
        return button


class ModelButton(QPushButton):
    """A model's name with its facts below."""

    def __init__(self, model: Offered) -> None:
        super().__init__()
        self.setObjectName("question")
        self.setAccessibleName(tr("Chat with {model}").format(model=model.name))
        self.setAccessibleDescription(model.facts)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(SPACE_L, SPACE_M, SPACE_L, SPACE_M)
        self._column.setSpacing(SPACE_XS)
        for text, name in ((model.name, "figure"), (model.facts, "dim")):
            label = _label(text, name)
            label.setAlignment(Qt.AlignmentFlag.AlignLeft)
            label.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
            self._column.addWidget(label)

    def sizeHint(self) -> QSize:
        """As the words need it."""
        return self._column.sizeHint()

    def minimumSizeHint(self) -> QSize:
        """Words wrap."""
        return QSize(0, self._column.minimumSize().height())

    def hasHeightForWidth(self) -> bool:
        """Narrow words are high."""
        return True

    def heightForWidth(self, width: int) -> int:
        """Of the wrapped words."""
        return self._column.heightForWidth(width)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Be as high as the words."""
        super().resizeEvent(event)
        self.setMinimumHeight(self._column.heightForWidth(self.width()))


def _search_words(count: int, *, searching: bool) -> str:
    if count > MOST_MODELS:
        return tr("%n models on this computer would run, among them:", count)
    if count:
        return tr("Found on this computer:")
    if searching:
        return tr("Looking for models on this computer…")
    return tr("No other model that runs here was found on this computer yet.")


def _label(text: str, name: str) -> QLabel:
    label = QLabel(text)
    label.setObjectName(name)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setWordWrap(True)
    label.setMinimumWidth(1)  # Qt's own guess at what wrapped words need is too wide for a narrow window
    label.setAlignment(Qt.AlignmentFlag.AlignHCenter)
    return label
