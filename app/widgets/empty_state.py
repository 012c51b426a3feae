"""What a new chat shows: one sentence and a few questions to begin with, or the way to a model where there is none."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QLabel, QPushButton, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from app.icons import app_icon
from app.language import tr
from app.theme import SPACE_L, SPACE_S, SPACE_XL

LOGO_PX = 56
BUTTON_WIDTH = 380
GUIDE_QUESTIONS = (  # the guide speaks English only
    "What is an expert?",
    "What does the map show?",
    "How do I get Mixtral?",
    "Why is an expert on the CPU?",
)


class EmptyState(QWidget):
    """An invitation; it scrolls where banners and large texts leave little room.

    Signals:
        question_chosen(str): The text of the question that was clicked.
        model_requested(): The user wants a model, as there is none.
    """

    question_chosen = Signal(str)
    model_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._logo = QLabel()
        self._logo.setPixmap(app_icon().pixmap(LOGO_PX, LOGO_PX))
        self._logo.setAccessibleName("Rooftop")
        title = QLabel(tr("What would you like to know?"))
        title.setObjectName("title")
        title.setTextFormat(Qt.TextFormat.PlainText)
        self._sentence = QLabel()
        self._sentence.setObjectName("dim")
        self._sentence.setTextFormat(Qt.TextFormat.PlainText)
        self._sentence.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self._sentence.setWordWrap(True)
        self._buttons: list[QPushButton] = []
        content = QWidget()
        self._layout = QVBoxLayout(content)
        self._layout.setContentsMargins(SPACE_XL, SPACE_XL, SPACE_XL, SPACE_XL)
        self._layout.setSpacing(SPACE_S)
        self._layout.addStretch(2)
        for widget in (self._logo, title):
            self._layout.addWidget(widget, 0, Qt.AlignmentFlag.AlignHCenter)
        self._layout.addWidget(self._sentence)
        self._layout.addSpacing(SPACE_L)
        self._layout.addStretch(3)
        scroll = QScrollArea()
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidgetResizable(True)
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        scroll.setWidget(content)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll)
        self.show_questions(for_guide=True)

    @property
    def buttons(self) -> list[QPushButton]:
        """One per question."""
        return list(self._buttons)

    def show_questions(self, *, for_guide: bool) -> None:
        """Offer questions that the model can answer."""
        self._sentence.setText(_sentence(for_guide=for_guide))
        self._show_buttons(
            [self._make_button(text) for text in (GUIDE_QUESTIONS if for_guide else general_questions())]
        )

    def show_no_model(self) -> None:
        """Offer the way to a model."""
        self._sentence.setText(tr("No model is loaded."))
        button = QPushButton(tr("Choose a model…"))
        button.setObjectName("primary")
        button.setAccessibleName(tr("Choose a model…"))
        button.clicked.connect(self.model_requested)
        self._show_buttons([button])

    def _show_buttons(self, buttons: list[QPushButton]) -> None:
        for button in self._buttons:
            self._layout.removeWidget(button)
            button.hide()
            button.deleteLater()
        self._buttons = buttons
        for button in self._buttons:
            self._layout.insertWidget(self._layout.count() - 1, button, 0, Qt.AlignmentFlag.AlignHCenter)

    def _make_button(self, text: str) -> QPushButton:
        button = QPushButton(text)
        button.setObjectName("question")
        button.setAccessibleName(tr("Ask: {question}").format(question=text))
        button.setMinimumWidth(BUTTON_WIDTH)
        button.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        button.setCursor(Qt.CursorShape.PointingHandCursor)
        button.clicked.connect(lambda: self.question_chosen.emit(text))
        return button


def general_questions() -> tuple[str, ...]:
    """Questions that any model can answer, in the user's language."""
    return (
        tr("Explain mixture of experts in three sentences."),
        tr("Write a Python function that merges two sorted lists."),
        tr("Give me five names for a rooftop garden."),
    )


def _sentence(*, for_guide: bool) -> str:
    if for_guide:
        return tr("The built-in guide answers questions about this app.\nWatch its experts at work in the live panel.")
    return tr("Ask anything, and watch in the live panel where each expert runs.")
